"""The command line: ``hwnuma plan | exec | verify | bind | show | gpus | capture``.

Thin: every command is a call of the library.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hwnuma.cli.options import EXEC_OPTIONS, GPU_OPTIONS, PLAN_OPTIONS, Option, add_options, job_of, read, split_command
from hwnuma.devices.discovery import FoundGpus
from hwnuma.environment.omp import OmpVariables, omp_environment
from hwnuma.errors import BindingError, GpuError, HwnumaError, OptionError, PlanError
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.bind import bind_job
from hwnuma.launch.execute import become, resolve_command
from hwnuma.launch.job import Job, plan_job
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.machine import Machine
from hwnuma.model.options import NumaOptions
from hwnuma.model.plan import Binding
from hwnuma.model.value import replace
from hwnuma.policy.locality import Locality, disagreements, locate
from hwnuma.processes.binding import current_affinity

# What the exit status says, as in the contract of ``hwnuma plan``; and a shell's two for a command that it cannot run.
DONE, RANK_NOT_PLACED, NOTHING_PLANNED, NOT_EXECUTABLE, NOT_FOUND = 0, 1, 2, 126, 127


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message} (see {self.prog} --help)")


def _topology_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--topology", metavar="FILE.xml", help="a saved machine instead of this one")
    source.add_argument("--synthetic", metavar="TEXT", help="a synthetic machine, such as 'pack:2 numa:2 core:4 pu:2'")
    parser.add_argument("--allowed-cpus", metavar="LIST", help="plan as if only these CPUs were allowed")


def _format_option(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"default: {formats[0]}")


def _parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hwnuma",
        allow_abbrev=False,
        description="Put every worker process on the CPUs and memory next to its GPU.",
    )
    parser.add_argument("--version", action="store_true", help="print the versions of hwnuma and libhwloc")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, about: str, options: Sequence[Option] = ()) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=f"{about}.", allow_abbrev=False)
        add_options(made, options)
        return made

    plan = command("plan", "Show which rank gets which CPUs, and why", PLAN_OPTIONS)
    _topology_options(plan)
    if words[:1] == ["plan"]:
        from hwnuma.report.formats import FORMATS  # exec, which runs once a worker, does without

        _format_option(plan, ("table", "json", *FORMATS))
    execute = command(
        "exec", "Bind this process, then become the command: hwnuma exec [options] [--] COMMAND…", EXEC_OPTIONS
    )
    execute.usage = "hwnuma exec [options] [--] COMMAND…"
    show = command("show", "Draw the machine with its GPUs", GPU_OPTIONS)
    _topology_options(show)
    gpus = command("gpus", "List the GPUs, and where the knowledge of each one's place comes from", GPU_OPTIONS)
    _topology_options(gpus)
    _format_option(gpus, ("table", "json"))
    capture = command("capture", "Save this machine, GPUs included, to plan and test on elsewhere")
    capture.add_argument("file", metavar="FILE.xml", help="where to; - for standard output")
    verify = command("verify", "Read back whether running processes, all their threads, are where they should be")
    bind = command("bind", "Bind processes that run already, all their threads")
    if words[:1] in (["verify"], ["bind"]):
        from hwnuma.cli import (
            processes as cli_processes,
        )  # only for these two: exec, which runs once a worker, does without

        add_options(verify, cli_processes.VERIFY_OPTIONS)
        cli_processes.add_verify_arguments(verify)
        _format_option(verify, ("table", "json"))
        add_options(bind, cli_processes.BIND_OPTIONS)
        cli_processes.add_bind_arguments(bind)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; by default those of this process.

    Returns:
        The exit status: 0 when all is done, 1 when some rank is not placed, 2 when nothing could be planned; `exec`
        returns 126 or 127 for a command that cannot be run, and otherwise becomes it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="hwnuma: %(message)s", level=logging.WARNING)
    where = "hwnuma"
    try:
        command: list[str] = []
        if words[:1] == ["exec"]:
            own, command = split_command(words[1:], EXEC_OPTIONS)
            words = ["exec", *own]
        parsed = _parser(words).parse_args(words)
        if parsed.version or parsed.command is None:
            return _version() if parsed.version else _usage()
        where = f"hwnuma {parsed.command}"
        if parsed.command == "exec":
            return _exec(parsed, command, os.environ)
        return _COMMANDS[parsed.command](parsed, os.environ)
    except (PlanError, BindingError) as error:
        return _fail(where, error, RANK_NOT_PLACED)
    except HwnumaError as error:
        return _fail(where, error, NOTHING_PLANNED)
    except BrokenPipeError:
        # Whoever read the output has had enough; Python's own flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _fail(where: str, error: Exception, status: int) -> int:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    print(f"{where}: {text}", file=sys.stderr)
    return status


def _usage() -> int:
    _parser().print_help(sys.stderr)
    return NOTHING_PLANNED


def _version() -> int:
    from importlib.metadata import version

    from hwnuma.hwloc.library import RUNNING_VERSION, version_text

    print(f"hwnuma {version('hwnuma')}, libhwloc {version_text(RUNNING_VERSION)}")
    return DONE


# ---- commands ------------------------------------------------------------------------------------------------


def _plan(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.data import plan_as_data
    from hwnuma.report.formats import FORMATS, plan_as
    from hwnuma.report.text import plan_as_text

    machine, environment, warnings = _machine(parsed, environment)
    job = job_of(read(PLAN_OPTIONS, parsed, environment), environment)
    plan = plan_job(machine, job)
    plan = replace(plan, warnings=(*warnings, *plan.warnings))
    if parsed.format in FORMATS:
        text = plan_as(plan, parsed.format)
        for warning in plan.warnings:  # beside what another program is to read
            print(f"hwnuma plan: warning: {warning}", file=sys.stderr)
    else:
        text = json.dumps(plan_as_data(plan), indent=2) if parsed.format == "json" else plan_as_text(plan)
    print(text)
    return RANK_NOT_PLACED if plan.errors else DONE


def _exec(parsed: argparse.Namespace, command: Sequence[str], environment: Mapping[str, str]) -> int:
    values = read(EXEC_OPTIONS, parsed, environment)
    if not command:
        raise OptionError("no command is given: hwnuma exec [options] [--] COMMAND…")
    try:
        program = resolve_command(command)
    except (FileNotFoundError, PermissionError) as error:
        return _fail("hwnuma exec", error, NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)
    job, given = job_of(values, environment), None
    if parsed.cpus is None and values["cpus"] is not None:
        _warn_of_options_without_use(parsed, values["cpus"])
    if values["cpus"] is not None:
        given = Binding(
            values["local_rank"] or 0, cpuset=values["cpus"], nodeset=values["nodes"], memory=values["memory"]
        )
    binding = bind_job(job, values["local_rank"], given, will_exec=True)
    try:
        become(program, command, _command_environment(binding, values["omp"], environment))
    except OSError as error:
        print(f"hwnuma exec: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE


def _warn_of_options_without_use(parsed: argparse.Namespace, cpus: CpuSet) -> None:
    """Say that a place from the environment, as a launcher's plug-in hands it out, leaves nothing to plan here."""
    still_used = ("--memory", "--fallback")
    planning = (option for option in PLAN_OPTIONS if option.flag not in still_used)
    given = [option.flag for option in planning if getattr(parsed, option.name) is not None]
    if given:
        logging.getLogger("hwnuma").warning(
            "HWNUMA_CPUS=%s is this rank's place, as it was planned already: %s on the command line does nothing",
            cpus,
            ", ".join(given),
        )


def _command_environment(binding: Binding, omp: OmpVariables, environment: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: what it is bound to, for `hwnuma verify`, and OpenMP's variables if asked for."""
    made = dict(environment)
    if binding.error is not None:
        return made
    if omp is not OmpVariables.OFF:
        with Topology.from_this_system() as topology:
            cores = [core.cpuset for core in topology.machine().cores_within(binding.cpuset)]
        made |= omp_environment(omp, cores, environment)
    return made | binding.record()


def _show(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.text import machine_as_text

    machine, environment, _ = _machine(parsed, environment)
    try:
        found, localities = _located(machine, read(GPU_OPTIONS, parsed, environment), environment)
    except GpuError as error:
        print(machine_as_text(machine))
        print(f"no GPUs: {error}")
        return DONE
    print(machine_as_text(machine, found.all, localities))
    return DONE


def _gpus(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.report.data import gpus_as_data
    from hwnuma.report.text import gpus_as_text

    machine, environment, _ = _machine(parsed, environment)
    found, localities = _located(machine, read(GPU_OPTIONS, parsed, environment), environment)
    if parsed.format == "json":
        data = {"schema": 1, "topology": machine.source, "source": found.source, "warnings": list(found.warnings)}
        print(json.dumps({**data, "gpus": gpus_as_data(found.all, localities, found.visible)}, indent=2))
    else:
        print(gpus_as_text(found.all, localities, found.visible))
        for warning in found.warnings:
            print(f"warning: {warning}")
    return RANK_NOT_PLACED if any(locality.error for locality in localities) else DONE


def _capture(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:  # noqa: ARG001 -- as all commands
    with Topology.from_this_system() as topology:
        document = topology.export_xml()
    if parsed.file == "-":
        sys.stdout.write(document)
        return DONE
    try:
        Path(parsed.file).write_text(document, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"cannot write {parsed.file}: {error.strerror}") from None
    return DONE


def _verify(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.processes import verify_command

    return verify_command(parsed, environment)


def _bind(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.cli.processes import bind_command

    return bind_command(parsed, environment)


_COMMANDS: dict[str, Callable[[argparse.Namespace, Mapping[str, str]], int]] = {
    "plan": _plan,
    "show": _show,
    "gpus": _gpus,
    "capture": _capture,
    "verify": _verify,
    "bind": _bind,
}


# ---- what commands share -------------------------------------------------------------------------------------


def _machine(
    parsed: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[Machine, Mapping[str, str], tuple[str, ...]]:
    """The machine to plan for, the environment that goes with it, and what to say of its allowed CPUs.

    Another machine's plan does not depend on the devices that are visible here; its own variables are left out.
    """
    warnings: tuple[str, ...] = ()
    if parsed.topology is not None or parsed.synthetic is not None:
        load = Topology.from_xml_file if parsed.topology is not None else Topology.from_synthetic
        with load(parsed.topology if parsed.topology is not None else parsed.synthetic) as topology:
            machine = topology.machine()
        environment = {name: value for name, value in environment.items() if name.startswith("HWNUMA_")}
    else:
        with Topology.from_this_system() as topology:
            machine, affinity = topology.machine(), current_affinity(topology)
        if not machine.allowed_cpuset <= affinity:
            warnings = (f"this process's own affinity is CPUs {affinity}: of CPUs {machine.allowed_cpuset}, no others "
                        "are planned",)  # fmt: skip
        machine = machine.narrowed(affinity)
    if parsed.allowed_cpus is not None:
        machine = machine.narrowed(CpuSet(parsed.allowed_cpus))
    return machine, environment, warnings


def _located(
    machine: Machine, values: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[FoundGpus, Sequence[Locality]]:
    """The GPUs, and where each of them is."""
    job = Job(
        NumaOptions("node", unknown_locality=values["unknown_locality"]),  # type: ignore[arg-type]
        values["gpus"],
        gpu_nodes=values["gpu_node"],
        nccl_topology=values["nccl_topo"] or environment.get("NCCL_TOPO_FILE", ""),
        environment=environment,
    )
    found = job.find_gpus(machine)
    nccl_nodes = job.nccl_nodes()
    localities = locate(machine, found.all, nccl_nodes=nccl_nodes, unknown=job.options.unknown_locality)
    doubts = disagreements(machine, found.all, localities, nccl_nodes)
    return replace(found, warnings=(*found.warnings, *doubts)), localities
