"""The guests' kernels find the machines that QEMU was asked for: the ground that the other tests stand on."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from .conftest import Guest
from .machines import MACHINES, Machine

pytestmark = pytest.mark.vm

every_machine = pytest.mark.parametrize("guest", MACHINES, indirect=True, scope="session")


def _groups(sets: Iterable[frozenset[int]]) -> list[list[int]]:
    return sorted(sorted(members) for members in sets if members)


def _nodes(machine: Machine) -> range:
    """The kernel's NUMA nodes; without NUMA tables it makes one."""
    return range(max(1, len(machine.node_dies)))


@pytest.mark.fault("sysfs", "CPUs are taken offline", "gives a machine without them")
@every_machine
def test_online_cpus(guest: Guest) -> None:
    """All CPUs but those taken offline are online."""
    assert guest.section("kernel")["online"] == sorted(guest.machine.online)
    assert guest.section("kernel")["offline"] == sorted(guest.machine.offline)


@every_machine
def test_allowed(guest: Guest) -> None:
    """A process may use the online CPUs and the memory that the cgroup's cpuset has."""
    assert guest.section("kernel")["allowed_cpus"] == sorted(guest.machine.allowed)
    assert guest.section("kernel")["allowed_nodes"] == sorted(guest.machine.allowed_nodes)


@every_machine
def test_packages(guest: Guest) -> None:
    """Each package has the CPUs of its dies."""
    assert guest.section("kernel")["packages"] == _groups(guest.machine.online_by_package())


@every_machine
def test_cores(guest: Guest) -> None:
    """The threads of core n are CPUs n, n + number of cores, ..., less those that are offline."""
    assert guest.section("kernel")["cores"] == _groups(guest.machine.online_by_core())


@every_machine
def test_last_level_caches(guest: Guest) -> None:
    """Each die has an L3 of its own."""
    machine = guest.machine
    dies = [machine.online_of_dies([die]) for die in range(machine.die_count)]
    assert guest.section("kernel")["last_level_caches"] == _groups(dies)


@every_machine
def test_node_cpus(guest: Guest) -> None:
    """Each NUMA node has the online CPUs of its dies, and a node of memory alone none."""
    expected = {str(node): sorted(guest.machine.online_of_node(node)) for node in _nodes(guest.machine)}
    assert guest.section("kernel")["node_cpus"] == expected


@every_machine
def test_memory_nodes(guest: Guest) -> None:
    """Every NUMA node has memory, but for those that are to be empty."""
    assert guest.section("kernel")["memory_nodes"] == guest.machine.memory_nodes


@every_machine
def test_distances(guest: Guest) -> None:
    """The distances between nodes are those of the machine's table."""
    distances = guest.machine.distances or ((10,),)
    assert guest.section("kernel")["distances"] == {str(node): list(row) for node, row in enumerate(distances)}


@every_machine
def test_nearest_initiators(guest: Guest) -> None:
    """Firmware with an HMAT tells which node's CPUs are nearest to each node's memory; without, nothing does."""
    initiators = guest.machine.initiators
    assert guest.section("kernel")["nearest_initiators"] == {str(node): [near] for node, near in enumerate(initiators)}


@every_machine
def test_display_nodes(guest: Guest) -> None:
    """Each display is at its PCI address and says that it is on its node."""
    expected = dict(zip(guest.machine.display_addresses(), guest.machine.displays, strict=True))
    assert guest.section("kernel")["display_nodes"] == expected


@every_machine
def test_display_local_cpus(guest: Guest) -> None:
    """The CPUs near a display are the online ones of its node, the cgroup's or not; on no node, all online ones."""
    machine = guest.machine
    near = [machine.online if node == -1 else machine.online_of_node(node) for node in machine.displays]
    expected = dict(zip(machine.display_addresses(), map(sorted, near), strict=True))
    assert guest.section("kernel")["display_local_cpus"] == expected
