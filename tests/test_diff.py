"""`hwnuma diff`: a sentence for each cause, none for what follows from it, and the ranks that are placed otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fixtures import fleet
from hwnuma import CpuSet
from hwnuma.captures.compared import Look, differences, same_memory
from hwnuma.captures.fleet import look_of
from hwnuma.model.facts import Facts, KernelSettings, NvLink, Versions
from hwnuma.model.gpu import Gpu, MigInstance
from hwnuma.model.value import replace
from tests.conftest import TOPOLOGIES
from tests.every_machine import slow_but
from tests.test_cli import run

ARROW = "\N{RIGHTWARDS ARROW}"
DGX = str(TOPOLOGIES / "dgx_a100_nps4.xml")


@cache
def norm() -> Look:
    """A DGX A100 as all of a fleet should be."""
    return look_of(fleet.one_of(fleet.norm(), "node1", noise=False).encode(), "node1")


def template(name: str) -> str:
    """The capture of a machine that is set up otherwise."""
    return fleet.PLANTED[name][0]()


def written(folder: Path, name: str, document: str) -> str:
    """A file with a document; its path."""
    path = folder / name
    path.write_text(document)
    return str(path)


# ---- machines in words ---------------------------------------------------------------------------------------


def test_a_machine_is_like_itself() -> None:
    """And like any with other names, serial numbers, buses, and memory within the tolerance."""
    assert differences(norm(), norm()) == []
    for number in range(9):
        other = look_of(fleet.one_of(fleet.norm(), f"other{number}").encode(), "other")
        assert differences(norm(), other) == []
        assert differences(other, norm()) == []


# Each is a machine that is made up, and captured.
@pytest.mark.parametrize("name", slow_but(("nps1", "smt off"), fleet.PLANTED))
def test_one_cause_is_one_sentence(name: str) -> None:
    """SMT that is off changes every set of CPUs, and another NPS setting every GPU's node: neither is told twice."""
    other = look_of(fleet.one_of(template(name), "other", noise=False).encode(), "other")
    assert differences(norm(), other) == [fleet.PLANTED[name][1]]
    assert len(differences(other, norm())) == 1


def _with_facts(**changes: Any) -> Look:
    look = norm()
    assert look.machine.facts is not None
    return replace(look, machine=replace(look.machine, facts=replace(look.machine.facts, **changes)))


def _gpus(change: Callable[[list[Gpu]], list[Gpu]]) -> tuple[Gpu, ...]:
    assert norm().machine.facts is not None
    return tuple(change(list(norm().machine.facts.gpus)))


def _settings(**changes: Any) -> KernelSettings:
    assert norm().machine.facts is not None
    return replace(norm().machine.facts.kernel_settings, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"affinity": CpuSet("0-15")}, f"256 of 256 {ARROW} 16 of 256 allowed CPUs are in the capturing process's affinity: 0-255 {ARROW} 0-15"),
        ({"kernel_settings": _settings(zone_reclaim_mode=1)}, f"vm.zone_reclaim_mode: 0 (off) {ARROW} 1"),
        ({"kernel_settings": _settings(huge_pages="never")}, f"transparent huge pages: madvise {ARROW} never"),
        ({"kernel_settings": _settings(isolcpus="2-3")}, f"isolcpus= of the kernel's command line: not there {ARROW} 2-3"),
        ({"kernel_settings": _settings(nohz_full="2-3")}, f"nohz_full= of the kernel's command line: not there {ARROW} 2-3"),
        ({"versions": Versions("9", "9", "6.8.0-40-generic", "550.1")}, f"NVIDIA's driver: 570.86.15 {ARROW} 550.1"),
        ({"versions": Versions("9", "9", "6.1.0", "570.86.15")}, f"the kernel: 6.8.0-40-generic {ARROW} 6.1.0"),
        ({"variables": (("CUDA_VISIBLE_DEVICES", "0,1"),)}, None),
        ({"variables": ()}, None),
        ({"gpus": _gpus(lambda gpus: [replace(gpus[0], mig=MigInstance(gpus[0].uuid, 1, 0)), *gpus[1:]])}, f"MIG of GPU 0: off {ARROW} 1 instances (1/0)"),
        ({"gpus": _gpus(lambda gpus: [replace(gpu, index=place) for place, gpu in enumerate(reversed(gpus))])}, "the GPUs are numbered in another order"),
        ({"gpus": _gpus(lambda gpus: [replace(gpus[0], cpu_affinity=CpuSet("0-15")), *gpus[1:]])}, f"CPUs that the driver calls near GPU 0: 48-63,176-191 {ARROW} 0-15"),
        ({"nvlinks": (NvLink("0000:07:00.0", "0000:0f:00.0", 12), NvLink("0000:0f:00.0", "0000:07:00.0", 12))}, f"NVLinks between the GPUs: 0 {ARROW} 12"),
        ({"nccl_nodes": (("0000:07:00.0", 1),)}, "the file of NCCL_TOPO_FILE tells other nodes"),
        ({"device_nodes": (("0000:07:00.0", 9),)}, "the kernel has devices on other nodes of memory alone"),
        ({"gpus": (), "nvml_error": "NVML: no driver"}, "NVIDIA's driver tells no GPUs: NVML: no driver"),
        ({"host": "x", "serials": (), "anonymous": True}, ""),
    ],
)  # fmt: skip
def test_facts_are_compared(changes: dict[str, Any], said: str | None) -> None:
    """Settings, versions, visible devices, MIG, order and affinities of GPUs; not who the machine is."""
    found = differences(norm(), _with_facts(**changes))
    if said is None:
        assert len(found) == 1, found
    elif said:
        assert said in found
    else:
        assert found == []


def test_without_facts_less_is_compared_and_that_is_said() -> None:
    """A topology alone beside a capture is no other machine, but one of which less is known."""
    bare = replace(norm(), machine=replace(norm().machine, facts=None))
    [said] = [each for each in differences(norm(), bare) if "topology alone" in each]
    assert said.startswith("the second is a topology alone")
    assert differences(bare, bare) == []


def test_a_sides_facts_that_are_empty_are_compared() -> None:
    """What is not known on one side is no difference."""
    found = differences(norm(), replace(norm(), machine=replace(norm().machine, facts=Facts(gpus=norm().gpus))))
    assert all("kernel" not in each and "driver:" not in each for each in found)


def test_a_core_that_is_offline_is_named() -> None:
    """With its CPUs, and not once more for its cache and its node."""
    cut = CpuSet("5,133")

    def without(place: Any) -> Any:
        return replace(place, cpuset=place.cpuset - cut)

    machine = norm().machine
    cores = [core for core in machine.cores if core.cpuset.isdisjoint(cut)]
    other = Look(
        replace(
            machine,
            cpuset=machine.cpuset - cut,
            allowed_cpuset=machine.allowed_cpuset - cut,
            cores=tuple(cores),
            numa_nodes=tuple(replace(without(node), near_cpuset=node.near_cpuset - cut) for node in machine.numa_nodes),
            last_level_caches=tuple(map(without, machine.last_level_caches)),
            packages=tuple(map(without, machine.packages)),
        ),
        norm().about,
    )
    found = differences(norm(), other)
    assert found == [f"128 {ARROW} 127 cores", "CPUs online: without CPUs 5,133"]


def _with_machine(**changes: Any) -> Look:
    return Look(replace(norm().machine, **changes), norm().about)


def _nodes(change: Callable[[Any], Any], *, only: int | None = None) -> dict[str, Any]:
    """The nodes, each or one of them changed."""
    nodes = norm().machine.numa_nodes
    return {"numa_nodes": tuple(change(node) if only in (None, node.os_index) else node for node in nodes)}


def _renumbered() -> dict[str, Any]:
    """The siblings of each two cores exchanged: the same CPUs, of other cores."""
    cores = list(norm().machine.cores)
    for place in range(0, len(cores), 2):
        one, other = cores[place].cpuset, cores[place + 1].cpuset
        cores[place] = replace(cores[place], cpuset=CpuSet([one.first, other.last]))
        cores[place + 1] = replace(cores[place + 1], cpuset=CpuSet([other.first, one.last]))
    return {"cores": tuple(cores)}


def _of_four_threads() -> dict[str, Any]:
    """Each two cores as one."""
    cores = norm().machine.cores
    pairs = zip(cores[::2], cores[1::2], strict=True)
    return {"cores": tuple(replace(one, cpuset=one.cpuset | other.cpuset) for one, other in pairs)}


def _far() -> dict[str, Any]:
    distances = norm().machine.distances
    return {"distances": replace(distances, values=tuple(tuple(2 * each for each in row) for row in distances.values))}


def _nics(**changes: Any) -> dict[str, Any]:
    nics = norm().machine.nics
    return {"nics": (replace(nics[0], **changes), *nics[1:])}


SLOW, FAST = CpuSet("0-31,128-159"), CpuSet("32-127,160-255")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_far, f"NUMA distances: 10,12,32 {ARROW} 20,24,64"),
        (lambda: _nodes(lambda node: replace(node, os_index=node.os_index ^ 1)), "the NUMA nodes have other cores, or other numbers"),
        (lambda: {"last_level_caches": tuple(replace(each, level=2) for each in norm().machine.last_level_caches)},
         "the last-level caches are over other cores, or of another level"),
        (lambda: {"last_level_caches": norm().machine.last_level_caches[1:]}, f"32 {ARROW} 31 last-level caches"),
        (_of_four_threads, f"SMT: 2 {ARROW} 4 threads a core"),
        (_renumbered, "CPUs are numbered in another way: other CPUs are of one core"),
        (lambda: {"cpu_kinds": (SLOW, FAST)}, f"1 {ARROW} 2 kinds of cores"),
        (lambda: {"core_speeds": (SLOW, FAST)}, f"1 {ARROW} 2 speeds of cores, as the firmware tells them"),
        (lambda: _nodes(lambda node: replace(node, memory=node.memory // 2), only=3), f"memory of NUMA node 3: 128.0 GiB {ARROW} 64.0 GiB"),
        (lambda: _nics(ports=norm().machine.nics[0].ports * 2), f"ports of NIC {{nic}}: 1 {ARROW} 2"),
        (lambda: _nics(is_virtual_function=True), "NIC {nic} is a virtual function"),
        (lambda: _nics(bond="bond0"), f"the bond of NIC {{nic}}: none {ARROW} bond0"),
        (lambda: _nics(access="no permission"), f"access to NIC {{nic}}: free {ARROW} no permission"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_machines_are_compared(change: Callable[[], dict[str, Any]], said: str) -> None:
    """What is told of packages, nodes, caches, cores, memory and network cards, one cause each."""
    assert said.format(nic=norm().machine.nics[0].name) in differences(norm(), _with_machine(**change()))


def test_other_kinds_of_cores_are_told() -> None:
    """As many kinds, of other cores; and those that are alike are no difference."""
    two, others = _with_machine(cpu_kinds=(SLOW, FAST)), _with_machine(cpu_kinds=(FAST, SLOW))
    assert "the kinds of cores are others'" in differences(two, others)
    assert differences(two, two) == []


def test_gpus_that_are_missing_where_buses_have_shifted_are_told_by_their_nodes() -> None:
    """Their addresses say nothing then."""

    def shifted(address: str) -> str:
        return f"{address[:5]}{int(address[5:7], 16) + 1:02x}{address[7:]}"

    look = _with_facts(gpus=tuple(replace(gpu, pci_address=shifted(gpu.pci_address or "")) for gpu in norm().gpus[:6]))
    devices = tuple(replace(device, address=shifted(device.address)) for device in look.machine.pci_devices)
    look = replace(look, machine=replace(look.machine, pci_devices=devices))
    assert f"8 {ARROW} 6 GPUs: 2 near NUMA node 5 are missing" in differences(norm(), look)


def test_a_driver_that_works_again_is_told() -> None:
    """The other way round, too."""
    said = "NVIDIA's driver tells its GPUs, and did not: NVML: no driver"
    assert said in differences(_with_facts(gpus=(), nvml_error="NVML: no driver"), norm())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(100, 100, True), (100, 98, True), (98, 100, True), (100, 97, False), (0, 100, True), (100, 50, False)],
)
def test_memory_has_a_tolerance(one: int, other: int, same: bool) -> None:
    """Two per cent of the larger; what is not known is the same."""
    assert same_memory(one, other) is same


# ---- the command ---------------------------------------------------------------------------------------------


def test_nps1_against_nps4(tmp_path: Path) -> None:
    """A DGX A100 in either setting: one sentence, and every rank's two places where one mode is asked for."""
    one = written(tmp_path, "nps4.xml", fleet.one_of(fleet.norm(), "a", noise=False))
    other = written(tmp_path, "nps1.xml", fleet.one_of(template("nps1"), "b", noise=False))
    text = run("diff", one, other, "--mode", "exclusive", status=1).stdout
    assert f"8 {ARROW} 2 NUMA nodes (another NPS or SNC setting)" in text
    assert "plans: ranks 0-7 are placed otherwise in exclusive" in text
    assert len([line for line in text.split("\n") if line[:1].isdigit()]) == 1 + 8
    data = json.loads(run("diff", one, other, "--format", "json", status=1).stdout)
    assert (data["schema"], data["kind"], data["same"]) == (1, "machines", False)
    assert data["differences"] == [f"8 {ARROW} 2 NUMA nodes (another NPS or SNC setting)"]
    assert [each["mode"] for each in data["plans"]] == ["node", "socket", "exclusive", "core-complex"]
    assert data["a"] == {
        "source": one,
        "machine": json.loads(run("plan", "--topology", one, "--format", "json").stdout)["machine"],
    }
    change = data["plans"][2]["changes"][0]
    assert (change["local_rank"], change["a"]["cpuset"]) == (0, "48-55,176-183")
    assert change["b"]["cpuset"] != change["a"]["cpuset"]


def test_two_allocations_of_one_machine(tmp_path: Path) -> None:
    """Two cgroups of Slurm's: what each allows, and the ranks whose GPU has lost its CPUs, or got some."""
    machine = fleet.described("slurm_cut_a100_pcie8")
    one = written(tmp_path, "one.xml", fleet.topology_of(machine))
    machine["allowed"] = {"cpus": "28-43,84-99", "nodes": "0-1"}
    other = written(tmp_path, "other.xml", fleet.topology_of(machine))
    text = run("diff", one, other, status=1).stdout
    assert f"32 of 112 {ARROW} 32 of 112 CPUs are allowed: 0-15,56-71 {ARROW} 28-43,84-99\n" in text
    assert text.count("\n") == 5
    assert "plans: ranks 0-7 are placed otherwise in every mode\n" in text


def test_machines_that_differ_may_give_the_same_places(tmp_path: Path) -> None:
    """Half of the memory moves no rank: it says so, in all modes or in the one that is asked for."""
    one = written(tmp_path, "one.xml", fleet.one_of(fleet.norm(), "a", noise=False))
    other = written(tmp_path, "other.xml", fleet.one_of(template("half the memory"), "b", noise=False))
    assert "plans: every rank has the same place in every mode\n" in run("diff", one, other, status=1).stdout
    said = run("diff", one, other, "--mode", "node", status=1).stdout
    assert "plans: every rank has the same place in node\n" in said


def test_a_rank_that_has_a_place_on_one_side_alone_is_told(tmp_path: Path) -> None:
    """With the kind of its error, in the place's column."""
    whole, cut = (fleet.one_of(each, "a", noise=False) for each in (fleet.norm(), template("cgroup")))
    one, other = written(tmp_path, "one.xml", whole), written(tmp_path, "other.xml", cut)
    assert "NoAllowedCpusError" in run("diff", one, other, "--mode", "node", status=1).stdout


def test_nothing_is_said_of_what_is_alike() -> None:
    """As of diff(1): no output, and status 0; JSON says so."""
    done = run("diff", DGX, DGX)
    assert (done.stdout, done.stderr) == ("", "")
    data = json.loads(run("diff", DGX, DGX, "--format", "json").stdout)
    assert (data["same"], data["differences"]) == (True, [])
    assert all(each["same"] and each["changes"] == [] for each in data["plans"])


def test_this_machine_is_the_other_by_default(tmp_path: Path) -> None:
    """It is like its own capture; a DGX is another one."""
    captured = str(tmp_path / "here.xml.gz")
    run("capture", captured)
    assert run("diff", captured).stdout == ""
    assert "B: this system" in run("diff", DGX, status=1).stdout


def test_one_may_be_standard_input() -> None:
    """Not both: it can be read once."""
    with Path(DGX).open("rb") as file:
        done = subprocess.run([sys.executable, "-m", "hwnuma", "diff", DGX, "-"], stdin=file, check=False)
    assert done.returncode == 0
    assert "both A and B are standard input" in run("diff", "-", "-", status=2).stderr


# ---- plans ---------------------------------------------------------------------------------------------------


def planned(folder: Path, name: str, *options: str) -> str:
    """A plan as JSON in a file."""
    return written(folder, name, run("plan", "--format", "json", "--topology", DGX, *options).stdout)


def test_two_plans_are_told_by_their_content(tmp_path: Path) -> None:
    """The mode, the ranks whose places differ, and both places of each."""
    one = planned(tmp_path, "one.json", "--mode", "exclusive")
    other = planned(tmp_path, "other.json", "--mode", "exclusive", "--gpus", "1,0,2-7")
    assert run("diff", one, one).stdout == ""
    text = run("diff", one, other, status=1).stdout
    assert "plans: ranks 0-1 are placed otherwise in exclusive" in text
    data = json.loads(run("diff", one, other, "--format", "json", status=1).stdout)
    assert (data["kind"], data["plans"][0]["ranks"], data["differences"]) == ("plans", [0, 1], [])
    nodes = planned(tmp_path, "nodes.json", "--mode", "node", "--ranks", "4")
    text = run("diff", one, nodes, status=1).stdout
    assert f"mode: exclusive {ARROW} node" in text
    assert "no such rank" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "begins as JSON does, and is none"),
        ("{" * 100_000, "begins as JSON does, and is none"),
        ("{}", "its schema is None, and this hwnuma knows up to 1"),
        ('{"schema": 2}', "its schema is 2"),
        ('{"schema": 1}', "it has no bindings or no mode"),
        ('{"schema": 1, "mode": "node", "bindings": [{}]}', "one of its bindings has no local_rank"),
        ('{"schema": 1, "mode": "node", "bindings": [{"local_rank": 0, "gpus": [1]}]}', "the gpus of local rank 0 are none"),
        ('{"schema": 1, "mode": "node", "bindings": [{"local_rank": 0, "error": 1}]}', "the error of local rank 0 is none"),
        ('{"schema": 1, "mode": "node", "bindings": [{"local_rank": 0, "cpuset": []}]}', "is no text"),
        ("", "is empty"),
        ("<a/>", "no hwloc topology"),
    ],
)  # fmt: skip
def test_what_is_neither_is_refused(content: str, said: str, tmp_path: Path) -> None:
    """In one line, with status 2."""
    error = run("diff", written(tmp_path, "x", content), planned(tmp_path, "plan.json"), status=2).stderr
    assert said in error
    assert error.count("\n") == 1


def test_a_plan_is_no_machine(tmp_path: Path) -> None:
    """One of each cannot be compared."""
    error = run("diff", planned(tmp_path, "plan.json"), DGX, status=2).stderr
    assert "plan.json is a plan, and " in error
    assert "compare two of a kind" in error


def test_what_cannot_be_planned_is_said() -> None:
    """Machines without GPUs are compared all the same; with --ranks, plans too."""
    cpu_only = str(TOPOLOGIES / "epyc7763_nps1_smt2.xml")
    other = str(TOPOLOGIES / "epyc7763_nps4_smt2.xml")
    assert "plans: not compared (" in run("diff", cpu_only, other, status=1).stdout
    text = run("diff", cpu_only, other, "--gpus", "none", "--ranks", "2", status=1).stdout
    assert "plans: ranks 0-1 are placed otherwise in node, socket and exclusive\n" in text


def test_a_machine_that_can_be_planned_beside_one_that_cannot() -> None:
    """Why the first could not."""
    said = run("diff", str(TOPOLOGIES / "epyc7763_nps4_smt2.xml"), DGX, status=1).stdout
    assert "plans: can be planned, and the other cannot (" in said


def test_plans_of_machines_that_are_not_alike_say_so(tmp_path: Path) -> None:
    """Their places cannot be held against each other."""
    other = run("plan", "--format", "json", "--topology", str(TOPOLOGIES / "dgx_h100.xml")).stdout
    text = run("diff", planned(tmp_path, "one.json"), written(tmp_path, "other.json", other), status=1).stdout
    assert "they are plans of machines that are not alike (compare those with hwnuma diff)" in text
