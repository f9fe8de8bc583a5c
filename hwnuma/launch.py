"""The one call of a launcher or a worker: local rank, GPU, plan, bind."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from hwnuma.binding import Applied, apply, current_affinity
from hwnuma.bitmap import CpuSet, NodeSet
from hwnuma.discovery import FoundGpus, find_gpus
from hwnuma.errors import HwnumaError, LocalRankError, OptionError
from hwnuma.gpus import Gpu, GpuSource
from hwnuma.launchers import LocalRank, local_rank_of, local_world_size
from hwnuma.machine import Machine
from hwnuma.nccl import read_nccl_topology
from hwnuma.options import AffinityMode, DivideAmong, MemoryPolicy, NumaOptions, RankOrder
from hwnuma.placement import Binding, Plan
from hwnuma.policy import make_plan
from hwnuma.topology import Topology

logger = logging.getLogger("hwnuma")


def plan(
    machine: Machine,
    gpus: Sequence[Gpu] | GpuSource,
    options: NumaOptions | AffinityMode | str,
    *,
    ranks: int | None = None,
    all_gpus: Sequence[Gpu] = (),
    nccl_nodes: Mapping[str, int] | None = None,
) -> Plan:
    """Plan every rank of a machine, before the first one starts and without binding anything.

    Args:
        machine: from `Topology.machine`. Its allowed CPUs are given out; on this system narrow them to the
            process's own affinity with ``machine.narrowed(os.sched_getaffinity(0))`` if it has one.
        gpus: the GPUs in the order that the ranks drive them, or a source of them. Empty: ranks without GPUs.
        options: NumaOptions, ours or torch's, or an affinity mode.
        ranks: how many ranks the machine runs; by default one a GPU.
        all_gpus: all GPUs of the machine, where `gpus` are only some and `divide_among` is "all".
        nccl_nodes: NUMA node by PCI address, from `hwnuma.nccl.read_nccl_topology`.

    Returns:
        The plan. A rank that cannot be placed carries its error in it.

    Raises:
        OptionError: the options or the number of ranks make no sense.
        GpuError: the source of GPUs does not work.
    """
    listed = gpus if isinstance(gpus, Sequence) else gpus.gpus()
    return make_plan(machine, listed, NumaOptions.of(options), ranks=ranks, all_gpus=all_gpus, nccl_nodes=nccl_nodes)


@dataclass(frozen=True)
class Job:
    """What is known of a job on this machine, from arguments, the command line and the environment.

    Attributes:
        options: how to place ranks.
        gpus: a specification for `hwnuma.discovery.find_gpus`, or the GPUs themselves in rank order.
        ranks: how many ranks the machine runs; None if nobody says.
        gpu_nodes: NUMA nodes that somebody states, by PCI address or GPU index.
        nccl_topology: an NCCL topology file to learn nodes from, or "".
        environment: for the launcher's and the drivers' variables.
    """

    options: NumaOptions
    gpus: str | Sequence[Gpu] = "auto"
    ranks: int | None = None
    gpu_nodes: Mapping[str, int] = field(default_factory=dict)
    nccl_topology: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def find_gpus(self, machine: Machine) -> FoundGpus:
        """The job's GPUs.

        Raises:
            GpuError: there are none, or none can be found out.
        """
        if isinstance(self.gpus, str):
            return find_gpus(self.gpus, machine, self.environment, gpu_nodes=self.gpu_nodes)
        given = tuple(self.gpus)
        return FoundGpus(given, given, "given")

    def nccl_nodes(self) -> dict[str, int]:
        """NUMA node by PCI address, from the NCCL topology file if there is one."""
        return read_nccl_topology(self.nccl_topology) if self.nccl_topology else {}


def plan_job(machine: Machine, job: Job, found: FoundGpus | None = None) -> Plan:
    """Plan all ranks of a job on a machine, as a launcher sees it: all visible GPUs at once.

    Args:
        machine: with the CPUs that may be used as its allowed ones.
        job: what to plan.
        found: the job's GPUs, if they were looked for already.
    """
    found = found or job.find_gpus(machine)
    ranks = job.ranks if job.ranks is not None or found.visible else local_world_size(job.environment)
    made = make_plan(
        machine, found.visible, job.options, ranks=0 if ranks is None and not found.visible else ranks,
        all_gpus=found.all, nccl_nodes=job.nccl_nodes(),
    )  # fmt: skip
    return replace(made, warnings=(*found.warnings, *made.warnings))


def plan_rank(
    machine: Machine, job: Job, rank: LocalRank, found: FoundGpus | None = None
) -> tuple[Binding, tuple[str, ...]]:
    """Plan one rank from inside it: the same answer as in the plan of all, where this process sees all GPUs.

    A process that sees only its own GPU (a CUDA_VISIBLE_DEVICES or a Slurm allocation for each rank) drives that one,
    and a node is then divided among all of the machine's GPUs that can be known, unless `divide_among` says otherwise.

    Args:
        machine: with the CPUs that may be used as its allowed ones.
        job: what to plan.
        rank: this process's place.
        found: the job's GPUs, if they were looked for already.

    Returns:
        The binding, which may carry an error, and warnings.
    """
    found = found or job.find_gpus(machine)
    size = job.ranks if job.ranks is not None else rank.size
    if found.visible and _sees_only_its_own(found, job.options, rank.rank, size):
        binding, warnings = _plan_alone(machine, job, found, rank.rank, size)
        return replace(binding, local_rank=rank.rank), (*rank.warnings, *warnings)
    if not found.visible and size is None:
        raise LocalRankError(
            "without GPUs, the number of ranks on this machine has to be known: say --ranks N, or set LOCAL_WORLD_SIZE"
        )
    planned = plan_job(machine, replace(job, ranks=size), found)
    if rank.rank >= len(planned):
        raise LocalRankError(
            f"local rank {rank.rank} has no GPU: {len(found.visible)} are visible, for {len(planned)} ranks; see "
            "--ranks-per-gpu, or --gpus none for ranks without GPUs"
        )
    return planned[rank.rank], (*rank.warnings, *planned.warnings)


def _sees_only_its_own(found: FoundGpus, options: NumaOptions, rank: int, size: int | None) -> bool:
    """Whether the visible GPUs are this rank's alone: just as many as it drives, and too few for all ranks."""
    ranks = max(rank + 1, size or 0)
    return len(found.visible) == options.gpus_per_rank and len(found.visible) * options.ranks_per_gpu < ranks


def _plan_alone(
    machine: Machine, job: Job, found: FoundGpus, rank: int, size: int | None
) -> tuple[Binding, tuple[str, ...]]:
    """Plan the ranks of the visible GPUs, and give this rank its share of them."""
    options = job.options
    if options.divide_among is DivideAmong.AUTO:
        options = replace(options, divide_among=DivideAmong.ALL)
    planned = plan_job(machine, replace(job, options=options, ranks=options.ranks_per_gpu), found)
    warnings = planned.warnings
    if options.affinity_mode is AffinityMode.EXCLUSIVE and len(found.all) == len(found.visible) and (size or 2) > 1:
        warnings += (
            "this process can see no GPU but its own, so it cannot know which others share its node: exclusive shares "
            "may overlap; plan in the launcher, or give every rank the whole list of GPUs",
        )
    return planned[_place_on_gpu(options, rank, size)], warnings


def _place_on_gpu(options: NumaOptions, rank: int, size: int | None) -> int:
    """Which of the ranks of its GPU a rank is, from 0, where it sees that GPU alone.

    Raises:
        LocalRankError: it depends on the number of ranks, which nobody says.
    """
    if options.ranks_per_gpu == 1 or options.rank_order is RankOrder.BLOCK:
        return rank % options.ranks_per_gpu
    if size is None:
        raise LocalRankError(
            "with the rank order round-robin and a single GPU in sight, the number of ranks on this machine has to be "
            "known: say --ranks N, or set LOCAL_WORLD_SIZE"
        )
    return rank // -(-size // options.ranks_per_gpu)


def bind(
    options: NumaOptions | AffinityMode | str | Any = AffinityMode.NODE,
    *,
    local_rank: int | None = None,
    ranks: int | None = None,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
    nccl_topology: str | None = None,
) -> Binding:
    """Bind this process, all its threads that nobody pinned, to the CPUs near its GPU.

    Call it first thing in a worker: memory that was touched before stays where it is.

    Args:
        options: NumaOptions (ours or torch's), an affinity mode, or its value: "node", "socket", "exclusive",
            "core-complex".
        local_rank: this process's rank on its machine; by default from the launcher's environment.
        ranks: how many ranks run on this machine; by default from the launcher's environment.
        gpus: which GPUs: a specification (see `hwnuma.discovery.find_gpus`), or the GPUs in rank order.
        gpu_nodes: NUMA nodes that you state, by PCI address or GPU index.
        nccl_topology: an NCCL topology file to learn nodes from; by default ``NCCL_TOPO_FILE``.

    Returns:
        What the process is bound to now. If binding failed and ``should_fall_back_if_binding_fails`` is set, a
        Binding with an error, and the process is as it was.

    Raises:
        HwnumaError: the rank cannot be placed or bound; the process is as it was.
    """
    environment = dict(os.environ)
    chosen = NumaOptions.of(options)
    job = Job(
        chosen,
        gpus,
        ranks,
        gpu_nodes or {},
        environment.get("NCCL_TOPO_FILE", "") if nccl_topology is None else nccl_topology,
        environment,
    )
    return bind_job(job, local_rank)


@contextmanager
def bound(
    to: Binding | CpuSet | NumaOptions | AffinityMode | str | Any = AffinityMode.NODE,
    *,
    local_rank: int | None = None,
    ranks: int | None = None,
    gpus: str | Sequence[Gpu] = "auto",
) -> Iterator[Binding]:
    """Bind this process for the length of a with block, and then put every thread back where it was.

    ::

        with hwnuma.bound("node"):
            engine = make_engine()      # its threads and its memory are near the GPU

    At the end each thread that was moved gets its own former affinity, a thread that was started in the block gets that
    of the thread that entered it, and one that somebody has pinned meanwhile stays. The memory policy goes back too.

    Args:
        to: a Binding of a plan, CPUs, or options as `bind` takes them.
        local_rank: as for `bind`.
        ranks: as for `bind`.
        gpus: as for `bind`.

    Yields:
        What the process is bound to.

    Raises:
        HwnumaError: it cannot be placed or bound; the process is as it was.
    """
    if isinstance(to, CpuSet):
        to = Binding(local_rank or 0, cpuset=to)
    if isinstance(to, Binding):
        job, given = Job(NumaOptions(AffinityMode.NODE, memory=to.memory)), to
    else:
        job, given = Job(NumaOptions.of(to), gpus, ranks, environment=dict(os.environ)), None
    try:
        applied = _place_and_apply(job, local_rank, given)
    except HwnumaError as error:
        if not job.options.should_fall_back_if_binding_fails:
            raise
        logger.warning("running unbound, as asked: %s", error)
        yield Binding(local_rank or 0, error=error)
        return
    try:
        yield applied.binding
    finally:
        with Topology.for_binding() as topology:
            applied.undo(topology)


def bind_job(
    job: Job, local_rank: int | None = None, given: Binding | None = None, *, will_exec: bool = False
) -> Binding:
    """Bind this process as `bind` does, or to what a launcher planned.

    Args:
        job: what to plan, or how to bind.
        local_rank: this process's rank; by default from the job's environment.
        given: what to bind to, instead of planning.
        will_exec: the process will exec a command at once, so what it has allocated itself does not matter.
    """
    try:
        return _place_and_apply(job, local_rank, given, will_exec=will_exec).binding
    except HwnumaError as error:
        if not job.options.should_fall_back_if_binding_fails:
            raise
        logger.warning("running unbound, as asked: %s", error)
        return Binding(local_rank or 0, error=error)


def bind_process(pid: int, binding: Binding, *, all_threads: bool = False, migrate: bool = False) -> Binding:
    """Bind another process, all its threads that nobody pinned.

    Its memory policy cannot be set from outside (Linux); what it has allocated can be moved.

    Args:
        pid: the process, of the same user or anybody's for root.
        binding: what to bind it to.
        all_threads: move pinned threads too.
        migrate: move what it has allocated to the binding's nodes.

    Returns:
        The binding, with `memory_error` if it names a memory policy.

    Raises:
        BindingError: the kernel refused: errno EPERM for another user's process, ESRCH if there is none; or the binding
            has the memory policy bind. All is as it was.
    """
    with Topology.for_binding(binding.nodeset, binding.cpuset) as topology:
        applied = apply(topology, binding, pid=pid, all_threads=all_threads, migrate=migrate)
    return _logged(applied).binding


def _place_and_apply(
    job: Job, local_rank: int | None, given: Binding | None = None, *, will_exec: bool = False
) -> Applied:
    options = job.options
    if given is not None and given.memory is not MemoryPolicy.NONE and not given.nodeset:
        given = replace(given, nodeset=_nodes_of(given.cpuset))
    with (
        Topology.from_this_system() if given is None else Topology.for_binding(given.nodeset, given.cpuset) as topology
    ):
        binding = place(topology, job, local_rank) if given is None else given
        applied = apply(
            topology,
            binding,
            all_threads=options.all_threads,
            migrate=options.migrate and not will_exec,
            look_at_pages=not will_exec,
        )
    return _logged(applied)


def _logged(applied: Applied) -> Applied:
    for warning in applied.warnings:
        logger.warning("%s", warning)
    return applied


def _nodes_of(cpuset: CpuSet) -> NodeSet:
    """The NUMA nodes of these CPUs, on this system."""
    with Topology.from_this_system() as topology:
        nodes = topology.machine().cpu_nodes
    return NodeSet(node.os_index for node in nodes if not node.cpuset.isdisjoint(cpuset))


def place(topology: Topology, job: Job, local_rank: int | None, inherited: CpuSet | None = None) -> Binding:
    """Plan this process's own place on this system, and log what somebody should know of it.

    Args:
        topology: this system's.
        job: what to plan.
        local_rank: the rank; by default from the job's environment.
        inherited: the affinity to stay within, if the job says so; by default the calling thread's.

    Raises:
        HwnumaError: it cannot be placed.
    """
    rank = local_rank_of(job.environment) if local_rank is None else LocalRank(local_rank, job.ranks, "local_rank")
    if rank.rank < 0:
        raise OptionError(f"local rank {rank.rank} makes no sense: ranks count from 0")
    if local_rank is not None and job.ranks is None:
        rank = replace(rank, size=local_world_size(job.environment))
    machine = topology.machine()
    inherited = current_affinity(topology) if inherited is None else inherited
    found = job.find_gpus(machine)  # once, however often it is planned with fewer CPUs: it may ask the driver

    def planner(usable: Machine) -> tuple[Binding, tuple[str, ...]]:
        return plan_rank(usable, job, rank, found)

    return place_by(planner, f"local rank {rank.rank}", machine, inherited, job)


def place_by(
    planner: Callable[[Machine], tuple[Binding, tuple[str, ...]]],
    who: str,
    machine: Machine,
    inherited: CpuSet,
    job: Job,
) -> Binding:
    """Plan one process, within the affinity that it inherits if the job says so, and log what somebody should know.

    Args:
        planner: gives its binding and warnings, on a machine whose allowed CPUs are those that may be used.
        who: what to call it.
        machine: this system.
        inherited: the affinity to stay within.
        job: its options and environment.

    Raises:
        HwnumaError: it cannot be placed.
    """
    if not job.options.keep_outer_mask or machine.allowed_cpuset <= inherited:
        binding, warnings = planner(machine)
    else:
        binding, warnings = _place_within(planner, who, machine, inherited, job)
    for warning in warnings:
        logger.warning("%s", warning)
    return binding.check()


def _place_within(
    planner: Callable[[Machine], tuple[Binding, tuple[str, ...]]],
    who: str,
    machine: Machine,
    inherited: CpuSet,
    job: Job,
) -> tuple[Binding, tuple[str, ...]]:
    """Plan within the inherited affinity; where that costs CPUs, say how many, by whom, and the way out."""
    from hwnuma.outer_mask import explain  # only now: most processes are started with all CPUs

    binding, warnings = planner(machine.narrowed(inherited))
    without, _ = planner(machine)
    if binding.error is not None and without.error is None:
        hint = f"{binding.error}; without the inherited affinity it is CPUs {without.cpuset}: "
        return replace(binding, error=type(binding.error)(hint + explain(inherited, job.environment))), warnings
    if binding.error is None and len(binding.cpuset) < len(without.cpuset):
        cut = f"{who} gets CPUs {binding.cpuset} instead of {without.cpuset}: {explain(inherited, job.environment)}"
        return binding, (cut, *warnings)
    return binding, warnings


def resolve_command(command: Sequence[str]) -> str:
    """Find the program that a command names, as the shell does.

    Raises:
        FileNotFoundError: there is none (a shell's 127).
        PermissionError: it cannot be executed (a shell's 126).
    """
    name = command[0]
    found = shutil.which(name)
    if found is not None:
        return found
    there = [Path(name)] if os.sep in name else [Path(folder, name) for folder in os.get_exec_path()]
    if any(path.exists() for path in there):
        raise PermissionError(f"{name} is not an executable file: check its permissions")
    raise FileNotFoundError(f"{name}: command not found")


def become(program: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by the command; the process id, the CPU affinity and the memory policy stay."""
    # To become the command, with no shell between, is the purpose.
    os.execve(program, list(command), dict(os.environ if environment is None else environment))  # noqa: S606
