"""Plans of one machine in several modes beside each other, and which to choose. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hwnuma.model.bitmap import CpuSet, union
from hwnuma.model.machine import Machine
from hwnuma.model.options import AffinityMode
from hwnuma.model.plan import Binding, Plan
from hwnuma.model.table import table_lines
from hwnuma.model.value import Value

# Of two modes that give the same, the one that needs fewer words to explain.
_SIMPLEST = (AffinityMode.NODE, AffinityMode.EXCLUSIVE, AffinityMode.CORE_COMPLEX, AffinityMode.SOCKET)

_HEADERS = (
    "mode", "cores\neach", "ranks/\ncore", "caches\neach", "ranks/\ncache", "nodes\neach", "ranks/\nnode",
    "cores\nunused",
)  # fmt: skip


class Range(Value):
    """The least and the most of something."""

    least: int
    most: int

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Range:
        """Make it of some numbers; of none, zero."""
        all_of_them = list(numbers) or [0]
        return cls(min(all_of_them), max(all_of_them))

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}-{self.most}"


class Outcome(Value):
    """What a mode gives the ranks of a machine.

    Attributes:
        mode: the mode.
        ranks: how many there are.
        placed: how many of them are placed.
        cores: how many cores a rank gets.
        ranks_a_core: how many ranks share a core at most; 1: every rank has its own.
        caches: under how many last-level caches a rank's cores are.
        ranks_a_cache: how many ranks share a last-level cache at most.
        nodes: how many NUMA nodes a rank's cores are on: how far apart its memory may be.
        ranks_a_node: how many ranks share a node's memory, and so its channels, at most.
        unused: how many cores that may be used no rank gets.
        ranks_a_nic: how many ranks send through the same NIC at most; 0 if nobody asked for NICs.
    """

    mode: AffinityMode
    ranks: int
    placed: int
    cores: Range
    ranks_a_core: int
    caches: Range
    ranks_a_cache: int
    nodes: Range
    ranks_a_node: int
    unused: int
    ranks_a_nic: int = 0


def outcome_of(machine: Machine, plan: Plan) -> Outcome:
    """Count what a plan gives."""
    placed = [binding for binding in plan if binding.error is None]
    caches = [cache.cpuset for cache in machine.last_level_caches]
    nodes = [node.cpuset for node in machine.cpu_nodes]
    given = union(binding.cpuset for binding in placed)
    allowed = [core for core in machine.cores if not core.cpuset.isdisjoint(machine.allowed_cpuset)]
    return Outcome(
        plan.mode,
        len(plan),
        len(placed),
        Range.of(binding.cores for binding in placed),
        _most_ranks([core.cpuset for core in machine.cores], placed),
        Range.of(len(_touched(caches, binding.cpuset)) for binding in placed),
        _most_ranks(caches, placed),
        Range.of(len(_touched(nodes, binding.cpuset)) for binding in placed),
        _most_ranks(nodes, placed),
        sum(1 for core in allowed if core.cpuset.isdisjoint(given)),
        max(Counter(rail.nic for binding in placed for rail in binding.nics or ()).values(), default=0),
    )


def _touched(places: Sequence[CpuSet], cpuset: CpuSet) -> list[int]:
    return [number for number, place in enumerate(places) if not place.isdisjoint(cpuset)]


def _most_ranks(places: Sequence[CpuSet], placed: Sequence[Binding]) -> int:
    """The most ranks that have CPUs in one of some places."""
    alike = Counter(binding.cpuset for binding in placed)  # ranks with the same CPUs are looked at once
    ranks: Counter[int] = Counter()
    for cpuset, count in alike.items():
        for place in _touched(places, cpuset):
            ranks[place] += count
    return max(ranks.values(), default=0)


def comparison_as_table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table for people."""
    rows = [
        (
            each.mode, each.cores, each.ranks_a_core, each.caches, each.ranks_a_cache,
            each.nodes, each.ranks_a_node, each.unused,
        )
        for each in outcomes
    ]  # fmt: skip
    return "\n".join(table_lines(_HEADERS, rows))


def advice(outcomes: Sequence[Outcome]) -> str:
    """Say which mode to choose, and why not the others.

    The rule: no rank without a place; cores of its own, so that no rank waits for another's threads; a cache of its
    own, unless that costs more than half of the cores; then the most cores; then what is simplest.
    """
    best = choice(outcomes)
    others = [each for each in outcomes if each.mode is not best.mode]
    same = [str(each.mode) for each in others if _gives(each) == _gives(best)]
    drawbacks: dict[str, list[str]] = {}
    for each in others:
        if each.mode not in same:
            drawbacks.setdefault(_drawback(each, best), []).append(str(each.mode))
    said = [f"choose {best.mode}: {_merits(best)}"]
    said += [f"{_listed(same)} would give the same"] if same else []
    said += [f"in {_listed(modes)} {drawback}" for drawback, modes in drawbacks.items()]
    if best.placed < best.ranks:
        said.append(f"{best.ranks - best.placed} of {best.ranks} ranks have no place (hwnuma plan says why)")
    if best.ranks_a_nic:  # which does not depend on the mode
        said.append("no two ranks share a NIC" if best.ranks_a_nic == 1 else f"{best.ranks_a_nic} ranks share a NIC")
    return "; ".join(said)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def choice(outcomes: Sequence[Outcome]) -> Outcome:
    """The mode to choose, by the rule of `advice`."""
    placed = max(each.placed for each in outcomes)
    able = [each for each in outcomes if each.placed == placed]
    own = [each for each in able if each.ranks_a_core <= 1] or able
    most = max(each.cores.least for each in own)
    enough = [each for each in own if 2 * each.cores.least >= most]
    fewest = min(each.ranks_a_cache for each in enough)
    alone = [each for each in enough if each.ranks_a_cache == fewest]
    return max(alone, key=lambda each: (-each.ranks_a_node, each.cores.least, -_SIMPLEST.index(each.mode)))


def _gives(outcome: Outcome) -> tuple[object, ...]:
    return outcome._values()[2:]


def _merits(best: Outcome) -> str:
    if best.ranks_a_core > 1:
        return f"none of these modes gives every rank cores of its own, and here no more than {best.ranks_a_core} share"
    cache = ", and no last-level cache is shared" if best.ranks_a_cache <= 1 else ""
    return f"every rank has {best.cores} cores of its own{cache}"


def _drawback(other: Outcome, best: Outcome) -> str:
    if other.placed < best.placed:
        return f"only {other.placed} of {other.ranks} ranks have a place"
    if other.ranks_a_core > max(1, best.ranks_a_core):
        return f"{other.ranks_a_core} ranks share each core"
    if other.ranks_a_cache > best.ranks_a_cache:
        return f"{other.ranks_a_cache} ranks share a cache"
    if other.cores.least < best.cores.least:
        return f"a rank has {other.cores} cores, and {other.unused} are unused"
    return "a rank's memory is on more nodes" if other.nodes.most > best.nodes.most else "nothing is better"
