"""Every rank its NIC: which are left out, who gets which, and in whose words it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fixtures import facts, sysfs
from fixtures.pci import NetworkDevice, PciFunction
from hwnuma import CpuSet, Gpu, NumaOptions, OptionError, Plan, Topology, TopologyGpus, plan
from hwnuma.devices.nics import read_notes
from hwnuma.devices.pci import gpus_of_host
from hwnuma.environment.nics import nic_environment
from hwnuma.integrations.places import Places
from hwnuma.model.machine import Machine, PciDevice
from hwnuma.model.nic import ETHERNET_KIND, Nic, NicPort, natural_key
from hwnuma.model.options import NicLibrary
from hwnuma.model.value import replace
from hwnuma.policy.rails import find_rails, with_rails
from tests.conftest import TOPOLOGIES, load_machine
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.processes import clean_environment, waiting
from tests.require import require
from tests.test_cli import plan as plan_json
from tests.test_cli import run

DGX = str(TOPOLOGIES / "dgx_h100.xml")
_NVIDIA, _MELLANOX = 0x10DE, 0x15B3


def _planned(name: str, **options: object) -> Plan:
    machine = load_machine(name)
    return plan(machine, TopologyGpus(machine), NumaOptions("node", **{"nics": "auto", **options}))  # type: ignore[arg-type]


def _names(made: Plan) -> list[list[str]]:
    return [[rail.nic.name for rail in binding.nics or ()] for binding in made]


# ---- the machines that facts are known of --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nics", "path"),
    [
        ("dgx_h100", [f"mlx5_{number}" for number in (0, 3, 4, 5, 6, 9, 10, 11)], "PXB"),  # NVIDIA's own table
        ("dgx_a100_nps4", [f"mlx5_{number}" for number in (0, 1, 2, 3, 6, 7, 8, 9)], "PXB"),
        ("aws_p6_b200_48xlarge", [f"rdmap{bus}s0" for bus in (79, 80, 96, 97, 113, 114, 132, 133)], "PIX"),
        ("azure_nd96isr_h100_v5", [f"mlx5_ib{number}" for number in range(8)], "NODE"),
        ("oci_bm_gpu_h100_8", [f"mlx5_{number}" for number in (0, 3, 5, 7, 9, 12, 14, 16)], "PXB"),
        ("hgx_h100_roce_bond", [f"mlx5_bond_{number}" for number in range(8)], "PXB"),
        ("gb200_nvl72_tray", [f"mlx5_{number}" for number in (0, 1, 4, 5)], "NODE"),
    ],
)
def test_each_gpu_has_a_rail_of_its_own(name: str, nics: list[str], path: str) -> None:
    """No two GPUs share one, each is of the nearest class, and balance can do no better."""
    for policy in ("near", "balance"):
        made = _planned(name, nic_policy=policy)
        assert _names(made) == [[nic] for nic in nics]
        assert {rail.path for binding in made for rail in binding.nics or ()} == {path}


def test_two_gpus_share_a_rail_on_frontier() -> None:
    """Four Slingshot NICs for eight GPU dies: each pair of a node its own."""
    assert _names(_planned("frontier_mi250x")) == [[f"cxi{number // 2}"] for number in range(8)]


def test_two_rails_a_rank_on_p5en() -> None:
    """Sixteen EFA, all given out, each to one GPU of its switch."""
    made = _planned("aws_p5en_48xlarge", nics_per_rank=2)
    assert _names(made)[:2] == [["rdmap85s0", "rdmap86s0"], ["rdmap87s0", "rdmap88s0"]]
    assert len({name for names in _names(made) for name in names}) == 16
    assert {rail.path for binding in made for rail in binding.nics or ()} == {"PIX"}


def test_a_rank_with_two_gpus_has_the_rails_of_both() -> None:
    """One for each GPU by default; with --nics-per-rank, as many as that, the first GPU's first."""
    assert _names(_planned("dgx_h100", gpus_per_rank=2))[0] == ["mlx5_0", "mlx5_3"]
    assert _names(_planned("dgx_h100", gpus_per_rank=2, nics_per_rank=1))[0] == ["mlx5_0"]
    assert len(_names(_planned("dgx_h100", gpus_per_rank=2, nics_per_rank=4))[0]) == 4


def test_ranks_of_one_gpu_have_its_rail() -> None:
    """Both of them."""
    assert _names(_planned("dgx_h100", ranks_per_gpu=2))[:3] == [["mlx5_0"], ["mlx5_0"], ["mlx5_3"]]


def test_two_jobs_have_eight_different_rails(tmp_path: Path) -> None:
    """With CUDA_VISIBLE_DEVICES=0-3 and 4-7 the jobs see half of the GPUs each, and their rails do not meet."""
    require(compiler(), "no C compiler")
    gpus = TopologyGpus(load_machine("dgx_h100")).gpus()
    environment = FakeNvml([FakeGpu(f"0000{gpu.pci_address}") for gpu in gpus]).env(tmp_path)
    environment |= {"HWLOC_XMLFILE": DGX, "HWLOC_THISSYSTEM": "1"}
    found = []
    for visible in ("0,1,2,3", "4,5,6,7"):
        command = [
            sys.executable,
            "-m",
            "hwnuma",
            "plan",
            "--nics",
            "auto",
            "--format",
            "json",
            "--outer-mask",
            "reset",
        ]
        done = subprocess.run(
            command, env=environment | {"CUDA_VISIBLE_DEVICES": visible}, capture_output=True, text=True, check=False
        )
        found += [row["nics"][0]["name"] for row in json.loads(done.stdout)["bindings"]]
    assert found == [f"mlx5_{number}" for number in (0, 3, 4, 5, 6, 9, 10, 11)]


def test_a_job_that_is_shown_some_gpus_counts_the_others_too() -> None:
    """A container whose driver shows GPUs 4 to 7 only, numbered anew, gives them the rails that the host's job would."""
    machine = load_machine("dgx_h100")
    whole = TopologyGpus(machine).gpus()
    shown = [Gpu(index, gpu.pci_address) for index, gpu in enumerate(whole[4:])]
    assert [gpu.pci_address for gpu in gpus_of_host(machine, shown)] == [gpu.pci_address for gpu in whole]
    part = plan(machine, shown, NumaOptions("node", nics="auto"))
    assert _names(part) == _names(_planned("dgx_h100"))[4:]


# ---- machines made up ----------------------------------------------------------------------------------------


def _machine(gpus: list[tuple[str, ...]], nics: dict[str, tuple[str, ...]], **changes: dict[str, object]) -> Machine:
    """A machine of GPUs and NICs below the bridges given (nearest first), and NICs changed by name."""
    base = load_machine("dgx_h100")
    near = base.numa_nodes[0]
    devices = [
        PciDevice(f"0000:{number:02x}:00.0", _NVIDIA, 0x2330, 0x0302, "Package", near.cpuset, base.pci_devices[0].near_nodeset, bridges=bridges)
        for number, bridges in enumerate(gpus, 0x10)
    ]  # fmt: skip
    cards = []
    for number, (name, bridges) in enumerate(nics.items(), 0x80):
        address = f"0000:{number:02x}:00.0"
        devices.append(replace_pci(devices[0], address, bridges))
        nic = Nic(name, address, vendor_id=_MELLANOX, ports=(NicPort(1, "active", 400, "InfiniBand"),))
        cards.append(changed(nic, changes.get(name, {})))
    return base.__replace__(pci_devices=tuple(devices), nics=tuple(cards))


def replace_pci(device: PciDevice, address: str, bridges: tuple[str, ...]) -> PciDevice:
    return device.__replace__(address=address, vendor_id=_MELLANOX, class_id=0x0207, bridges=bridges)


def changed(nic: Nic, changes: dict[str, object]) -> Nic:
    """The NIC with other fields, or with another port (``rate``, ``state``, ``link_layer``)."""
    port = {name: value for name, value in changes.items() if name in ("rate", "state", "link_layer")}
    rest = {name: value for name, value in changes.items() if name not in port}
    return nic.__replace__(ports=(nic.port.__replace__(**port),), **rest)


_SWITCH, _OTHER = ("port", "switch", "host 0000:00"), ("port2", "switch2", "host 0000:40")


def test_near_is_a_matching_and_not_a_greedy_walk() -> None:
    """GPU 0 leaves the first NIC to GPU 1, which has no other that is as near."""
    both = ("p0", "left", "right", "host 0000:00")
    machine = _machine([both, ("p1", "left", "right", "host 0000:00")], {"mlx5_0": ("p2", "left", "right", "host 0000:00"), "mlx5_1": ("p3", "left", "right", "host 0000:00")})  # fmt: skip
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
    assert _names(made) == [["mlx5_0"], ["mlx5_1"]]
    assert made.warnings == ()


def test_a_shared_rail_beside_an_idle_one_is_told() -> None:
    """Near keeps to the nearest and says so; balance goes further, and nothing is idle."""
    machine = _machine([_SWITCH, _SWITCH], {"mlx5_2": _SWITCH, "mlx5_10": _OTHER})
    near = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
    assert _names(near) == [["mlx5_2"], ["mlx5_2"]]
    assert "mlx5_2 (GPUs 0, 1); idle are mlx5_10; --nic-policy balance" in near.warnings[0]
    balance = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto", nic_policy="balance"))
    assert _names(balance) == [["mlx5_2"], ["mlx5_10"]]
    assert balance.warnings == ()


def test_an_idle_rail_beside_one_that_nobody_shares_is_no_matter() -> None:
    """There are more NICs than GPUs, as where only some of a host's GPUs are there."""
    machine = _machine([_SWITCH], {"mlx5_0": _SWITCH, "mlx5_1": _OTHER})
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
    assert _names(made) == [["mlx5_0"]]
    assert made.warnings == ()


def test_a_rank_whose_gpus_share_a_nic_is_filled_up_with_the_nearest_other() -> None:
    """Not with the first by name; and the map of all ranks and GPUs has the first of each."""
    machine = _machine([_SWITCH] * 2, {"mlx5_0": _OTHER, "mlx5_1": _SWITCH, "mlx5_2": ("p", "host 0000:00")})
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto", gpus_per_rank=2, nics_per_rank=2))
    assert _names(made) == [["mlx5_1", "mlx5_2"]]
    (nic_map,) = [binding.nic_map for binding in made]
    assert nic_map is not None
    assert nic_map.by_rank == (1,)
    assert {nic for _, nic in nic_map.by_gpu} == {machine.nics[1].pci_address}


def test_a_plan_in_python_has_the_nics_that_its_options_name() -> None:
    """By device or by interface, with white space around; in words that make no sense it is refused."""
    assert _names(_planned("dgx_h100", nics=" mlx5_2 ,ibp64s0"))[1] == ["mlx5_3"]
    assert _names(_planned("dgx_h100", nics=None, export_nics=("ucx",)))[1] == ["mlx5_3"]
    for wanted, problem in (
        (",", "names no NIC: write auto, none, or names"),
        ("mlx5_99", "there is no NIC mlx5_99 in .*: it has mlx5_0, mlx5_1, mlx5_2"),
        ("mlx5_1", "NIC mlx5_1 cannot be sent through: its port 1 is down"),
    ):
        with pytest.raises(OptionError, match=problem):
            _planned("dgx_h100", nics=wanted)
    with pytest.raises(OptionError, match=r"--nics-per-rank 9 is more than there are to send through: 8 \(mlx5_0, "):
        _planned("dgx_h100", nics_per_rank=9)


def test_a_plan_without_a_rail_says_why_in_a_warning() -> None:
    """No network device, none for RDMA, all left out; or no GPU to be near to. Then every rank has no NIC."""
    machine = load_machine("dgx_h100")
    bare = machine.__replace__(nics=())
    ethernet = machine.__replace__(nics=(machine.nics[0].__replace__(kind=ETHERNET_KIND),))
    down = changed(machine.nics[0], {"state": "down"})
    for changed_machine, said in (
        (bare, "has no network devices, and none for RDMA (OpenFabrics, Slingshot)"),
        (ethernet, "has 1 network devices, and none for RDMA (OpenFabrics, Slingshot)"),
        (machine.__replace__(nics=(down,)), "no NIC is given to any rank, since all are left out"),
    ):
        made = plan(changed_machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
        assert made.warnings[-1].endswith(said)
        assert [binding.nics for binding in made] == [()] * 8
    without_gpus = plan(machine, (), NumaOptions("node", nics="auto"), ranks=2)
    assert without_gpus.warnings[-1] == "NICs are given to GPUs, and these ranks have none: no rank is given a NIC"
    assert [binding.nics for binding in without_gpus] == [(), ()]


def test_a_gpu_that_the_topology_has_not_is_near_the_nics_of_its_stated_node() -> None:
    """Of eight rails, those of the other node are not its nearest."""
    machine = load_machine("dgx_h100")
    for node, names in ((0, {"mlx5_0", "mlx5_3", "mlx5_4", "mlx5_5"}), (1, {"mlx5_6", "mlx5_9", "mlx5_10", "mlx5_11"})):
        made = plan(machine, [Gpu(0, numa_node=node)], NumaOptions("node", nics="auto", nics_per_rank=4))
        assert set(_names(made)[0]) == names


def test_names_are_in_natural_order() -> None:
    """mlx5_2 before mlx5_10, and ibp9s0 before ibp24s0."""
    names = ["mlx5_10", "mlx5_2", "ibp24s0", "ibp9s0f1", "ibp9s0", "mlx5_bond_0"]
    assert sorted(names, key=natural_key) == ["ibp9s0", "ibp9s0f1", "ibp24s0", "mlx5_2", "mlx5_10", "mlx5_bond_0"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "down"}, "port 1 is down"),
        ({"state": "initializing"}, "port 1 is initializing"),
        ({"bond": "bond0"}, "its interface is a member of bond0"),
        ({"is_virtual_function": True}, "it is a virtual function"),
        ({"access": "there is no /dev/infiniband/uverbs1 here"}, "there is no /dev/infiniband/uverbs1 here"),
        ({"rate": 100}, "100 Gb/s is slower than the fastest, 400 Gb/s"),
        ({"rate": 1}, "1 Gb/s is slower than the fastest, 400 Gb/s"),
        ({"link_layer": "Ethernet"}, "it is Ethernet (PCI vendor 15b3) at 400 Gb/s, and most"),
        ({"vendor_id": 0x1D0F}, "it is InfiniBand (PCI vendor 1d0f)"),
    ],
)
def test_what_is_left_out_is_named_with_its_reason(change: dict[str, object], reason: str) -> None:
    """And the GPU goes to another NIC, however near the first is."""
    machine = _machine([_SWITCH], {"mlx5_0": _SWITCH, "mlx5_1": _OTHER, "mlx5_2": _OTHER}, mlx5_0=change)
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
    assert _names(made) == [["mlx5_1"]]
    assert made.warnings[0].startswith(f"left out as a rail: mlx5_0: {reason}")


@pytest.mark.parametrize(
    ("cards", "rails", "own", "most"),
    [
        ([("Ethernet", 400), ("InfiniBand", 100), ("InfiniBand", 100)], ["mlx5_0"], "InfiniBand (PCI vendor 15b3) at 100 Gb/s", "Ethernet (PCI vendor 15b3) at 400 Gb/s"),
        ([("InfiniBand", 400), ("Ethernet", 0), ("Ethernet", 0)], ["mlx5_1", "mlx5_2"], "InfiniBand (PCI vendor 15b3) at 400 Gb/s", "Ethernet (PCI vendor 15b3)"),
        ([("Ethernet", 400), ("InfiniBand", 400)], ["mlx5_1"], "Ethernet (PCI vendor 15b3) at 400 Gb/s", "InfiniBand (PCI vendor 15b3) at 400 Gb/s"),
        ([("Unspecified", 0), ("InfiniBand", 400)], ["mlx5_1"], "a network of its own kind (PCI vendor 15b3)", "InfiniBand (PCI vendor 15b3) at 400 Gb/s"),
        ([("", 400), ("InfiniBand", 400)], ["mlx5_1"], "a network of its own kind (PCI vendor 15b3) at 400 Gb/s", "InfiniBand (PCI vendor 15b3) at 400 Gb/s"),
        ([("Ethernet", 100), ("InfiniBand", 400), ("InfiniBand", 200)], ["mlx5_1"], "Ethernet (PCI vendor 15b3) at 100 Gb/s", "InfiniBand (PCI vendor 15b3) at 400 Gb/s"),
    ],
)  # fmt: skip
def test_of_two_networks_that_with_the_most_bandwidth_counts(
    cards: list[tuple[str, int]], rails: list[str], own: str, most: str
) -> None:
    """By rates where all are told, else by number; InfiniBand where both are alike."""
    changes: dict[str, dict[str, object]] = {
        f"mlx5_{number}": {"link_layer": layer, "rate": rate} for number, (layer, rate) in enumerate(cards)
    }
    found = find_rails(_machine([_SWITCH], dict.fromkeys(changes, _SWITCH), **changes))
    assert [nic.name for nic in found.nics] == rails
    assert found.left_out[0][1] == f"it is {own}, and most of the machine's bandwidth is {most}"


def test_a_devices_name_goes_before_an_interface_of_that_name() -> None:
    """Somebody may have renamed the interface of another card so."""
    machine = _machine([_SWITCH], {"mlx5_0": _SWITCH, "mlx5_1": _OTHER}, mlx5_0={"interfaces": ("mlx5_1", "ib0")})
    assert [nic.name for nic in find_rails(machine, "mlx5_1").nics] == ["mlx5_1"]
    assert [nic.name for nic in find_rails(machine, "ib0").nics] == ["mlx5_0"]
    with pytest.raises(OptionError, match="it has none$"):
        find_rails(machine.__replace__(nics=()), "ib0")


def test_a_gpus_nearest_nic_is_its_first() -> None:
    """Whatever their names; and so it is in the map that libraries are told."""
    machine = _machine([_SWITCH], {"mlx5_0": _OTHER, "mlx5_1": _SWITCH})
    (binding,) = made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto", nics_per_rank=2))
    assert _names(made) == [["mlx5_1", "mlx5_0"]]
    assert binding.nic_map is not None
    assert [nic for _, nic in binding.nic_map.by_gpu] == [machine.nics[1].pci_address]
    asked_for_none = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="none"))
    assert [each.nics for each in asked_for_none] == [None]
    assert with_rails(asked_for_none, machine, ()) is asked_for_none


def test_where_balance_leaves_a_nic_idle_it_is_not_advised() -> None:
    """Four GPUs fill two near NICs with two each, which is the least that three NICs allow."""
    machine = _machine([_SWITCH] * 4, {"mlx5_0": _SWITCH, "mlx5_1": _SWITCH, "mlx5_2": _OTHER})
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto", nic_policy="balance"))
    assert made.warnings[0].endswith("idle are mlx5_2")


def test_a_machine_without_bridges_is_told_of() -> None:
    """As many virtual machines are."""
    machine = _machine([()], {"mlx5_0": ()})
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
    assert made.warnings == (
        f"{machine.called} tells no PCI bridges, so a GPU and a NIC are NODE or SYS to each other, and no nearer",
    )


def test_unknown_rates_leave_nobody_out() -> None:
    """A file that lstopo saved tells none: then all are alike."""
    unknown: dict[str, dict[str, object]] = {"mlx5_0": {"rate": 0}, "mlx5_1": {"rate": 0}}
    machine = _machine([_SWITCH], {"mlx5_0": _SWITCH, "mlx5_1": _OTHER, "mlx5_2": _OTHER}, **unknown)
    assert len(find_rails(machine).nics) == 3


def test_the_port_that_is_up_is_sent_through() -> None:
    """Of a device with two ports."""
    ports = (NicPort(1, "down", 400, "InfiniBand"), NicPort(2, "active", 400, "InfiniBand"))
    machine = _machine([_SWITCH], {"mlx5_0": _SWITCH})
    machine = machine.__replace__(nics=(machine.nics[0].__replace__(ports=ports),))
    made = plan(machine, TopologyGpus(machine), NumaOptions("node", nics="auto"))
    told = nic_environment((NicLibrary.UCX, NicLibrary.NCCL), made[0], {}).added
    assert told == {"UCX_NET_DEVICES": "mlx5_0:2", "NCCL_IB_HCA": "=mlx5_0:2"}


# ---- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--nics", "mlx5_99"), "there is no NIC mlx5_99 in"),
        (("--nics", "mlx5_99"), "it has mlx5_0, mlx5_1, mlx5_2,"),
        (("--nics", "mlx5_0,mlx5_1"), "NIC mlx5_1 cannot be sent through: its port 1 is down"),
        (("--nics", ","), "names no NIC"),
        (("--nics", "auto", "--nics-per-rank", "9"), "--nics-per-rank 9 is more than there are to send through: 8 (mlx5_0"),
        (("--nics", "auto", "--nics-per-rank", "0"), "nics_per_rank=0 makes no sense"),
        (("--nics", "auto", "--nic-policy", "far"), "choose one of near, balance"),
        (("--export-nics", "gloo"), "choose one of ucx, nvshmem, mpich, nccl, vllm"),
        (("--nics", "none", "--export-nics", "ucx"), "export_nics needs NICs"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(arguments: tuple[str, ...], reason: str) -> None:
    """And exit status 2."""
    done = run("plan", "--topology", DGX, *arguments, status=2)
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_nic_at_all_is_said_once() -> None:
    """With auto the plan goes on without; a name is an error."""
    machine = ("--topology", str(TOPOLOGIES / "dgx2_v100.xml"))
    data = plan_json(*machine, "--nics", "auto")
    assert [row["nics"] for row in data["bindings"]] == [[]] * 16
    assert [warning for warning in data["warnings"] if "NIC" in warning] == [
        f"no NIC is given to any rank: {machine[1]} has no network devices, and none for RDMA (OpenFabrics, Slingshot)"
    ]
    assert "it has none" in run("plan", *machine, "--nics", "mlx5_0", status=2).stderr
    without_gpus = plan_json("--topology", DGX, "--gpus", "none", "--ranks", "2", "--nics", "auto")
    assert any("these ranks have none" in warning for warning in without_gpus["warnings"])


def test_named_nics_are_all_that_is_given_out() -> None:
    """Slower and other ones too, and an interface's name as well as the device's: whoever names them knows."""
    data = plan_json("--topology", DGX, "--nics", "mlx5_2,ibp64s0")
    names = [row["nics"][0]["name"] for row in data["bindings"]]
    assert Counter(names) == {"mlx5_2": 4, "mlx5_3": 4}
    assert data["bindings"][1]["nics"][0] == {"name": "mlx5_3", "port": 1, "pci_address": "0000:40:00.0", "path": "PXB"}


def test_a_plan_without_nics_has_no_key_of_them() -> None:
    """Readers of before see what they saw; asked for, each rank has the four keys."""
    assert all("nics" not in row for row in plan_json("--topology", DGX)["bindings"])
    assert all("nics" not in row for row in plan_json("--topology", DGX, "--nics", "none")["bindings"])
    row = plan_json("--topology", DGX, "--nics", "auto")["bindings"][1]
    assert row["nics"] == [{"name": "mlx5_3", "port": 1, "pci_address": "0000:40:00.0", "path": "PXB"}]
    table = run("plan", "--topology", DGX, "--nics", "auto").stdout
    assert table.splitlines()[3].split()[-2:] == ["mlx5_3:1", "PXB"]
    assert "NICs" not in run("plan", "--topology", DGX).stdout


# ---- told to libraries ---------------------------------------------------------------------------------------


def test_each_library_is_told_in_its_own_words() -> None:
    """As their manuals have it."""
    binding = _planned("dgx_h100")[1]
    told = nic_environment(tuple(NicLibrary), binding, {})
    assert told.notes == ()
    assert told.added == {
        "UCX_NET_DEVICES": "mlx5_3:1",
        "NVSHMEM_ENABLE_NIC_PE_MAPPING": "1",
        "NVSHMEM_HCA_LIST": "mlx5_3:1",
        "MPICH_OFI_NIC_POLICY": "USER",
        "MPICH_OFI_NIC_MAPPING": "0:0;3:1;4:2;5:3;6:4;9:5;10:6;11:7",
        "NCCL_IB_HCA": "=mlx5_3",
        "VLLM_GPU_NIC_PCIE_MAPPING": "0000:1b:00.0=0000:18:00.0,0000:43:00.0=0000:40:00.0,0000:52:00.0=0000:4f:00.0,"
        "0000:61:00.0=0000:5e:00.0,0000:9d:00.0=0000:9a:00.0,0000:c3:00.0=0000:c0:00.0,0000:d1:00.0=0000:ce:00.0,"
        "0000:df:00.0=0000:dc:00.0",
        "VLLM_NIC_SELECTION_VARS": "UCX_NET_DEVICES:1,NVSHMEM_HCA_LIST:1",
    }


def test_what_the_user_has_set_stays_and_is_told() -> None:
    """The other half of a pair is left alone too: it would say something else than either."""
    binding = _planned("dgx_h100")[0]
    told = nic_environment((NicLibrary.UCX, NicLibrary.MPICH), binding, {"UCX_NET_DEVICES": "all", "MPICH_OFI_NIC_POLICY": "GPU"})  # fmt: skip
    assert told.added == {}
    assert told.notes == (
        "UCX_NET_DEVICES=all is set already and stays: rank 0 would be told mlx5_0:1",
        "MPICH_OFI_NIC_POLICY=GPU is set already and stays: rank 0 would be told USER",
    )


def test_slingshot_is_told_to_those_who_know_it() -> None:
    """MPICH by number, UCX by interface; the others not, and that is said."""
    told = nic_environment(tuple(NicLibrary), _planned("frontier_mi250x")[3], {})
    assert told.added == {
        "UCX_NET_DEVICES": "hsn1",
        "MPICH_OFI_NIC_POLICY": "USER",
        "MPICH_OFI_NIC_MAPPING": "0:0,1;1:2,3;2:4,5;3:6,7",
    }
    assert [note.rpartition(": ")[2] for note in told.notes] == [f"{name} is told nothing" for name in ("nvshmem", "nccl", "vllm")]  # fmt: skip


def test_the_format_env_tells_them_too() -> None:
    """With --export-nics, whose NICs are auto then."""
    lines = run("plan", "--topology", DGX, "--format", "env", "--export-nics", "ucx,nccl").stdout.splitlines()
    assert lines[3] == "HWNUMA_LOCAL_RANK=3 HWNUMA_CPUS=0-55,112-167 UCX_NET_DEVICES=mlx5_5:1 NCCL_IB_HCA==mlx5_5"
    assert "UCX" not in run("plan", "--topology", DGX, "--format", "env", "--nics", "auto").stdout


# ---- a running system, in a tree -----------------------------------------------------------------------------


@dataclass
class Tree:
    """A system of this machine's own CPU 0 and 1, with two GPUs and some NICs, each pair below a switch."""

    path: Path
    nics: dict[str, dict[str, object]] = field(default_factory=dict)

    def write(self) -> dict[str, str]:
        """Write it, and return the variables by which libhwloc takes it for this system."""
        functions = [PciFunction("0000:10:00.0", _NVIDIA, 0x2330, 0x0302, 0, bridges=("0000:0d:01.0", "0000:0e:00.0", "0000:0f:00.0")),
                     PciFunction("0000:20:00.0", _NVIDIA, 0x2330, 0x0302, 0, bridges=("0000:1c:01.0", "0000:1d:00.0", "0000:1e:00.0"))]  # fmt: skip
        for number, (name, changes) in enumerate(self.nics.items()):
            below = changes.pop("below", ("0000:0d:01.0", "0000:0e:00.0", f"0000:0f:{number + 1:02x}.0"))
            bus = number + (0x21 if below is _OTHER_SWITCH else 0x11)
            of = changes.pop("physical_function", "")
            device = NetworkDevice(
                **{"name": name, "interface": f"ib{number}", "rate": "400 Gb/sec (4X NDR)", **changes}
            )  # type: ignore[arg-type]
            functions.append(
                PciFunction(
                    f"0000:{bus:02x}:00.0",
                    _MELLANOX,
                    0x1021,
                    0x0207,
                    0,
                    bridges=below,
                    network=device,
                    physical_function=str(of),
                )
            )  # type: ignore[arg-type]
        cpus = CpuSet(sorted(os.sched_getaffinity(0))[:2])
        machine = sysfs.SysfsMachine(
            cores=tuple(sysfs.Core(number, 0, CpuSet([cpu])) for number, cpu in enumerate(cpus)),
            caches=(),
            nodes=(sysfs.Node(0, cpus, 1 << 30),),
            pci_devices=tuple(functions),
        )
        self.path.mkdir()
        sysfs.write(machine, self.path)
        return {"HWLOC_FSROOT": str(self.path), "HWLOC_THISSYSTEM": "1", "HWLOC_COMPONENTS": "linux,stop"}


_OTHER_SWITCH = ("0000:1c:01.0", "0000:1d:00.0", "0000:1e:02.0")


def test_a_down_port_and_a_slow_one_are_left_out_of_a_running_system(tmp_path: Path) -> None:
    """Both are named, though both are nearer to the GPU than what it gets."""
    tree = Tree(tmp_path / "root", {"mlx5_0": {"state": "1: DOWN"}, "mlx5_1": {"rate": "100 Gb/sec (4X EDR)"}, "mlx5_2": {"below": _OTHER_SWITCH}})  # fmt: skip
    data = plan_json("--gpus", "nvidia", "--nics", "auto", **tree.write())
    assert [row["nics"][0]["name"] for row in data["bindings"]] == ["mlx5_2", "mlx5_2"]
    assert [row["nics"][0]["path"] for row in data["bindings"]] == ["NODE", "PIX"]
    assert data["warnings"][:2] == [
        "left out as a rail: mlx5_0: port 1 is down",
        "left out as a rail: mlx5_1: 100 Gb/s is slower than the fastest, 400 Gb/s",
    ]


def test_a_container_without_the_cards_file_goes_without_the_card(tmp_path: Path) -> None:
    """The kernel shows all cards in /sys; those whose /dev/infiniband file was not given cannot be opened."""
    tree = Tree(tmp_path / "root", {"mlx5_0": {"is_accessible": False}, "mlx5_1": {}})
    data = plan_json("--gpus", "nvidia", "--nics", "auto", **tree.write())
    assert data["bindings"][0]["nics"][0]["name"] == "mlx5_1"
    assert "left out as a rail: mlx5_0: there is no /dev/infiniband/uverbs" in data["warnings"][0]


def test_virtual_functions_and_bonds_are_read_from_sysfs(tmp_path: Path) -> None:
    """A virtual function where its physical one is too; a bond's member where its card is no device for the whole bond."""
    tree = Tree(
        tmp_path / "root",
        {
            "mlx5_0": {},
            "mlx5_1": {"physical_function": "0000:11:00.0"},
            "mlx5_2": {"bond": "bond0", "link_layer": "Ethernet"},
            "mlx5_3": {"bond": "bond0", "link_layer": "Ethernet"},
            "mlx5_bond_0": {"bond": "bond1", "link_layer": "Ethernet"},
            "": {"bond": "bond1", "link_layer": "Ethernet"},
        },
    )
    tree.write()
    notes = read_notes(tree.path)
    assert notes["infiniband", "mlx5_1"]["HwnumaPhysicalFunction"] == "0000:11:00.0"
    bonds = {name: values.get("HwnumaBond") for (kind, name), values in notes.items() if kind == "net"}
    assert bonds == {"ib0": None, "ib1": None, "ib2": "bond0", "ib3": "bond0", "ib4": None, "ib5": "bond1"}


def test_a_captured_system_is_planned_as_the_running_one(tmp_path: Path) -> None:
    """What capture saves: rates, link layers, bonds and access, none of which libhwloc tells."""
    tree = Tree(
        tmp_path / "root",
        {
            "mlx5_0": {"rate": "100 Gb/sec (4X EDR)"},
            "mlx5_1": {"link_layer": "Ethernet", "bond": "bond0"},
            "mlx5_2": {"is_accessible": False},
            "mlx5_3": {"below": _OTHER_SWITCH},
        },
    )
    variables = tree.write()
    file = tmp_path / "saved.xml"
    run("capture", str(file), **variables)
    live = plan_json("--gpus", "nvidia", "--nics", "auto", **variables)
    saved = plan_json("--topology", str(file), "--gpus", "nvidia", "--nics", "auto")
    assert saved["bindings"] == live["bindings"]
    assert saved["warnings"] == live["warnings"]
    assert len(saved["warnings"]) == 3


def test_exec_hands_a_rank_its_nics(tmp_path: Path) -> None:
    """As --export-nics or its variable says, and what is set already stays, which is told on standard error."""
    tree = Tree(tmp_path / "root", {"mlx5_0": {}, "mlx5_1": {"below": _OTHER_SWITCH}})
    variables = tree.write() | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    show = (
        "--",
        sys.executable,
        "-c",
        "import os; print(os.environ.get('UCX_NET_DEVICES'), os.environ.get('NCCL_IB_HCA'))",
    )
    done = run("exec", "--gpus", "nvidia", "--export-nics", "ucx", *show, **variables)
    assert (done.stdout, done.stderr) == ("mlx5_1:1 None\n", "")
    done = run("exec", "--gpus", "nvidia", *show, HWNUMA_EXPORT_NICS="ucx,nccl", UCX_NET_DEVICES="all", **variables)
    assert done.stdout == "all =mlx5_1\n"
    assert done.stderr == "hwnuma: UCX_NET_DEVICES=all is set already and stays: rank 1 would be told mlx5_1:1\n"
    assert run("exec", "--gpus", "nvidia", *show, **variables).stdout == "None None\n"


def test_a_rank_that_sees_its_own_gpu_alone_gets_the_same_nic(tmp_path: Path) -> None:
    """The others' ranks are not known then, so MPICH, which is told of all, is told nothing, and that is said."""
    tree = Tree(tmp_path / "root", {"mlx5_0": {}, "mlx5_1": {"below": _OTHER_SWITCH}})
    variables = tree.write() | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    done = run("exec", "--gpus", "0000:20:00.0", "--export-nics", "ucx,mpich", "--", "env", **variables)
    assert "UCX_NET_DEVICES=mlx5_1:1\n" in done.stdout
    assert "MPICH" not in done.stdout
    assert "the NICs of the others are not known here: mpich is told nothing" in done.stderr


def test_a_launchers_plug_in_hands_nics_on(tmp_path: Path) -> None:
    """Places, by HWNUMA_EXPORT_NICS of the launcher's environment."""
    variables = Tree(tmp_path / "root", {"mlx5_0": {}, "mlx5_1": {"below": _OTHER_SWITCH}}).write()
    code = (
        "import os; from hwnuma.integrations.places import Places; "
        "places = Places.of(2, {'HWNUMA_EXPORT_NICS': 'ucx', 'HWNUMA_GPUS': 'nvidia'}); "
        "print(*(places.variables(rank, {})['UCX_NET_DEVICES'] for rank in (0, 1)))"
    )
    assert Places.__module__ == "hwnuma.integrations.places"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "mlx5_0:1 mlx5_1:1\n"


def test_nics_cost_nothing_where_none_is_asked_for() -> None:
    """Without --export-nics, exec has libhwloc look at no OS device, and with --gpus none at no PCI device."""
    code = (
        "import sys; from hwnuma.hwloc import topology; load = topology.Topology.from_this_system.__func__\n"
        "def told(cls, **how):\n print(sorted(how.items())); return load(cls, **how)\n"
        "topology.Topology.from_this_system = classmethod(told)\n"
        "from hwnuma.launch.bind import bind_job; from hwnuma.launch.job import Job; from hwnuma import NumaOptions\n"
        "bind_job(Job(NumaOptions('node'), 'none', 1), 0)\n"
        "print([name for name in sys.modules if name.startswith('hwnuma') and ('nic' in name or 'rails' in name)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[('first_caches', False), ('network', False), ('pci', False)]\n[]\n"
    with Topology.from_this_system(network=False) as topology:
        assert topology.machine().nics == ()


@pytest.mark.parametrize("command", ["bind", "verify"])
def test_of_a_process_that_runs_no_nic_is_asked(command: str) -> None:
    """HWNUMA_NICS, for the jobs of a shell, is no reason to refuse: not even with a NIC that this system has not."""
    whose = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    with waiting("sh", "-c", "echo ready; read line", **whose) as process:
        done = subprocess.run(
            [sys.executable, "-m", "hwnuma", command, str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment(HWNUMA_NICS="mlx5_77", HWNUMA_GPUS="none"),
            timeout=60,
        )
    assert done.returncode == 0, done.stderr


def test_the_facts_of_a_machine_are_what_is_read_of_it(tmp_path: Path) -> None:
    """DGX H100: rates and link layers in its topology are those that its facts state."""
    by_name = {nic.name: nic.port for nic in load_machine("dgx_h100").nics}
    described = facts.load("dgx_h100")
    for device in described["other_pci"]:
        if "nic" in device:
            stated = described["nic_default"] | device["nic"]
            port = by_name[stated["name"]]
            assert (port.link_layer, f"{port.rate:g} Gb/sec" in stated["rate"]) == (stated["link_layer"], True)
            assert port.is_down == (stated.get("state", "4") != "4")
    assert read_notes(tmp_path) == {}
    with pytest.raises(OptionError):
        NumaOptions("node", nics_per_rank=0)


def test_where_all_nics_are_left_out_that_is_said() -> None:
    """Each with its reason, and what follows."""
    machine = load_machine("dgx_h100")
    down = replace(
        machine,
        nics=tuple(
            replace(nic, ports=tuple(replace(port, state="1: DOWN") for port in nic.ports)) for nic in machine.nics
        ),
    )
    made = plan(down, TopologyGpus(down).gpus(), NumaOptions("node", nics="auto"))
    assert "no NIC is given to any rank, since all are left out" in made.warnings
    assert with_rails(plan(machine, TopologyGpus(machine).gpus(), "node"), machine, ()).warnings == ()
    assert str(machine.nics[0]) == f"{machine.nics[0].name} ({machine.nics[0].pci_address})"


def test_cpus_that_tell_no_cores_apart_are_said() -> None:
    """All that ranks can get, or none of it."""
    machine = load_machine("xeon_sst_bf")
    made = plan(machine, TopologyGpus(machine).gpus(), NumaOptions("exclusive", prefer=str(machine.cpuset)))
    assert any("tells no cores apart: these are none, or all, that ranks can get" in text for text in made.warnings)
