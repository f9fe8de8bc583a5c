"""The commands: what each takes, and what it does. Thin: each is a call of the library."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence

from hwnuma.cli.exit_status import DONE, RANK_NOT_PLACED
from hwnuma.cli.options import EXEC_OPTIONS, GPU_OPTIONS, PLAN_OPTIONS
from hwnuma.cli.output import complain, say, say_data, write
from hwnuma.cli.parsing import OUTPUT, add_options, format_option, modes_of, output_option
from hwnuma.cli.terminal import width
from hwnuma.cli.which_machine import job_asked, located, machine_asked
from hwnuma.devices.discovery import nvlinks_of
from hwnuma.errors import GpuError
from hwnuma.launch.job import Job, plan_job
from hwnuma.model.characters import printable
from hwnuma.model.gpu import FoundGpus
from hwnuma.model.machine import Machine
from hwnuma.model.plan import Plan
from hwnuma.model.value import Value, replace
from hwnuma.policy.locality import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.report.picture import Picture  # imported only to draw


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
    from hwnuma.cli import capture  # only for this command

    capture.add_capture_arguments(parser)


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import diff  # only for this command

    diff.add_diff_arguments(parser)


def _fleet_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import fleet  # only for this command

    fleet.add_fleet_arguments(parser)


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import schema  # only for this command

    schema.add_schema_arguments(parser)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import processes  # only for this command

    processes.add_verify_arguments(parser)


def _bind_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import processes  # only for this command

    processes.add_bind_arguments(parser)


def _plan(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    job = job_asked(parsed, environment)
    draws = parsed.draw or parsed.output is not None
    machine, job, warnings = machine_asked(parsed, job, environment, network=draws or job.options.wants_nics)
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
    raise AssertionError("hwnuma.cli.exec runs it")  # pragma: no cover -- here it is only helped with


def _show(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    job = job_asked(parsed, environment)
    machine, job, _ = machine_asked(parsed, job, environment, network=True)
    try:
        found, localities = located(machine, job)
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

    job = job_asked(parsed, environment)
    machine, job, _ = machine_asked(parsed, job, environment, network=False)
    found, localities = located(machine, job)
    if parsed.format == "json":
        about = {"schema": SCHEMA, "topology": machine.source, "machine": str(machine.digest)}
        data = {**about, "source": found.source, "warnings": list(found.warnings)}
        say_data({**data, "gpus": gpus_as_data(found.all, localities, found.visible)})
    else:
        say(gpus_as_text(found.all, localities, found.visible))
        for warning in found.warnings:
            say(f"warning: {printable(warning)}")
    return RANK_NOT_PLACED if any(locality.error for locality in localities) else DONE


def _topo(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.topo import topo_as_data, topo_as_text, topo_of

    job = job_asked(parsed, environment)
    machine, job, _ = machine_asked(parsed, job, environment, network=True, needs_cpus=False)
    try:
        found = job.find_gpus(machine)
    except GpuError as error:
        if parsed.gpus is not None:
            raise
        found = FoundGpus((), (), "none", (f"no GPUs: {error}",))
    topo = topo_of(machine, found.all, nvlinks_of(found, machine))
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


def _capture(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.capture import capture_command

    return capture_command(parsed, environment)


def _diff(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.diff import diff_command

    return diff_command(parsed, environment)


def _fleet(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.fleet import fleet_command

    return fleet_command(parsed, environment)


def _schema(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.schema import schema_command

    return schema_command(parsed, environment)


def _verify(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.processes import verify_command

    return verify_command(parsed, environment)


def _bind(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.processes import bind_command

    return bind_command(parsed, environment)


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    from hwnuma.cli import bench  # only for this command

    bench.add_bench_arguments(parser)


def _bench(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.bench import bench_command

    return bench_command(parsed, environment)


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
    "diff": Command("Show what differs between two machines or two plans", _diff_arguments, _diff),
    "fleet": Command("Sort many captured machines, and show which are set up differently", _fleet_arguments, _fleet),
    "bench": Command("Measure what binding gives on this machine", _bench_arguments, _bench),
    "schema": Command("Print the JSON Schema of what a command prints as JSON", _schema_arguments, _schema),
    "verify": Command(
        "Read back whether running processes, all their threads, are where they should be", _verify_arguments, _verify
    ),
    "bind": Command("Bind processes that run already, all their threads", _bind_arguments, _bind),
}

# Commands that run another one, which comes after ``--``. (`exec` takes its words apart by itself.)
TAKES_A_COMMAND = ("bench",)
