"""The commands on processes that run already: ``hwnuma verify`` and ``hwnuma bind``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from hwnuma.cli.exit_status import fail
from hwnuma.cli.interrupts import UndoneFirst
from hwnuma.cli.options import BIND_OPTIONS, GPU_OPTIONS, PLAN_OPTIONS
from hwnuma.cli.output import say, say_data
from hwnuma.cli.parsing import add_options, format_option
from hwnuma.devices.discovery import state_nodes
from hwnuma.errors import GpuNotFoundError, HwnumaError, OptionError
from hwnuma.launch.bind import bind_process
from hwnuma.launch.job import Job
from hwnuma.launch.place import place
from hwnuma.launch.system import load_this_system
from hwnuma.launch.told import Told
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.option_table import Option, options_of, said
from hwnuma.model.options import AffinityMode, MemoryPolicy
from hwnuma.model.plan import Binding
from hwnuma.model.value import Value, field, replace
from hwnuma.processes.binding import current_affinity
from hwnuma.processes.defeaters import audits_with_defeaters, with_defeaters
from hwnuma.processes.procfs import affinity, process_id
from hwnuma.processes.trust import environment_of
from hwnuma.processes.verification import Expected, Verification, audit_gpu_processes, recorded_in, verify_process

_WHERE = "where it should be"

ALL_FINE, SOMETHING_OFF, NOTHING_VERIFIED = 0, 1, 2


class _Stated(Value):
    """Where a process should be, as the command line of ``hwnuma verify`` states it."""

    cpus: CpuSet | None = field(
        default=None,
        option=Option(
            "--cpus",
            CpuSet,
            "the CPUs where it should be (default: as recorded by hwnuma exec, or planned)",
            "LIST",
            _WHERE,
            example="0",
        ),
    )
    nodes: NodeSet = field(
        default=NodeSet(),
        option=Option("--nodes", NodeSet, "the NUMA nodes where its memory should be", "LIST", _WHERE, example="0"),
    )
    memory: MemoryPolicy = field(
        default=MemoryPolicy.NONE,
        option=Option(
            "--memory", MemoryPolicy, "the memory policy that it should have", "POLICY", _WHERE, example="bind"
        ),
    )
    mode: AffinityMode = field(
        default=AffinityMode.NODE,
        option=Option(
            "--mode",
            AffinityMode,
            "with --gpus: near is the GPU's node, or with socket its package",
            "MODE",
            _WHERE,
            example="socket",
        ),
    )


# Not --gpus: here it is a switch.
VERIFY_OPTIONS = (*options_of(_Stated), *(option for option in GPU_OPTIONS if option.flag != "--gpus"))


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hwnuma verify``."""
    add_options(parser, VERIFY_OPTIONS)
    parser.add_argument("pids", metavar="PID", nargs="*", help="processes to verify, all their threads")
    parser.add_argument("--gpus", action="store_true", dest="gpu_processes", help="every process that is on a GPU here")
    parser.add_argument("--exact", action="store_true", help="threads pinned to some of the expected CPUs are off too")
    format_option(parser, ("table", "json"))


def add_bind_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hwnuma bind``."""
    add_options(parser, BIND_OPTIONS)
    parser.add_argument("pids", metavar="PID", nargs="+", help="processes to bind, all their threads")


def verify_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma verify``."""
    if bool(parsed.pids) == parsed.gpu_processes:
        raise OptionError("say what to verify: PIDs, or --gpus for every process that is on a GPU here")
    if parsed.gpu_processes:
        return _verify_gpus(parsed, environment)
    found = [_verify_or_say(parsed, pid, environment) for pid in [process_id(text) for text in parsed.pids]]
    verified = [each for each in found if each is not None]
    _print_verifications(verified, parsed.format)
    if not verified:
        return NOTHING_VERIFIED
    return ALL_FINE if len(verified) == len(found) and all(each.ok for each in verified) else SOMETHING_OFF


def _print_verifications(verified: Sequence[Verification], form: str) -> None:
    from hwnuma.report.verification import verifications_as_data, verifications_as_text

    if form == "json":
        say_data(verifications_as_data(verified))
    elif verified:
        say(verifications_as_text(verified))


def _verify_or_say(parsed: argparse.Namespace, pid: int, environment: Mapping[str, str]) -> Verification | None:
    try:
        return with_defeaters(verify_process(pid, _expected(parsed, pid, environment), exact=parsed.exact))
    except HwnumaError as error:
        fail(f"hwnuma verify: process {pid} cannot be verified", error, NOTHING_VERIFIED)
        return None


def _expected(parsed: argparse.Namespace, pid: int, environment: Mapping[str, str]) -> Expected:
    """Where a process should be: as the command line says, as was recorded, or as it would be planned now."""
    stated = _Stated(**said(_Stated, vars(parsed), {}))
    if stated.cpus is not None:
        return Expected(stated.cpus, stated.nodes, stated.memory, "--cpus")
    its_own = environment_of(pid)
    recorded = recorded_in(its_own)
    if recorded is not None:
        return recorded
    ours = {option.variable: environment[option.variable] for option in PLAN_OPTIONS if option.variable in environment}
    both = {**its_own.variables, **ours}
    try:
        with load_this_system() as topology:
            job = Job.asked({option.name: vars(parsed).get(option.name) for option in GPU_OPTIONS}, both)
            options = replace(job.options.without_nics(), keep_outer_mask=False)
            planned = place(topology, replace(job, options=options), None)
    except HwnumaError as error:
        raise OptionError(
            f"nothing says where it should be: give --cpus LIST; hwnuma exec has recorded nothing, and planning "
            f"fails: {error}"
        ) from None
    expected = Expected.of(planned)
    return replace(expected, source=f"the plan for {planned.gpu or 'its rank'}, mode {job.options.affinity_mode}")


def _verify_gpus(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hwnuma.devices.nvml import NvmlGpus
    from hwnuma.report.verification import audits_as_data, audits_as_text

    stated = _Stated(**said(_Stated, vars(parsed), environment))
    job = Job.asked(vars(parsed), environment)
    nvml = NvmlGpus()
    processes = nvml.processes()
    gpus = state_nodes(nvml.gpus(), job.gpu_nodes)
    with load_this_system() as topology:
        machine = topology.machine()
    audits = audits_with_defeaters(
        audit_gpu_processes(machine, processes, gpus=gpus, mode=stated.mode, nccl_nodes=job.nccl_nodes())
    )
    if not audits and parsed.format != "json":
        raise GpuNotFoundError(f"no process is on any of the {len(gpus)} GPUs, as far as NVML shows them here")
    if parsed.format == "json":
        say_data(audits_as_data(audits))
    else:
        say(audits_as_text(audits))
    verdicts = [audit.ok for audit in audits]
    if not [verdict for verdict in verdicts if verdict is not None]:
        return NOTHING_VERIFIED
    return SOMETHING_OFF if False in verdicts else ALL_FINE


def bind_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma bind``: each process is placed by its own environment, as `hwnuma exec` would have done in it."""
    told = Told.asked(vars(parsed), environment)
    asked = Job.asked(vars(parsed), environment)
    asked = replace(asked, options=asked.options.without_nics())
    for pid in [process_id(text) for text in parsed.pids]:  # all are read ahead of the first that is bound
        binding = told.place(asked.options.memory) or _planned(
            replace(asked, environment=environment_of(pid).variables), pid, told
        )
        with UndoneFirst():
            bind_process(pid, binding, all_threads=asked.options.all_threads, migrate=asked.options.migrate)
    return ALL_FINE


def _planned(job: Job, pid: int, told: Told) -> Binding:
    with load_this_system() as topology:
        try:
            inherited = affinity(pid)
        except ProcessLookupError:
            inherited = current_affinity(topology)
        return place(topology, job, told.local_rank, inherited)
