"""In a guest, workers of torchrun that hwnuma binds are where torch's own ``--numa-binding`` puts them, and beyond."""

from __future__ import annotations

import pytest

from .conftest import TORCHRUN_MACHINES, Guest
from .guest_checks import MODES
from .machines import CPULESS_HMAT, TWO_SOCKET_NPS2, parse_list

pytestmark = [pytest.mark.vm, pytest.mark.torch]

every_torchrun_machine = pytest.mark.parametrize("guest", TORCHRUN_MACHINES, indirect=True, scope="session")
every_mode = pytest.mark.parametrize("mode", MODES)

# Written by hand: the modes that torchrun's workers raise in instead, for the nodes of memory alone in the machine.
TORCHRUN_RAISES = {TWO_SOCKET_NPS2.name: {}, CPULESS_HMAT.name: {"socket": "ValueError"}}


@every_torchrun_machine
def test_a_worker_for_each_display_on_a_node_with_cpus(guest_with_torch: Guest) -> None:
    """Four workers where four displays are on nodes with CPUs, and two where two are."""
    machine = guest_with_torch.machine
    pairs = zip(machine.display_addresses(), machine.displays, strict=True)
    expected = [address for address, node in pairs if node >= 0 and machine.node_dies[node]]
    assert guest_with_torch.section("torchrun")["gpus"] == expected
    assert len(expected) == {TWO_SOCKET_NPS2.name: 4, CPULESS_HMAT.name: 2}[machine.name]


@every_torchrun_machine
@every_mode
def test_workers_equal_torchs(guest_with_torch: Guest, mode: str) -> None:
    """In each mode where torchrun can bind its workers by itself, those bound by hwnuma have the same CPUs."""
    told = guest_with_torch.section("torchrun")
    raises = TORCHRUN_RAISES[guest_with_torch.machine.name].get(mode)
    assert told["torch"][mode] == (raises or told["hwnuma"][mode])


@pytest.mark.parametrize("guest", [CPULESS_HMAT.name], indirect=True, scope="session")
def test_socket_with_a_node_of_memory_alone(guest_with_torch: Guest) -> None:
    """Where torch raises over a node without CPUs, hwnuma's workers are on their socket."""
    expected = [sorted(parse_list(cpus)) for cpus in ("4-7,12-15", "0-3,8-11")]
    assert guest_with_torch.section("torchrun")["hwnuma"]["socket"] == expected


@pytest.mark.parametrize("guest", [TWO_SOCKET_NPS2.name], indirect=True, scope="session")
def test_modes_differ(guest_with_torch: Guest) -> None:
    """Four nodes, four displays: the workers have other CPUs in each mode, so equal to torch's is not equal by chance."""
    told = guest_with_torch.section("torchrun")["hwnuma"]
    assert len({str(told[mode]) for mode in MODES}) == len(MODES)
