"""In a guest, plans are right, are torch's where torch binds, are what `hwnuma exec` does, and can be captured."""

from __future__ import annotations

import pytest

from hwnuma import Topology
from tests.captured_plans import OPTION_SETS, Task, answer

from .conftest import TORCH_MACHINES, Guest
from .guest_checks import EXEC_MODE, MODES, plan_in_all_modes
from .machines import MACHINES, parse_list

pytestmark = pytest.mark.vm

every_machine = pytest.mark.parametrize("guest", MACHINES, indirect=True, scope="session")
machines_with_torch = pytest.mark.parametrize("guest", TORCH_MACHINES, indirect=True, scope="session")
every_mode = pytest.mark.parametrize("mode", MODES)

_FOUR_NODES = ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]
# Display 1 is on no node, and there are two with CPUs.
_CPULESS = ["4-7,12-15", "UnknownLocalityError"]
# To libhwloc a display on a node of memory alone looks as one on no node; display 2 is on node 3, which is near node 1.
_CPULESS_HMAT = [*_CPULESS, "4-7,12-15", "0-3,8-11"]
_GRACE = ["0-3", "0-3", "4-7", "4-7"]

# Written by hand from the machines: for each rank its CPUs, or the error.
EXPECTED = {
    "two-socket-nps2": {
        "node": ["4-7,20-23", "4-7,20-23", "0-3,16-19", "12-15,28-31"],
        "socket": ["0-7,16-23", "0-7,16-23", "0-7,16-23", "8-15,24-31"],
        "exclusive": ["4-5,20-21", "6-7,22-23", "0-3,16-19", "12-15,28-31"],
        "core-complex": ["4-5,20-21", "6-7,22-23", "0-1,16-17", "12-13,28-29"],
    },
    "four-nodes": {
        "node": _FOUR_NODES,
        "socket": ["0-3,8-11", "0-3,8-11", "4-7,12-15", "4-7,12-15"],
        "exclusive": _FOUR_NODES,
        "core-complex": _FOUR_NODES,
    },
    "cpuless": dict.fromkeys(MODES, _CPULESS),
    "cpuless-hmat": {
        **dict.fromkeys(MODES, _CPULESS_HMAT),
        "exclusive": ["4-5,12-13", "UnknownLocalityError", "6-7,14-15", "0-3,8-11"],
    },
    # Of node 1 there are cores 4 (with 20), 6 (with 22) and 7 (alone), in the L3s 4 and 6-7.
    "offline-restricted": {
        "node": ["4,6-7,20,22", "4,6-7,20,22", "2-3,18-19", "NoAllowedCpusError"],
        "socket": ["2-4,6-7,18-20,22", "2-4,6-7,18-20,22", "2-4,6-7,18-20,22", "8,24"],
        "exclusive": ["4,6,20,22", "7", "2-3,18-19", "NoAllowedCpusError"],
        "core-complex": ["6-7,22", "4,20", "2-3,18-19", "NoAllowedCpusError"],
    },
    "single": {mode: ["0-7"] for mode in MODES},
    # Not booted here, but in tests/platforms.
    "grace": {
        **dict.fromkeys(MODES, _GRACE),
        "exclusive": ["0-1", "2-3", "4-5", "6-7"],
    },
}

# Where torch raises, and the ranks: it wants an allowed CPU of every node in the machine to find a socket's nodes,
# and of a GPU's node in every mode.
TORCH_RAISES = {
    "two-socket-nps2": {},
    "single": {},
    "offline-restricted": {"node": [3], "socket": [0, 1, 2, 3], "exclusive": [3], "core-complex": [3]},
    "cpuless-hmat": {"node": [2], "socket": [0, 1, 2, 3], "exclusive": [2], "core-complex": [2]},
}

# Where hwnuma, told to take node 0 for a place unknown, does not plan what torch does, and why: display 2, on memory
# alone, for which torch raises, is one of two that share the cores of node 1.
DIFFERS_FROM_TORCH = {("cpuless-hmat", "exclusive"): {0: "4-5,12-13"}}


def _as_listed(placements: list[str]) -> list[list[int] | str]:
    return [text if text.endswith("Error") else sorted(parse_list(text)) for text in placements]


@every_machine
@every_mode
def test_plan(guest: Guest, mode: str) -> None:
    """Each rank gets the CPUs that the mode promises, offline and disallowed ones left out, or the fitting error."""
    assert guest.section("plan")[mode] == _as_listed(EXPECTED[guest.machine.name][mode])


@machines_with_torch
@every_mode
def test_plan_equals_torchs(guest_with_torch: Guest, mode: str) -> None:
    """Where torch binds a rank, the kernel then has for it the very CPUs that hwnuma plans."""
    torch = dict(enumerate(guest_with_torch.section("torch")[mode]))
    bound = {rank: cpus for rank, cpus in torch.items() if isinstance(cpus, list)}
    differs = DIFFERS_FROM_TORCH.get((guest_with_torch.machine.name, mode), {})
    expected = bound | {rank: sorted(parse_list(text)) for rank, text in differs.items()}
    planned = guest_with_torch.section("plan-node-zero")[mode]
    assert {rank: planned[rank] for rank in bound} == expected


@machines_with_torch
@every_mode
def test_where_torch_raises(guest_with_torch: Guest, mode: str) -> None:
    """Torch fails where we think it does, so that the comparison with it covers all the rest."""
    torch = guest_with_torch.section("torch")[mode]
    raised = [rank for rank, cpus in enumerate(torch) if isinstance(cpus, str)]
    assert raised == TORCH_RAISES[guest_with_torch.machine.name].get(mode, [])


@pytest.mark.fault(
    "cgroup",
    "the cpuset of a real kernel leaves some GPUs without a CPU",
    "gives those ranks an error, and the others their CPUs",
)
@every_machine
def test_exec_binds_as_planned(guest: Guest) -> None:
    """A command that `hwnuma exec` starts has from the kernel the CPUs of the plan, and is not started without any."""
    for planned, done in zip(guest.section("plan")[EXEC_MODE], guest.section("exec"), strict=True):
        if isinstance(planned, str):
            assert (done["status"], done["cpus"]) == (1, [])
            assert done["stderr"].splitlines()[-1].startswith("hwnuma exec: ")  # below the plan's warnings
        else:
            assert (done["status"], done["cpus"]) == (0, planned), done["stderr"]


@every_machine
def test_captured_machine_gives_the_same_plan(guest: Guest) -> None:
    """A machine that `hwnuma capture` saved inside gives, outside, the plan that it gives inside."""
    assert guest.section("capture") == 0
    with Topology.from_xml_file(guest.out / "captured.xml") as topology:
        machine = topology.machine()
    assert plan_in_all_modes(machine, guest.machine.display_addresses()) == guest.section("plan")


@every_machine
def test_the_plan_outside_is_the_plan_inside(guest: Guest) -> None:
    """The captured machine gives, outside, what ``hwnuma plan --format json`` gives inside: to the byte, but `topology`."""
    assert guest.section("capture") == 0
    gpus = ",".join(guest.machine.display_addresses())
    variables = {"LOCAL_WORLD_SIZE": "5"}  # this machine's own counts for nothing there
    outside = answer(Task(topology=str(guest.out / "captured.xml"), words=("--gpus", gpus), environment=variables))
    inside = guest.section("plans")
    assert len(inside) == len(MODES) * len(OPTION_SETS)
    assert {words: text for words, text in outside.items() if inside[words] != text} == {}
    assert len([text for text in inside.values() if text.startswith("{")]) > len(inside) * 0.7
