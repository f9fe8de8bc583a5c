"""What the figures mean, in words: which binding gains what on this machine. Pure.

Two quantities differ where their intervals do not overlap, and no sooner: else it is said that there is no difference.
"""

from __future__ import annotations

from hwnuma.measure.statistics import ENOUGH, ratio
from hwnuma.model.measured import KINDS, READ
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hwnuma.model.measured import Estimate, Measured, Ratio

    _Pair = tuple[int, int]


TIMES = "\N{MULTIPLICATION SIGN}"


class Difference(Value):
    """What memory of another node gives, beside a CPU node's own.

    Attributes:
        what: the quantity.
        cpu_node: whose CPUs.
        memory_node: the other node.
        ratio: how many times what the own memory gives; None where the intervals overlap.
    """

    what: str
    cpu_node: int
    memory_node: int
    ratio: Ratio | None


def verdict_of(found: Measured) -> tuple[str, ...]:
    """The verdict, a sentence each."""
    if found.rounds < ENOUGH:
        return (
            f"no verdict: {found.rounds} rounds are too few to tell a difference from chance, and {ENOUGH} would do: "
            "say more --seconds",
        )
    differences = differences_of(found)
    if differences:
        return tuple(_between_nodes(differences))
    return tuple(_on_one_node(found))


def differences_of(found: Measured) -> list[Difference]:
    """Each CPU node's own memory beside each other node's, for each quantity."""
    quantities: dict[str, dict[_Pair, Estimate]] = {f"{kind} bandwidth": {} for kind in KINDS}
    most = {node: len(cpus) for node, cpus in found.cpus}
    for row in found.bandwidth:
        if row.threads == most[row.cpu_node]:
            quantities[f"{row.kind} bandwidth"][row.cpu_node, row.memory_node] = row.bytes_per_second
    quantities["latency"] = found.latency_of(loaded=False)
    own = _own_memory(found)
    return [
        Difference(what, cpu_node, memory_node, None if there.overlaps(here) else ratio(there, here))
        for what, estimates in quantities.items()
        for (cpu_node, memory_node), there in estimates.items()
        if memory_node != own[cpu_node]
        for here in [estimates[cpu_node, own[cpu_node]]]
    ]


def _own_memory(found: Measured) -> dict[int, int]:
    """Each CPU node's own memory: that of its number, or else the nearest by the kernel's distances."""
    distances = {(row.cpu_node, row.memory_node): row.distance for row in found.firmware}
    nodes: dict[int, list[int]] = {}
    for row in found.bandwidth:
        nodes.setdefault(row.cpu_node, []).append(row.memory_node)
    return {
        cpu_node: min(
            memory_nodes, key=lambda node: (node != cpu_node, distances.get((cpu_node, node)) or 0, node)
        )
        for cpu_node, memory_nodes in nodes.items()
    }  # fmt: skip


# ---- several nodes -------------------------------------------------------------------------------------------


def _between_nodes(differences: Sequence[Difference]) -> Iterator[str]:
    by_what: dict[str, list[Difference]] = {}
    for difference in differences:
        by_what.setdefault(difference.what, []).append(difference)
    alike = [what for what, rows in by_what.items() if all(row.ratio is None for row in rows)]
    pairs = len(differences) // len(by_what)
    if len(alike) == len(by_what):
        yield (
            f"no difference: memory of another node gives the bandwidth and the latency of a node's own, as the "
            f"intervals overlap in {_all_of(pairs)}; binding to a node (--mode node) gains nothing here"
        )
        return
    for what, rows in by_what.items():
        if what not in alike:
            yield _difference(what, rows)
    if alike:
        yield f"no difference in {', '.join(alike)}: the intervals overlap in {_all_of(pairs)}"


def _all_of(pairs: int) -> str:
    return f"all {pairs} pairs of nodes" if pairs != 1 else "the one pair of nodes"


def _difference(what: str, rows: Sequence[Difference]) -> str:
    """One quantity in words: the pair that differs most, and how many do."""
    told = [(row, row.ratio) for row in rows if row.ratio is not None]
    row, most = max(told, key=lambda each: abs(each[1].median - 1))
    said = (
        f"memory of another node gives {times(most)} the {what}, from node {row.cpu_node}'s CPUs to node "
        f"{row.memory_node}'s memory"
    )
    if len(rows) == 1:
        return said
    if len(told) == len(rows):
        least, greatest = (pick(each.median for _, each in told) for pick in (min, max))
        return f"{said}; {least:.2f} to {greatest:.2f} {TIMES} in {_all_of(len(rows))}"
    return f"{said}; no difference in {len(rows) - len(told)} of {len(rows)} pairs of nodes"


def times(found: Ratio) -> str:
    """A ratio for people, with its interval."""
    return f"{found.median:.2f} {TIMES} ({found.low:.2f}-{found.high:.2f})"


# ---- one node ------------------------------------------------------------------------------------------------


def _on_one_node(found: Measured) -> Iterator[str]:
    reads = {row.threads: row.bytes_per_second for row in found.bandwidth if row.kind == READ}
    nodes = len({row.cpu_node for row in found.bandwidth})
    counted = "one NUMA node" if nodes == 1 else f"{nodes} NUMA nodes with CPUs, and one with memory"
    cores = max(reads)
    if cores == 1:
        yield f"{counted}: nothing to gain from binding to a node (--mode node); with one core, exclusive gives nothing"
        return
    alone, together = reads[1], reads[cores]
    yield (
        f"{counted}: nothing to gain from binding to a node (--mode node); exclusive gives each rank cores of its own: "
        f"a core alone reads {_gigabytes(alone)}, and all {cores} at once read {_gigabytes(together)}, "
        f"{together.median / cores / 1e9:.3g} GB/s each"
    )
    yield from _under_load(found.latency_of(loaded=False), found.latency_of(loaded=True))


def _under_load(idle: Mapping[_Pair, Estimate], loaded: Mapping[_Pair, Estimate]) -> Iterator[str]:
    for pair, busy in loaded.items():
        if busy.overlaps(idle[pair]):
            yield "no difference between the latency of an idle node and of one whose other cores read: they overlap"
        else:
            yield (
                f"while the other cores read, a load takes {times(ratio(busy, idle[pair]))} as long: no binding takes "
                "that away, as they share the node's memory"
            )


def _gigabytes(found: Estimate) -> str:
    return f"{found.median / 1e9:.3g} GB/s ({found.low / 1e9:.3g}-{found.high / 1e9:.3g})"
