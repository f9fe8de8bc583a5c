"""The four modes: what each gives the ranks that share a node. CPUs are bit masks here, as in all of the arithmetic."""

from __future__ import annotations

from itertools import pairwise

from hwnuma.errors import NotEnoughCoresError
from hwnuma.model.bitmap import CpuSet, joined, union
from hwnuma.model.options import AffinityMode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hwnuma.model.machine import Machine, NumaNode

    # From a machine, one of its nodes, and how many ranks each GPU on it has, to the CPUs of each rank, GPU by GPU.
    Share = Callable[[Machine, NumaNode, Sequence[int]], Sequence[int]]


def _share_whole_node(machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int]) -> Sequence[int]:
    """`node`: the allowed CPUs of the node, for each rank."""
    return [node.cpuset.mask & machine.allowed_cpuset.mask] * sum(ranks_by_gpu)


def _share_package(machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int]) -> Sequence[int]:
    """`socket`: the allowed CPUs of the node's package, for each rank; a node without CPUs adds none."""
    return [machine.package_cpus(node).mask & machine.allowed_cpuset.mask] * sum(ranks_by_gpu)


def _share_cores(machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int]) -> Sequence[int]:
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
        return [joined(part) for part in _slices(cores, sum(ranks_by_gpu))]
    of_gpus = _slices(cores, len(ranks_by_gpu))
    return [joined(part) for of_gpu in of_gpus for part in _slices(of_gpu, ranks_by_gpu[0])]


def _slices(cores: Sequence[int], number: int) -> list[Sequence[int]]:
    """Cut into contiguous slices; the remainder goes one each to the first ones."""
    width, remainder = divmod(len(cores), number)
    starts = [place * width + min(place, remainder) for place in range(number + 1)]
    return [cores[start:end] for start, end in pairwise(starts)]


def _share_caches(machine: Machine, node: NumaNode, ranks_by_gpu: Sequence[int]) -> Sequence[int]:
    """`core-complex`: one group of the node's CPUs under one last-level cache each, round if there are too few."""
    groups = [group.mask for group in cache_groups(machine, node)]
    return [groups[place % len(groups)] for place in range(sum(ranks_by_gpu))]


SHARES: dict[AffinityMode, Share] = {
    AffinityMode.NODE: _share_whole_node,
    AffinityMode.SOCKET: _share_package,
    AffinityMode.EXCLUSIVE: _share_cores,
    AffinityMode.CORE_COMPLEX: _share_caches,
}


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
