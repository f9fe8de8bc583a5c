"""On a kernel with four NUMA nodes, all emulated and so all alike: `hwnuma bench` measures each pair of them."""

from __future__ import annotations

from itertools import product

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
def test_nodes_that_are_all_alike_make_no_difference(guest: Guest) -> None:
    """The verdict is one sentence that says so."""
    [sentence] = guest.section("bench")["measured"]["verdict"]
    assert sentence.startswith(
        "no difference: memory of another node gives the bandwidth and the latency of a node's own"
    )


@memory_machine
def test_the_firmwares_distances_stand_beside_it(guest: Guest) -> None:
    """As QEMU was asked for them."""
    told = {
        (row["cpu_node"], row["memory_node"]): row["distance"] for row in guest.section("bench")["measured"]["firmware"]
    }
    nodes = range(len(guest.machine.node_dies))
    assert told == {(row, column): guest.machine.distances[row][column] for row, column in product(nodes, nodes)}
