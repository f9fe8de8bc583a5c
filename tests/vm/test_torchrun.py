"""In a guest, workers of torchrun that hwnuma binds are where torch's own ``--numa-binding`` puts them, and beyond."""

from __future__ import annotations

import pytest

from .conftest import TORCHRUN_MACHINES, Guest
from .guest_checks import MODES
from .machines import CPULESS_HMAT, TWO_SOCKET_NPS2, parse_list

pytestmark = pytest.mark.vm

four_nodes_and_displays = pytest.mark.parametrize("guest", [TWO_SOCKET_NPS2.name], indirect=True, scope="session")
nodes_of_memory_alone = pytest.mark.parametrize("guest", [CPULESS_HMAT.name], indirect=True, scope="session")


@pytest.mark.parametrize("guest", TORCHRUN_MACHINES, indirect=True, scope="session")
def test_a_worker_for_each_display_on_a_node_with_cpus(guest_with_torch: Guest) -> None:
    """Four workers where four displays are on nodes with CPUs, and two where two are."""
    machine = guest_with_torch.machine
    pairs = zip(machine.display_addresses(), machine.displays, strict=True)
    expected = [address for address, node in pairs if node >= 0 and machine.node_dies[node]]
    assert len(expected) == {TWO_SOCKET_NPS2.name: 4, CPULESS_HMAT.name: 2}[machine.name]
    assert guest_with_torch.section("torchrun")["gpus"] == expected


@four_nodes_and_displays
@pytest.mark.parametrize("mode", MODES)
def test_workers_equal_torchs(guest_with_torch: Guest, mode: str) -> None:
    """In each mode the four workers that hwnuma binds have the CPUs of the four that torchrun binds by itself."""
    told = guest_with_torch.section("torchrun")
    assert len(told["torch"][mode]) == 4
    assert told["hwnuma"][mode] == told["torch"][mode]


@four_nodes_and_displays
def test_modes_differ(guest_with_torch: Guest) -> None:
    """On that machine no two modes give the same, so that none is equal to torch's by the chance of being another."""
    told = guest_with_torch.section("torchrun")["torch"]
    assert len({str(told[mode]) for mode in MODES}) == len(MODES)


@nodes_of_memory_alone
def test_socket_with_nodes_of_memory_alone(guest_with_torch: Guest) -> None:
    """Torchrun binds the workers in all modes but socket, where it raises; there hwnuma's are on their sockets."""
    expected = [sorted(parse_list(cpus)) for cpus in ("4-7,12-15", "0-3,8-11")]
    told = guest_with_torch.section("torchrun")
    assert told["torch"] == {mode: "ValueError" if mode == "socket" else expected for mode in MODES}
    assert told["hwnuma"] == {"socket": expected}
