"""The options of the command line, each of them also an environment variable: one table for both."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hwnuma.environment.omp import OmpVariables
from hwnuma.errors import OptionError
from hwnuma.launch.job import Job
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.options import (
    AffinityMode,
    DivideAmong,
    MemoryPolicy,
    NoAllowedCpus,
    NumaOptions,
    RankOrder,
    UnknownLocality,
)
from hwnuma.model.value import Value


class Option(Value):
    """One option: ``--local-rank`` on the command line, ``HWNUMA_LOCAL_RANK`` in the environment.

    Attributes:
        flag: as on the command line.
        convert: from its text to its value; raises ValueError with the reason.
        about: for ``--help``.
        metavar: what stands for the value in ``--help``; "" for a switch.
        default: the value where neither says anything.
        bare: the text that the option stands for when it is given without a value; "" if it needs one.
        words: with `bare`: the values by which one is told from a command that follows.
    """

    flag: str
    convert: Callable[[str], Any]
    about: str
    metavar: str = ""
    default: Any = None
    bare: str = ""
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The option's key in the values that `read` returns."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable of the same meaning."""
        return f"HWNUMA_{self.name.upper()}"


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"{text!r} is no whole number") from None


def _switch(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise OptionError(f"{text!r} is neither 1 nor 0")
    return known[text.lower()]


def _gpu_nodes(text: str) -> dict[str, int]:
    nodes = {}
    for piece in filter(None, text.split(",")):
        gpu, separator, node = piece.rpartition("=")
        if not separator or not node.strip().isdigit():
            raise OptionError(f"{piece!r} is not GPU=NODE, such as 0=1 or 0000:07:00.0=3")
        nodes[gpu.strip()] = int(node)
    return nodes


_FALLBACKS = ("unbound", "nearest")


def _fallback(text: str) -> frozenset[str]:
    if text.lower() in ("0", "false", "no", "off"):
        return frozenset()
    pieces = {"unbound" if piece.lower() in ("1", "true", "yes", "on") else piece for piece in text.split(",")}
    if not pieces <= set(_FALLBACKS):
        raise OptionError(f"{text!r} is neither {' nor '.join(_FALLBACKS)}")
    return frozenset(pieces)


def _choices_of(kind: type[Any]) -> tuple[str, ...]:
    return tuple(member.value for member in kind)


def _choices(kind: type[Any]) -> str:
    return "|".join(_choices_of(kind))


GPU_OPTIONS = (
    Option("--gpus", str, "auto, nvml, nvidia, amd, intel, none, or PCI addresses in rank order", "SPEC", "auto"),
    Option("--gpu-node", _gpu_nodes, "the NUMA nodes of GPUs, by index or PCI address: 0=1,…", "GPU=N,…", {}),
    Option("--nccl-topo", str, "an NCCL topology file that tells the GPUs' nodes (NCCL_TOPO_FILE)", "FILE", ""),
    Option(
        "--unknown-locality", UnknownLocality, "a GPU of which nothing says where it is: an error, or torch's node 0",
        _choices(UnknownLocality), UnknownLocality.ERROR,
    ),
)  # fmt: skip

PLAN_OPTIONS = (
    Option("--mode", AffinityMode, "what a rank gets (default: node)", _choices(AffinityMode), AffinityMode.NODE),
    *GPU_OPTIONS,
    Option("--ranks", _count, "how many ranks this machine runs (default: one a GPU, or LOCAL_WORLD_SIZE)", "N"),
    Option("--ranks-per-gpu", _count, "how many ranks share a GPU", "N", 1),
    Option("--gpus-per-rank", _count, "how many GPUs a rank drives", "N", 1),
    Option(
        "--rank-order", RankOrder, "with several ranks a GPU: 0 0 1 1, or 0 1 0 1", _choices(RankOrder), RankOrder.BLOCK
    ),
    Option(
        "--divide-among", DivideAmong, "which GPUs a node is divided among", _choices(DivideAmong), DivideAmong.AUTO
    ),
    Option("--threads-per-core", _count, "use only so many hardware threads of each core", "N"),
    Option("--reserve-cpus", CpuSet, "CPUs that no rank gets", "LIST", CpuSet()),
    Option("--reserve-first-cores", _switch, "keep back the first core of each last-level cache", default=False),
    Option("--reserve-isolated", _switch, "keep back the CPUs that the kernel isolates (isolcpus=)", default=False),
    Option("--use-idle-nodes", _switch, "hand nodes without GPUs to the nearest GPUs of their package", default=False),
    Option("--minimum-cores", _count, "refuse a rank that would get fewer cores", "N", 0),
    Option("--performance-cores", _switch, "on a hybrid CPU, use the fastest kind of core only", default=False),
    Option("--memory", MemoryPolicy, "the memory policy to set", _choices(MemoryPolicy), MemoryPolicy.NONE),
    Option(
        "--fallback", _fallback, "if a rank cannot be placed: run it unbound, or on the nearest CPUs that are allowed",
        "|".join(_FALLBACKS), frozenset(), "unbound", _FALLBACKS,
    ),
    Option("--outer-mask", str, "stay within the affinity that the launcher set, or widen it", "keep|reset", "keep"),
)  # fmt: skip

EXEC_OPTIONS = (
    *PLAN_OPTIONS,
    Option("--local-rank", _count, "this process's rank on its machine (default: from the launcher)", "N"),
    Option("--cpus", CpuSet, "bind to these CPUs, and plan nothing", "LIST"),
    Option("--nodes", NodeSet, "with --cpus and --memory: the NUMA nodes for the memory", "LIST", NodeSet()),
    Option(
        "--omp", OmpVariables, "set OMP_NUM_THREADS and OMP_PLACES; torchrun: also replace the 1 that it forces",
        _choices(OmpVariables), OmpVariables.OFF, "set", _choices_of(OmpVariables),
    ),
)  # fmt: skip

# Of use only to a process that runs already.
LATE_OPTIONS = (
    Option("--all-threads", _switch, "move the threads too that somebody has pinned", default=False),
    Option("--migrate", _switch, "move memory that is already allocated to the near nodes", default=False),
)


def add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Add the options to a parser; it only collects texts, which `read` converts."""
    for option in options:
        about = f"{option.about} [{option.variable}]".replace("%", "%%")
        if option.bare:
            parser.add_argument(option.flag, metavar=option.metavar, nargs="?", const=option.bare, help=about)
        elif option.metavar:
            parser.add_argument(option.flag, metavar=option.metavar, help=about)
        else:
            parser.add_argument(option.flag, action="store_const", const="1", help=about)


def read(options: Sequence[Option], arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """Convert the options' texts: the command line's, or else the environment's, or else the default.

    Raises:
        OptionError: a value makes no sense; the message names the option or the variable.
    """
    values = {}
    for option in options:
        text, origin = getattr(arguments, option.name), option.flag
        if text is None and environment.get(option.variable, "") != "":
            text, origin = environment[option.variable], option.variable
        try:
            values[option.name] = option.default if text is None else option.convert(text)
        except ValueError as error:
            raise OptionError(f"{origin}: {error}") from None
    return values


def read_environment(options: Sequence[Option], environment: Mapping[str, str]) -> dict[str, Any]:
    """Convert the options' texts where there is no command line: the environment's, or else the default.

    Raises:
        OptionError: a value makes no sense; the message names the variable.
    """
    return read(options, argparse.Namespace(**{option.name: None for option in options}), environment)


def job_of(values: Mapping[str, Any], environment: Mapping[str, str]) -> Job:
    """Make a Job of the values of `PLAN_OPTIONS`.

    Raises:
        OptionError: they do not go together.
    """
    if values["outer_mask"] not in ("keep", "reset"):
        raise OptionError(f"--outer-mask: {values['outer_mask']!r} is neither keep nor reset")
    options = NumaOptions(
        affinity_mode=values["mode"],
        should_fall_back_if_binding_fails="unbound" in values["fallback"],
        memory=values["memory"],
        divide_among=values["divide_among"],
        unknown_locality=values["unknown_locality"],
        no_allowed_cpus=NoAllowedCpus.NEAREST if "nearest" in values["fallback"] else NoAllowedCpus.ERROR,
        ranks_per_gpu=values["ranks_per_gpu"],
        gpus_per_rank=values["gpus_per_rank"],
        rank_order=values["rank_order"],
        threads_per_core=values["threads_per_core"],
        reserved_cpus=values["reserve_cpus"],
        reserve_first_cores=values["reserve_first_cores"],
        reserve_isolated_cpus=values["reserve_isolated"],
        use_idle_nodes=values["use_idle_nodes"],
        minimum_cores=values["minimum_cores"],
        performance_cores_only=values["performance_cores"],
        keep_outer_mask=values["outer_mask"] == "keep",
        all_threads=values.get("all_threads", False),
        migrate=values.get("migrate", False),
    )
    return Job(
        options=options,
        gpus=values["gpus"],
        ranks=values["ranks"],
        gpu_nodes=values["gpu_node"],
        nccl_topology=values["nccl_topo"] or environment.get("NCCL_TOPO_FILE", ""),
        environment=environment,
    )


def split_command(arguments: Sequence[str], options: Sequence[Option]) -> tuple[list[str], list[str]]:
    """Split ``[options] [--] command…`` into the options, in a form that argparse reads surely, and the command.

    The command begins at ``--`` or at the first word that is neither an option nor an option's value. ``--fallback``
    and ``--omp`` take a value only if the next word is one, since a command may follow them.
    """
    bare = {option.flag: option for option in options if option.bare}
    with_value = {option.flag for option in options if option.metavar}
    own: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        word = rest.pop(0)
        if word in bare:
            named = rest and set(rest[0].split(",")) <= set(bare[word].words)
            own.append(f"{word}={rest.pop(0) if named else bare[word].bare}")
        elif word in with_value and rest:
            own.append(f"{word}={rest.pop(0)}")
        else:
            own.append(word)
    return own, rest[1:] if rest[:1] == ["--"] else rest
