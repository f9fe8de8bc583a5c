"""hwnuma.model.consistency: a machine that cannot be is refused with both objects named, and an odd one is planned."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import timeit
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwnuma.errors import TopologyFileError, UnknownLocalityError
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Cache, Core, Distances, Machine, NumaNode, Package, PciDevice
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.policy.locality import locate
from hwnuma.policy.planning import make_plan


def machine(**changes: Any) -> Machine:
    """Two packages with a node and an L3 each, of two cores with two threads; with fields of one's own."""
    with Topology.from_synthetic("pack:2 numa:1 l3:1 core:2 pu:2") as topology:
        return replace(topology.machine(), **changes)


def node(number: int, cpus: str) -> NumaNode:
    """A NUMA node that owns these CPUs."""
    return NumaNode(number, CpuSet(cpus), CpuSet(cpus))


def cores(*cpus: str) -> tuple[Core, ...]:
    """Cores with these CPUs each, numbered from 0."""
    return tuple(Core(number, CpuSet(each)) for number, each in enumerate(cpus))


def caches(*cpus: str) -> tuple[Cache, ...]:
    """L3 caches over these CPUs each."""
    return tuple(Cache(3, CpuSet(each)) for each in cpus)


def device(address: str, near: str) -> PciDevice:
    """A GPU below an object with these CPUs."""
    return PciDevice(address, 0x10DE, 0x2330, 0x0302, "Package", CpuSet(near), NodeSet())


_CANNOT_BE: list[tuple[dict[str, Any], str]] = [
    ({"cores": cores("0-1", "1-2", "4-5")}, r"core 0 \(CPUs 0-1\) and core 1 \(CPUs 1-2\) both have CPUs 1"),
    ({"cores": cores("0-1", "2-3", "0-1")}, r"core 0 \(CPUs 0-1\) and core 2 \(CPUs 0-1\) both have CPUs 0-1"),
    ({"cores": cores("0-1", "6-9")}, r"core 1 \(CPUs 6-9\) has CPUs 8-9, and the machine's are 0-7"),
    ({"numa_nodes": (node(0, "0-4"), node(8, "3-7"))}, r"NUMA node 0 .* and NUMA node 8 .* both have CPUs 3-4"),
    (
        {"numa_nodes": (node(0, "0-3"), node(0, "4-7"))},
        r"node 0 \(CPUs 0-3\) and NUMA node 0 \(CPUs 4-7\) have the same",
    ),
    ({"numa_nodes": (node(0, "0-3"), node(1 << 30, "4-7"))}, r"NUMA node 1073741824 \(CPUs 4-7\) can have that number"),
    ({"numa_nodes": (node(-1, "0-3"),)}, r"NUMA node -1 \(CPUs 0-3\)"),
    (
        {"packages": (Package(0, CpuSet("0-3")), Package(1, CpuSet("2-7")))},
        r"package 0 \(CPUs 0-3\) and package 1 \(CPUs 2-7\) both have CPUs 2-3",
    ),
    ({"last_level_caches": caches("0-3", "2-5")}, r"L3 cache \(CPUs 0-3\) and L3 cache \(CPUs 2-5\) overlap"),
    ({"last_level_caches": caches("0-7", "0-3", "3-4")}, r"L3 cache \(CPUs 0-3\) and L3 cache \(CPUs 3-4\) overlap"),
    ({"last_level_caches": caches("8-9")}, r"L3 cache \(CPUs 8-9\) has CPUs 8-9"),
    ({"allowed_cpuset": CpuSet("4-8")}, r"CPUs 4-8 are allowed, and the machine's are 0-7"),
    ({"distances": Distances((0, 1), ((10, 20),))}, r"the distances between 2 NUMA nodes are not 2 rows of 2"),
    ({"distances": Distances((0, 1), ((10, 20), (20,)))}, r"the distances between 2 NUMA nodes"),
]


@pytest.mark.parametrize(("changes", "message"), _CANNOT_BE)
def test_a_machine_that_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    """Whatever the mode, no plan is made: the error names the machine and both objects."""
    wrong = machine(source="by hand", **changes)
    for mode in AffinityMode:
        with pytest.raises(TopologyFileError, match=rf"^by hand describes a machine that cannot be: .*{message}"):
            make_plan(wrong, (Gpu(0, numa_node=0),), NumaOptions(mode))


@pytest.mark.parametrize(
    "changes",
    [
        {"cores": cores("0", "2-3", "4-5", "6-7")},  # CPU 1 is of no core
        {"cores": cores("0-1", "2", "3-4", "5-7")},  # a core that crosses nodes and packages, as some guests have
        {"numa_nodes": (node(0, "0-5"), node(1, "6-7"))},  # a node that crosses packages
        {"numa_nodes": (node(3, "0-3"),)},  # CPUs of no node
        {"numa_nodes": (node(0, "0-3"), node(1, "4-7"), NumaNode(200, CpuSet(), CpuSet("0-3")))},
        {"packages": ()},
        {"packages": (Package(7, CpuSet("0-3")), Package(7, CpuSet("4-7")))},  # machines that were put together
        {"last_level_caches": ()},
        {"last_level_caches": caches("0-7")},
        {"last_level_caches": caches("", "0-1", "3-5")},  # over parts of cores, and one whose CPUs are all offline
        {"last_level_caches": caches("0-1", "0-3", "4-7", "5")},
        {"cores": ()},
        {"allowed_cpuset": CpuSet()},
    ],
)
def test_an_odd_machine_is_planned(changes: dict[str, Any]) -> None:
    """What real machines, guests and containers have is no contradiction, and first cores can be reserved there."""
    odd = machine(**changes).checked()
    for mode in AffinityMode:
        for reserve in (False, True):
            options = NumaOptions(mode, reserve_first_cores=reserve)
            assert len(make_plan(odd, (), options, ranks=2)) == 2


def test_of_nested_caches_the_largest_over_a_cpu_is_its_last_level() -> None:
    """An L2 that is listed within an L3 makes no core complex of its own."""
    nested = machine(last_level_caches=(*caches("0-3", "4-7"), Cache(2, CpuSet("0-1")), Cache(2, CpuSet("2-3"))))
    made = make_plan(nested, (Gpu(0, numa_node=0), Gpu(1, numa_node=0)), NumaOptions("core-complex"))
    assert [str(binding.cpuset) for binding in made] == ["0-3", "0-3"]


def test_an_address_that_two_devices_have_tells_no_place() -> None:
    """Of a disk and a network card with one address, as in a file of hwloc's own tests, no plan needs to know."""
    gpu, disk, card = (device(f"0000:0{bus}:00.0", near) for bus, near in ((3, "0-3"), (4, "0-3"), (4, "4-7")))
    made = machine(source="by hand", pci_devices=(gpu, disk, card))
    assert locate(made, [Gpu(0, gpu.address)])[0].nodes[0].os_index == 0
    [unknown] = locate(made, [Gpu(0, card.address)])
    assert isinstance(unknown.error, UnknownLocalityError)
    assert "two PCI devices have its address, one near CPUs 0-3 and one near CPUs 4-7" in str(unknown.error)
    assert locate(made, [Gpu(0, card.address, numa_node=1)])[0].nodes[0].os_index == 1
    same_place = machine(pci_devices=(disk, replace(disk, device_id=1)))
    assert locate(same_place, [Gpu(0, disk.address)])[0].nodes[0].os_index == 0


@pytest.mark.parametrize(
    ("one", "other", "said"), [("0-1", "4-7", "CPUs 0-1 and one near CPUs 4-7"), ("", "4-7", "CPUs none and one near CPUs 4-7"),
                               ("4-7", "", "CPUs 4-7 and one near CPUs none")],
)  # fmt: skip
def test_the_two_places_of_one_address_are_those_of_its_own_devices(one: str, other: str, said: str) -> None:
    """Whatever devices of lower and higher addresses come ahead of them, and also where one has no CPU near it."""
    twice = [device("0000:04:00.0", near) for near in (one, other)]
    others = [device("0000:05:00.0", "2-3"), device("0000:03:00.0", "6-7")]
    made = machine(pci_devices=(*others, *twice))
    [unknown] = locate(made, [Gpu(0, "0000:04:00.0")])
    assert f"two PCI devices have its address, one near {said}, and neither" in str(unknown.error)


def test_a_core_that_a_file_gives_twice_reaches_no_launcher(tmp_path: Path) -> None:
    """Libhwloc imports such a file without a word; no mask comes out, and the exit status is 2."""
    with Topology.from_synthetic("pack:1 numa:1 l3:1 core:2 pu:1") as topology:
        document = topology.export_xml()
    core = re.search(r'<object type="Core".*?<object type="PU"[^>]*/>\s*</object>', document, re.DOTALL)
    assert core is not None
    numbers = iter(range(100, 200))
    twice = document.replace(core[0], core[0] * 2, 1)
    file = tmp_path / "twice.xml"
    file.write_text(re.sub(r'gp_index="\d+"', lambda _: f'gp_index="{next(numbers)}"', twice))
    command = [sys.executable, "-m", "hwnuma", "plan", "--topology", str(file), "--gpus", "none", "--ranks", "3"]
    done = subprocess.run(
        [*command, "--mode", "exclusive", "--format", "slurm"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "core 0 (CPUs 0) and core 0 (CPUs 0) both have CPUs 0" in done.stderr


def test_a_machine_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is planned and narrowed; and anew where it has travelled to another process."""
    looked_at: list[str] = []
    monkeypatch.setattr("hwnuma.model.machine.check_machine", lambda machine: looked_at.append(machine.source))
    made = machine(source="here")
    for cut in ("0-7", "0-3", "2-3"):
        make_plan(made.narrowed(CpuSet(cut)), (), NumaOptions("node", reserved_cpus=CpuSet("0")), ranks=1)
    assert looked_at == ["here"]
    there = pickle.loads(pickle.dumps(made))
    assert there == made
    assert there.cpu_nodes == made.cpu_nodes
    assert looked_at == ["here", "here"]


def test_the_look_grows_as_the_machine_does() -> None:
    """Sixteen times the CPUs cost some fifteen times as much; 256 times, if it grew as their square."""

    def seconds(description: str) -> float:
        with Topology.from_synthetic(description) as topology:
            made = topology.machine()
        return min(timeit.repeat(lambda: replace(made).checked(), number=5, repeat=5))

    assert seconds("pack:8 numa:8 l3:4 core:8 pu:2") < 100 * seconds("pack:2 numa:4 l3:2 core:8 pu:2")
