"""AMD's GPUs off the kernel's KFD, from sysfs trees made here over the topologies of real machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnuma import GpuNotFoundError, Machine, NumaOptions, Topology, TopologyGpus, plan_here
from hwnuma.captures.anonymous import anonymous_facts
from hwnuma.captures.compared import Look, differences
from hwnuma.captures.document import document_of
from hwnuma.captures.fingerprint import fingerprint_of
from hwnuma.devices.discovery import find_gpus
from hwnuma.devices.kfd import AmdGpus, read_amd_gpus
from hwnuma.launch.job import Job, plan_job
from hwnuma.model.facts import Facts
from hwnuma.model.gpu import Gpu, pci_address_key
from hwnuma.model.value import replace
from hwnuma.testing import FakeMachine
from tests.conftest import TOPOLOGIES
from tests.forked import hwnuma
from tests.processes import clean_environment

MI300X, FRONTIER = "mi300x_8_xeon8480", "frontier_mi250x"
ARROW = "\N{RIGHTWARDS ARROW}"
NODES, FIRST_MINOR = "sys/class/kfd/kfd/topology/nodes", 128


@cache
def there(name: str) -> Machine:
    """A machine, as if it were this system."""
    with Topology.from_xml_file(TOPOLOGIES / f"{name}.xml") as topology:
        return replace(topology.machine(), is_this_system=True)


def addresses(name: str) -> list[str]:
    """The GPUs' addresses, as they are without KFD."""
    return [gpu.pci_address for gpu in TopologyGpus(there(name), "amd").gpus() if gpu.pci_address]


class Tree:
    """What the kernel shows in /sys and /dev: KFD's nodes, the GPUs' modes, and the files by which they are opened."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0
        for _ in range(2):
            self.node("cpu_cores_count 56\nsimd_count 0\ndomain 0\nlocation_id 0")

    def node(self, properties: str) -> Path:
        """Add a node."""
        folder = self.root / NODES / str(self.count)
        folder.mkdir(parents=True)
        (folder / "properties").write_text(properties + "\n")
        self.count += 1
        return folder

    def gpu(self, address: str, partition: int = 0, *, unique: int = 0, high: bool = False, minor: int = 0) -> Path:
        """Add a GPU's node as Linux writes it, or with the partition's number in the high bits as other drivers do."""
        domain, bus, device, function = pci_address_key(address)
        location = bus << 8 | device << 3 | function
        location |= partition << 28 if high else partition
        minor = minor or FIRST_MINOR + self.count
        render = self.root / f"dev/dri/renderD{minor}"
        render.parent.mkdir(parents=True, exist_ok=True)
        render.touch()
        return self.node(
            f"simd_count 152\nlocation_id {location}\ndomain {domain}\ndrm_render_minor {minor}\nunique_id {unique}"
        )

    def partitioned(self, address: str, mode: str, count: int, *, unique: int = 0, high: bool = False) -> None:
        """Add a GPU of so many partitions."""
        for partition in range(count):
            self.gpu(address, partition, unique=unique, high=high)
        folder = self.root / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "current_compute_partition").write_text(f"{mode}\n")

    def told(self, name: str = MI300X) -> AmdGpus:
        """What is read of it."""
        return read_amd_gpus(there(name), str(self.root))

    def found(self, name: str = MI300X, specification: str = "amd", **environment: str) -> list[tuple[int, str | None]]:
        """The visible GPUs, each with its index and address."""
        environment["HWLOC_FSROOT"] = str(self.root)
        found = find_gpus(specification, there(name), environment)
        assert not found.warnings
        return [(gpu.index, gpu.pci_address) for gpu in found.visible]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A system with two nodes of CPUs alone."""
    return Tree(tmp_path)


def in_cpx(tree: Tree, *, high: bool = False) -> None:
    """All eight GPUs of an MI300X machine, in eight partitions each."""
    for place, address in enumerate(addresses(MI300X)):
        tree.partitioned(address, "CPX", 8, unique=0x1234_0000_0000_0000 + place, high=high)


# ---- what is there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [False, True], ids=["in the function", "in the high bits"])
def test_each_partition_is_a_gpu(tree: Tree, *, high: bool) -> None:
    """Sixty-four devices at eight addresses, whichever bits of location_id have the partition's number."""
    in_cpx(tree, high=high)
    told = tree.told()
    assert not told.doubt
    assert [gpu.index for gpu in told.gpus] == list(range(64))
    assert [gpu.pci_address for gpu in told.gpus] == [each for each in addresses(MI300X) for _ in range(8)]
    assert {gpu.compute_partition for gpu in told.gpus} == {"CPX"}
    assert told.gpus[63].uuid == "GPU-1234000000000007"
    assert tree.found() == tree.found(specification="auto") == [(gpu.index, gpu.pci_address) for gpu in told.gpus]


def test_modes_may_differ(tree: Tree) -> None:
    """A machine of which one GPU alone is partitioned."""
    first, second, *rest = addresses(MI300X)
    tree.partitioned(first, "SPX", 1)
    tree.partitioned(second, "DPX", 2)
    for address in rest:
        tree.gpu(address)
    told = tree.told().gpus
    assert [gpu.pci_address for gpu in told] == [first, second, second, *rest]
    assert [gpu.compute_partition for gpu in told] == ["SPX", "DPX", "DPX", *[None] * len(rest)]
    assert {gpu.uuid for gpu in told} == {None}  # their unique_id is 0


def test_variables_choose_among_partitions(tree: Tree) -> None:
    """ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES count partitions, --gpus does too, and UUIDs are known."""
    in_cpx(tree)
    of = addresses(MI300X)
    assert tree.found(HIP_VISIBLE_DEVICES="9,0,63") == [(9, of[1]), (0, of[0]), (63, of[7])]
    assert tree.found(ROCR_VISIBLE_DEVICES="8,16", HIP_VISIBLE_DEVICES="1") == [(16, of[2])]
    assert tree.found(HIP_VISIBLE_DEVICES="GPU-1234000000000003") == [(24, of[3])]
    assert tree.found(specification="6-9") == [(6, of[0]), (7, of[0]), (8, of[1]), (9, of[1])]
    with pytest.raises(GpuNotFoundError, match="leaves none of the 64 GPUs visible"):
        tree.found(ROCR_VISIBLE_DEVICES="GPU-1234000000000003")


def test_the_order_is_that_of_the_nodes(tree: Tree) -> None:
    """By number and not by name ("10" is behind "9"), whatever the order of the addresses."""
    reverse = addresses(FRONTIER)[::-1]
    for _ in range(6):
        tree.node("simd_count 0")
    for address in reverse:
        tree.gpu(address)
    assert tree.found(FRONTIER) == list(enumerate(reverse))
    assert tree.found(FRONTIER, HIP_VISIBLE_DEVICES="1") == [(1, reverse[1])]


def test_a_node_is_divided_among_partitions(tree: Tree) -> None:
    """As among addresses that are repeated by hand: the plan is the same."""
    in_cpx(tree)
    by_hand = ",".join(each for each in addresses(MI300X) for _ in range(8))
    plans = [
        plan_job(there(MI300X), Job(NumaOptions("exclusive"), gpus, environment={"HWLOC_FSROOT": str(tree.root)}))
        for gpus in ("amd", "auto", by_hand)
    ]
    rows = [[(each.local_rank, each.cpuset) for each in plan.bindings] for plan in plans]
    assert rows[0] == rows[1] == rows[2]
    assert len({cpus for _, cpus in rows[0]}) == 64


def _run(*words: str, **environment: str) -> str:
    done = hwnuma(words, clean_environment(**environment))
    assert done.returncode == os.EX_OK, done.stderr
    return done.stdout


def _here(tree: Tree) -> dict[str, str]:
    """Variables by which this system is an MI300X machine's."""
    file = str(TOPOLOGIES / f"{MI300X}.xml")
    return {"HWLOC_XMLFILE": file, "HWLOC_THISSYSTEM": "1", "HWLOC_FSROOT": str(tree.root)}


# ---- what is hidden ----------------------------------------------------------------------------------------------------


def test_a_container_with_some_files(tree: Tree) -> None:
    """Without their /dev/dri/renderD*, GPUs do not count, and the others are numbered from 0, as ROCm does."""
    in_cpx(tree)
    for render in (tree.root / "dev/dri").iterdir():
        if int(render.name.removeprefix("renderD")) not in {FIRST_MINOR + 2 + 5, FIRST_MINOR + 2 + 8}:
            render.unlink()
    of = addresses(MI300X)
    assert tree.found() == [(0, of[0]), (1, of[1])]
    assert tree.found(HIP_VISIBLE_DEVICES="1") == [(1, of[1])]


def test_a_container_whose_cgroup_denies_some(tree: Tree) -> None:
    """Nodes that cannot be read count for nothing."""
    first, second, *_ = addresses(MI300X)
    _deny(tree.gpu(first))
    tree.gpu(second)
    tree.gpu(second, 1)
    assert tree.found() == [(0, second), (1, second)]


def _deny(node: Path) -> None:
    # What the superuser cannot read either: not EPERM, but as good as that to whoever reads.
    (node / "properties").unlink()
    (node / "properties").mkdir()


def test_where_nothing_can_be_opened_all_count(tree: Tree) -> None:
    """A launcher's own container without /dev/dri plans for workers that have it."""
    in_cpx(tree)
    for render in (tree.root / "dev/dri").iterdir():
        render.unlink()
    assert len(tree.found()) == 64


def test_where_all_are_denied_the_topology_counts(tree: Tree) -> None:
    """As without KFD."""
    for address in addresses(MI300X):
        _deny(tree.gpu(address))
    assert tree.told() == AmdGpus()
    assert tree.found() == list(enumerate(addresses(MI300X)))


# ---- without KFD nothing changes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MI300X, FRONTIER])
def test_without_kfd_all_is_as_it_was(tmp_path: Path, name: str) -> None:
    """No /sys/class/kfd, one without nodes, and one of CPUs alone: the topology's GPUs, by address."""
    expected = find_gpus("amd", replace(there(name), is_this_system=False), {})
    for root in (tmp_path / "empty", tmp_path / "no-nodes", tmp_path / "cpus"):
        root.mkdir()
        if root.name == "no-nodes":
            (root / NODES).mkdir(parents=True)
        if root.name == "cpus":
            Tree(root)
        assert find_gpus("amd", there(name), {"HWLOC_FSROOT": str(root)}) == expected


@pytest.mark.parametrize("name", ["dgx_a100_nps4", MI300X])
def test_kfd_is_not_read_where_it_tells_of_another_machine(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nor for NVIDIA's GPUs, nor for a saved topology, nor for GPUs that are named by address."""
    monkeypatch.setattr("hwnuma.devices.kfd._read_nodes", lambda _root: pytest.fail("KFD was read"))
    environment = {"HWLOC_FSROOT": str(tree.root)}
    saved = replace(there(name), is_this_system=False)
    assert find_gpus("auto", saved, environment).all
    assert find_gpus(find_gpus("auto", saved, environment).all[0].pci_address or "", there(name), environment).all
    if name != MI300X:
        assert find_gpus("nvidia", there(name), environment).all


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.sampled_from([MI300X, FRONTIER]), st.text("0123456789,-GPU", max_size=12), st.booleans())
def test_without_facts_of_kfd_nothing_changes(name: str, value: str, is_captured: bool) -> None:
    """Whatever is visible: a machine whose kernel told nothing has the GPUs that its saved topology has."""
    machine = replace(there(name), is_this_system=False)
    answers = []
    for each in (machine, replace(machine, facts=Facts(nvml_error="no driver")) if is_captured else machine):
        try:
            answers.append(find_gpus("amd", each, {"ROCR_VISIBLE_DEVICES": value}).visible)
        except GpuNotFoundError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]


# ---- what cannot be told ---------------------------------------------------------------------------------------------------


def test_a_gpu_that_the_topology_lacks_is_a_doubt(tree: Tree) -> None:
    """In one line that says what was found and what to do, and each GPU is counted once."""
    tree.gpu("0000:c1:00.0")
    found = find_gpus("amd", there(MI300X), {"HWLOC_FSROOT": str(tree.root)})
    assert [gpu.pci_address for gpu in found.visible] == addresses(MI300X)
    assert found.warnings == (
        "of which AMD GPU each of ROCm's devices is cannot be told (the topology has no AMD GPU at 0000:c1:00): each GPU "
        "is counted once; name the PCI addresses as often as they have partitions, in ROCm's order (--gpus A,A,B,B)",
    )


def _functions(numbers: Sequence[int]) -> Machine:
    """A machine with GPUs that are functions of one PCI device."""
    machine = there(MI300X)
    gpu = machine.pci_device(addresses(MI300X)[0])
    assert gpu is not None
    return replace(machine, pci_devices=tuple(replace(gpu, address=f"0000:0c:00.{number}") for number in numbers))


def test_functions_are_told_apart_where_none_has_partitions(tree: Tree) -> None:
    """Virtual functions, one node each."""
    for function in (1, 0):
        tree.gpu(f"0000:0c:00.{function}")
    told = read_amd_gpus(_functions([0, 1]), str(tree.root))
    assert [gpu.pci_address for gpu in told.gpus] == ["0000:0c:00.1", "0000:0c:00.0"]


@pytest.mark.parametrize("is_denied", [False, True])
def test_partitions_of_functions_are_a_doubt(tree: Tree, *, is_denied: bool) -> None:
    """Function 0's second partition looks as function 1's first, even where a third node is not to be seen."""
    tree.gpu("0000:0c:00.0")
    tree.gpu("0000:0c:00.0", 1)
    node = tree.gpu("0000:0c:00.1")
    if is_denied:
        _deny(node)
    told = read_amd_gpus(_functions([0, 1]), str(tree.root))
    assert told.gpus == ()
    assert "2 GPUs are functions of one device, 0000:0c:00" in told.doubt


@pytest.mark.parametrize(
    "text", ["", "simd_count", "simd_count x\n", "simd_count 1\nlocation_id -1\n", "\xff\n", "9" * 9000]
)
def test_files_that_make_no_sense(tree: Tree, text: str) -> None:
    """They are no GPU of this machine's, and no traceback."""
    node = tree.node("")
    (node / "properties").write_bytes(text.encode("latin-1"))
    (tree.root / NODES / "other").mkdir()
    told = tree.told()
    assert told.gpus == ()
    assert bool(told.doubt) == text.startswith("simd_count 1")


def test_a_mode_is_a_word(tree: Tree) -> None:
    """What else may stand in the file is not repeated."""
    address = addresses(MI300X)[0]
    tree.partitioned(address, "\x1b[31m", 1)
    assert [gpu.compute_partition for gpu in tree.told().gpus] == [None]


# ---- captures ----------------------------------------------------------------------------------------------------------


def _captured(facts: Facts, *, anonymous: bool) -> bytes:
    with Topology.from_xml_file(TOPOLOGIES / f"{MI300X}.xml") as topology:
        return document_of(topology.export_xml(), facts, anonymous=anonymous)[0].encode()


def _facts(tree: Tree, **more: object) -> Facts:
    told = tree.told()
    return Facts(amd_gpus=told.gpus, amd_doubt=told.doubt, nvml_error="no driver", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(
    ("value", "expected"),
    [("6,0", [6, 0]), ("GPU-1234000000000003,5", [3, 5]), ("1,GPU-1234", [1]), ("2,GPU-feed", [2])],
)
def test_a_capture_keeps_them(tree: Tree, value: str, expected: list[int], *, anonymous: bool) -> None:
    """The same GPUs are visible by an index or a UUID, whatever the UUIDs are called there."""
    for place, address in enumerate(addresses(MI300X)):
        tree.partitioned(address, "SPX", 1, unique=0x1234_0000_0000_0000 + place)
    document = _captured(_facts(tree, variables=(("ROCR_VISIBLE_DEVICES", value),)), anonymous=anonymous)
    assert (b"1234000000000003" in document) != anonymous
    with Topology.from_xml_buffer(document) as topology:
        machine = topology.machine()
    assert machine.facts is not None
    here = find_gpus("auto", there(MI300X), {"HWLOC_FSROOT": str(tree.root), "ROCR_VISIBLE_DEVICES": value})
    elsewhere = find_gpus("auto", machine, dict(machine.facts.variables))
    assert [gpu.index for gpu in here.visible] == [gpu.index for gpu in elsewhere.visible] == expected
    assert [gpu.pci_address for gpu in here.all] == [gpu.pci_address for gpu in elsewhere.all]


def test_a_doubt_is_kept(tree: Tree) -> None:
    """A capture warns as the machine does."""
    tree.gpu("0000:c1:00.0")
    with Topology.from_xml_buffer(_captured(_facts(tree), anonymous=True)) as topology:
        [warning] = find_gpus("amd", topology.machine(), {}).warnings
    assert warning == tree.told().doubt


def test_stand_ins_have_amds_form(tree: Tree) -> None:
    """ROCm takes at most sixteen digits behind GPU-."""
    in_cpx(tree)
    uuids = {gpu.uuid for gpu in anonymous_facts(_facts(tree)).amd_gpus}
    assert len(uuids) == 8
    assert all(uuid and len(uuid) == len("GPU-") + 16 and "1234" not in uuid for uuid in uuids)


def _look(gpus: Sequence[Gpu]) -> Look:
    return Look(replace(there(MI300X), is_this_system=False, facts=Facts(amd_gpus=tuple(gpus), nvml_error="no driver")))


def test_another_mode_is_told_in_words(tmp_path: Path) -> None:
    """Which GPU, from which mode to which, and how many devices that makes; another UUID is no difference."""
    looks, prints = [], []
    for number, (mode, count) in enumerate([("SPX", 1), ("SPX", 1), ("CPX", 8)]):
        tree = Tree(tmp_path / str(number))
        for place, address in enumerate(addresses(MI300X)):
            tree.partitioned(
                address, *((mode, count) if place == 2 else ("SPX", 1)), unique=0x1000 * (number + 1) + place
            )
        looks.append(_look(tree.told().gpus))
        prints.append(fingerprint_of(_captured(_facts(tree), anonymous=False), "it"))
    assert differences(looks[0], looks[1]) == []
    assert prints[0] == prints[1] != prints[2]
    assert differences(looks[0], looks[2]) == [f"GPU 2: SPX {ARROW} CPX (8 devices)"]
    assert differences(looks[2], looks[0]) == [f"GPU 2: CPX (8 devices) {ARROW} SPX"]


def test_a_capture_that_knew_no_modes_is_no_other_machine(tree: Tree) -> None:
    """Of an earlier hwnuma, say."""
    for address in addresses(MI300X):
        tree.partitioned(address, "SPX", 1)
    assert differences(_look(()), _look(tree.told().gpus)) == []


def test_the_command_captures_and_shows_them(tree: Tree, tmp_path: Path) -> None:
    """What `hwnuma gpus` says there, it says of the capture."""
    in_cpx(tree)
    file = str(tmp_path / "capture.xml")
    environment = {**_here(tree), "HIP_VISIBLE_DEVICES": "3,9"}
    shown = json.loads(_run("gpus", "--format", "json", **environment))
    _run("capture", file, **environment)
    elsewhere = json.loads(_run("gpus", "--format", "json", "--topology", file))
    assert shown["gpus"] == elsewhere["gpus"]
    assert [gpu["index"] for gpu in shown["gpus"] if gpu["visible_as"] is not None] == [3, 9]
    assert len(shown["gpus"]) == 64


@pytest.mark.parametrize("words", [("--gpus", "none", "--ranks", "2"), ("--gpus", "0000:0c:00.0")])
def test_exec_reads_nothing_of_it_unless_asked(tree: Tree, words: Sequence[str]) -> None:
    """No module of KFD's is imported on the way of a rank that has no AMD GPU to find."""
    code = (
        "import sys; from hwnuma.cli.main import main; main(sys.argv[1:]); print('hwnuma.devices.kfd' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "plan", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment(**_here(tree)))
    assert done.stdout.splitlines()[-1] == "False"


def test_a_machine_for_tests_has_them(hwnuma_machine: Callable[..., FakeMachine], tree: Tree, tmp_path: Path) -> None:
    """A captured machine that a process takes for its own has its partitions, and not those of the system it runs on."""
    in_cpx(tree)
    file = tmp_path / "node001.xml"
    file.write_bytes(_captured(_facts(tree), anonymous=False))
    with hwnuma_machine(file):
        assert len(plan_here("node")) == 64
    with hwnuma_machine(MI300X):
        assert len(plan_here("node")) == 8
