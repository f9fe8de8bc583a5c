"""The commands on processes that run already: ``hwnuma verify`` and ``hwnuma bind``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from hwnuma.cli.exit_status import fail
from hwnuma.cli.interrupts import UndoneFirst
from hwnuma.cli.options import BIND_OPTIONS, GPU_OPTIONS, PLAN_OPTIONS
from hwnuma.cli.output import say, say_data
from hwnuma.cli.parsing import add_options, format_option
from hwnuma.cli.watch import seconds_of, watch
from hwnuma.devices.discovery import state_nodes
from hwnuma.errors import BindingError, GpuNotFoundError, HwnumaError, OptionError
from hwnuma.hwloc.files import write_whole_file
from hwnuma.launch.bind import bind_process
from hwnuma.launch.job import Job
from hwnuma.launch.place import place
from hwnuma.launch.system import load_this_system
from hwnuma.launch.told import Told
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.option_table import Option, options_of, said
from hwnuma.model.options import AffinityMode, MemoryPolicy
from hwnuma.model.plan import Binding
from hwnuma.model.value import Value, field, replace
from hwnuma.processes.binding import current_affinity
from hwnuma.processes.defeaters import audits_with_defeaters, with_defeaters
from hwnuma.processes.procfs import affinity, process_id, start_time
from hwnuma.processes.trust import environment_of
from hwnuma.processes.verification import (
    Expected,
    GpuAudit,
    Verification,
    audit_gpu_processes,
    recorded_in,
    verify_process,
)
from hwnuma.processes.watching import Seen

_WHERE = "where it should be"

ALL_FINE, SOMETHING_OFF, NOTHING_VERIFIED = 0, 1, 2

# node_exporter runs as a user of its own.
_READ_BY_ALL = 0o644


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
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        help="look every SECONDS and say what changed, a line an event, until the processes have ended (with --gpus: "
        "until Ctrl-C)",
    )
    parser.add_argument(
        "--prometheus",
        metavar="FILE",
        help="with --gpus: write metrics to FILE, for node_exporter's textfile collector",
    )
    format_option(parser, ("table", "json"))


def add_bind_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hwnuma bind``."""
    add_options(parser, BIND_OPTIONS)
    parser.add_argument("pids", metavar="PID", nargs="+", help="processes to bind, all their threads")


def verify_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma verify``."""
    if bool(parsed.pids) == parsed.gpu_processes:
        raise OptionError("say what to verify: PIDs, or --gpus for every process that is on a GPU here")
    if parsed.prometheus is not None and not parsed.gpu_processes:
        raise OptionError("--prometheus goes with --gpus: its metrics are of the processes on each GPU")
    parsed.watch = None if parsed.watch is None else seconds_of(parsed.watch)
    if parsed.gpu_processes:
        return _verify_gpus(parsed, environment)
    pids = [process_id(text) for text in parsed.pids]
    if parsed.watch is not None:
        return _watch_processes(parsed, pids, environment)
    found = [_verify_or_say(parsed, pid, environment) for pid in pids]
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


def _watch_processes(parsed: argparse.Namespace, pids: Sequence[int], environment: Mapping[str, str]) -> int:
    """Watch processes until they end; numbers that are given anew are others'."""
    watched: dict[int, tuple[int, Expected]] = {}
    for pid in pids:
        start = start_time(pid)
        try:
            expected = _expected(parsed, pid, environment)
        except HwnumaError as error:
            fail(f"hwnuma verify: process {pid} cannot be verified", error, NOTHING_VERIFIED)
        else:
            watched[pid] = start or 0, expected

    def look() -> list[Seen]:
        seen = [_seen(pid, start, expected, exact=parsed.exact) for pid, (start, expected) in watched.items()]
        return [each for each in seen if start_time(each.pid) == each.start]

    watcher = watch(parsed.watch, look, parsed.format)
    if not watcher.verified:
        return NOTHING_VERIFIED
    is_well = len(watched) == len(pids) and not watcher.drifted and not watcher.not_verified
    return ALL_FINE if is_well else SOMETHING_OFF


def _seen(pid: int, start: int, expected: Expected, *, exact: bool) -> Seen:
    try:
        return Seen(pid, start, with_defeaters(verify_process(pid, expected, exact=exact)))
    except BindingError as error:
        return Seen(pid, start, error=error.strerror or str(error))


class _GpuProcesses:
    """Audits the processes on GPUs, as often as it is asked."""

    def __init__(self, parsed: argparse.Namespace, environment: Mapping[str, str]) -> None:
        from hwnuma.devices.nvml import NvmlGpus  # only where GPUs are asked for

        self._mode = _Stated(**said(_Stated, vars(parsed), environment)).mode
        self._job = Job.asked(vars(parsed), environment)
        self._nvml = NvmlGpus()
        self._prometheus: str | None = parsed.prometheus
        self.gpus = state_nodes(self._nvml.gpus(), self._job.gpu_nodes)
        self._starts: dict[int, int | None] = {}
        with load_this_system() as topology:
            self._machine = topology.machine()

    def audit(self) -> tuple[GpuAudit, ...]:
        """Audit the processes that there are now, and write the metrics if that was asked for."""
        processes, nccl_nodes = self._nvml.processes(), self._job.nccl_nodes()
        self._starts = {pid: start_time(pid) for _, pid in processes}
        found = audit_gpu_processes(self._machine, processes, gpus=self.gpus, mode=self._mode, nccl_nodes=nccl_nodes)
        audits = audits_with_defeaters(found)
        if self._prometheus is not None:
            from hwnuma.report.prometheus import audits_as_prometheus  # only here

            text = audits_as_prometheus(self.gpus, audits)
            write_whole_file(self._prometheus, text.encode(), mode=_READ_BY_ALL)
        return audits

    def look(self) -> list[Seen]:
        """The same for who watches, without those that have ended meanwhile."""
        audits = [audit for audit in self.audit() if start_time(audit.pid) == self._starts[audit.pid]]
        return [Seen(each.pid, self._starts[each.pid] or 0, each.verification, each.error) for each in audits]


def _verify_gpus(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    on_gpus = _GpuProcesses(parsed, environment)
    if parsed.watch is not None:
        watcher = watch(parsed.watch, on_gpus.look, parsed.format, goes_on=True)
        return SOMETHING_OFF if watcher.drifted else ALL_FINE
    audits = on_gpus.audit()
    if parsed.prometheus is None or parsed.format is not None:
        _print_audits(audits, on_gpus.gpus, parsed.format)
    verdicts = [audit.ok for audit in audits]
    if parsed.prometheus is None and not [verdict for verdict in verdicts if verdict is not None]:
        return NOTHING_VERIFIED
    return SOMETHING_OFF if False in verdicts else ALL_FINE


def _print_audits(audits: Sequence[GpuAudit], gpus: Sequence[Gpu], form: str | None) -> None:
    from hwnuma.report.verification import audits_as_data, audits_as_text

    if form == "json":
        say_data(audits_as_data(audits))
    elif audits:
        say(audits_as_text(audits))
    else:
        raise GpuNotFoundError(f"no process is on any of the {len(gpus)} GPUs, as far as NVML shows them here")


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
