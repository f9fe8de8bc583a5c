"""The four modes: what each gives the ranks that share a node. CPUs are bit masks here, as in all of the arithmetic."""

from __future__ import annotations

from itertools import pairwise

from hwnuma.errors import NotEnoughCoresError
from hwnuma.model.bitmap import CpuSet, joined, union
from hwnuma.model.options import FAST_CORES, AffinityMode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hwnuma.model.machine import Machine, NumaNode
    from hwnuma.model.options import NumaOptions

    # From a machine, one of its nodes, how many ranks each GPU on it has, and CPUs by how much they are preferred (see
    # `preferred_first`), to the CPUs of each rank, GPU by GPU.
    Share = Callable[[Machine, NumaNode, Sequence[int], Sequence[int]], Sequence[int]]


def _share_whole_node(
    machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int], _preferred: Sequence[int]
) -> Sequence[int]:
    """`node`: the allowed CPUs of the node, for each rank."""
    return [node.cpuset.mask & machine.allowed_cpuset.mask] * sum(ranks_by_gpu)


def _share_package(
    machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int], _preferred: Sequence[int]
) -> Sequence[int]:
    """`socket`: the allowed CPUs of the node's package, for each rank; a node without CPUs adds none."""
    return [reach(machine, node, AffinityMode.SOCKET).mask & machine.allowed_cpuset.mask] * sum(ranks_by_gpu)


def _share_cores(
    machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int], preferred: Sequence[int]
) -> Sequence[int]:
    """`exclusive`: contiguous slices of the node's cores; the remainder goes one each to the first.

    Where all GPUs have as many ranks, the GPUs' slices come first and are divided among their ranks; where they have
    not, all ranks share alike.
    """
    usable = node.cpuset & machine.allowed_cpuset
    cores = machine.core_masks_within(usable)
    if len(cores) < sum(ranks_by_gpu):
        raise NotEnoughCoresError(
            f"NUMA node {node.os_index} has {len(cores)} cores to use (CPUs {usable}), and {sum(ranks_by_gpu)} GPUs or "
            "ranks that want cores of their own: use mode node or core-complex, which share, or start fewer ranks"
        )
    if len(set(ranks_by_gpu)) > 1:
        return [joined(part) for part in _parts(cores, sum(ranks_by_gpu), preferred)]
    of_gpus = _parts(cores, len(ranks_by_gpu), preferred)
    return [joined(part) for of_gpu in of_gpus for part in _parts(of_gpu, ranks_by_gpu[0], preferred)]


def _parts(cores: Sequence[int], number: int, preferred: Sequence[int]) -> list[Sequence[int]]:
    """Cut into slices, or, where some cores are preferred, into fair parts.

    Fair is: of the cores preferred most, of those and the next, and so on to all, each part has as many as if there
    were no others, which is the same but for one, and the first parts have the one more. Of cores that are preferred
    alike each part has a contiguous slice. So the parts are as large as without any preference.
    """
    if not preferred:
        return _slices(cores, number)
    parts: list[list[int]] = [[] for _ in range(number)]
    dealt = 0
    for alike in _by_preference(cores, preferred):
        before, dealt = _starts(dealt, number), dealt + len(alike)
        cuts = [after - ahead for after, ahead in zip(_starts(dealt, number), before, strict=True)]
        for part, (start, end) in zip(parts, pairwise(cuts), strict=True):
            part.extend(alike[start:end])
    return list(parts)


def _slices(cores: Sequence[int], number: int) -> list[Sequence[int]]:
    """Cut into contiguous slices; the remainder goes one each to the first ones."""
    return [cores[start:end] for start, end in pairwise(_starts(len(cores), number))]


def _starts(length: int, number: int) -> list[int]:
    """Where each of the slices starts, and the last one ends."""
    width, remainder = divmod(length, number)
    return [place * width + min(place, remainder) for place in range(number + 1)]


def _by_preference(cores: Sequence[int], preferred: Sequence[int]) -> list[list[int]]:
    """The cores of each set of preferred CPUs, those that have one in the first set first; at last, all others."""
    rest, sorted_out = list(cores), []
    for mask in preferred:
        sorted_out.append([core for core in rest if core & mask])
        rest = [core for core in rest if not core & mask]
    return [*sorted_out, rest]


def _share_caches(
    machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int], preferred: Sequence[int]
) -> Sequence[int]:
    """`core-complex`: one group of the node's CPUs under one last-level cache each, round if there are too few.

    A group is given whole, so ranks get those with the most preferred cores first.
    """
    groups = [group.mask for group in cache_groups(machine, node)]
    if preferred:
        counts = {group: cores_by_preference(machine, group, preferred) for group in groups}
        groups.sort(key=lambda group: [-count for count in counts[group][:-1]])  # among equals they stay as they are
    return [groups[place % len(groups)] for place in range(sum(ranks_by_gpu))]


def cores_by_preference(machine: Machine, mask: int, preferred: Sequence[int]) -> list[int]:
    """How many cores of each preference these CPUs are, and at last how many are of none."""
    cores = machine.core_masks_within(CpuSet.from_mask(mask))
    return [len(alike) for alike in _by_preference(cores, preferred)]


def preferred_first(machine: Machine, options: NumaOptions) -> list[int]:
    """Sets of CPUs by how much the options prefer them, the most first, without the last: that is all others.

    Empty if nothing is preferred, if the mode divides nothing, or if the machine has no CPUs that differ in it.
    """
    if options.prefer is None or options.affinity_mode not in DIVIDING_MODES:
        return []
    if options.prefer == FAST_CORES:
        kinds = [kind & machine.allowed_cpuset for kind in reversed(machine.cpu_kinds or machine.core_speeds)]
        kinds = [kind for kind in kinds if kind]
        return [kind.mask for kind in kinds[:-1]]
    listed = CpuSet(options.prefer) & machine.allowed_cpuset
    return [listed.mask] if listed and listed != machine.allowed_cpuset else []


# The modes in which ranks get parts of a node.
DIVIDING_MODES = (AffinityMode.EXCLUSIVE, AffinityMode.CORE_COMPLEX)

SHARES: dict[AffinityMode, Share] = {
    AffinityMode.NODE: _share_whole_node,
    AffinityMode.SOCKET: _share_package,
    AffinityMode.EXCLUSIVE: _share_cores,
    AffinityMode.CORE_COMPLEX: _share_caches,
}


def reach(machine: Machine, node: NumaNode, mode: AffinityMode) -> CpuSet:
    """The CPUs that a rank on a node can get any of in a mode, allowed or not; what is near it, to who verifies."""
    return machine.package_cpus(node) if mode is AffinityMode.SOCKET else node.cpuset


def cache_groups(machine: Machine, node: NumaNode) -> list[CpuSet]:
    """Group a node's allowed CPUs by last-level cache: the largest group first, then by the cache's lowest CPU.

    A cache that spans several nodes is cut to the node. CPUs under no cache make one group of their own.
    """
    wanted = node.cpuset & machine.allowed_cpuset
    keyed = [(cache.cpuset.first, cache.cpuset & wanted) for cache in machine.caches_of(wanted)]
    bare = wanted - union(group for _, group in keyed)
    keyed.append((bare.first, bare))
    ordered = sorted((entry for entry in keyed if entry[1]), key=lambda entry: (-len(entry[1]), entry[0]))
    return [group for _, group in ordered]
