"""The arithmetic: from a machine and its GPUs to a plan for every rank. Pure: same arguments, same answer.

The modes' meaning is torch's (torch/numa/binding.py, torch 2.13), and where it answers rightly, so is the result, to
the CPU. A rank's GPU makes a *claim* on the node that the GPU is on; the claims on one node, in GPU order, are what the
node's cores (``exclusive``) or last-level caches (``core-complex``) are divided among. A GPU with two ranks makes two
claims, a rank with two GPUs has two, and a GPU that others may use makes them for nobody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from hwnuma.errors import NoAllowedCpusError, NotEnoughCoresError, PlanError, UnknownLocalityError
from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Core, Machine, NumaNode
from hwnuma.model.options import AffinityMode, DivideAmong, NoAllowedCpus, NumaOptions
from hwnuma.model.plan import Binding, Plan
from hwnuma.model.value import replace
from hwnuma.policy.locality import Locality, disagreements, locate
from hwnuma.policy.modes import SHARES, Share, package_cpus
from hwnuma.policy.ranks import ranks_to_gpus, usable_cpus


def make_plan(
    machine: Machine,
    gpus: Sequence[Gpu],
    options: NumaOptions,
    *,
    ranks: int | None = None,
    all_gpus: Sequence[Gpu] = (),
    nccl_nodes: Mapping[str, int] | None = None,
) -> Plan:
    """Plan every rank of a machine at once.

    Args:
        machine: the machine; its allowed CPUs are all that is given out.
        gpus: the visible GPUs in the order that ranks drive them. Empty: ranks are spread over the machine's cores.
        options: the mode and what refines it.
        ranks: how many ranks run on this machine; by default as many as the GPUs need.
        all_gpus: all GPUs of the machine, if the visible ones are only some.
        nccl_nodes: NUMA node by PCI address, from an NCCL topology file.

    Raises:
        OptionError: the number of ranks makes no sense, or does not fit the number of GPUs.
    """
    usable = machine.narrowed(usable_cpus(machine, options))
    rank_gpus = ranks_to_gpus(len(gpus), options, ranks)
    if gpus:
        claims = _gpu_claims(usable, gpus, rank_gpus, options, all_gpus, nccl_nodes)
    else:
        claims = _spread_claims(usable, len(rank_gpus))
    _move_to_nearest(usable, claims, options)
    _settle(usable, claims, options)
    bindings = tuple(
        _binding(usable, rank, tuple(gpus[place] for place in places), claims, options)
        for rank, places in enumerate(rank_gpus)
    )
    plan = Plan(options, machine.source, machine.allowed_cpuset, bindings)
    localities = locate(usable, gpus, nccl_nodes=nccl_nodes, unknown=options.unknown_locality)
    doubts = disagreements(usable, gpus, localities, nccl_nodes)
    return replace(plan, warnings=(*doubts, *_warnings(usable, plan)))


class _Claim:
    """One rank's wish for CPUs of the node that its GPU is on; rank -1 holds a share free for another job.

    Attributes:
        rank: who gets it.
        gpu: the place of its GPU among those that the machine is divided among.
        locality: the node, and who says so.
        cpuset: what it got so far.
        error: why it gets nothing.
        subject: what to call it in messages.
    """

    __slots__ = ("cpuset", "error", "gpu", "locality", "rank", "subject")

    def __init__(
        self, rank: int, gpu: int, locality: Locality, *, error: PlanError | None = None, subject: str = ""
    ) -> None:
        self.rank, self.gpu, self.locality = rank, gpu, locality
        self.cpuset, self.error, self.subject = CpuSet(), error, subject

    @property
    def node(self) -> NumaNode:
        return self.locality.nodes[0]


def _gpu_claims(
    machine: Machine,
    gpus: Sequence[Gpu],
    rank_gpus: Sequence[tuple[int, ...]],
    options: NumaOptions,
    all_gpus: Sequence[Gpu],
    nccl_nodes: Mapping[str, int] | None,
) -> list[_Claim]:
    """The claims of all GPUs that a node is divided among, in the order that ties are broken by."""
    drivers: dict[int, list[int]] = defaultdict(list)
    for rank, places in enumerate(rank_gpus):
        for place in places:
            drivers[place].append(rank)
    # `auto` was decided by whoever knows what other ranks see (hwnuma.launch.bind); a plan for all ranks needs no more.
    order = [(gpu, drivers[place] or [-1]) for place, gpu in enumerate(gpus)]
    if options.divide_among is DivideAmong.ALL:
        # By the machine's own numbers, and as many claims for each GPU, whoever sees or drives it, so that all jobs
        # divide alike; among visible GPUs alone, in the job's order.
        order += [(gpu, [-1]) for gpu in _hidden_gpus(gpus, all_gpus)]
        order = [(gpu, ranks + [-1] * (options.ranks_per_gpu - len(ranks))) for gpu, ranks in order]
        order.sort(key=lambda entry: entry[0].index)
    localities = locate(machine, [gpu for gpu, _ in order], nccl_nodes=nccl_nodes, unknown=options.unknown_locality)
    if options.affinity_mode is AffinityMode.SOCKET:
        localities = [
            _in_the_only_package(machine, gpu, locality) for (gpu, _), locality in zip(order, localities, strict=True)
        ]
    return [
        _Claim(rank, number, locality, error=locality.error, subject=str(gpu))
        for number, ((gpu, ranks), locality) in enumerate(zip(order, localities, strict=True))
        for rank in ranks
    ]


def _in_the_only_package(machine: Machine, gpu: Gpu, locality: Locality) -> Locality:
    """A GPU of which nothing says on which node it is, is in the package all the same if there is only one."""
    if gpu.numa_node is not None or not isinstance(locality.error, UnknownLocalityError):
        return locality  # a wrong node that somebody states stays an error
    if len({package_cpus(machine, node) for node in machine.cpu_nodes}) == 1:
        return Locality(machine.cpu_nodes[:1], "single-package")
    return locality


def _hidden_gpus(gpus: Sequence[Gpu], all_gpus: Sequence[Gpu]) -> list[Gpu]:
    visible = Counter(gpu.index for gpu in gpus)
    return [gpu for gpu in all_gpus if gpu.index not in visible]


def _spread_claims(machine: Machine, ranks: int) -> list[_Claim]:
    """Claims of ranks without GPUs, spread evenly over the nodes by their cores.

    Rank *i* of *n* goes to the node of core ``i * cores // n``, nodes in order: neighbouring ranks share a node, and
    no node gets more ranks than cores as long as there are enough of them.
    """
    cores = [node for node in machine.cpu_nodes for _ in machine.cores_within(node.cpuset & machine.allowed_cpuset)]
    if not cores:
        error = NoAllowedCpusError(
            f"no NUMA node of {machine.source} has a CPU that may be used: allowed CPUs are "
            f"{machine.allowed_cpuset or 'none'}"
        )
        return [_Claim(rank, rank, Locality(error=error), error=error) for rank in range(ranks)]
    return [
        _Claim(rank, rank, Locality((cores[rank * len(cores) // ranks],), "none"), subject=f"rank {rank}")
        for rank in range(ranks)
    ]


def _move_to_nearest(machine: Machine, claims: Iterable[_Claim], options: NumaOptions) -> None:
    """Say which claims are on nodes with nothing to use; on request, move them to the nearest node that has some.

    In `socket`, a node with nothing to use adds nothing and is no error, as long as its package has another.
    """
    for claim in claims:
        if claim.error is None and _reach(machine, claim.node, options).isdisjoint(machine.allowed_cpuset):
            claim.error = _no_allowed_cpus(machine, claim, _reach(machine, claim.node, options))
        if options.no_allowed_cpus is NoAllowedCpus.NEAREST and isinstance(claim.error, NoAllowedCpusError):
            nearest = _nearest_usable(machine, claim.locality.nodes)
            if nearest is not None:
                claim.locality = Locality((nearest,), "nearest")
                claim.error = None


def _reach(machine: Machine, node: NumaNode, options: NumaOptions) -> CpuSet:
    """The CPUs that a rank on a node can get any of, allowed or not."""
    return package_cpus(machine, node) if options.affinity_mode is AffinityMode.SOCKET else node.cpuset


def _nearest_usable(machine: Machine, homes: Sequence[NumaNode]) -> NumaNode | None:
    """The node with CPUs to use that is nearest by the kernel's distances, then by package, then by number."""
    home = homes[0] if homes else None

    def farness(node: NumaNode) -> tuple[int, bool, int]:
        if home is None:
            return 0, False, node.os_index
        distance = machine.distances.between(home.os_index, node.os_index)
        same_package = not package_cpus(machine, home).isdisjoint(node.cpuset)
        return distance if distance is not None else 1 << 16, not same_package, node.os_index

    usable = [node for node in machine.cpu_nodes if not node.cpuset.isdisjoint(machine.allowed_cpuset)]
    return min(usable, key=farness, default=None)


def _settle(machine: Machine, claims: Sequence[_Claim], options: NumaOptions) -> None:
    """Give every claim that has a node its CPUs, or the error that says why it gets none."""
    by_node: dict[int, list[_Claim]] = defaultdict(list)
    for claim in claims:
        if claim.error is None:
            by_node[claim.node.os_index].append(claim)
    idle = _idle_nodes(machine, by_node) if options.use_idle_nodes else {}
    share = SHARES[options.affinity_mode]
    for number, sharers in by_node.items():
        for node in (sharers[0].node, *idle.get(number, ())):
            _share_node(machine, node, sharers, share)
        for claim in sharers:
            # What one node is too small for, another may have given.
            claim.error = None if claim.cpuset else claim.error


def _share_node(machine: Machine, node: NumaNode, sharers: Sequence[_Claim], share: Share) -> None:
    """Add to every claim its part of a node: the claims' own, or one that is handed to them."""
    ranks_by_gpu = list(Counter(claim.gpu for claim in sharers).values())
    try:
        parts = share(machine, node, ranks_by_gpu)
    except NotEnoughCoresError as error:
        for claim in sharers:
            claim.error = claim.error or error
        return
    for claim, part in zip(sharers, parts, strict=True):
        claim.cpuset |= part


def _idle_nodes(machine: Machine, by_node: Mapping[int, Sequence[_Claim]]) -> dict[int, list[NumaNode]]:
    """Hand each node without GPUs to one with GPUs in the same package: the nearest, then the least endowed."""
    endowed: dict[int, list[NumaNode]] = defaultdict(list)
    homes = [sharers[0].node for sharers in by_node.values()]
    for idle in machine.cpu_nodes:
        package = package_cpus(machine, idle)
        near = [home for home in homes if not home.cpuset.isdisjoint(package)]
        if idle.os_index in by_node or not near or idle.cpuset.isdisjoint(machine.allowed_cpuset):
            continue

        def cost(home: NumaNode, idle: NumaNode = idle) -> tuple[int, float, int]:
            distance = machine.distances.between(home.os_index, idle.os_index) or 0
            load = len(endowed[home.os_index]) / len(by_node[home.os_index])
            return distance, load, abs(home.os_index - idle.os_index)

        endowed[min(near, key=cost).os_index].append(idle)
    return endowed


def _binding(
    machine: Machine, rank: int, gpus: tuple[Gpu, ...], claims: Sequence[_Claim], options: NumaOptions
) -> Binding:
    """What one rank gets: the union of its claims, or the error of the first that failed."""
    own = [claim for claim in claims if claim.rank == rank]
    error = next((claim.error for claim in own if claim.error is not None), None)
    cpuset = union(claim.cpuset for claim in own)
    cores = list(machine.cores_within(cpuset))
    if error is None and len(cores) < options.minimum_cores:
        error = _too_few_cores(rank, cores, options)
    locality = "+".join(dict.fromkeys(claim.locality.source for claim in own if claim.locality.source))
    if error is not None:
        return Binding(rank, gpus, locality=locality, memory=options.memory, error=error)
    return Binding(
        local_rank=rank,
        gpus=gpus,
        cpuset=cpuset,
        nodeset=NodeSet(n.os_index for n in machine.cpu_nodes if n.cpuset & cpuset) & machine.allowed_nodeset,
        cores=len(cores),
        locality=locality,
        near_memory_nodes=NodeSet(
            n.os_index for n in machine.numa_nodes if not n.cpuset and not n.near_cpuset.isdisjoint(cpuset)
        ),
        memory=options.memory,
    )


def _too_few_cores(rank: int, cores: Sequence[Core], options: NumaOptions) -> NotEnoughCoresError:
    return NotEnoughCoresError(
        f"rank {rank} would get {len(cores)} cores, and at least {options.minimum_cores} were asked for: lower "
        "--minimum-cores, choose a wider mode (node, socket), or start fewer ranks"
    )


def _no_allowed_cpus(machine: Machine, claim: _Claim, reach: CpuSet) -> NoAllowedCpusError:
    node = claim.node
    package = f" (those of its package: {reach})" if reach != node.cpuset else ""
    return NoAllowedCpusError(
        f"{claim.subject} is on NUMA node {node.os_index} with CPUs {node.cpuset}{package}, allowed are CPUs "
        f"{machine.allowed_cpuset or 'none'}, and they have none in common: ask the scheduler for CPUs near the GPU, "
        "or take the nearest that are allowed with --fallback nearest"
    )


def _warnings(machine: Machine, plan: Plan) -> Iterable[str]:
    """What the reader of a plan should know."""
    placed = [binding for binding in plan.bindings if binding.error is None]
    if plan.mode is AffinityMode.CORE_COMPLEX:
        cached = union(cache.cpuset for cache in machine.last_level_caches)
        bare = union(binding.cpuset for binding in placed) - cached
        if bare:
            yield f"the topology tells of no cache over CPUs {bare}: of each node they count as one core complex"
        if not plan.is_disjoint:
            yield "there are fewer last-level caches than GPUs on a node, so some ranks share one"
    sizes = {binding.cores for binding in placed}
    if plan.mode is AffinityMode.EXCLUSIVE and sizes and max(sizes) - min(sizes) > 1:
        yield f"the ranks' shares are uneven: from {min(sizes)} to {max(sizes)} cores"
    spread = [str(binding.local_rank) for binding in placed if "spread" in binding.locality]
    if spread:
        ranks = ", ".join(spread)
        yield f"several nodes are equally near to the GPUs of ranks {ranks}: they are dealt out by GPU index"
    if plan.options.reserve_isolated_cpus and not machine.is_this_system:
        yield "which CPUs the kernel isolates is known of the running system only: none is left out for that here"
    if plan.options.performance_cores_only and not machine.cpu_kinds:
        yield "the topology does not tell kinds of cores apart: all count as performance cores"
