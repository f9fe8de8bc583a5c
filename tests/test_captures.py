"""Captures: a file gives elsewhere the plan that the machine gives itself, and tells no more than it is to tell.

The machines are the fixtures, which libhwloc takes for this system (HWLOC_XMLFILE, HWLOC_THISSYSTEM); their GPUs are what
the real nvidia-ml-py hears from the fake driver.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from hwnuma import CpuSet, Machine, NodeSet, OptionError, Topology, TopologyGpus
from hwnuma.captures.document import document_of
from hwnuma.captures.names import file_named
from hwnuma.captures.variables import KEPT
from hwnuma.errors import GpuNotFoundError
from hwnuma.policy.locality import locate
from tests import fake_nvml, forked
from tests.captured_plans import MODES, OPTION_SETS, Task, written
from tests.conftest import TOPOLOGIES, load_machine
from tests.every_machine import MACHINES, slow_but
from tests.fake_nvml import FakeGpu, FakeMig, FakeNvml, made_up_uuid
from tests.processes import clean_environment
from tests.require import require

DGX = "dgx_h100"

# What another machine's environment may have, of which nothing may count.
ELSEWHERE = {
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "LOCAL_WORLD_SIZE": "5",
    "NCCL_TOPO_FILE": "/nowhere/at/all.xml",
}


# ---- scenes: what drivers, launchers and the kernel may tell of a machine --------------------------------------


NONE = CpuSet()


@dataclass(frozen=True)
class Scene:
    """A machine as it is told.

    Attributes:
        nvml: what the driver tells.
        variables: what is set.
        affinity: of the process.
        isolated: the CPUs that the kernel isolates.
    """

    nvml: FakeNvml
    variables: Mapping[str, str]
    affinity: CpuSet
    isolated: CpuSet = NONE


def _fake_gpus(machine: Machine) -> list[FakeGpu]:
    """The NVIDIA GPUs of a machine as the driver lists them, with the CPUs that it calls near."""
    try:
        gpus = TopologyGpus(machine, "nvidia").gpus()
    except GpuNotFoundError:
        return []
    near = [place.nodes[0].cpuset & machine.allowed_cpuset if place.nodes else None for place in locate(machine, gpus)]
    return [FakeGpu(gpu.pci_address or "", cpus=cpus) for gpu, cpus in zip(gpus, near, strict=True)]


def _plain(machine: Machine, _folder: Path) -> Scene:
    """Nothing is set, and all CPUs are this process's."""
    return Scene(FakeNvml(_fake_gpus(machine)), {}, machine.cpuset)


def _mig(machine: Machine, folder: Path) -> Scene:
    """The first GPU is two instances and the second one; on every other machine the job sees the last instance alone."""
    scene, gpus = _plain(machine, folder), _fake_gpus(machine)
    parts = [(gpu, place) for gpu, places in zip(gpus, ((0, 3), (1,)), strict=False) for place in places]
    for gpu in gpus[:2]:
        gpu.mig = [
            FakeMig(place, made_up_uuid("MIG", f"{gpu.pci} {place}"), gpu_instance=place)
            for own, place in parts
            if own is gpu
        ]
    last = made_up_uuid("MIG", f"{parts[-1][0].pci} {parts[-1][1]}") if parts else ""
    variables = {"CUDA_VISIBLE_DEVICES": last} if parts and len(machine.numa_nodes) % 4 else {}
    return replace(scene, nvml=FakeNvml(gpus), variables=variables)


def _order(machine: Machine, folder: Path) -> Scene:
    """Devices are chosen by index and by the beginning of a UUID, in another order, as AMD's and Intel's are."""
    scene = _plain(machine, folder)
    uuids = [gpu.uuid or "" for gpu in scene.nvml.gpus]
    chosen = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join([*uuids[2:3], *uuids[:1]]) or "1,0"}
    return replace(scene, variables={**chosen, "ROCR_VISIBLE_DEVICES": "3,1,0", "HIP_VISIBLE_DEVICES": "1,0"})


def _differs(machine: Machine, folder: Path) -> Scene:
    """The driver has GPUs of two models, by speed, and calls the next GPU's CPUs near, or none; CUDA's order is open."""
    scene, gpus = _plain(machine, folder), _fake_gpus(machine)
    shifted = [FakeGpu(gpu.pci, cpus=after.cpus) for gpu, after in zip(gpus, gpus[1:] + gpus[:1], strict=True)]
    for gpu in shifted[:1]:
        gpu.name, gpu.nodes = "NVIDIA T400", NodeSet([machine.cpu_nodes[-1].os_index])
    for gpu in shifted[3:4]:
        gpu.cpus = CpuSet()
    return replace(scene, nvml=FakeNvml(shifted), variables={"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "0"})


def _narrowed(machine: Machine, folder: Path) -> Scene:
    """A launcher left every second core, the kernel isolates some, and Slurm tells how many tasks there are."""
    cores = [core.cpuset for core in machine.cores]
    affinity = CpuSet(cpu for core in cores[::2] for cpu in core)
    isolated = CpuSet(cpu for core in cores[: len(cores) // 2 : 4] for cpu in core)
    variables = {"LOCAL_WORLD_SIZE": "4", "SLURM_STEP_TASKS_PER_NODE": "4", "CUDA_VISIBLE_DEVICES": "1,0"}
    return replace(_plain(machine, folder), affinity=affinity, isolated=isolated, variables=variables)


def _nccl(machine: Machine, folder: Path) -> Scene:
    """The driver does not work, and NCCL's file says that all GPUs are on the last node."""
    file = folder / "nccl.xml"
    pci = "".join(f'<pci busid="{device.address}"/>' for device in machine.pci_devices)
    file.write_text(f'<system version="1"><cpu numaid="{machine.cpu_nodes[-1].os_index}">{pci}</cpu></system>')
    broken = FakeNvml(errors={"nvmlInit": fake_nvml.VERSION_MISMATCH})
    return replace(_plain(machine, folder), nvml=broken, variables={"NCCL_TOPO_FILE": str(file)})


SCENES: dict[str, Callable[[Machine, Path], Scene]] = {
    "plain": _plain,
    "mig": _mig,
    "order": _order,
    "differs": _differs,
    "narrowed": _narrowed,
    "nccl": _nccl,
}


# The DGX and one other machine in each scene. The whole matrix takes minutes of CPU time.
SOME = dict(
    zip(
        SCENES,
        (
            (DGX, name)
            for name in (
                "gb200_nvl72_tray",
                "azure_nd96isr_h100_v5",
                "mi300x_8_xeon8480",
                "hgx_h100_epyc9654",
                "slurm_cut_a100_pcie8",
                "gh200_x4",
            )
        ),
        strict=True,
    )
)


def _inside(scene: str, name: str, folder: Path) -> Task:
    """Plan on a machine in a scene, and save it in the folder, openly and anonymously."""
    folder.mkdir(parents=True)
    machine = load_machine(name)
    told = SCENES[scene](machine, folder)
    told.nvml.cpus_in_system = machine.cpuset.last + 1
    (folder / "nvml.txt").write_text(told.nvml.text())
    variables: dict[str, str | None] = {
        "LOCAL_WORLD_SIZE": "6",  # for those without GPUs
        **told.variables,
        "HWLOC_XMLFILE": str(TOPOLOGIES / f"{name}.xml"),
        "HWLOC_THISSYSTEM": "1",
        "HWNUMA_FAKE_NVML": str(folder / "nvml.txt"),
    }
    where = {"save": str(folder / "open.xml"), "anonymous": str(folder / "anonymous.xml.gz")}
    return Task(environment=variables, affinity=str(told.affinity), isolated=str(told.isolated), **where)


@dataclass(frozen=True)
class Answers:
    """Of one scene, for each machine its plans by their words: made inside, of its capture, of its anonymous capture."""

    folder: Path
    inside: dict[str, dict[str, str]]
    outside: dict[str, dict[str, str]]
    anonymous: dict[str, dict[str, str]]


def _environment(**more: str) -> dict[str, str]:
    """This process's environment without anything of devices or launchers."""
    return {
        name: value
        for name, value in clean_environment(**more).items()
        if name in more or name not in {*KEPT, "NCCL_TOPO_FILE"}
    }


def _ask(tasks: Sequence[Task], environment: Mapping[str, str]) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.captured_plans"],
        input=written(tasks), capture_output=True, text=True, check=False, env=dict(environment), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _answers(scene: str, names: Sequence[str], folder: Path) -> Answers:
    tasks = [_inside(scene, name, folder / name) for name in names]
    driver = FakeNvml().variables(folder)  # each task has a description of its own in the place of this
    inside = _ask(tasks, _environment(**driver))
    elsewhere = [Task(topology=str(folder / name / "open.xml")) for name in names]
    anonymous = [Task(topology=str(folder / name / "anonymous.xml.gz"), option_sets=[()]) for name in names]
    outside = _ask([*elsewhere, *anonymous], _environment(**ELSEWHERE))
    by_name = [dict(zip(names, each, strict=True)) for each in (inside, outside[: len(names)], outside[len(names) :])]
    return Answers(folder, *by_name)


# So many machines take a process no longer than its start does.
_FEW = 4


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answers]:
    """Give the function that gives a scene's answers for some machines: worked out once, by two processes where they are many."""
    require(fake_nvml.compiler(), "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    fake_nvml.library()

    @cache
    def answers(scene: str, names: tuple[str, ...] = ()) -> Answers:
        folder, names = tmp_path_factory.mktemp(scene), names or SOME[scene]
        if len(names) <= _FEW:
            return _answers(scene, names, folder)
        with ThreadPoolExecutor(2) as executor:
            one, other = executor.map(lambda half: _answers(scene, names[half::2], folder), (0, 1))
        return Answers(folder, one.inside | other.inside, one.outside | other.outside, one.anonymous | other.anonymous)

    return answers


# ---- plans -------------------------------------------------------------------------------------------------------


def _compare(answers: Answers) -> str:
    """Hold all plans against each other; say how many there were."""
    compared, planned = 0, 0
    for name, inside in answers.inside.items():
        assert set(inside) == set(answers.outside[name])
        for words, text in inside.items():
            assert answers.outside[name][words] == text, f"{name} {words}"
            compared += 1
            planned += text.startswith("{")
    assert compared == len(answers.inside) * len(MODES) * len(OPTION_SETS)
    assert planned > compared * 0.7  # the others are errors on both sides
    return f"{compared} plans of {len(answers.inside)} machines, {compared - planned} of them errors"


# A second of a CPU each.
every_scene = pytest.mark.parametrize("scene", slow_but(("plain", "mig"), SCENES))


@every_scene
def test_the_plan_outside_is_the_plan_inside(asked: Callable[..., Answers], scene: str) -> None:
    """In every mode by every set of options: byte for byte, but for `topology`."""
    print(f"\n{scene}: outside is inside: {_compare(asked(scene))}")


@pytest.mark.matrix
@pytest.mark.parametrize("scene", SCENES)
def test_the_plan_outside_is_the_plan_inside_on_every_machine(asked: Callable[..., Answers], scene: str) -> None:
    """The same for every fixture in every scene."""
    print(f"\n{scene}: outside is inside: {_compare(asked(scene, tuple(MACHINES)))}")


@pytest.mark.slow  # all scenes
def test_the_scenes_differ(asked: Callable[..., Answers]) -> None:
    """What a scene tells counts: on the DGX, no two have the same plan."""
    plans = {scene: asked(scene).inside[DGX]["--mode exclusive"] for scene in SCENES}
    assert len(set(plans.values())) == len(SCENES)
    assert [scene for scene, text in plans.items() if "GPU-" not in text and "MIG-" not in text] == ["nccl"]


_UUIDS = re.compile(r"(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]+)*|\b[a-z]{2}x[0-9a-f]{12}\b")


def _numbered(text: str) -> str:
    """A text with each UUID, and each interface that is named by its MAC, replaced by a number in order of appearance."""
    numbers: dict[str, int] = {}
    return _UUIDS.sub(lambda match: f"#{numbers.setdefault(match[0], len(numbers))}", text)


@every_scene
def test_an_anonymous_capture_gives_the_same_plan(asked: Callable[..., Answers], scene: str) -> None:
    """With stand-ins for UUIDs, the same wherever they stood; folders of a message's files are left out."""
    answers = asked(scene)
    for name, plans in answers.anonymous.items():
        assert len(plans) == len(MODES)
        for words, text in plans.items():
            assert _numbered(text) == _numbered(answers.inside[name][words]), f"{name} {words}"


@pytest.mark.parametrize("scene", ["mig", "order"])
def test_an_anonymous_capture_tells_nobody(asked: Callable[..., Answers], scene: str) -> None:
    """No UUID, MAC, GUID, host name or serial number that is in the open capture is in the anonymous one."""
    folder = asked(scene).folder
    secrets_found = 0
    for name in SOME[scene]:
        whole = (folder / name / "open.xml").read_text()
        told = gzip.decompress((folder / name / "anonymous.xml.gz").read_bytes()).decode()
        secrets = set(re.findall(r"(?:GPU|MIG)-[0-9a-f]{8}-[0-9a-f-]+", whole))
        secrets |= set(re.findall(r"\b(?:[0-9a-f]{2}:){5,19}[0-9a-f]{2}\b|\b(?:[0-9a-f]{4}:){3,7}[0-9a-f]{4}\b", whole))
        secrets |= {
            os.uname().nodename,
            *re.findall(r'name="(?:HostName|[A-Za-z]*Serial[A-Za-z]*)" value="([^"{}]+)"', whole),
        }
        assert not [secret for secret in secrets if re.search(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", told)]
        secrets_found += len(secrets)
    assert secrets_found > 3 * len(SOME[scene])


def test_interfaces_named_by_their_mac_are_numbered_and_what_programs_added_is_left_out() -> None:
    """As udev names them; Misc objects and userdata are of whoever has loaded the topology."""
    added = (
        '<object type="Misc" gp_index="9001" name="job of somebody"/><userdata name="note" length="6">secret</userdata>'
    )
    text = (TOPOLOGIES / f"{DGX}.xml").read_text().replace('"ibp24s0"', '"enx00505681aa02"')
    text = text.replace('"ibp41s0f0"', '"enx00505681aa01"')
    inside, end, rest = text.rpartition("</object>")
    told, left_out = document_of(f"{inside}{added}{end}{rest}", None, anonymous=True)
    assert not [word for word in ("00505681aa", "somebody", "secret") if word in told]
    with Topology.from_xml_buffer(told) as topology:
        names = {nic.pci_address: nic.interfaces for nic in topology.machine().nics}
    assert (names["0000:29:00.0"], names["0000:18:00.0"]) == (("enx000000000000",), ("enx000000000001",))
    numbers = {each.kind: (each.number, each.places) for each in left_out}
    assert numbers["network addresses"] == (2, ("names of interfaces",))
    assert numbers["other attributes"] == (2, ("Misc objects", "userdata"))


# ---- the file ----------------------------------------------------------------------------------------------------


def hwnuma(
    *words: str, environment: Mapping[str, str] | None = None, status: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    done = forked.hwnuma(words, {**(environment or _environment()), **more})
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def dgx(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that takes itself to be on the DGX, with eight GPUs."""
    require(fake_nvml.compiler(), "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    fake = FakeNvml(_fake_gpus(load_machine(DGX)), cpus_in_system=load_machine(DGX).cpuset.last + 1)
    xml = str(TOPOLOGIES / f"{DGX}.xml")
    return _environment(**fake.variables(tmp_path), HWLOC_XMLFILE=xml, HWLOC_THISSYSTEM="1")


def test_the_command_line_gives_the_same_plan(tmp_path: Path, dgx: dict[str, str]) -> None:
    """From end to end, with this process's true affinity: capture there, and plan elsewhere from a compressed file."""
    file = str(tmp_path / "dgx.xml.gz")
    assert hwnuma("capture", file, environment=dgx).stderr == ""
    for words in (("--mode", "exclusive"), ("--mode", "node", "--gpus", "2,0", "--fallback", "nearest")):
        status = 0 if "nearest" in words else 1  # this process has no CPU near some of them
        inside = hwnuma("plan", *words, "--format", "json", environment=dgx, status=status).stdout
        outside = hwnuma("plan", *words, "--format", "json", "--topology", file, status=status, **ELSEWHERE).stdout
        ours, theirs = json.loads(inside)["topology"], json.loads(outside)["topology"]
        assert (ours, theirs) == ("this system", file)
        assert inside.replace(json.dumps(ours), json.dumps(theirs)) == outside


def test_hwlocs_own_tools_read_a_capture(tmp_path: Path, dgx: dict[str, str]) -> None:
    """Plain libhwloc finds the GPUs' labels and all CPUs, before and after anonymizing."""
    tool = shutil.which("lstopo-no-graphics") or shutil.which("lstopo")
    require(tool, "there is no lstopo (Debian: hwloc-nox)")
    assert tool is not None
    for words in ((), ("--anonymize",)):
        file = str(tmp_path / f"dgx{len(words)}.xml")
        hwnuma("capture", *words, file, environment=dgx)
        done = subprocess.run(
            [tool, "-i", file, "--of", "console", "--whole-io"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        labels = re.findall(r"GPU ([0-9]): NVIDIA A100-SXM4-40GB", done.stdout)
        assert labels == [*"01234567"]
        assert done.stdout.count("PU L#") == len(load_machine(DGX).cpuset)


def test_a_capture_is_loaded_as_any_topology(tmp_path: Path, dgx: dict[str, str]) -> None:
    """Topology reads it compressed and not; both are the same machine, and that is the fixture."""
    texts = []
    for name in ("dgx.xml", "dgx.xml.gz"):
        hwnuma("capture", str(tmp_path / name), environment=dgx)
        with Topology.from_xml_file(tmp_path / name) as topology:
            machine = topology.machine()
        assert (str(machine.digest), machine.cores) == (str(load_machine(DGX).digest), load_machine(DGX).cores)
        content = (tmp_path / name).read_bytes()
        texts.append(gzip.decompress(content) if name.endswith(".gz") else content)
    assert texts[0] == texts[1]
    assert texts[0].startswith(b"<?xml")


def test_what_is_left_out_is_said(dgx: dict[str, str]) -> None:
    """By kind, with the number, on standard error, so that the file on standard output stays one."""
    done = hwnuma("capture", "--anonymize", "-", environment=dgx)
    assert "hwnuma capture: left out: UUIDs (replaced by stand-ins): 8 (gpus)\n" in done.stderr
    assert "hwnuma capture: left out: host names: " in done.stderr
    Topology.from_xml_buffer(done.stdout).close()
    with_serials = hwnuma("capture", "--anonymize", "--serials", "--facts", environment=dgx)
    assert json.loads(with_serials.stdout)["serials"] == {}
    assert json.loads(with_serials.stdout)["host"] == ""


@pytest.mark.parametrize(("words", "mode"), [((), 0o600), (("--anonymize",), 0o644)])
def test_an_open_capture_is_its_owners(tmp_path: Path, words: tuple[str, ...], mode: int) -> None:
    """It has names and addresses in it: nobody else may read it, whatever the umask."""
    file = tmp_path / "here.xml"
    subprocess.run(
        [sys.executable, "-m", "hwnuma", "capture", *words, str(file)],
        env=_environment(),
        check=True,
        umask=0o022,
        stderr=subprocess.PIPE,
    )
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_no_link_is_followed(tmp_path: Path) -> None:
    """A link in a folder that others can write to would have the file overwritten that it leads to."""
    victim, link = tmp_path / "victim", tmp_path / "here.xml"
    victim.write_text("mine")
    link.symlink_to(victim)
    assert "it is a symbolic link, and none is followed" in hwnuma("capture", str(link), status=2).stderr
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.xml", "victim"]


# Die where the file is to be put in its place.
KILLED = """
import os, signal, sys
os.rename = os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
from hwnuma.cli.main import main
main(["capture", sys.argv[1]])
"""


def test_an_interrupted_capture_leaves_the_old_file(tmp_path: Path) -> None:
    """Killed after the last byte and ahead of the last step, it leaves what was there as it was."""
    file = tmp_path / "here.xml"
    file.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(file)], env=_environment(), capture_output=True, check=False
    )
    assert (done.returncode, file.read_text()) == (-signal.SIGKILL, "old")
    hwnuma("capture", str(file))
    assert file.read_text().startswith("<?xml")


# ---- names and facts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("DIR/%N.xml", "DIR/node-017.xml"), ("%h.xml.gz", "node-017.xml.gz"), ("100%%.xml", "100%.xml"),
        ("%%N.xml", "%N.xml"), ("%N-%h", "node-017-node-017"), ("plain.xml", "plain.xml"), ("%%%N", "%node-017"),
    ],
)  # fmt: skip
def test_the_hosts_name_stands_in_the_files(pattern: str, name: str) -> None:
    """Slurm's and pdsh's patterns are the host's short name, so that one command line names a file for each host."""
    assert file_named(pattern, "node-017.cluster.example") == name


@pytest.mark.parametrize(
    ("pattern", "host", "said"),
    [
        ("%j.xml", "a", "'%j' in the file's name"), ("a%", "a", "'%' in the file's name"), ("%%%", "a", "'%' in the file's name"),
        ("%N", "..", "this host is called '..'"), ("%N", "a/../b", "this host is called 'a/../b'"), ("%N", "", "name the file whole"),
    ],
)  # fmt: skip
def test_other_patterns_and_odd_hosts_are_refused(pattern: str, host: str, said: str) -> None:
    """A name that leads out of the folder, or a pattern of which somebody expects more."""
    with pytest.raises(OptionError, match=re.escape(said)):
        file_named(pattern, host)


def test_each_host_has_its_file(tmp_path: Path) -> None:
    """As ``srun hwnuma capture DIR/%N.xml`` has it."""
    hwnuma("capture", str(tmp_path / "%N.xml"))
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.uname().nodename.partition('.')[0]}.xml"]


def test_facts_are_those_of_the_file(tmp_path: Path, dgx: dict[str, str]) -> None:
    """``--facts`` prints the same here and of the file, but for where they are from."""
    file = str(tmp_path / "dgx.xml")
    dgx = {**dgx, "CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    hwnuma("capture", file, environment=dgx)
    here = json.loads(hwnuma("capture", "--facts", environment=dgx).stdout)
    there = json.loads(hwnuma("capture", "--facts", "--topology", file, **ELSEWHERE).stdout)
    assert {**here, "topology": file} == there
    assert there["variables"] == {"CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [gpu["uuid"] for gpu in there["gpus"]] == [gpu.uuid for gpu in _fake_gpus(load_machine(DGX))]
    assert CpuSet(there["affinity"]) == os.sched_getaffinity(0)
    assert there["versions"]["driver"] == FakeNvml().driver


def test_a_topology_alone_has_no_facts() -> None:
    """It says so, and how to get some."""
    done = hwnuma("capture", "--facts", "--topology", str(TOPOLOGIES / f"{DGX}.xml"), status=2)
    assert "save it with hwnuma capture" in done.stderr
