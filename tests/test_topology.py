"""Topology: loading, copying out, closing, and refusing what is no topology, with the real libhwloc."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

from hwnuma import (
    ClosedTopologyError,
    CpuSet,
    HwlocVersionError,
    NodeSet,
    NotThisSystemError,
    Topology,
    TopologyFileError,
)
from hwnuma.captures.document import document_of
from hwnuma.hwloc.library import RUNNING_VERSION, check_version, ffi, read_bitmap
from hwnuma.hwloc.xml import normalized_xml
from hwnuma.model.facts import Facts
from tests.conftest import TOPOLOGIES, synthetic

DGX = TOPOLOGIES / "dgx_a100_nps4.xml"


def test_this_system_is_the_kernels() -> None:
    """The machine that libhwloc finds has the CPUs that the kernel says are online."""
    with Topology.from_this_system() as topology:
        machine = topology.machine()
    assert machine.is_this_system
    assert machine.cpuset == CpuSet(Path("/sys/devices/system/cpu/online").read_text())
    assert machine.allowed_cpuset >= os.sched_getaffinity(0)


def test_a_saved_machine_is_read_whole() -> None:
    """Packages, nodes, caches, cores, distances and PCI devices of a DGX A100 come out with OS indexes."""
    with Topology.from_xml_file(DGX) as topology:
        machine = topology.machine()
    assert not machine.is_this_system
    assert [str(package.cpuset) for package in machine.packages] == ["0-63,128-191", "64-127,192-255"]
    assert [node.os_index for node in machine.numa_nodes] == list(range(8))
    assert str(machine.numa_nodes[3].cpuset) == "48-63,176-191"
    assert len(machine.last_level_caches) == 32
    assert {cache.level for cache in machine.last_level_caches} == {3}
    assert len(machine.cores) == 128
    assert str(machine.cores[1].cpuset) == "1,129"
    assert machine.distances.between(0, 0) == 10
    assert machine.distances.between(0, 7) > 10
    device = machine.pci_device("0000:07:00.0")
    assert (device.vendor_id, device.class_id, str(device.near_cpuset)) == (0x10DE, 0x0302, "48-63,176-191")


def test_what_is_handed_out_outlives_the_topology() -> None:
    """A machine is a value: hashable, comparable, picklable, and whole after the topology is closed."""
    with Topology.from_xml_file(DGX) as topology:
        machine = topology.machine()
        assert topology.machine() is machine
    copy = pickle.loads(pickle.dumps(machine))
    assert copy == machine
    assert hash(copy) == hash(machine)


def test_an_export_reads_back_to_the_same_machine() -> None:
    """What export_xml writes is the machine again, PCI devices and disallowed CPUs included."""
    with Topology.from_xml_file(TOPOLOGIES / "slurm_cut_a100_pcie8.xml") as topology:
        machine, document = topology.machine(), topology.export_xml()
    with Topology.from_xml_buffer(document) as topology:
        again = topology.machine()
    assert again.allowed_cpuset == machine.allowed_cpuset == CpuSet("0-15,56-71")
    assert (again.cpuset, again.pci_devices, again.cores) == (machine.cpuset, machine.pci_devices, machine.cores)


@pytest.mark.parametrize("use", ["machine", "export_xml", "get_thread_cpubind", "is_this_system"])
def test_use_after_close_raises(use: str) -> None:
    """A closed topology says so, instead of reading freed memory; closing twice is harmless."""
    topology = Topology.from_synthetic("pu:2")
    topology.close()
    topology.close()
    with pytest.raises(ClosedTopologyError, match="closed"):
        getattr(topology, use)() if use != "is_this_system" else topology.is_this_system


def test_binding_through_another_machine_is_refused() -> None:
    """Libhwloc would return 0 and do nothing."""
    before = os.sched_getaffinity(0)
    with Topology.from_xml_file(DGX) as topology, pytest.raises(NotThisSystemError, match="dgx_a100"):
        topology.set_cpubind(CpuSet("0"))
    assert os.sched_getaffinity(0) == before


def _close_in_child(topology: Topology) -> None:
    topology.close()
    os._exit(0 if repr(topology).endswith("closed>") else 1)


@pytest.mark.fault("fork", "a process forks with a topology open", "gives a child that frees nothing of it")
def test_a_forked_child_does_not_free_it() -> None:
    """Closing in a child drops the handle there; the parent's stays whole."""
    topology = Topology.from_synthetic("numa:2 core:4 pu:2")
    child = multiprocessing.get_context("fork").Process(target=_close_in_child, args=(topology,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert "HWNUMA" not in topology.export_xml()
    topology.close()


def test_a_topology_itself_does_not_pickle() -> None:
    """The error says what to pickle instead."""
    with Topology.from_synthetic("pu:2") as topology, pytest.raises(TypeError, match="machine"):
        pickle.dumps(topology)


def test_a_memory_node_has_no_cpus() -> None:
    """Libhwloc gives a GPU's memory node the CPUs near it; the kernel, and so a Machine, gives it none."""
    with Topology.from_xml_file(TOPOLOGIES / "gh200_x4.xml") as topology:
        machine = topology.machine()
    assert [node.os_index for node in machine.cpu_nodes] == [0, 1, 2, 3]
    alone = [node for node in machine.numa_nodes if not node.cpuset]
    assert {node.subtype for node in alone} == {"GPUMemory", ""}
    assert all(node.near_cpuset in {owner.cpuset for owner in machine.cpu_nodes} for node in alone)


def test_a_machine_without_core_objects_has_a_core_a_pu() -> None:
    """A topology whose PUs hang in no core: each is a core of its own."""
    assert [str(core.cpuset) for core in synthetic("numa:2 pu:2").cores] == ["0", "1", "2", "3"]


def test_facts_of_another_machine_are_refused() -> None:
    """A capture whose process may use CPUs that the topology does not have was put together by hand."""
    told, _ = document_of(DGX.read_text(), Facts(affinity=CpuSet("500-501")), anonymous=False)
    with (
        Topology.from_xml_buffer(told, source="odd.xml") as topology,
        pytest.raises(TopologyFileError, match=r"saved in odd\.xml make no sense: affinity is CPUs 500-501, and the"),
    ):
        topology.machine()


def test_a_bitmap_that_is_not_there_is_empty() -> None:
    """As libhwloc has them (NULL) for objects without CPUs, such as PCI devices."""
    assert read_bitmap(CpuSet, ffi.NULL) == CpuSet()


def test_narrowing_only_narrows() -> None:
    """Allowed CPUs are cut to a set and never widened by it."""
    machine = synthetic("numa:2 core:2 pu:1").narrowed(CpuSet("1-2,99"))
    assert str(machine.allowed_cpuset) == "1-2"
    assert str(machine.narrowed(CpuSet("0-3")).allowed_cpuset) == "1-2"


GOOD = b'<?xml version="1.0"?><topology version="2.0">' + b'<object type="PU"/></topology>'


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"not xml at all", "not well-formed"),
        (DGX.read_bytes()[:5000], "not well-formed"),
        (gzip.compress(b"<topology/>", mtime=0), "not well-formed"),
        (b"<html><body/></html>", "no hwloc topology"),
        (b'<system version="1"><cpu numaid="0"/></system>', "--nccl-topo"),
        (b'<topology version="2.0"><object type="Machine"/></topology>', "no PU"),
        (GOOD.replace(b'"2.0"', b'"9.1"'), "hwloc 9.1"),
        (GOOD.replace(b'"2.0"', b'"two"'), "'two'"),
        (GOOD, "cannot import"),
    ],
)
def test_what_is_no_topology_is_told_in_a_sentence(
    document: bytes, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every bad document is one error with its reason, and libhwloc prints nothing beside it."""
    with pytest.raises(TopologyFileError, match=reason) as caught:
        Topology.from_xml_buffer(document)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.fault(
    "disk", "a topology file is not there, a folder, or fails as it is read", "gives one line with its name"
)
@pytest.mark.parametrize("path", ["/nowhere/at/all.xml", "/", "/proc/self/mem"])
def test_an_unreadable_file_is_told_with_its_name(path: str) -> None:
    """A missing file, a folder, and a file that cannot be read."""
    with pytest.raises(TopologyFileError, match=path):
        Topology.from_xml_file(path)


@pytest.mark.parametrize("text", ["", "nonsense", "pack:0", "pack:2 core:", "ü:2", "pack:2\0core:2"])
def test_a_bad_synthetic_description_is_refused(text: str) -> None:
    """The description is repeated, with an example of a right one."""
    with pytest.raises(TopologyFileError, match="synthetic"):
        Topology.from_synthetic(text)


def test_the_format_of_hwloc_3_names_the_version_that_is_missing() -> None:
    """Libhwloc 2.9 does not read XML 3.0, and says nothing of use."""
    with pytest.raises(TopologyFileError, match=r"2\.10 or later"):
        normalized_xml(GOOD.replace(b'"2.0"', b'"3.0"'), "x.xml", 0x00020900)
    assert b'version="3.0"' in normalized_xml(GOOD.replace(b'"2.0"', b'"3.0"'), "x.xml", 0x00020B00)


def test_comments_and_quotes_that_libhwlocs_own_parser_refuses_are_read() -> None:
    """Builds without libxml2 fail on a comment ahead of the root element, and on single quotes."""
    document = (
        DGX.read_text().replace("<topology", "<!-- saved by hand -->\n<topology").replace('type="Core"', "type='Core'")
    )
    with Topology.from_xml_buffer(document) as topology:
        assert len(topology.machine().cores) == 128


@pytest.mark.parametrize(("built", "running"), [(0x20B00, 0x20900), (0x20B00, 0x30000), (0x30000, 0x20B00)])
def test_a_wrong_pairing_of_hwlocs_is_refused(built: int, running: int) -> None:
    """An older library than was built against, or one with another ABI."""
    with pytest.raises(HwlocVersionError, match="built against hwloc's API"):
        check_version(built, running)
    check_version(running, running)
    check_version(0x20400, RUNNING_VERSION)


def test_allowed_nodes_are_known() -> None:
    """The nodes whose memory may be used come out beside the CPUs."""
    assert synthetic("numa:4 core:1 pu:1").allowed_nodeset == NodeSet("0-3")
