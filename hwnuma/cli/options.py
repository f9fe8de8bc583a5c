"""The command line's options: which command takes which, and from its words to their texts.

Each is declared beside the field that it fills (`hwnuma.model.options`, `hwnuma.launch.job`, `hwnuma.launch.told`).
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.launch.job import Job
from hwnuma.launch.told import Told
from hwnuma.model.option_table import PREFIX, Option, options_of
from hwnuma.model.options import GPUS, LATE, NICS, NumaOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PLANNING = options_of(NumaOptions, Job)
PLAN_OPTIONS = tuple(option for option in _PLANNING if option.group != LATE)
GPU_OPTIONS = tuple(option for option in _PLANNING if option.group == GPUS)
EXEC_OPTIONS = (*PLAN_OPTIONS, *options_of(Told))
BIND_OPTIONS = (
    # NICs are told of in a command's environment, and that of a running process is its own.
    *(option for option in EXEC_OPTIONS if option.flag not in ("--omp", "--verbose") and option.group != NICS),
    *(option for option in _PLANNING if option.group == LATE),
)

# Variables that are no option: what hwnuma writes itself, what its build and its own tests read, and what the
# documentation of each tells.
OTHER_VARIABLES = {
    f"{PREFIX}STRICT": "1: an unknown variable that begins with HWNUMA_ is an error instead of a warning",
    f"{PREFIX}LOCAL_WORLD_SIZE": "with HWNUMA_LOCAL_RANK: how many ranks run on this machine",
    f"{PREFIX}NVML_TIMEOUT": "how many seconds NVIDIA's driver has to tell its GPUs (default: 60)",
    f"{PREFIX}BOUND_CPUS": "written by hwnuma exec: the CPUs that the command was bound to",
    f"{PREFIX}BOUND_NODES": "written by hwnuma exec: the NUMA nodes of these CPUs",
    f"{PREFIX}BOUND_MEMORY": "written by hwnuma exec: the memory policy that was set",
    f"{PREFIX}HWLOC_PREFIX": "read by a build: the folder that hwloc was installed in",
    f"{PREFIX}USE_SYSTEM_HWLOC": "read by a build: 1 takes the system's hwloc",
    f"{PREFIX}REQUIRE": "read by hwnuma's tests: what is missing fails instead of being skipped",
    f"{PREFIX}FAKE_NVML": "read by hwnuma's tests: what a made-up driver tells",
    f"{PREFIX}FAKE_NVML_LOG": "read by hwnuma's tests: where that driver writes what it is asked",
    f"{PREFIX}FAKE_CUDA": "read by hwnuma's tests: what made-up GPUs copy",
    f"{PREFIX}FAKE_CUDA_LOG": "read by hwnuma's tests: where those write what they are asked",
    f"{PREFIX}PROPERTY_MACHINES": "read by hwnuma's tests: how many machines are made up",
}


class HelpWanted(Exception):  # noqa: N818 -- it is none
    """``--help`` stands among the options."""


def texts_of(words: Sequence[str], options: Iterable[Option]) -> tuple[dict[str, str], list[str]]:
    """Split ``[options] [--] command…`` into the options' texts and the command.

    The command begins at ``--`` or at the first word that is neither an option nor an option's value. ``--fallback``
    and ``--omp`` take a value only if the next word is one, since a command may follow them.

    Raises:
        OptionError: there is no such option, or one lacks its value.
        HelpWanted: there is a ``--help``.
    """
    by_flag = {option.flag: option for option in options}
    texts: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        flag, equals, text = rest.pop(0).partition("=")
        option = by_flag.get(flag)
        if flag in ("-h", "--help"):
            raise HelpWanted
        if option is None:
            raise OptionError(f"unrecognized arguments: {flag}{meant(flag, by_flag)}")
        texts[option.name] = text if equals else _text_after(option, rest)
    return texts, rest[1:] if rest[:1] == ["--"] else rest


def _text_after(option: Option, rest: list[str]) -> str:
    """Take the option's value from the words after it, if it has one."""
    if option.bare:
        named = rest and set(rest[0].split(",")) <= set(option.words)
        return rest.pop(0) if named else option.bare
    if not option.metavar:
        return "1"
    if not rest:
        raise OptionError(f"{option.flag}: expected one argument, {option.metavar}")
    return rest.pop(0)


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant by a word that is not known, as the end of a sentence; "" if nothing is like it."""
    from difflib import get_close_matches  # only now: this is somebody's mistake

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def check_variables(environment: Mapping[str, str]) -> list[str]:
    """Say of each variable that looks like hwnuma's and is none what may have been meant, a sentence each.

    Args:
        environment: such as ``os.environ``.

    Raises:
        OptionError: there is one, and ``HWNUMA_STRICT`` is set.
    """
    own = [name for name in environment if name.startswith(PREFIX) and name not in OTHER_VARIABLES]
    if not own:
        return []
    known = {option.variable for option in (*EXEC_OPTIONS, *BIND_OPTIONS)}
    said = [
        f"{name} is set, and hwnuma has no such variable{meant(name, [*known, *OTHER_VARIABLES])}"
        for name in own
        if name not in known
    ]
    if said and environment.get(f"{PREFIX}STRICT", "") not in ("", "0"):
        raise OptionError(said[0])
    return said
