"""In a guest, hwnuma's topology is what the kernel says (and that is what QEMU was asked for: test_kernel.py)."""

from __future__ import annotations

import pytest

from .conftest import Guest
from .machines import CPULESS, CPULESS_HMAT, MACHINES

pytestmark = pytest.mark.vm

every_machine = pytest.mark.parametrize("guest", MACHINES, indirect=True, scope="session")


# What hwnuma and the kernel have under the same names.
FACTS = (
    "online",
    "allowed_cpus",
    "allowed_nodes",
    "packages",
    "cores",
    "last_level_caches",
    "node_cpus",
    "memory_nodes",
)


@every_machine
@pytest.mark.parametrize("fact", FACTS)
def test_topology_equals_the_kernels(guest: Guest, fact: str) -> None:
    """CPUs, nodes, packages, cores and caches are the kernel's, offline CPUs left out and disallowed ones kept."""
    assert guest.section("topology")[fact] == guest.section("kernel")[fact]


@every_machine
def test_is_this_system(guest: Guest) -> None:
    """A topology that was loaded from the running system knows that binding through it works."""
    assert guest.section("topology")["is_this_system"] is True


@every_machine
def test_distances(guest: Guest) -> None:
    """The distances are the kernel's; where there is one node only, libhwloc has none."""
    expected = guest.section("kernel")["distances"] if guest.machine.node_dies else {}
    assert guest.section("topology")["distances"] == expected


@every_machine
def test_cpus_near_displays(guest: Guest) -> None:
    """A display on a node with CPUs hangs below an object with that node's CPUs, and one on no node below all CPUs.

    So does one on a node of memory alone, for which the kernel has no CPU.
    """
    kernel = guest.section("kernel")
    expected = {address: cpus or kernel["online"] for address, cpus in kernel["display_local_cpus"].items()}
    assert guest.section("topology")["display_local_cpus"] == expected


@pytest.mark.parametrize("guest", [CPULESS.name, CPULESS_HMAT.name], indirect=True, scope="session")
def test_cpus_near_nodes_of_memory_alone(guest: Guest) -> None:
    """A node of memory alone has no CPUs, and those of the nearest node that has are near: 2 is near 0, 3 near 1."""
    node_cpus = guest.section("kernel")["node_cpus"]
    expected = {"0": node_cpus["0"], "1": node_cpus["1"], "2": node_cpus["0"], "3": node_cpus["1"]}
    assert guest.section("topology")["near_cpus"] == expected
