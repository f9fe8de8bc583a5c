"""Places on this system, within the affinity that this process was started with: its own, or those of all ranks."""

from __future__ import annotations

from hwnuma.environment.local_rank import LocalRank, local_rank_of, local_world_size
from hwnuma.errors import NoAllowedCpusError, OptionError, warn
from hwnuma.launch.job import Job, plan_job, plan_rank
from hwnuma.launch.system import load_this_system
from hwnuma.model.bitmap import Bitmap, CpuSet, NodeSet
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.value import replace
from hwnuma.processes.binding import current_affinity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.forms import NumaOptionsLike
    from hwnuma.model.gpu import FoundGpus, Gpu
    from hwnuma.model.machine import Machine
    from hwnuma.model.plan import Binding, Plan


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

    alone = (rank.size if job.ranks is None else job.ranks) == 1  # of one rank there is no order
    return place_by(planner, f"local rank {rank.rank}", machine, inherited, job, None if alone else found)


def place_by(
    planner: Callable[[Machine], tuple[Binding, tuple[str, ...]]],
    who: str,
    machine: Machine,
    inherited: CpuSet,
    job: Job,
    found: FoundGpus | None = None,
) -> Binding:
    """Plan one process, within the affinity that it inherits if the job says so, and log what somebody should know.

    Args:
        planner: gives its binding and warnings, on a machine whose allowed CPUs are those that may be used.
        who: what to call it.
        machine: this system.
        inherited: the affinity to stay within.
        job: its options and environment.
        found: the machine's GPUs, if the process is one of several that a launcher has dealt CPUs out to, in order.

    Raises:
        HwnumaError: it cannot be placed.
    """
    if not job.options.keep_outer_mask or machine.allowed_cpuset <= inherited:
        binding, warnings = planner(machine)
    else:
        binding, warnings = _place_within(planner, who, machine, inherited, job, found)
    for warning in warnings:
        warn(warning)
    return binding.check()


def _place_within(
    planner: Callable[[Machine], tuple[Binding, tuple[str, ...]]],
    who: str,
    machine: Machine,
    inherited: CpuSet,
    job: Job,
    found: FoundGpus | None,
) -> tuple[Binding, tuple[str, ...]]:
    """Plan within the inherited affinity; where that costs CPUs, say how many, by whom, and the way out."""
    from hwnuma.environment.outer_mask import explain  # only now: most processes are started with all CPUs

    binding, warnings = planner(machine.narrowed(inherited))
    without, of_machine = planner(machine)
    order = "" if found is None else _other_order(who, machine, (binding, without), inherited, job, found)
    if order and binding.error is not None:
        return replace(binding, error=type(binding.error)(order)), warnings
    if order:
        cut = f"{order}; it gets CPUs {binding.cpuset} instead of {without.cpuset}"
        # What is true within the affinity alone comes of the same.
        return binding, (cut, *[warning for warning in warnings if warning in of_machine])
    if binding.error is not None and without.error is None:
        hint = f"{binding.error}; without the inherited affinity it is CPUs {without.cpuset}: "
        return replace(binding, error=type(binding.error)(hint + explain(inherited, job.environment))), warnings
    if binding.error is None and len(binding.cpuset) < len(without.cpuset):
        cut = f"{who} gets CPUs {binding.cpuset} instead of {without.cpuset}: {explain(inherited, job.environment)}"
        return binding, (cut, *warnings)
    return binding, warnings


def _other_order(
    who: str, machine: Machine, bindings: tuple[Binding, Binding], inherited: CpuSet, job: Job, found: FoundGpus
) -> str:
    """Say that the affinity is near other GPUs than the process's own, if it is; and how to put that in order."""
    within, without = bindings
    is_far = isinstance(within.error, NoAllowedCpusError) or "nearest" in within.locality
    if not is_far or without.error is not None or "nearest" in without.locality:
        return ""
    from hwnuma.environment.outer_mask import explain_order
    from hwnuma.policy.rank_order import near_another

    gpus = tuple(dict.fromkeys((*found.visible, *found.all)))
    nccl_nodes, unknown = job.nccl_nodes(), job.options.unknown_locality
    place = near_another(machine, without.gpus, gpus, inherited, nccl_nodes=nccl_nodes, unknown=unknown)
    if place is None:
        return ""
    others, own = Bitmap(gpu.index for gpu in place.others), ", ".join(map(str, without.gpus))
    return (
        f"CPUs were not given out in the order of the GPUs: {who} was started on CPUs {inherited} of NUMA node "
        f"{place.given}, near GPU{'s' if len(others) > 1 else ''} {others}, and drives {own} on node {place.own}; "
        f"{explain_order(inherited, job.environment)}"
    )


def plan_here(
    options: NumaOptionsLike = AffinityMode.NODE,
    *,
    ranks: int | None = None,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
) -> Plan:
    """Plan all worker processes that this process is going to start on this machine.

    Args:
        options: NumaOptions (ours or torch's), an affinity mode, or its value.
        ranks: how many workers there will be; by default one a GPU.
        gpus: which GPUs: a specification (see `hwnuma.devices.discovery.find_gpus`), or the GPUs in rank order.
        gpu_nodes: NUMA nodes that you state, by PCI address or GPU index.

    Raises:
        HwnumaError: nothing can be planned. A single rank that cannot be placed carries its error in the plan.
    """
    job = Job.here(options, gpus=gpus, ranks=ranks, gpu_nodes=gpu_nodes)
    machine, _ = machine_here(job.options)
    return plan_job(machine, job)


def machine_here(options: NumaOptions) -> tuple[Machine, CpuSet]:
    """This system as its ranks may use it: within this process's affinity, if the options say so; and that affinity."""
    with load_this_system(network=options.wants_nics) as topology:
        machine, affinity = topology.machine(), current_affinity(topology)
    return machine.narrowed(affinity) if options.keep_outer_mask else machine, affinity


def cores_of(cpuset: CpuSet) -> list[CpuSet]:
    """The cores of these CPUs on this system, each cut down to them."""
    with load_this_system(pci=False) as topology:
        return [core.cpuset for core in topology.machine().cores_within(cpuset)]


def nodes_of(cpuset: CpuSet) -> NodeSet:
    """The NUMA nodes of these CPUs, on this system."""
    with load_this_system(pci=False) as topology:
        return NodeSet(node.os_index for node in topology.machine().nodes_of(cpuset))
