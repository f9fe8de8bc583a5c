"""hwnuma.policy.locality and hwnuma.devices.nccl: from a GPU's place in the topology, and other sources, to one node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwnuma import plan
from hwnuma.devices.nccl import read_nccl_topology
from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import NoAllowedCpusError, TopologyFileError, UnknownLocalityError
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu, normalize_pci_address
from hwnuma.model.machine import Distances, Machine, NumaNode, PciDevice
from hwnuma.model.options import NumaOptions, UnknownLocality
from hwnuma.policy.locality import Locality, locate
from hwnuma.policy.planning import make_plan

TOPOLOGIES = Path(__file__).parent.parent / "fixtures" / "topologies"
# Other people's files, beside the repository.
NCCL_FILES = Path(__file__).resolve().parent.parent.parent / "shared" / "corpus" / "nccl"


def synthetic(description: str) -> Machine:
    """What libhwloc makes of a synthetic description."""
    with Topology.from_synthetic(description) as topology:
        return topology.machine()


def device(number: int, near: str, *, nodes: str = "", is_near_root: bool = False) -> PciDevice:
    """A PCI device below an object with these CPUs."""
    return PciDevice(
        f"0000:{number:02x}:00.0", 0x10DE, 0x2330, 0x0302, "Machine" if is_near_root else "Group",
        CpuSet(near), NodeSet(nodes), is_near_root=is_near_root,
    )  # fmt: skip


def with_devices(machine: Machine, *near: PciDevice) -> tuple[Machine, tuple[Gpu, ...]]:
    """A machine with PCI devices, and a GPU for each."""
    return replace(machine, pci_devices=near), tuple(Gpu(index, each.address) for index, each in enumerate(near))


def told(localities: list[Locality]) -> list[tuple[int, str] | str]:
    """Node and source of each; the error's class of one that is not known."""
    return [
        type(locality.error).__name__ if locality.error else (locality.nodes[0].os_index, locality.source)
        for locality in localities
    ]


FOUR_NODES = "pack:2 numa:2 l3:2 core:2 pu:1"  # L3s of two CPUs, nodes of four, packages of eight


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ("4-5", (1, "hwloc")),  # an L3, as on MI250X nodes
        ("4", (1, "hwloc")),  # a core
        ("8-11", (2, "hwloc")),  # a node
        ("8-11,30-40", (2, "hwloc")),  # with CPUs that are offline
    ],
)
def test_what_lies_within_one_node_is_on_that_node(near: str, expected: tuple[int, str]) -> None:
    """The ancestor can be part of a node, or the node."""
    machine, gpus = with_devices(synthetic(FOUR_NODES), device(1, near))
    assert told(locate(machine, gpus)) == [expected]


def test_gpus_near_several_nodes_are_dealt_out_to_them() -> None:
    """A package of two nodes: the GPUs take turns, package by package, and one with a node of its own is not counted."""
    machine, gpus = with_devices(
        synthetic(FOUR_NODES),
        device(1, "0-7"), device(2, "8-15"), device(3, "4-7"), device(4, "0-7"), device(5, "0-7"), device(6, "8-15"),
    )  # fmt: skip
    assert told(locate(machine, gpus)) == [
        (0, "hwloc-spread"), (2, "hwloc-spread"), (1, "hwloc"), (1, "hwloc-spread"), (0, "hwloc-spread"),
        (3, "hwloc-spread"),
    ]  # fmt: skip


def test_ranks_whose_gpus_were_dealt_out_are_named() -> None:
    """Those that are placed, and no others: the one with a node of its own, and one without cores, are not."""
    machine, gpus = with_devices(
        synthetic(FOUR_NODES), *[device(number, "0-7") for number in range(1, 4)], device(4, "8-9")
    )
    made = make_plan(machine.narrowed(CpuSet("0,4-15")), gpus, NumaOptions("exclusive"))
    assert [binding.error is None for binding in made] == [False, True, False, True]
    assert [each for each in made.warnings if "equally near" in each] == [
        "several nodes are equally near to the GPUs of ranks 1: they are dealt out by GPU index"
    ]


def test_a_dealt_node_without_allowed_cpus_gives_way_and_the_others_keep_theirs() -> None:
    """Three nodes are equally near and the second has nothing to use: only the GPU that it fell to goes elsewhere."""
    devices = [device(number, "0-11") for number in range(1, 5)]
    machine, gpus = with_devices(synthetic("pack:2 numa:3 core:4 pu:1"), *devices)
    assert [node for node, _ in told(locate(machine, gpus))] == [0, 1, 2, 0]
    cut = machine.narrowed(CpuSet("0-3,8-23"))
    assert [node for node, _ in told(locate(cut, gpus))] == [0, 0, 2, 0]
    assert [node for node, _ in told(locate(machine.narrowed(CpuSet("16-23")), gpus))] == [0, 1, 2, 0]


def test_gpus_whose_dealt_nodes_have_nothing_to_use_go_round_those_that_have() -> None:
    """Of four nodes the last two have nothing to use: the GPUs that fell to them take turns on the first two."""
    machine, gpus = with_devices(
        synthetic("pack:2 numa:4 core:2 pu:1"), *[device(number, "0-7") for number in range(1, 9)]
    )
    cut = machine.narrowed(CpuSet("0-3,8-15"))
    assert [node for node, _ in told(locate(cut, gpus))] == [0, 1, 0, 1, 0, 1, 0, 1]
    odd = machine.narrowed(CpuSet("0-1,4-5,8-15"))
    assert [node for node, _ in told(locate(odd, gpus))] == [0, 0, 2, 2, 0, 0, 2, 2]


def test_a_stated_node_without_cpus_is_an_error_that_says_so() -> None:
    """GPU memory is a node that somebody may name by mistake, and no rank can run there."""
    machine = synthetic("numa:2 core:2 pu:1")
    memory = NumaNode(8, CpuSet(), CpuSet("2-3"), subtype="GPUMemory")
    machine = replace(machine, numa_nodes=(*machine.numa_nodes, memory))
    (found,) = locate(machine, [Gpu(0, numa_node=8)])
    assert found.nodes == ()
    assert isinstance(found.error, UnknownLocalityError)
    assert "stated to be on NUMA node 8, which has no CPUs in" in str(found.error)
    assert "nodes with CPUs are 0, 1" in str(found.error)


def test_below_the_whole_machine_nothing_is_known() -> None:
    """The kernel's -1: an error that names the remedies, and node 0 only if it is asked for."""
    machine, gpus = with_devices(synthetic(FOUR_NODES), device(1, "0-15", is_near_root=True), device(2, "0-15"))
    assert told(locate(machine, gpus)) == ["UnknownLocalityError"] * 2
    message = str(locate(machine, gpus)[0].error)
    for remedy in (
        "--gpu-node 0000:01:00.0=N",
        "--nccl-topo",
        "--unknown-locality node0",
        "nodes with CPUs: 0, 1, 2, 3",
    ):
        assert remedy in message
    assert told(locate(machine, gpus, unknown=UnknownLocality.NODE_ZERO)) == [(0, "node0")] * 2


def test_torchs_node_zero_is_the_first_node_that_has_cpus() -> None:
    """Node 0 can be offline or have memory alone."""
    machine, gpus = with_devices(synthetic("pack:2 numa:1 core:2 pu:1"), device(1, "0-3", is_near_root=True))
    first, second = machine.numa_nodes
    moved = (NumaNode(0, CpuSet(), first.cpuset), replace(first, os_index=3), replace(second, os_index=5))
    machine = replace(machine, numa_nodes=moved)
    assert told(locate(machine, gpus, unknown=UnknownLocality.NODE_ZERO)) == [(3, "node0")]


def test_with_a_single_node_it_can_be_nowhere_else() -> None:
    """Only one node with CPUs: small machines, and those whose other nodes are memory alone."""
    machine, gpus = with_devices(synthetic("numa:1 core:4 pu:1"), device(1, "0-3", is_near_root=True))
    memory = NumaNode(1, CpuSet(), CpuSet("0-3"), subtype="GPUMemory")
    machine = replace(machine, numa_nodes=(*machine.numa_nodes, memory))
    assert told(locate(machine, gpus)) == [(0, "single-node")]
    assert told(locate(machine, [Gpu(0)])) == [(0, "single-node")]


def test_a_gpu_that_the_topology_does_not_have_is_not_known() -> None:
    """No PCI address, or one that is not there: the message says which."""
    machine = synthetic(FOUR_NODES)
    without, elsewhere = locate(machine, [Gpu(0), Gpu(1, "0000:77:00.0")])
    assert "it has no PCI address" in str(without.error)
    assert "--gpu-node 0=N" in str(without.error)
    assert "it is not among the topology's PCI devices" in str(elsewhere.error)


def test_near_a_node_of_memory_alone_it_is_near_that_nodes_cpus() -> None:
    """A device whose ancestor has no CPU at all, but a node: the CPUs near that node are the device's."""
    machine, gpus = with_devices(synthetic("pack:2 numa:1 core:2 pu:1"), device(1, "", nodes="2"))
    machine = replace(machine, numa_nodes=(*machine.numa_nodes, NumaNode(2, CpuSet(), CpuSet("2-3"))))
    assert told(locate(machine, gpus)) == [(1, "hwloc")]


def test_near_cpus_of_no_node_it_is_near_the_nodes_of_their_package() -> None:
    """A Threadripper 2990WX has dies without memory: a GPU there is near the other dies of the package."""
    machine, gpus = with_devices(synthetic("pack:2 numa:2 core:2 pu:1"), device(1, "2-3"))
    machine = replace(machine, numa_nodes=tuple(node for node in machine.numa_nodes if node.os_index != 1))
    assert told(locate(machine, gpus)) == [(0, "hwloc")]


def test_near_cpus_that_are_all_offline_it_has_no_cpu() -> None:
    """The object's CPUs are known and none is there: no question of not knowing where it is."""
    machine, gpus = with_devices(synthetic(FOUR_NODES), device(1, "100-107"))
    (locality,) = locate(machine, gpus)
    with pytest.raises(NoAllowedCpusError, match="near CPUs 100-107"):
        raise locality.error  # type: ignore[misc]


def test_a_stated_node_goes_before_everything_else() -> None:
    """A node that somebody states is taken as it is; one that has no CPUs or is not there is an error that lists those."""
    machine, (gpu,) = with_devices(synthetic(FOUR_NODES), device(1, "0-3"))
    assert told(locate(machine, [replace(gpu, numa_node=3)])) == [(3, "given")]
    (locality,) = locate(machine, [replace(gpu, numa_node=7)])
    with pytest.raises(UnknownLocalityError, match=r"node 7, which does not exist in .*nodes with CPUs are 0, 1, 2, 3"):
        raise locality.error  # type: ignore[misc]


@pytest.mark.parametrize(
    ("near", "affinity", "expected"),
    [
        ("0-7", "4-7", (1, "nvml")),  # one of the package's two nodes
        ("0-7", "8-11", (0, "hwloc-spread")),  # contradicts the topology: not believed
        ("0-7", "", (0, "hwloc-spread")),  # already cut to a cgroup that has nothing near
        ("0-7", "0-15", (0, "hwloc-spread")),  # everything, which says nothing
        ("0-15", "12-15", (3, "nvml")),  # the topology knows nothing
        ("4-7", "8-11", (1, "hwloc")),  # the topology knows the node
    ],
)
def test_the_drivers_cpus_decide_where_the_topology_cannot(near: str, affinity: str, expected: tuple[int, str]) -> None:
    """NVML's CPU affinity picks among the nodes that the topology leaves open, and never overrules it."""
    machine, (gpu,) = with_devices(synthetic(FOUR_NODES), device(1, near))
    assert told(locate(machine, [replace(gpu, cpu_affinity=CpuSet(affinity))])) == [expected]


def test_an_nccl_file_decides_where_the_topology_cannot() -> None:
    """As NVML does; and NVML goes first."""
    machine, gpus = with_devices(synthetic(FOUR_NODES), device(1, "0-15", is_near_root=True), device(2, "0-7"))
    nodes = {"0000:01:00.0": 2, "0000:02:00.0": 1}
    assert told(locate(machine, gpus, nccl_nodes=nodes)) == [(2, "nccl"), (1, "nccl")]
    known = replace(gpus[0], cpu_affinity=CpuSet("0-3"))
    assert told(locate(machine, [known], nccl_nodes=nodes)) == [(0, "nvml")]
    assert told(locate(machine, gpus[:1], nccl_nodes={"0000:01:00.0": 9})) == ["UnknownLocalityError"]


def test_an_affinity_of_all_cpus_of_a_cgroup_says_nothing() -> None:
    """The driver cuts its mask to the cgroup: of what is left it cannot tell near from far."""
    machine, (gpu,) = with_devices(synthetic(FOUR_NODES), device(1, "0-15", is_near_root=True))
    cut = machine.narrowed(CpuSet("0-3"))
    assert told(locate(cut, [replace(gpu, cpu_affinity=CpuSet("0-3"))])) == ["UnknownLocalityError"]
    assert told(locate(cut, [replace(gpu, cpu_affinity=CpuSet("0-2"))])) == [(0, "nvml")]


def test_a_plan_goes_by_an_nccl_file_or_by_torchs_node_zero() -> None:
    """Of two GPUs below the whole machine the file knows one; on request the other is on node 0."""
    near = [device(number, "0-15", is_near_root=True) for number in (1, 2)]
    machine, gpus = with_devices(synthetic(FOUR_NODES), *near)
    nodes = {"0000:01:00.0": 2}
    strict = make_plan(machine, gpus, NumaOptions("node"), nccl_nodes=nodes)
    assert [(str(binding.cpuset), binding.error is None) for binding in strict] == [("8-11", True), ("", False)]
    assert [binding.locality for binding in strict] == ["nccl", ""]
    made = make_plan(machine, gpus, NumaOptions("node", unknown_locality="node0"), nccl_nodes=nodes)
    assert [(str(binding.cpuset), binding.locality) for binding in made] == [("8-11", "nccl"), ("0-3", "node0")]


def test_a_rank_with_gpus_of_several_sources_names_them_all() -> None:
    """In the order of its GPUs, each once."""
    machine, gpus = with_devices(synthetic(FOUR_NODES), *[device(number, "4-7") for number in (1, 2, 3)])
    stated = [replace(gpus[0], numa_node=0), *gpus[1:], Gpu(3, numa_node=2)]
    (binding,) = make_plan(machine, stated, NumaOptions("node", gpus_per_rank=4))
    assert binding.locality == "given+hwloc"
    assert str(binding.cpuset) == "0-11"


def test_a_gpu_whose_cpus_are_offline_goes_to_the_first_node_with_some_on_request() -> None:
    """No node is its own, so none is nearer than another."""
    machine, gpus = with_devices(synthetic(FOUR_NODES), device(1, "100-107"))
    made = make_plan(machine.narrowed(CpuSet("4-15")), gpus, NumaOptions("node", no_allowed_cpus="nearest"))
    assert str(made[0].cpuset) == "4-7"
    assert made.warnings == (
        "rank 0 has no CPU near its GPU: none there may be used, and node 1 is the nearest with some",
    )


def test_the_kernels_node_of_memory_is_near_cpus_that_libhwloc_or_the_distances_tell() -> None:
    """The kernel's word counts for the GPU that it names alone, and where its node is one that there is."""
    machine, gpus = with_devices(
        synthetic("pack:4 numa:1 core:2 pu:1"), *[device(n, "0-7", is_near_root=True) for n in (1, 2)]
    )
    rows = (
        (10, 20, 20, 20, 20),
        (20, 10, 20, 20, 12),
        (20, 20, 10, 20, 20),
        (20, 20, 20, 10, 12),
        (20, 12, 20, 12, 10),
    )
    named = replace(machine, device_nodes=((gpus[0].pci_address, 4),))
    for near, distances, expected in (
        ("4-5", Distances((0, 1, 2, 3, 4), rows), (2, "sysfs")),
        ("", Distances((0, 1, 2, 3, 4), rows), (1, "sysfs")),  # the first of two that are as near
        ("", Distances(), "UnknownLocalityError"),
        ("0-7", Distances(), "UnknownLocalityError"),
    ):
        nodes = (*machine.numa_nodes, NumaNode(4, CpuSet(), CpuSet(near)))
        made = replace(named, numa_nodes=nodes, distances=distances)
        assert told(locate(made, gpus)) == [expected, "UnknownLocalityError"]
    assert told(locate(named, gpus)) == ["UnknownLocalityError"] * 2  # without node 4


def test_each_gpu_die_of_an_mi250x_is_below_an_l3() -> None:
    """Frontier and LUMI: finer than a node, and not in the order of the nodes."""
    with Topology.from_xml_file(TOPOLOGIES / "frontier_mi250x.xml") as topology:
        machine = topology.machine()
    gpus = TopologyGpus(machine).gpus()
    found = [machine.pci_device(gpu.pci_address or "") for gpu in gpus]
    assert {each.near_type for each in found if each} == {"L3Cache"}
    assert [locality.nodes[0].os_index for locality in locate(machine, gpus)] == [3, 3, 1, 1, 0, 0, 2, 2]


# ---- NCCL topology files -----------------------------------------------------------------------------------------


_SMALL_NCCL = """\
<system version="1">
  <cpu numaid="0"><pci busid="0000:00:16.0"/><pci busid="0000:00:17.0"/></cpu>
  <cpu numaid="1">
    <pci busid="FFFF:FF:01.0" class="0x060400"><pci busid="00000000:00:1A.0" class="0x030200"/></pci>
  </cpu>
  <cpu numaid="-1"><pci busid="0000:00:1b.0"/></cpu>
</system>
"""


def test_an_nccl_files_bus_ids_are_normalised(tmp_path: Path) -> None:
    """Nested devices count, upper case and eight digits of domain are the same address, and numaid -1 tells nothing."""
    path = tmp_path / "topo.xml"
    path.write_text(_SMALL_NCCL, encoding="ascii")
    assert read_nccl_topology(path) == {
        "0000:00:16.0": 0, "0000:00:17.0": 0, "ffff:ff:01.0": 1, "0000:00:1a.0": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<system><cpu numaid='x'/></system>", "numaid is 'x'"),
        ("<system><cpu numaid='0'><pci busid='zz'/></cpu></system>", "busid is 'zz'"),
        ("<topology/>", "no NCCL topology"),
        ("<system>", "not well-formed"),
    ],
)
def test_a_bad_nccl_file_is_refused_with_a_reason(tmp_path: Path, content: str, message: str) -> None:
    """The error names the file and what is wrong with it."""
    path = tmp_path / "bad.xml"
    path.write_text(content, encoding="ascii")
    with pytest.raises(TopologyFileError, match=message):
        read_nccl_topology(path)


def test_a_missing_nccl_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    """As the command line prints it."""
    with pytest.raises(TopologyFileError, match=r"cannot read the NCCL topology file .*none.xml: No such file"):
        read_nccl_topology(tmp_path / "none.xml")


def test_what_is_no_regular_file_is_no_nccl_file(tmp_path: Path) -> None:
    """A FIFO is not waited for, and /dev/zero not read until memory is gone: each is refused at once."""
    os.mkfifo(tmp_path / "fifo")
    for path, what in ((str(tmp_path / "fifo"), "a FIFO"), ("/dev/zero", "a character device"), ("/", "a folder")):
        with pytest.raises(TopologyFileError, match=f"cannot read the NCCL topology file {path}: it is {what}"):
            read_nccl_topology(path)
    (tmp_path / "large").write_bytes(b" " * (5 << 20))
    with pytest.raises(TopologyFileError, match="larger than 4194304 bytes"):
        read_nccl_topology(tmp_path / "large")


_LAUGHS = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"<!DOCTYPE system [<!ENTITY e0 'ha'>{_LAUGHS}]><system>&e9;</system>", "has a DOCTYPE"),
        ('<!DOCTYPE system [<!ENTITY e SYSTEM "/etc/hostname">]><system>&e;</system>', "has a DOCTYPE"),
        ("<system>" + "<pci>" * 100_000, "nests more than 100 elements"),
        ("<\u0085\u202e/>", "not well-formed"),
        ("<a\u00b7\U000e0100/>", "not well-formed|root element is <a\u00b7.*>"),
        (f"<{'a' * 100_000}/>", r"root element is <a{60}…>"),
        (f"<system><cpu numaid='{'9' * 5000}'/></system>", "numaid is '9{60}…'"),
        ("<system><cpu numaid='²'/></system>", "numaid is '²'"),
        (f"<system><cpu numaid='0'><pci busid='{'0' * 5000}'/></cpu></system>", "busid is '0{60}…'"),
    ],
    ids=["laughs", "external", "deep", "controls", "letters", "long tag", "digits", "no digit", "long id"],
)
def test_a_malicious_nccl_file_costs_nothing(tmp_path: Path, content: str, message: str) -> None:
    """Entities are refused before anything is expanded, depth is bounded, and no message is longer than a line."""
    path = tmp_path / "bad.xml"
    path.write_text(content, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(TopologyFileError, match=message) as raised:
        read_nccl_topology(path)
    assert time.process_time() - started < 2
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("name", "nodes_of_gpus"),
    [
        ("Azure__azhpc-images__ndv2-topo", {f"000{n}:00:00.0": (n - 1) // 4 for n in range(1, 9)}),
        ("aws__aws-ofi-nccl__g5.48xl-topo", {f"0000:00:1{n:x}.0": int(n > 9) for n in range(6, 14)}),
        ("oracle-quickstart__oci-hpc__H100-topology", {"0000:0f:00.0": 0}),
    ],
)
def test_published_nccl_files_tell_the_known_nodes(name: str, nodes_of_gpus: dict[str, int]) -> None:
    """What clouds ship for their machines."""
    if not NCCL_FILES.is_dir():
        pytest.skip(f"other people's files are not in {NCCL_FILES}")
    nodes = read_nccl_topology(NCCL_FILES / f"{name}.xml")
    assert {address: nodes[address] for address in nodes_of_gpus} == nodes_of_gpus


def test_every_published_nccl_file_is_read() -> None:
    """NCCL's and RCCL's own, all of them: devices at normalised addresses, on nodes from 0 up."""
    if not NCCL_FILES.is_dir():
        pytest.skip(f"other people's files are not in {NCCL_FILES}")
    files = sorted(NCCL_FILES.glob("*.xml"))
    assert len(files) >= 15
    for path in files:
        nodes = read_nccl_topology(path)
        assert nodes, path.name
        assert all(address == normalize_pci_address(address) for address in nodes)
        assert set(nodes.values()) <= set(range(8))


# ---- a machine whose hypervisor tells no locality, as the command line plans it ----------------------------------


def plan_g5(*more: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON of `hwnuma plan` for an AWS g5.48xlarge."""
    command = [sys.executable, "-m", "hwnuma", "plan", "--topology", str(TOPOLOGIES / "aws_g5_48xlarge.xml")]
    done = subprocess.run([*command, "--format", "json", *more], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def test_without_help_no_rank_is_placed() -> None:
    """Eight errors that say how to help, and status 1."""
    status, data = plan_g5()
    assert status == 1
    assert {row["error"]["type"] for row in data["bindings"]} == {"UnknownLocalityError"}
    assert len(data["bindings"]) == 8


def test_with_an_nccl_file_every_rank_is_placed(tmp_path: Path) -> None:
    """The file tells four GPUs of each node; the plan names it as the source."""
    path = tmp_path / "g5.xml"
    devices = [
        "".join(f'<pci busid="0000:00:1{n:x}.0"/>' for n in numbers) for numbers in (range(6, 10), range(10, 14))
    ]
    path.write_text(
        f'<system version="1"><cpu numaid="0">{devices[0]}</cpu><cpu numaid="1">{devices[1]}</cpu></system>',
        encoding="ascii",
    )
    status, data = plan_g5("--nccl-topo", str(path))
    assert status == 0
    assert [row["nodeset"] for row in data["bindings"]] == ["0"] * 4 + ["1"] * 4
    assert {row["locality"] for row in data["bindings"]} == {"nccl"}


def test_with_stated_nodes_those_ranks_are_placed() -> None:
    """By index and by address; the others keep their error."""
    status, data = plan_g5("--gpu-node", "0=1,0000:00:17.0=0")
    assert status == 1
    assert [row.get("nodeset") for row in data["bindings"]] == ["1", "0"] + [None] * 6
    assert [row.get("locality") for row in data["bindings"][:2]] == ["given", "given"]


def test_with_torchs_rule_all_go_to_node_zero() -> None:
    """Only on request."""
    status, data = plan_g5("--unknown-locality", "node0", "--mode", "exclusive")
    assert status == 0
    assert {row["nodeset"] for row in data["bindings"]} == {"0"}
    assert {row["locality"] for row in data["bindings"]} == {"node0"}


def test_a_source_that_is_not_believed_is_told(machine_of: Callable[[str], Machine]) -> None:
    """The topology precedes NVML's affinities and an NCCL file; where they place a GPU elsewhere, the plan says so."""
    machine = machine_of("dgx_a100_nps4")
    first, second, third, fourth = TopologyGpus(machine).gpus()[:4]
    gpus = [
        replace(first, cpu_affinity=CpuSet("0-15,128-143")),
        replace(second, memory_affinity=NodeSet([5])),
        replace(third, cpu_affinity=CpuSet("16-31"), memory_affinity=NodeSet([1])),
        fourth,
    ]
    made = plan(machine, gpus, "node", nccl_nodes={fourth.pci_address: 2})
    assert [str(binding.nodeset) for binding in made] == ["3", "3", "1", "1"]
    assert [warning.partition(", but ")[2] for warning in made.warnings] == [
        "NVML says that CPUs 0-15,128-143 are near it",
        "NVML says that the memory of NUMA nodes 5 is near it",
        "the NCCL topology file says node 2",
    ]


def test_a_gpus_own_memory_node_is_no_contradiction(machine_of: Callable[[str], Machine]) -> None:
    """On GB200 the driver calls the GPU's own memory near, which says nothing of CPUs."""
    machine = machine_of("gb200_nvl72_tray")
    own = NodeSet(node.os_index for node in machine.numa_nodes if node.subtype == "GPUMemory")
    gpus = [replace(gpu, memory_affinity=own) for gpu in TopologyGpus(machine).gpus()]
    assert plan(machine, gpus, "node").warnings == ()
