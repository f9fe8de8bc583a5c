"""Whether a machine makes sense. Planning relies on it: on one that does not, CPUs would be handed out twice.

libhwloc imports files whose objects contradict each other, and a Machine can be made by hand. What real machines do is
no contradiction, however odd: cores with offline threads, CPUs of no node or no core, nodes that cross packages or
cores (virtual machines), caches over several nodes, numbers with gaps.
"""

from __future__ import annotations

from itertools import chain, combinations

from hwnuma.errors import TopologyFileError
from hwnuma.model.bitmap import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from hwnuma.model.machine import Cache, Core, Distances, Machine, NumaNode, Package

    _Part: TypeAlias = Package | NumaNode | Cache | Core

# Linux numbers far fewer (MAX_NUMNODES is 1,024), and a wrong number must not cost gigabytes of bit mask.
_LARGEST_NODE_NUMBER = 1 << 16


def check_machine(machine: Machine) -> None:
    """See that a machine makes sense, in time that grows as the machine does.

    Raises:
        TopologyFileError: two of its objects contradict each other, or one contradicts the machine; both are named.
    """
    contradictions = chain(
        _misplaced(machine, "package", machine.packages),
        _misplaced(machine, "NUMA node", machine.numa_nodes),
        _misplaced(machine, "core", machine.cores),
        _misplaced(machine, "cache", machine.last_level_caches),
        _allowed_beyond(machine),
        _wrong_numbers(machine.numa_nodes),
        _misshapen(machine.distances),
    )
    for contradiction in contradictions:
        raise TopologyFileError(
            f"{machine.source} describes a machine that cannot be: {contradiction}; save it anew on the machine itself "
            "(hwnuma capture, lstopo), or mend what made it"
        )


def _misplaced(machine: Machine, kind: str, parts: Sequence[_Part]) -> Iterator[str]:
    """Say which part has CPUs that the machine has not, or that another of its kind has."""
    masks = [part.cpuset.mask for part in parts]
    together = joined(masks)
    if together & ~machine.cpuset.mask:
        part = next(part for part in parts if not part.cpuset <= machine.cpuset)
        beyond = part.cpuset - machine.cpuset
        yield f"{_named(kind, part)} has CPUs {beyond}, and the machine's are {machine.cpuset or 'none'}"
    if sum(masks) != together:  # they are equal only where no bit is in two masks
        yield from _crossing_caches(parts) if kind == "cache" else _overlapping(kind, parts)


def _overlapping(kind: str, parts: Sequence[_Part]) -> Iterator[str]:
    owner: dict[int, _Part] = {}
    for part in parts:
        for cpu in part.cpuset:
            other = owner.setdefault(cpu, part)
            if other is not part:
                shared = other.cpuset & part.cpuset
                yield f"{_named(kind, other)} and {_named(kind, part)} both have CPUs {shared}"
                return


def _crossing_caches(caches: Sequence[_Part]) -> Iterator[str]:
    """Say which caches overlap, neither within the other: from the largest down, each has to be in the last there."""
    last: dict[int, _Part] = {}
    for cache in sorted(caches, key=lambda cache: -len(cache.cpuset)):
        for cpu in cache.cpuset:
            other = last.get(cpu, cache)
            if not cache.cpuset <= other.cpuset:
                yield f"{_named('cache', other)} and {_named('cache', cache)} overlap, and neither is within the other"
                return
            last[cpu] = cache


def _allowed_beyond(machine: Machine) -> Iterator[str]:
    if not machine.allowed_cpuset <= machine.cpuset:
        yield f"CPUs {machine.allowed_cpuset} are allowed, and the machine's are {machine.cpuset or 'none'}"


def _wrong_numbers(nodes: Sequence[NumaNode]) -> Iterator[str]:
    for node in nodes:
        if not 0 <= node.os_index <= _LARGEST_NODE_NUMBER:
            yield f"no {_named('NUMA node', node)} can have that number"
    if len({node.os_index for node in nodes}) < len(nodes):
        one, other = next(pair for pair in combinations(nodes, 2) if pair[0].os_index == pair[1].os_index)
        yield f"{_named('NUMA node', one)} and {_named('NUMA node', other)} have the same number"


def _misshapen(distances: Distances) -> Iterator[str]:
    size = len(distances.nodes)
    if [len(row) for row in distances.values] != [size] * size:
        yield f"the distances between {size} NUMA nodes are not {size} rows of {size}"


def _named(kind: str, part: _Part) -> str:
    level = getattr(part, "level", None)
    name = f"{kind} {getattr(part, 'os_index', '')}" if level is None else f"L{level} {kind}"
    return f"{name} (CPUs {part.cpuset or 'none'})"
