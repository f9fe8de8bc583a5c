"""The arithmetic: from a machine and its GPUs to a plan for every rank. Pure: same arguments, same answer.

The modes' meaning is torch's (torch/numa/binding.py, torch 2.13), and where it answers rightly, so is the result, to
the CPU. A rank's GPU makes a *claim* on the node that the GPU is on; the claims on one node, in GPU order, are what the
node's cores (``exclusive``) or last-level caches (``core-complex``) are divided among. A GPU with two ranks makes two
claims, a rank with two GPUs has two, and a GPU that others may use makes them for nobody.

The time grows as the machine and the number of ranks do. While it is divided, a set of CPUs is a bit mask.
"""

from __future__ import annotations

from hwnuma.errors import NoAllowedCpusError, NotEnoughCoresError
from hwnuma.model.options import NoAllowedCpus, NumaOptions
from hwnuma.policy.claims import Claim, gpu_claims, gpus_to_divide_among, spread_claims
from hwnuma.policy.draft import Draft
from hwnuma.policy.locality import disagreements, locate
from hwnuma.policy.modes import SHARES, preferred_first, reach
from hwnuma.policy.ranks import ranks_to_gpus, usable_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hwnuma.model.bitmap import CpuSet
    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine, NumaNode
    from hwnuma.model.plan import Plan
    from hwnuma.policy.modes import Share


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
        TopologyFileError: the machine makes no sense.
    """
    return draft_plan(machine, gpus, options, ranks=ranks, all_gpus=all_gpus, nccl_nodes=nccl_nodes).plan()


def draft_plan(
    machine: Machine,
    gpus: Sequence[Gpu],
    options: NumaOptions,
    *,
    ranks: int | None = None,
    all_gpus: Sequence[Gpu] = (),
    nccl_nodes: Mapping[str, int] | None = None,
) -> Draft:
    """Settle what every rank gets, as `make_plan` does, for who wants to know it of one rank."""
    usable = machine.checked().narrowed(usable_cpus(machine, options))
    rank_gpus = ranks_to_gpus(len(gpus), options, ranks)
    doubts: list[str] = []
    if gpus:
        order = gpus_to_divide_among(gpus, rank_gpus, options, all_gpus)
        localities = locate(usable, [gpu for gpu, _ in order], nccl_nodes=nccl_nodes, unknown=options.unknown_locality)
        found = {gpu.index: locality for (gpu, _), locality in zip(order, localities, strict=True)}
        doubts = disagreements(usable, gpus, [found[gpu.index] for gpu in gpus], nccl_nodes)
        claims = gpu_claims(usable, order, localities, options)
    else:
        claims = spread_claims(usable, len(rank_gpus))
    _move_to_nearest(usable, claims, options)
    _settle(usable, claims, options)
    driven = [tuple([gpus[place] for place in places]) for places in rank_gpus]
    return Draft(usable, machine.allowed_cpuset, options, driven, claims, doubts)


def _move_to_nearest(machine: Machine, claims: Iterable[Claim], options: NumaOptions) -> None:
    """Say which claims are on nodes with nothing to use; on request, move them to the nearest node that has some.

    In `socket`, a node with nothing to use adds nothing and is no error, as long as its package has another.
    """
    nearest: dict[int | None, NumaNode | None] = {}  # by the number of the node that a claim is on
    for claim in claims:
        if claim.error is None:
            within = reach(machine, claim.node, options.affinity_mode)
            if within.isdisjoint(machine.allowed_cpuset):
                claim.error = _no_allowed_cpus(machine, claim, within)
        if options.no_allowed_cpus is NoAllowedCpus.NEAREST and isinstance(claim.error, NoAllowedCpusError):
            home = next(iter(claim.locality.nodes), None)
            number = None if home is None else home.os_index
            if number not in nearest:
                nearest[number] = _nearest_usable(machine, home)
            node = nearest[number]
            if node is not None:
                claim.move_to(node, home)


def _nearest_usable(machine: Machine, home: NumaNode | None) -> NumaNode | None:
    """The node with CPUs to use that is nearest by the kernel's distances, then by package, then by number."""

    def farness(node: NumaNode) -> tuple[float, ...]:
        if home is None:
            return (node.os_index,)
        distance = machine.distances.between(home.os_index, node.os_index)
        same_package = not machine.package_cpus(home).isdisjoint(node.cpuset)
        return float("inf") if distance is None else distance, not same_package, node.os_index

    return min(machine.nodes_of(machine.allowed_cpuset), key=farness, default=None)


def _settle(machine: Machine, claims: Sequence[Claim], options: NumaOptions) -> None:
    """Give every claim that has a node its CPUs, or the error that says why it gets none."""
    homes: dict[int, NumaNode] = {}
    by_node: dict[int, list[Claim]] = {}
    for claim in claims:
        if claim.error is None:
            homes[claim.node.os_index] = claim.node
            by_node.setdefault(claim.node.os_index, []).append(claim)
    idle = _idle_nodes(machine, homes, by_node) if options.use_idle_nodes else {}
    share, preferred = SHARES[options.affinity_mode], preferred_first(machine, options)
    for number, sharers in by_node.items():
        for node in (homes[number], *idle.get(number, ())):
            _share_node(machine, node, sharers, share, preferred)
        for claim in sharers:
            # What one node is too small for, another may have given.
            claim.error = None if claim.mask else claim.error


def _share_node(
    machine: Machine, node: NumaNode, sharers: Sequence[Claim], share: Share, preferred: Sequence[int]
) -> None:
    """Add to every claim its part of a node: the claims' own, or one that is handed to them."""
    ranks_by_gpu: dict[int, int] = {}
    for claim in sharers:
        ranks_by_gpu[claim.gpu] = ranks_by_gpu.get(claim.gpu, 0) + 1
    try:
        parts = share(machine, node, list(ranks_by_gpu.values()), preferred)
    except NotEnoughCoresError as error:
        for claim in sharers:
            claim.error = claim.error or error
        return
    for claim, part in zip(sharers, parts, strict=True):
        claim.mask |= part


def _idle_nodes(
    machine: Machine, homes: Mapping[int, NumaNode], by_node: Mapping[int, Sequence[Claim]]
) -> dict[int, list[NumaNode]]:
    """Hand each node without GPUs to one with GPUs in the same package: the nearest, then the least endowed."""
    endowed: dict[int, list[NumaNode]] = {}
    for idle in machine.nodes_of(machine.allowed_cpuset):
        package = machine.package_cpus(idle)
        near = [home for home in homes.values() if not home.cpuset.isdisjoint(package)]
        if idle.os_index in homes or not near:
            continue

        def cost(home: NumaNode, idle: NumaNode = idle) -> tuple[int, float, int]:
            distance = machine.distances.between(home.os_index, idle.os_index) or 0
            load = len(endowed.get(home.os_index, ())) / len(by_node[home.os_index])
            return distance, load, abs(home.os_index - idle.os_index)

        endowed.setdefault(min(near, key=cost).os_index, []).append(idle)
    return endowed


def _no_allowed_cpus(machine: Machine, claim: Claim, reach: CpuSet) -> NoAllowedCpusError:
    node = claim.node
    package = f" (those of its package: {reach})" if reach != node.cpuset else ""
    return NoAllowedCpusError(
        f"{claim.subject} is on NUMA node {node.os_index} with CPUs {node.cpuset}{package}, allowed are CPUs "
        f"{machine.allowed_cpuset or 'none'}, and they have none in common: ask the scheduler for CPUs near the GPU, "
        "or take the nearest that are allowed with --fallback nearest"
    )
