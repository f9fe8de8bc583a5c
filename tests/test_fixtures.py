"""fixtures/: what libhwloc wrote for each machine is what the published facts say of it.

The expectations are read from the TOML file alone, not worked out by the code that generates the XML.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fixtures import generate, sysfs
from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.machine import Cache, Core, Distances, Machine, NumaNode, Package, PciDevice
from tests.every_machine import quick_few

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = sorted(path.stem for path in (FIXTURES / "machines").glob("*.toml"))

# What the project promises to have.
PROMISED = {
    "dgx_a100_nps4", "dgx_h100", "dgx1_v100", "dgx2_v100", "hgx_h100_epyc9654",
    "epyc7763_nps1_smt1", "epyc7763_nps1_smt2", "epyc7763_nps4_smt1", "epyc7763_nps4_smt2",
    "gb200_nvl72_tray", "gh200_x4", "gigabyte_g593_h200_snc4", "azure_nd96asr_a100_v4",
    "frontier_mi250x", "mi300x_8_xeon8480", "oci_bm_gpu_b4_8_a100", "slurm_cut_a100_pcie8",
    "aws_p5en_48xlarge", "aws_p6_b200_48xlarge", "azure_nd96isr_h100_v5", "oci_bm_gpu_h100_8", "hgx_h100_roce_bond",
}  # fmt: skip

every_machine = pytest.mark.parametrize("name", quick_few(NAMES))


@dataclass
class Object:
    """An object of the XML, with its ancestor that is no I/O object."""

    kind: str
    attributes: Mapping[str, str]
    ancestor: Object | None
    infos: dict[str, str] = field(default_factory=dict)

    @property
    def os_index(self) -> int:
        return int(self.attributes["os_index"])

    def cpus(self, which: str = "cpuset") -> CpuSet:
        return CpuSet.from_mask(_mask(self.attributes[which]))

    def nodes(self, which: str = "nodeset") -> NodeSet:
        return NodeSet.from_mask(_mask(self.attributes[which]))


def _mask(text: str) -> int:
    """Read hwloc's mask form, in which a word of zeros can be left empty."""
    mask = 0
    for word in text.split(","):
        mask = mask << 32 | int(word or "0", 16)
    return mask


def _walk(element: ET.Element, ancestor: Object | None) -> Iterator[Object]:
    found = Object(element.attrib["type"], element.attrib, ancestor)
    found.infos = {info.attrib["name"]: info.attrib["value"] for info in element.findall("info")}
    yield found
    below = ancestor if found.kind in {"Bridge", "PCIDev", "OSDev"} else found
    for child in element.findall("object"):
        yield from _walk(child, below)


@cache
def facts_of(name: str) -> dict[str, Any]:
    return tomllib.loads((FIXTURES / "machines" / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def document_of(name: str) -> ET.Element:
    return ET.parse(FIXTURES / "topologies" / f"{name}.xml").getroot()


@cache
def objects_of(name: str) -> tuple[Object, ...]:
    root = document_of(name).find("object")
    assert root is not None
    return tuple(_walk(root, None))


def of_kind(name: str, kind: str) -> list[Object]:
    return [each for each in objects_of(name) if each.kind == kind]


def all_cpus(facts: Mapping[str, Any]) -> CpuSet:
    return union(CpuSet(node["cpus"]) for node in facts["nodes"])


def numbers(text: str) -> set[int]:
    return set(NodeSet(text))


def test_promised_machines_are_there() -> None:
    """Every machine that the project promises has facts, and each machine with facts has a topology."""
    assert PROMISED - set(NAMES) == set()
    assert {path.stem for path in (FIXTURES / "topologies").glob("*.xml")} == set(NAMES)


@every_machine
def test_facts_name_their_source(name: str) -> None:
    """Each file says what the machine is, what is special about it, where the facts are from and what is assumed."""
    facts = facts_of(name)
    assert facts["title"]
    assert facts["special"]
    assert facts["sources"]
    assert isinstance(facts["assumed"], list)


@every_machine
def test_nothing_of_the_generating_machine_is_in_it(name: str) -> None:
    """The machine's infos are the board, the operating system and the cgroup of the facts, and nothing else."""
    facts = facts_of(name)
    expected = {
        "Backend": "Linux",
        "OSName": "Linux",
        "Architecture": facts["processor"].get("architecture", "x86_64"),
    }
    if "board_name" in facts:
        expected["DMIBoardName"] = facts["board_name"]
    if "allowed" in facts:
        expected["LinuxCgroup"] = "/job"
    # What libhwloc concludes from the memory sizes.
    expected_or_concluded = expected | {"MemoryTiersNr": objects_of(name)[0].infos.get("MemoryTiersNr")}
    assert expected.items() <= objects_of(name)[0].infos.items() <= expected_or_concluded.items()


@every_machine
def test_pus(name: str) -> None:
    """The PUs are exactly the CPUs of the nodes; offline CPUs are known but are no PUs."""
    facts, machine = facts_of(name), objects_of(name)[0]
    assert CpuSet(pu.os_index for pu in of_kind(name, "PU")) == all_cpus(facts)
    assert machine.cpus() == all_cpus(facts)
    assert machine.cpus("complete_cpuset") == all_cpus(facts) | CpuSet(facts["cores"].get("offline", ""))


@every_machine
def test_allowed(name: str) -> None:
    """The allowed CPUs and nodes are the cgroup's where there is one, and all others everywhere else."""
    facts, machine = facts_of(name), objects_of(name)[0]
    every_node = NodeSet(node.os_index for node in of_kind(name, "NUMANode"))
    allowed = facts.get("allowed", {"cpus": str(all_cpus(facts)), "nodes": str(every_node)})
    assert machine.cpus("allowed_cpuset") == CpuSet(allowed["cpus"])
    assert machine.nodes("allowed_nodeset") == NodeSet(allowed["nodes"])


@every_machine
def test_packages(name: str) -> None:
    """Each package has the CPUs of its nodes."""
    expected: dict[int, CpuSet] = {}
    for node in facts_of(name)["nodes"]:
        expected[node["package"]] = expected.get(node["package"], CpuSet()) | CpuSet(node["cpus"])
    assert {package.os_index: package.cpus() for package in of_kind(name, "Package")} == expected


@every_machine
def test_numa_nodes(name: str) -> None:
    """The nodes with CPUs have those CPUs, and all nodes have their memory, empty ones included."""
    facts = facts_of(name)
    found = {node.os_index: node for node in of_kind(name, "NUMANode")}
    memory = {node["index"]: node["memory_mib"] << 20 for node in [*facts["nodes"], *facts.get("memory_nodes", [])]}
    memory |= dict.fromkeys(numbers(facts.get("empty_nodes", "")), 0)
    assert {index: int(node.attributes.get("local_memory", "0")) for index, node in found.items()} == memory
    for node in facts["nodes"]:
        assert found[node["index"]].cpus() == CpuSet(node["cpus"])


@every_machine
def test_memory_nodes(name: str) -> None:
    """A node of GPU memory is marked so, names its GPU, and is near the CPUs of the node that the GPU is on."""
    facts = facts_of(name)
    found = {node.os_index: node for node in of_kind(name, "NUMANode")}
    cpus = {node["index"]: CpuSet(node["cpus"]) for node in facts["nodes"]}
    expected = {node["index"] for node in facts.get("memory_nodes", [])}
    assert {index for index, node in found.items() if node.attributes.get("subtype") == "GPUMemory"} == expected
    for node in facts.get("memory_nodes", []):
        gpu = facts["gpus"][node["gpu"]]
        assert found[node["index"]].infos["PCIBusID"] == gpu["address"]
        assert found[node["index"]].cpus() == cpus[gpu["node"]]


@every_machine
def test_distances(name: str) -> None:
    """A node's distance to itself is 10, and to any other what the last rule about the two says, both ways."""
    facts = facts_of(name)
    element = next(each for each in document_of(name).iter("distances2") if each.attrib["name"] == "NUMALatency")
    nodes = [int(word) for each in element.findall("indexes") for word in (each.text or "").split()]
    values = [int(word) for each in element.findall("u64values") for word in (each.text or "").split()]
    expected = {(node, node): 10 for node in nodes}
    for some, others, distance in facts["distances"]:
        for one in numbers(some):
            for other in numbers(others) - {one}:
                expected[one, other] = expected[other, one] = distance
    pairs = [(one, other) for one in nodes for other in nodes]
    assert dict(zip(pairs, values, strict=True)) == expected


@every_machine
def test_cores(name: str) -> None:
    """Each core has the threads that the rule of the facts gives it, less those that are offline."""
    facts = facts_of(name)
    threads, stride, online = facts["cores"]["threads"], facts["cores"].get("stride", 1), all_cpus(facts)
    found = [core.cpus() for core in of_kind(name, "Core")]
    assert union(found) == online
    assert sum(len(core) for core in found) == len(online)
    for core in found:
        assert core == CpuSet(core.first + stride * thread for thread in range(threads)) & online


@every_machine
def test_last_level_caches(name: str) -> None:
    """The L3s divide the CPUs, each has its number of cores, and all these cores are of one package."""
    facts = facts_of(name)
    cores = [core.cpus() for core in of_kind(name, "Core")]
    packages = [package.cpus() for package in of_kind(name, "Package")]
    caches = of_kind(name, "L3Cache")
    assert len(caches) * facts["cores"]["per_l3"] == len(cores)
    assert sum(len(cache.cpus()) for cache in caches) == len(all_cpus(facts))
    for found in caches:
        assert sum(core <= found.cpus() for core in cores) == facts["cores"]["per_l3"]
        assert any(found.cpus() <= package for package in packages)
        assert int(found.attributes["cache_size"]) == facts["cache_kib"]["l3"] * 1024


@every_machine
def test_pci_devices(name: str) -> None:
    """All PCI devices are there, with class, vendor and device, displays of the BMC and network devices included."""
    facts = facts_of(name)
    expected = {gpu["address"]: "{class} [{id}]".format_map(facts["gpu_model"]) for gpu in facts.get("gpus", [])}
    expected |= {device["address"]: "{class} [{id}]".format_map(device) for device in facts["other_pci"]}
    devices = of_kind(name, "PCIDev")
    found = {
        device.attributes["pci_busid"]: device.attributes["pci_type"][: len("0302 [10de:20b0]")] for device in devices
    }
    assert found == expected


@every_machine
def test_pci_locality(name: str) -> None:
    """A device hangs below an object with the CPUs of its node, or of the smaller part that the facts name."""
    facts = facts_of(name)
    cpus = {node["index"]: CpuSet(node["cpus"]) for node in facts["nodes"]} | {-1: all_cpus(facts)}
    found = {}
    for device in of_kind(name, "PCIDev"):
        assert device.ancestor is not None
        found[device.attributes["pci_busid"]] = device.ancestor.cpus()
    gpus = {
        gpu["address"]: CpuSet(gpu["near"]) if "near" in gpu else cpus[gpu["node"]] for gpu in facts.get("gpus", [])
    }
    assert {address: found[address] for address in gpus} == gpus
    for device in facts["other_pci"]:
        near = CpuSet(device["near"]) if "near" in device else cpus[device["node"]]
        assert found[device["address"]] == near, device


@every_machine
def test_gpu_is_within_its_node(name: str) -> None:
    """The part of a node that a GPU is said to be near lies within that node."""
    facts = facts_of(name)
    cpus = {node["index"]: CpuSet(node["cpus"]) for node in facts["nodes"]} | {-1: CpuSet()}
    for gpu in facts.get("gpus", []):
        assert CpuSet(gpu.get("near", "")) <= cpus[gpu["node"]]


def _bridges_above(element: ET.Element, above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each PCI device below an element of the XML with the bridges above it, the host bridge's among them."""
    for child in element.findall("object"):
        is_bridge = child.attrib["type"] == "Bridge"
        if child.attrib["type"] == "PCIDev":
            yield child.attrib["pci_busid"], above
        yield from _bridges_above(child, (*above, child.attrib.get("pci_busid", "host")) if is_bridge else above)


@every_machine
def test_bridges(name: str) -> None:
    """Each device is below the bridges that the facts name, in their order, and below one host bridge."""
    facts = facts_of(name)
    devices = [*facts.get("gpus", []), *facts["other_pci"]]
    expected = {
        device["address"]: (
            "host",
            *(f"{device['address'][:4]}:{bridge}" for bridge in device.get("below", "").split()),
        )
        for device in devices
    }
    assert dict(_bridges_above(document_of(name))) == expected


@every_machine
def test_network_devices(name: str) -> None:
    """OpenFabrics devices and interfaces have the names of the facts, are on their cards, and the former tell states."""
    facts = facts_of(name)
    expected_fabrics, expected_interfaces = {}, {}
    for device in facts["other_pci"]:
        nic = facts.get("nic_default", {}) | device.get("nic", {})
        if nic.get("name", "").startswith("mlx5") or nic.get("name", "").startswith("rdma"):
            expected_fabrics[device["address"]] = (nic["name"], nic.get("state", "4: ACTIVE")[0])
        if "interface" in device.get("nic", {}):
            expected_interfaces[device["address"]] = nic["interface"]
    fabrics, interfaces = {}, {}
    for element in document_of(name).iter("object"):
        for child in element.findall("object"):
            infos = {info.attrib["name"]: info.attrib["value"] for info in child.findall("info")}
            if child.attrib.get("osdev_type") == "3":
                fabrics[element.attrib["pci_busid"]] = (child.attrib["name"], infos["Port1State"])
            if child.attrib.get("osdev_type") == "2":
                interfaces[element.attrib["pci_busid"]] = child.attrib["name"]
    assert fabrics.items() >= expected_fabrics.items()
    assert interfaces == expected_interfaces


# ---- the generator ------------------------------------------------------------------------------------------------


def test_generating_again_gives_the_same_file(tmp_path: Path) -> None:
    """The generator is reproducible: written elsewhere, a fixture is the same to the byte, and passes the check."""
    assert generate.main(["--folder", str(tmp_path), "slurm_cut_a100_pcie8"]) == 0
    made = (tmp_path / "slurm_cut_a100_pcie8.xml").read_bytes()
    assert made == (FIXTURES / "topologies/slurm_cut_a100_pcie8.xml").read_bytes()
    assert generate.main(["--folder", str(tmp_path), "--check", "slurm_cut_a100_pcie8"]) == 0


def test_check_names_what_is_not_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check exits 1 and names a file that differs or is missing, and leaves it as it is."""
    stale = tmp_path / "dgx1_v100.xml"
    stale.write_text("<topology/>\n", encoding="utf-8")
    assert generate.main(["--folder", str(tmp_path), "--check", "dgx1_v100"]) == 1
    assert stale.name in capsys.readouterr().out
    assert stale.read_text(encoding="utf-8") == "<topology/>\n"
    stale.unlink()
    assert generate.main(["--folder", str(tmp_path), "--check", "dgx1_v100"]) == 1
    assert stale.name in capsys.readouterr().out


def test_unknown_machine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name without facts is an error of usage that says which names there are."""
    with pytest.raises(SystemExit) as error:
        generate.main(["dgx_x999"])
    assert error.value.code == 2
    assert "dgx_x999" in capsys.readouterr().err


# ---- the tree, as code that reads /sys sees it ----------------------------------------------------------------------


def _sample() -> sysfs.SysfsMachine:
    """Two packages of two cores with two threads, one thread offline; node 2 is memory; one device knows no node."""
    return sysfs.SysfsMachine(
        cores=(
            sysfs.Core(0, 0, CpuSet("0,4")),
            sysfs.Core(1, 0, CpuSet("1,5")),
            sysfs.Core(0, 1, CpuSet("2,6")),
            sysfs.Core(1, 1, CpuSet("3")),
        ),
        caches=(
            sysfs.Cache(1, "Instruction", CpuSet("0,4"), 32768),
            sysfs.Cache(1, "Data", CpuSet("0,4"), 32768),
            sysfs.Cache(3, "Unified", CpuSet("0-1,4-5")),
        ),
        nodes=(
            sysfs.Node(0, CpuSet("0-1,4-5"), 1 << 30),
            sysfs.Node(1, CpuSet("2-3,6")),
            sysfs.Node(2, CpuSet(), 1 << 29),
        ),
        distances=Distances((0, 1, 2), ((10, 20, 30), (20, 10, 40), (30, 40, 10))),
        pci_devices=(
            sysfs.PciFunction("0000:07:00.0", 0x10DE, 0x20B0, 0x0302, numa_node=1),
            sysfs.PciFunction("10000:08:00.0", 0x1A03, 0x2000, 0x0300),
        ),
        offline_cpuset=CpuSet("7"),
        possible_nodeset=NodeSet("0-3"),
        allowed_cpuset=CpuSet("0-1"),
    )


@pytest.fixture(scope="module")
def sample_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's tree, written once; tests only read it."""
    root = tmp_path_factory.mktemp("sysfs")
    sysfs.write(_sample(), root)
    return root


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("system/cpu/online", "0-6"),
        ("system/cpu/possible", "0-7"),
        ("system/cpu/cpu7/online", "0"),
        ("system/cpu/cpu4/topology/physical_package_id", "0"),
        ("system/cpu/cpu4/topology/thread_siblings_list", "0,4"),
        ("system/cpu/cpu3/topology/thread_siblings_list", "3"),
        ("system/cpu/cpu6/topology/package_cpus", "0000004c"),
        ("system/cpu/cpu6/topology/core_id", "0"),
        ("system/cpu/cpu4/cache/index0/type", "Data"),
        ("system/cpu/cpu4/cache/index0/size", "32K"),
        ("system/cpu/cpu4/cache/index1/type", "Instruction"),
        ("system/cpu/cpu4/cache/index2/level", "3"),
        ("system/cpu/cpu4/cache/index2/shared_cpu_list", "0-1,4-5"),
        ("system/node/possible", "0-3"),
        ("system/node/online", "0-2"),
        ("system/node/has_cpu", "0-1"),
        ("system/node/has_memory", "0,2"),
        ("system/node/node1/cpulist", "2-3,6"),
        ("system/node/node1/cpumap", "0000004c"),
        ("system/node/node1/distance", "20 10 40"),
        ("system/node/node2/cpulist", ""),
        ("../bus/pci/devices/0000:07:00.0/numa_node", "1"),
        ("../bus/pci/devices/0000:07:00.0/class", "0x030200"),
        ("../bus/pci/devices/0000:07:00.0/local_cpulist", "2-3,6"),
        ("../bus/pci/devices/10000:08:00.0/numa_node", "-1"),
        ("../bus/pci/devices/10000:08:00.0/local_cpulist", "0-6"),
        ("../fs/cgroup/job/cpuset.cpus.effective", "0-1"),
        ("../fs/cgroup/job/cpuset.mems.effective", "0-2"),
    ],
)
def test_sysfs_file(sample_tree: Path, file: str, content: str) -> None:
    """A file of the tree holds what the kernel would write there for such a machine."""
    assert (sample_tree / "sys/devices" / file).resolve().read_text(encoding="ascii") == f"{content}\n"


def test_offline_cpu_has_no_topology(sample_tree: Path) -> None:
    """As in the kernel, an offline CPU has a folder, but neither topology nor caches in it."""
    assert [path.name for path in (sample_tree / "sys/devices/system/cpu/cpu7").iterdir()] == ["online"]


def test_masks_are_as_wide_as_the_machine(tmp_path: Path) -> None:
    """The kernel writes every mask with as many words as the largest CPU number needs."""
    machine = sysfs.SysfsMachine(
        cores=tuple(sysfs.Core(cpu, 0, CpuSet([cpu])) for cpu in (0, 40)),
        caches=(),
        nodes=(sysfs.Node(0, CpuSet("0,40")),),
    )
    sysfs.write(machine, tmp_path)
    node = tmp_path / "sys/devices/system/node/node0"
    assert (node / "cpumap").read_text(encoding="ascii") == "00000100,00000001\n"
    first = tmp_path / "sys/devices/system/cpu/cpu0/topology/thread_siblings"
    assert first.read_text(encoding="ascii") == "00000000,00000001\n"


def test_from_machine() -> None:
    """A planned-on machine becomes cores of its packages, nodes, caches, and devices with the node they are on."""
    near, all_of_it = CpuSet("2-3"), CpuSet("0-3")
    machine = Machine(
        source="a test",
        is_this_system=False,
        cpuset=all_of_it,
        allowed_cpuset=CpuSet("0-2"),
        allowed_nodeset=NodeSet("0-1"),
        packages=(Package(3, CpuSet("0-1")), Package(7, near)),
        numa_nodes=(NumaNode(0, CpuSet("0-1"), CpuSet("0-1"), 4096), NumaNode(1, near, near, 8192)),
        last_level_caches=(Cache(2, all_of_it),),
        cores=(Core(0, CpuSet("0-1")), Core(0, near)),
        pci_devices=(
            PciDevice("0000:07:00.0", 0x10DE, 0x20B0, 0x0302, "Core", CpuSet("3"), NodeSet("1")),
            PciDevice("0000:08:00.0", 0x10DE, 0x20B0, 0x0302, "Machine", all_of_it, NodeSet("0-1"), is_near_root=True),
        ),
    )
    described = sysfs.from_machine(machine)
    assert described.cores == (sysfs.Core(0, 3, CpuSet("0-1")), sysfs.Core(0, 7, near))
    assert described.nodes == (sysfs.Node(0, CpuSet("0-1"), 4096), sysfs.Node(1, near, 8192))
    assert described.caches == (sysfs.Cache(2, "Unified", all_of_it),)
    assert [device.numa_node for device in described.pci_devices] == [1, -1]
    assert described.allowed_cpuset == CpuSet("0-2")
