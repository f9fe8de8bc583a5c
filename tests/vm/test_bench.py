"""On a kernel with four NUMA nodes, all emulated: `hwnuma bench` measures each pair of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from .conftest import MEMORY_MACHINE, Guest

pytestmark = pytest.mark.vm

memory_machine = pytest.mark.parametrize("guest", [MEMORY_MACHINE], indirect=True, scope="session")

KINDS = ("read", "write", "copy", "triad")


@memory_machine
def test_the_matrix_is_whole(guest: Guest) -> None:
    """Each node's CPUs and each node's memory: every kind with all cores and with one, latency idle and loaded."""
    nodes = range(len(guest.machine.node_dies))
    told = guest.section("bench")
    measured = told["measured"]
    assert told["status"] == 0
    cores = len(guest.machine.online_by_core()) // len(nodes)
    bandwidth = [(row["cpu_node"], row["memory_node"], row["kind"], row["threads"]) for row in measured["bandwidth"]]
    assert sorted(bandwidth) == sorted(product(nodes, nodes, KINDS, (1, cores)))
    latency = [(row["cpu_node"], row["memory_node"], row["loaded"], row["huge_pages"]) for row in measured["latency"]]
    states = ((False, True), (False, False), (True, True))
    assert sorted(latency) == sorted((*pair, *state) for pair in product(nodes, nodes) for state in states)
    assert all(row["bytes_per_second"]["samples"] == measured["rounds"] for row in measured["bandwidth"])


@memory_machine
def test_every_page_of_every_cell_is_on_its_node(guest: Guest) -> None:
    """As bench itself read in numa_maps after each round, and as another process read meanwhile: five buffers a node."""
    told = guest.section("bench")
    measured = told["measured"]
    total = 5 * measured["buffer_bytes"]
    assert [(row["memory_node"], row["bytes_by_node"], row["proven"]) for row in measured["placement"]] == [
        (node, {str(node): total}, True) for node in range(len(guest.machine.node_dies))
    ]
    assert all(row["looks"] == measured["rounds"] + 1 for row in measured["placement"])
    assert told["alone"] == {str(node): 5 for node in range(len(guest.machine.node_dies))}
    assert told["elsewhere"] == 0


@memory_machine
def test_the_verdict_is_what_the_figures_say(guest: Guest) -> None:
    """A quantity differs where intervals do not overlap, and no other; where none does, one sentence says so.

    QEMU's nodes are alike to the guest, and not always to the host that backs their memory, with huge pages or without:
    what was measured of them is held against what is said of it. That equal cells do not differ is tests/test_bench.py's.
    """
    measured = guest.section("bench")["measured"]
    quantities = _whole_nodes(measured)
    nodes = range(len(guest.machine.node_dies))
    pairs = [(cpu_node, memory_node) for cpu_node, memory_node in product(nodes, nodes) if cpu_node != memory_node]
    differ = {
        what: sum(not _overlap(found[pair], found[pair[0], pair[0]]) for pair in pairs)
        for what, found in quantities.items()
    }
    alike = [what for what, count in differ.items() if not count]
    *told, last = measured["verdict"]
    if len(alike) == len(quantities):
        assert told == []
        assert last.startswith(
            "no difference: memory of another node gives the bandwidth and the latency of a node's own"
        )
        return
    if alike:
        assert last == f"no difference in {', '.join(alike)}: the intervals overlap in all {len(pairs)} pairs of nodes"
    else:
        told.append(last)
    for sentence, (what, count) in zip(told, [each for each in differ.items() if each[1]], strict=True):
        assert sentence.startswith("memory of another node gives ")
        assert f" the {what}, from node " in sentence
        assert count == len(pairs) or sentence.endswith(
            f"; no difference in {len(pairs) - count} of {len(pairs)} pairs of nodes"
        )


def _whole_nodes(measured: Mapping[str, Any]) -> dict[str, dict[tuple[int, int], Mapping[str, float]]]:
    """What is compared, by the nodes of the CPUs and of the memory: bandwidth of all cores, and latency of an idle node."""
    cores = max(row["threads"] for row in measured["bandwidth"])
    found = {
        f"{kind} bandwidth": {
            (row["cpu_node"], row["memory_node"]): row["bytes_per_second"]
            for row in measured["bandwidth"]
            if (row["kind"], row["threads"]) == (kind, cores)
        }
        for kind in KINDS
    }
    found["latency"] = {
        (row["cpu_node"], row["memory_node"]): row["seconds"]
        for row in measured["latency"]
        if row["huge_pages"] and not row["loaded"]
    }
    return found


def _overlap(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one["low"] <= other["high"] and other["low"] <= one["high"]


@memory_machine
def test_the_firmwares_distances_stand_beside_it(guest: Guest) -> None:
    """As QEMU was asked for them."""
    told = {
        (row["cpu_node"], row["memory_node"]): row["distance"] for row in guest.section("bench")["measured"]["firmware"]
    }
    nodes = range(len(guest.machine.node_dies))
    assert told == {(row, column): guest.machine.distances[row][column] for row, column in product(nodes, nodes)}
