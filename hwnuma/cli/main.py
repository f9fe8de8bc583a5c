"""The command line: ``hwnuma plan | exec | verify | bind | show | gpus | topo | capture``.

Thin: every command is a call of the library.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from hwnuma.cli.exit_status import DONE, NOTHING_PLANNED, RANK_NOT_PLACED, fail, status_of
from hwnuma.cli.options import EXEC_OPTIONS, GPU_OPTIONS, PLAN_OPTIONS, check_variables, meant
from hwnuma.cli.output import complain, say, say_data, write_bytes
from hwnuma.cli.parsing import Parser, add_options, format_option
from hwnuma.devices.discovery import nvlinks_of
from hwnuma.devices.visible import VISIBLE_DEVICES
from hwnuma.errors import GpuError, HwnumaError, OptionError, show_messages, warn
from hwnuma.hwloc.files import write_whole_file
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.job import Job, plan_job
from hwnuma.launch.system import load_this_system
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.characters import printable
from hwnuma.model.gpu import FoundGpus
from hwnuma.model.machine import Machine
from hwnuma.model.option_table import PREFIX
from hwnuma.model.value import Value, replace
from hwnuma.policy.locality import Locality, disagreements, locate
from hwnuma.processes.binding import current_affinity


def _topology_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--topology", metavar="FILE.xml", help="a saved machine instead of this one")
    source.add_argument("--synthetic", metavar="TEXT", help="a synthetic machine, such as 'pack:2 numa:2 core:4 pu:2'")
    parser.add_argument("--allowed-cpus", metavar="LIST", help="plan as if only these CPUs were allowed")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.report.formats import FORMATS  # only for this command

    add_options(parser, PLAN_OPTIONS)
    _topology_options(parser)
    format_option(parser, ("table", "json", *FORMATS))


def _exec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "hwnuma exec [options] [--] COMMAND…"
    add_options(parser, EXEC_OPTIONS)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, GPU_OPTIONS)
    _topology_options(parser)


def _gpus_arguments(parser: argparse.ArgumentParser) -> None:
    _show_arguments(parser)
    format_option(parser, ("table", "json"))


def _capture_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.xml", help="where to; - for standard output")


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import processes  # only for this command

    processes.add_verify_arguments(parser)


def _bind_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import processes  # only for this command

    processes.add_bind_arguments(parser)


def _parser(name: str) -> tuple[Parser, list[str]]:
    """The parser, with the options of the command that is to be parsed: the others' would cost time for nothing.

    Returns:
        The parser, and the flags of that command.
    """
    parser = Parser(
        prog="hwnuma",
        allow_abbrev=False,
        description="Put every worker process on the CPUs and memory next to its GPU.",
    )
    parser.add_argument("--version", action="store_true", help="print the versions of hwnuma and libhwloc")
    # With prog given, argparse does not make a formatter to find it out, which imports shutil and all compression.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="hwnuma")
    flags: list[str] = []
    for each, command in COMMANDS.items():
        made = commands.add_parser(each, help=command.about, description=f"{command.about}.", allow_abbrev=False)
        if each == name:
            command.arguments(made)
            flags = list(made._option_string_actions)
    return parser, flags


def _parse(words: Sequence[str]) -> argparse.Namespace:
    name = next((word for word in words if not word.startswith("-")), "")
    if name not in COMMANDS and words[:1] == [name]:
        raise OptionError(
            f"invalid choice: there is no command {name!r}{meant(name, COMMANDS)} (choose from {', '.join(COMMANDS)})"
        )
    parser, flags = _parser(name)
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        help_of = f"see {parser.prog} {name} --help"
        raise OptionError(f"unrecognized arguments: {' '.join(unknown)}{meant(unknown[0], flags)} ({help_of})")
    return parsed


def main(words: Sequence[str]) -> int:
    """Run the command line.

    Args:
        words: its arguments, without the program's name.

    Returns:
        The exit status: 0 when all is done, 1 when some rank is not placed, 2 when nothing could be planned.
    """
    show_messages("hwnuma: ", printable)
    where = "hwnuma"
    try:
        parsed = _parse(words)
        if parsed.version or parsed.command is None:
            return _version() if parsed.version else _usage()
        where = f"hwnuma {parsed.command}"
        for sentence in check_variables(os.environ):
            warn(sentence)
        return COMMANDS[parsed.command].run(parsed, os.environ)
    except HwnumaError as error:
        return fail(where, error, status_of(error))
    except BrokenPipeError:  # whoever read the output has had enough
        return DONE


def _usage() -> int:
    _parser("")[0].print_help(sys.stderr)
    return NOTHING_PLANNED


def _version() -> int:
    from importlib.metadata import version

    from hwnuma.hwloc.library import RUNNING_VERSION, version_text

    say(f"hwnuma {version('hwnuma')}, libhwloc {version_text(RUNNING_VERSION)}")
    return DONE


# ---- commands ------------------------------------------------------------------------------------------------


def _plan(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.formats import FORMATS, plan_as

    job = _job(parsed, environment)
    machine, warnings = _machine(parsed, job, environment, network=job.options.wants_nics)
    plan = plan_job(machine, job)
    plan = replace(plan, warnings=(*warnings, *plan.warnings))
    if parsed.format in FORMATS:
        text = plan_as(plan, parsed.format)
        for warning in plan.warnings:  # beside what another program is to read
            complain(f"hwnuma plan: warning: {warning}")
        say(text)
    elif parsed.format == "json":
        say_data(plan.as_dict())
    else:
        say(str(plan))
    return RANK_NOT_PLACED if plan.errors else DONE


def _exec(_parsed: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    raise AssertionError("hwnuma exec is run by hwnuma.cli.exec; here it is only helped with")


def _show(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.text import machine_as_text

    job = _job(parsed, environment)
    machine, _ = _machine(parsed, job, environment, network=False)
    try:
        found, localities = _located(machine, job)
    except GpuError as error:
        say(machine_as_text(machine))
        say(f"no GPUs: {printable(str(error))}")
        return DONE
    say(machine_as_text(machine, found.all, localities))
    return DONE


def _gpus(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.model.plan import SCHEMA
    from hwnuma.report.data import gpus_as_data
    from hwnuma.report.text import gpus_as_text

    job = _job(parsed, environment)
    machine, _ = _machine(parsed, job, environment, network=False)
    found, localities = _located(machine, job)
    if parsed.format == "json":
        data = {"schema": SCHEMA, "topology": machine.source, "source": found.source, "warnings": list(found.warnings)}
        say_data({**data, "gpus": gpus_as_data(found.all, localities, found.visible)})
    else:
        say(gpus_as_text(found.all, localities, found.visible))
        for warning in found.warnings:
            say(f"warning: {printable(warning)}")
    return RANK_NOT_PLACED if any(locality.error for locality in localities) else DONE


def _topo(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.topo import topo_as_data, topo_as_text, topo_of

    job = _job(parsed, environment)
    machine, _ = _machine(parsed, job, environment, network=True, needs_cpus=False)
    try:
        found = job.find_gpus(machine)
    except GpuError as error:
        if parsed.gpus is not None:
            raise
        found = FoundGpus((), (), "none", (f"no GPUs: {error}",))
    topo = topo_of(machine, found.all, nvlinks_of(found))
    topo = replace(topo, notes=(*found.warnings, *topo.notes))
    if parsed.format == "json":
        say_data(topo_as_data(topo))
    else:
        say(topo_as_text(topo, machine))
    return DONE


def _capture(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:  # noqa: ARG001 -- as all commands
    with load_this_system(network=True, first_caches=True) as topology:
        document = topology.export_xml()
    if parsed.file == "-":
        write_bytes(document.encode())
    else:
        write_whole_file(parsed.file, document.encode())
    return DONE


def _verify(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.processes import verify_command

    return verify_command(parsed, environment)


def _bind(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.processes import bind_command

    return bind_command(parsed, environment)


class Command(Value):
    """A command: what ``--help`` says of it, what adds its arguments to a parser, and what runs it."""

    about: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Mapping[str, str]], int]


COMMANDS = {
    "plan": Command("Show which rank gets which CPUs, and why", _plan_arguments, _plan),
    "exec": Command("Bind this process, then become the command", _exec_arguments, _exec),
    "show": Command("Draw the machine with its GPUs", _show_arguments, _show),
    "gpus": Command("List the GPUs, and where the knowledge of each one's place comes from", _gpus_arguments, _gpus),
    "topo": Command("Show how near GPUs and network cards are to each other", _gpus_arguments, _topo),
    "capture": Command("Save this machine, GPUs included, to plan and test on elsewhere", _capture_arguments, _capture),
    "verify": Command(
        "Read back whether running processes, all their threads, are where they should be", _verify_arguments, _verify
    ),
    "bind": Command("Bind processes that run already, all their threads", _bind_arguments, _bind),
}


# ---- what commands share -------------------------------------------------------------------------------------


def _job(parsed: argparse.Namespace, environment: Mapping[str, str]) -> Job:
    """What is asked for. Another machine's plan does not depend on this one's devices: their variables are left out."""
    if _is_elsewhere(parsed):
        environment = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    return Job.asked(vars(parsed), environment)


def _is_elsewhere(parsed: argparse.Namespace) -> bool:
    return parsed.topology is not None or parsed.synthetic is not None


def _machine(
    parsed: argparse.Namespace, job: Job, environment: Mapping[str, str], *, network: bool, needs_cpus: bool = True
) -> tuple[Machine, tuple[str, ...]]:
    """The machine to plan for, and what to say of its allowed CPUs and its devices.

    Args:
        parsed: the command line.
        job: what is asked for.
        environment: this process's.
        network: look at network cards too.
        needs_cpus: refuse a saved machine without CPUs.
    """
    warnings: tuple[str, ...] = ()
    if _is_elsewhere(parsed):
        with (
            Topology.from_xml_file(parsed.topology, needs_cpus=needs_cpus, network=network)
            if parsed.topology is not None
            else Topology.from_synthetic(parsed.synthetic)
        ) as topology:
            machine = topology.machine()
        warnings = tuple(
            f"{name}={environment[name]} is for this system's devices and counts for nothing here: choose some of "
            f"{machine.source}'s with --gpus 0,2"
            for name in VISIBLE_DEVICES
            if environment.get(name)
        )
    else:
        with load_this_system(pci=network or job.gpus != "none", network=network, environment=environment) as topology:
            machine, affinity = topology.machine(), current_affinity(topology)
        if not machine.allowed_cpuset <= affinity:
            warnings = (f"this process's own affinity is CPUs {affinity}: of CPUs {machine.allowed_cpuset}, no others "
                        "are planned",)  # fmt: skip
        machine = machine.narrowed(affinity)
    if parsed.allowed_cpus is not None:
        machine = machine.narrowed(CpuSet(parsed.allowed_cpus))
    return machine, warnings


def _located(machine: Machine, job: Job) -> tuple[FoundGpus, Sequence[Locality]]:
    """The GPUs, and where each of them is."""
    found = job.find_gpus(machine)
    nccl_nodes = job.nccl_nodes()
    localities = locate(machine, found.all, nccl_nodes=nccl_nodes, unknown=job.options.unknown_locality)
    doubts = disagreements(machine, found.all, localities, nccl_nodes)
    return replace(found, warnings=(*found.warnings, *doubts)), localities
