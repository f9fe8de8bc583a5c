"""The command line: ``hwnuma plan | exec | verify | bind | show | gpus | topo | capture``.

Thin: every command is a call of the library.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from hwnuma.cli.exit_status import DONE, NOTHING_PLANNED, RANK_NOT_PLACED, fail, status_of
from hwnuma.cli.help import HELP, after_options, formatter, overview
from hwnuma.cli.options import EXEC_OPTIONS, GPU_OPTIONS, PLAN_OPTIONS, check_variables, meant
from hwnuma.cli.output import complain, say, say_data, write, write_bytes
from hwnuma.cli.parsing import OUTPUT, Parser, add_options, format_option, modes_of, output_option
from hwnuma.cli.terminal import width, write_what_it_can
from hwnuma.devices.discovery import nvlinks_of
from hwnuma.devices.visible import VISIBLE_DEVICES
from hwnuma.errors import GpuError, HwnumaError, OptionError, show_messages, warn
from hwnuma.hwloc.files import decompressed, write_whole_file
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.job import Job, plan_job
from hwnuma.launch.system import load_this_system
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.characters import printable
from hwnuma.model.gpu import FoundGpus
from hwnuma.model.machine import Machine
from hwnuma.model.option_table import PREFIX
from hwnuma.model.plan import Plan
from hwnuma.model.value import Value, replace
from hwnuma.policy.locality import Locality, disagreements, locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.report.picture import Picture  # imported only to draw


ABOUT = "Put every worker process on the CPUs and memory next to its GPU."


def _topology_options(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("which machine")
    source = machine.add_mutually_exclusive_group()
    source.add_argument(
        "--topology",
        metavar="FILE",
        help="a saved machine instead of this one: .xml, .xml.gz or .xml.xz; - for standard input",
    )
    source.add_argument("--synthetic", metavar="TEXT", help="a synthetic machine, such as 'pack:2 numa:2 core:4 pu:2'")
    machine.add_argument("--allowed-cpus", metavar="LIST", help="plan as if only these CPUs were allowed")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.report.formats import FORMATS  # only for this command

    add_options(parser, PLAN_OPTIONS)
    _topology_options(parser)
    output = parser.add_argument_group(OUTPUT)
    format_option(output, ("table", "json", *FORMATS))
    output.add_argument("--draw", action="store_true", help="draw the machine, each rank's number in its cores")
    output.add_argument(
        "--compare",
        metavar="MODES",
        type=modes_of,
        help="what several modes would give, and which to choose: exclusive,core-complex or all; with --draw and "
        "--output a picture of each",
    )
    output_option(output)


def _exec_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, EXEC_OPTIONS)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    output_option(_machine_arguments(parser, "drawing"))


def _gpus_arguments(parser: argparse.ArgumentParser) -> None:
    _machine_arguments(parser, "table")


def _topo_arguments(parser: argparse.ArgumentParser) -> None:
    output_option(_machine_arguments(parser, "table"))


def _machine_arguments(parser: argparse.ArgumentParser, form: str) -> argparse._ArgumentGroup:
    """Add what the commands that look at a machine share; give the group of what is written."""
    add_options(parser, GPU_OPTIONS)
    _topology_options(parser)
    output = parser.add_argument_group(OUTPUT)
    format_option(output, (form, "json"))
    return output


def _capture_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.xml", help="where to; - for standard output")


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import processes  # only for this command

    processes.add_verify_arguments(parser)


def _bind_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import processes  # only for this command

    processes.add_bind_arguments(parser)


class _Overview(Parser):
    """The parser of all, whose help is the list of commands."""

    def format_help(self) -> str:
        """What ``hwnuma --help`` says."""
        return overview(ABOUT, {name: command.about for name, command in COMMANDS.items()})


class _CommandParser(Parser):
    """The parser of a command, whose help ends with examples."""

    def format_help(self) -> str:
        """What ``hwnuma COMMAND --help`` says."""
        self.epilog = after_options(self.prog.rpartition(" ")[2])
        return super().format_help()


def _parser(*names: str) -> tuple[Parser, list[str]]:
    """The parser, with the options of the commands that are to be parsed: others' would cost time for nothing.

    Returns:
        The parser, and the flags of these commands.
    """
    parser = _Overview(prog="hwnuma", allow_abbrev=False, formatter_class=formatter)
    parser.add_argument("-V", "--version", action="store_true", help="print the versions of hwnuma and libhwloc")
    parser.add_argument("--print-completion", metavar="SHELL", help="print a script that completes command lines")
    # With prog given, argparse does not make a formatter to find it out.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="hwnuma", parser_class=_CommandParser)
    flags: list[str] = []
    for each, command in COMMANDS.items():
        made = commands.add_parser(
            each, help=command.about, description=f"{command.about}.", allow_abbrev=False, formatter_class=formatter,
            usage=f"hwnuma {HELP[each].usage}",
        )  # fmt: skip
        if each in names:
            command.arguments(made)
            flags += made._option_string_actions
    return parser, flags


def whole_parser() -> Parser:
    """The parser with every command's options, for who tells of them all: shells that complete, and the manual page."""
    return _parser(*COMMANDS)[0]


def _parse(words: Sequence[str]) -> argparse.Namespace:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
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
    write_what_it_can()
    where = "hwnuma"
    try:
        parsed = _parse(words)
        parsed.words = words
        if parsed.print_completion is not None:
            return _print_completion(parsed.print_completion)
        if parsed.version or parsed.command is None:
            return _version() if parsed.version else _usage()
        where = f"hwnuma {parsed.command}"
        _refuse_two_forms(parsed)
        for sentence in check_variables(os.environ):
            warn(sentence)
        return COMMANDS[parsed.command].run(parsed, os.environ)
    except HwnumaError as error:
        return fail(where, error, status_of(error))
    except BrokenPipeError:  # whoever read the output has had enough
        return DONE


def _refuse_two_forms(parsed: argparse.Namespace) -> None:
    """Refuse a `--format` that a drawing would leave without effect.

    Raises:
        OptionError: both are asked for; `plan` alone writes a file and prints its text beside it.
    """
    said = vars(parsed)
    drawn = ("draw", "compare") if parsed.command == "plan" else ("output",)
    flags = [f"--{name}" for name in drawn if said.get(name)]
    if flags and said.get("format") is not None:
        raise OptionError(
            f"--format {said['format']} and {flags[0]} do not go together: one of them says what is written"
        )


def _print_completion(shell: str) -> int:
    from hwnuma.cli.completion import completion  # only for this

    write(completion(whole_parser(), shell))
    return DONE


def _usage() -> int:
    _parser()[0].print_help(sys.stderr)
    return NOTHING_PLANNED


def _version() -> int:
    from importlib.metadata import version

    from hwnuma.hwloc.library import RUNNING_VERSION, version_text

    say(f"hwnuma {version('hwnuma')}, libhwloc {version_text(RUNNING_VERSION)}")
    return DONE


# ---- commands ------------------------------------------------------------------------------------------------


def _plan(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    job = _job(parsed, environment)
    draws = parsed.draw or parsed.output is not None
    machine, warnings = _machine(parsed, job, environment, network=draws or job.options.wants_nics)
    if parsed.compare is not None:
        return _compare(parsed, machine, job, warnings)
    found = job.find_gpus(machine)
    plan = plan_job(machine, job, found)
    plan = replace(plan, warnings=(*warnings, *plan.warnings))
    if parsed.output is not None:
        _write(parsed, [_picture(machine, job, found, plan)])
    if parsed.draw:
        from hwnuma.cli import drawing  # only to draw

        write(drawing.on_terminal([_picture(machine, job, found, plan)], os.environ))
    elif parsed.output is None or parsed.format is not None:
        _print_plan(plan, parsed.format or "table")
    return RANK_NOT_PLACED if plan.errors else DONE


def _print_plan(plan: Plan, form: str) -> None:
    from hwnuma.report.formats import FORMATS, plan_as

    if form in FORMATS:
        text = plan_as(plan, form)
        for warning in plan.warnings:  # beside what another program is to read
            complain(f"hwnuma plan: warning: {warning}")
        say(text)
    elif form == "json":
        say_data(plan.as_dict())
    else:
        say(str(plan))


def _compare(parsed: argparse.Namespace, machine: Machine, job: Job, warnings: Sequence[str]) -> int:
    from hwnuma.cli import drawing  # only to compare
    from hwnuma.report.compare import advice, comparison_as_table, outcome_of
    from hwnuma.report.layout import wrapped

    found = job.find_gpus(machine)
    jobs = [replace(job, options=replace(job.options, affinity_mode=mode)) for mode in parsed.compare]
    plans = [plan_job(machine, each, found) for each in jobs]
    pictures = [_picture(machine, job, found, plan) for plan in plans] if parsed.draw or parsed.output else []
    if parsed.output is not None:
        _write(parsed, pictures)
    if parsed.draw:
        write(f"{drawing.on_terminal(pictures, os.environ)}\n")
    outcomes = [outcome_of(machine, plan) for plan in plans]
    sentences = (advice(outcomes), *(f"warning: {warning}" for warning in warnings))
    lines = [line for sentence in sentences for line in wrapped(printable(sentence), width())]
    say("\n".join((comparison_as_table(outcomes), "", *lines)))
    return RANK_NOT_PLACED if any(plan.errors for plan in plans) else DONE


def _picture(machine: Machine, job: Job, found: FoundGpus, plan: Plan | None) -> Picture:
    from hwnuma.report.picture import picture_of  # only to draw

    nccl_nodes, unknown = job.nccl_nodes(), job.options.unknown_locality
    return picture_of(machine, found.all, locate(machine, found.all, nccl_nodes=nccl_nodes, unknown=unknown), plan)


def _write(parsed: argparse.Namespace, pictures: Sequence[Picture]) -> None:
    from hwnuma.cli import drawing  # only to draw

    drawing.write(parsed.output, pictures, parsed.words, parsed.document)
    if parsed.format is None:  # else another program reads what is printed
        say(f"wrote {printable(parsed.output)}")


def _exec(_parsed: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    raise AssertionError("hwnuma exec is run by hwnuma.cli.exec; here it is only helped with")


def _show(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    job = _job(parsed, environment)
    machine, _ = _machine(parsed, job, environment, network=True)
    try:
        found, localities = _located(machine, job)
    except GpuError as error:
        found, localities = FoundGpus((), (), "none", (f"no GPUs: {error}",)), ()
    if parsed.format == "json":
        from hwnuma.report.data import gpus_as_data, machine_as_data  # only for this format

        data = {**machine_as_data(machine), "warnings": list(found.warnings)}
        say_data({**data, "gpus": gpus_as_data(found.all, localities, found.visible)})
        return DONE
    from hwnuma.cli import drawing  # only to draw

    picture = _picture(machine, job, found, None)
    picture = replace(picture, notes=(*picture.notes, *map(printable, found.warnings)))
    if parsed.output is not None:
        _write(parsed, [picture])
    else:
        write(drawing.on_terminal([picture], os.environ))
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
    if parsed.output is not None:
        from hwnuma.report.svg import COLUMNS  # only to draw

        picture = _picture(machine, job, found, None)
        matrix = topo_as_text(topo, machine, COLUMNS)
        _write(parsed, [replace(picture, matrix=tuple(matrix.split("\n")))])
    elif parsed.format == "json":
        say_data(topo_as_data(topo))
    else:
        say(topo_as_text(topo, machine, width()))
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
    "topo": Command("Show how near GPUs and network cards are to each other", _topo_arguments, _topo),
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
        with _saved(parsed, network=network, needs_cpus=needs_cpus) as topology:
            machine = topology.machine()
            parsed.document = _document(parsed, topology)
        warnings = tuple(
            f"{name}={environment[name]} is for this system's devices and counts for nothing here: choose some of "
            f"{machine.source}'s with --gpus 0,2"
            for name in VISIBLE_DEVICES
            if environment.get(name)
        )
    else:
        from hwnuma.processes.binding import current_affinity  # another machine has none

        with load_this_system(pci=network or job.gpus != "none", network=network, environment=environment) as topology:
            machine, affinity = topology.machine(), current_affinity(topology)
            parsed.document = _document(parsed, topology)
        if not machine.allowed_cpuset <= affinity:
            warnings = (f"this process's own affinity is CPUs {affinity}: of CPUs {machine.allowed_cpuset}, no others "
                        "are planned",)  # fmt: skip
        machine = machine.narrowed(affinity)
    if parsed.allowed_cpus is not None:
        machine = machine.narrowed(CpuSet(parsed.allowed_cpus))
    return machine, warnings


def _saved(parsed: argparse.Namespace, *, network: bool, needs_cpus: bool) -> Topology:
    """The machine that the command line names instead of this one."""
    if parsed.topology is None:
        return Topology.from_synthetic(parsed.synthetic)
    if parsed.topology != "-":
        return Topology.from_xml_file(parsed.topology, network=network, needs_cpus=needs_cpus)
    from hwnuma.hwloc.xml import MOST_BYTES  # only for this

    source = "standard input"
    if sys.stdin is None:
        raise OptionError("--topology -: standard input is closed")
    document = decompressed(sys.stdin.buffer.read(MOST_BYTES + 1), source, most_bytes=MOST_BYTES)
    return Topology.from_xml_buffer(document, source=source, needs_cpus=needs_cpus)


def _document(parsed: argparse.Namespace, topology: Topology) -> str:
    """The topology as XML, if a file of it is to be written."""
    output = getattr(parsed, "output", None)
    return topology.export_xml() if output is not None and output.lower().endswith(".xml") else ""


def _located(machine: Machine, job: Job) -> tuple[FoundGpus, Sequence[Locality]]:
    """The GPUs, and where each of them is."""
    found = job.find_gpus(machine)
    nccl_nodes = job.nccl_nodes()
    localities = locate(machine, found.all, nccl_nodes=nccl_nodes, unknown=job.options.unknown_locality)
    doubts = disagreements(machine, found.all, localities, nccl_nodes)
    return replace(found, warnings=(*found.warnings, *doubts)), localities
