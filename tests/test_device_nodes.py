"""hwnuma.hwloc.device_nodes: a GPU on a node of memory alone is on the node of the CPUs near that, here and of a capture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import facts, sysfs
from hwnuma import Gpu, Machine
from hwnuma.hwloc.device_nodes import read_device_nodes
from hwnuma.model import value
from hwnuma.policy.locality import locate
from tests.conftest import load_machine
from tests.processes import answer_of

VARIABLES = {"HWLOC_COMPONENTS": "linux,stop", "HWLOC_THISSYSTEM": "1"}
# With four GPUs and, of each, eight nodes of memory alone from 4, 12, 20 and 28: near CPUs of nodes 0, 1, 2 and 3.
GH200 = "gh200_x4"

# What is known of this system, and of its capture wherever that is loaded.
HERE_AND_THERE = """
import json, os, sys
from hwnuma import AffinityMode, NumaOptions, Topology, TopologyGpus, plan
from hwnuma.captures.collect import facts_of
from hwnuma.captures.document import document_of

def told(machine):
    gpus = TopologyGpus(machine).gpus()
    return {
        mode.value: [[str(each.cpuset), each.locality, str(each.error or "")] for each in plan(machine, gpus, NumaOptions(mode))]
        for mode in AffinityMode
    }

with Topology.from_this_system() as topology:
    here = topology.machine()
    assert here.is_this_system
    document, _ = document_of(topology.export_xml(), facts_of(topology, {}), anonymous=False)
del os.environ["HWLOC_THISSYSTEM"]  # which would hold for that file too
with Topology.from_xml_buffer(document.encode()) as topology:
    there = topology.machine()
assert not there.is_this_system
print(json.dumps([told(here), told(there), [here.device_nodes, there.device_nodes], str(here.digest) == str(there.digest)]))
"""


def _described(name: str, folder: Path, numa_nodes: list[int]) -> Path:
    """The files of a fixture machine whose GPUs are on other nodes."""
    described = facts.describe(facts.load(name))
    left = iter(numa_nodes)
    devices = tuple(
        replace(device, numa_node=next(left)) if device.class_id == 0x0302 else device
        for device in described.pci_devices
    )
    root = folder / "machine"
    root.mkdir()
    sysfs.write(replace(described, pci_devices=devices), root)
    return root


def _asked(root: Path) -> list[Any]:
    told, _ = answer_of(HERE_AND_THERE, HWLOC_FSROOT=str(root), **VARIABLES)
    return told


@pytest.mark.slow  # two machines of some ten thousand files
def test_the_nearest_node_with_cpus(memory_path: Path) -> None:
    """In each mode a GPU on its own memory gets what one gets on the node of the CPUs near that memory."""
    (memory_path / "cpus").mkdir()
    expected, *_ = _asked(_described(GH200, memory_path / "cpus", [0, 1, 2, 3]))
    assert [row[1] for row in expected["node"]] == ["hwloc"] * 4
    here, there, nodes, is_digest_equal = _asked(_described(GH200, memory_path, [28, 4, 12, 21]))
    order = [3, 0, 1, 2]
    for mode, rows in expected.items():
        assert [row[0] for row in here[mode]] == [rows[node][0] for node in order]
    assert {row[1] for row in here["exclusive"]} == {"sysfs"}
    assert there == here
    assert nodes[0] == nodes[1] == [[f"00{domain}9:01:00.0", node] for domain, node in enumerate([28, 4, 12, 21])]
    assert is_digest_equal


def test_what_the_kernel_does_not_know_stays_unknown(memory_path: Path) -> None:
    """With numa_node -1 nothing is told, and the error says what was tried."""
    here, there, nodes, _ = _asked(_described(GH200, memory_path, [4, -1, 20, 28]))
    assert [row[1] for row in here["node"] if not row[2]] == ["sysfs"] * 3
    assert "numa_node is -1, or a node that no CPUs are near" in here["node"][1][2]
    assert there == here
    assert len(nodes[0]) == 3


def test_better_sources_come_first(topology_machine: Machine) -> None:
    """The driver's CPUs and an NCCL file are of CPUs, and count ahead of a node of memory."""
    devices = tuple(value.replace(each, is_near_root=True) for each in topology_machine.pci_devices)
    machine = value.replace(topology_machine, pci_devices=devices, device_nodes=(("0009:01:00.0", 4),))
    gpu = Gpu(0, "0009:01:00.0")
    of_driver = Gpu(0, "0009:01:00.0", cpu_affinity=topology_machine.cpu_nodes[2].cpuset)
    answers = [
        locate(machine, [gpu]),
        locate(machine, [gpu], nccl_nodes={"0009:01:00.0": 3}),
        locate(machine, [of_driver], nccl_nodes={"0009:01:00.0": 3}),
    ]
    assert [(found.nodes[0].os_index, found.source) for [found] in answers] == [(0, "sysfs"), (3, "nccl"), (2, "nvml")]


@pytest.fixture
def topology_machine() -> Machine:
    """The machine as it is published."""
    return load_machine(GH200)


@pytest.mark.parametrize("content", ["-1\n", "", "x\n", "99999999999999999999\n", None])
def test_a_file_that_says_nothing(content: str | None, memory_path: Path, topology_machine: Machine) -> None:
    """-1, nonsense and no file at all are no node."""
    folder = memory_path / "sys/bus/pci/devices/0009:01:00.0"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "numa_node").write_text(content)
    devices = [value.replace(each, is_near_root=True) for each in topology_machine.pci_devices]
    assert read_device_nodes(devices, topology_machine.numa_nodes, str(memory_path)) == ()


def test_nothing_is_read_where_all_nodes_have_cpus(memory_path: Path, topology_machine: Machine) -> None:
    """There libhwloc knows of every device what the kernel knows."""
    folder = memory_path / "sys/bus/pci/devices/0009:01:00.0"
    folder.mkdir(parents=True)
    (folder / "numa_node").write_text("1\n")
    devices = [value.replace(each, is_near_root=True) for each in topology_machine.pci_devices]
    assert read_device_nodes(devices, topology_machine.numa_nodes, str(memory_path)) == (("0009:01:00.0", 1),)
    assert read_device_nodes(devices, topology_machine.cpu_nodes, str(memory_path)) == ()
