"""On a kernel with four NUMA nodes: memory policies, migrated pages, a process moved away, what defeats a binding."""

from __future__ import annotations

import pytest

from .conftest import MEMORY_MACHINE, Guest

pytestmark = pytest.mark.vm

memory_machine = pytest.mark.parametrize("guest", [MEMORY_MACHINE], indirect=True, scope="session")


@memory_machine
def test_exec_with_memory_bind_is_on_the_devices_node_only(guest: Guest) -> None:
    """CPUs, policy and every private page of each rank's command, as /proc has them."""
    machine = guest.machine
    assert guest.section("memory")["ranks"] == [
        {"cpus": sorted(machine.online_of_node(node)), "policies": [f"bind:{node}"], "nodes": [node]}
        for node in machine.displays
    ]


@memory_machine
def test_late_binding_migrates_what_is_allocated(guest: Guest) -> None:
    """All private pages go from the first node to the last, and the process to its CPUs."""
    last = len(guest.machine.node_dies) - 1
    assert guest.section("memory")["migrated"] == [[[0], [last]], sorted(guest.machine.online_of_node(last))]


@memory_machine
def test_verify_finds_a_process_that_was_moved_away(guest: Guest) -> None:
    """Nothing drifts in its place; on the last node's CPUs its thread is named, and the status is 1."""
    moved = sorted(guest.machine.online_of_node(len(guest.machine.node_dies) - 1))
    assert guest.section("memory")["verified"] == [{"status": 0, "found": []}, {"status": 1, "found": [moved]}]


@pytest.mark.fault("cgroup", "a real cpuset takes the near node's memory away", "gives the process as off")
@memory_machine
def test_verify_finds_each_thing_that_defeats_a_binding(guest: Guest) -> None:
    """Each provoked for real, and found alone; only a cpuset without the near node's memory makes the process off."""
    told = guest.section("defeaters")
    quiet = {"status": 0, "names": []}
    assert {state: told[state] for state in ("nothing", "emptied", "given back")} == dict.fromkeys(
        ("nothing", "emptied", "given back"), quiet
    )
    provoked = ("numa_balancing", "zone_reclaim_mode", "transparent_huge_pages", "node_nearly_full", "pinned_elsewhere")
    assert {name: told[name] for name in provoked} == {name: {"status": 0, "names": [name]} for name in provoked}
    assert told["cpuset_mems"] == {"status": 1, "names": ["cpuset_mems"]}
