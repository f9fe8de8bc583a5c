"""`hwnuma.testing`: a test's process sees another machine, what it would bind is recorded, and all is put back."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

import hwnuma
from hwnuma import AffinityMode, BindingError, CpuSet, Gpu, MemoryPolicy, NodeSet, NumaOptions, Topology
from hwnuma.captures.document import document_of
from hwnuma.cli.main import main as hwnuma_main
from hwnuma.cli.start import main as start
from hwnuma.errors import NvmlError, OptionError, TopologyFileError
from hwnuma.model.facts import Facts, NvLink
from hwnuma.model.gpu import MigInstance
from hwnuma.processes import binding, procfs
from hwnuma.testing import FakeGpu, FakeMachine, FakeMig, FakeNvml, fake_nvml, machine, machines
from hwnuma.testing.nvml import GPU_IS_LOST, NO_PERMISSION, build, compiler
from hwnuma.testing.nvml import main as describe
from tests.captured_plans import loaded_once, plans
from tests.conftest import ROOT, TOPOLOGIES, load_machine
from tests.every_machine import quick_few
from tests.require import require

pytest_plugins = ["pytester"]

Enter = Callable[..., FakeMachine]

# What a framework's own binder does, as NeMo, Megatron and Lightning have it: NVML's mask, and the kernel's call.
FRAMEWORKS_BINDER = """
import math, os, pynvml

def set_affinity(local_rank):
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(local_rank)
    words = pynvml.nvmlDeviceGetCpuAffinity(handle, math.ceil(os.cpu_count() / 64))
    cpus = [64 * place + bit for place, word in enumerate(words) for bit in range(64) if word >> bit & 1]
    os.sched_setaffinity(0, cpus)
    return os.sched_getaffinity(0)
"""

# Everything that the two drivers answer, asked through pynvml: the answers, or the numbers of the errors.
ASK = """
import json, sys
import pynvml

def asked(call, *arguments):
    try:
        answer = getattr(pynvml, call)(*arguments)
    except pynvml.NVMLError as error:
        return f"error {error.value}"
    if hasattr(answer, "busId"):
        return [answer.busId, answer.domain, answer.bus, answer.device, answer.pciDeviceId]
    if isinstance(answer, list) and answer and hasattr(answer[0], "pid"):
        return [(each.pid, each.gpuInstanceId) for each in answer]
    if hasattr(answer, "_length_"):
        return list(answer)
    return answer if isinstance(answer, (int, str, list, type(None))) else "handle"

def device(handle):
    one = ("UUID", "Name", "PciInfo", "Index", "MigMode", "MaxMigDeviceCount", "NumaNodeId", "GpuInstanceId",
           "ComputeInstanceId", "ComputeRunningProcesses_v3")
    said = {each: asked(f"nvmlDeviceGet{each}", handle) for each in one}
    said["is MIG"] = asked("nvmlDeviceIsMigDeviceHandle", handle)
    said["parent"] = asked("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
    for words in (1, 16):
        said[f"cpus {words}"] = asked("nvmlDeviceGetCpuAffinity", handle, words)
        said[f"cpus in node {words}"] = asked("nvmlDeviceGetCpuAffinityWithinScope", handle, words, 0)
        said[f"nodes {words}"] = asked("nvmlDeviceGetMemoryAffinity", handle, words, 0)
    said["bad scope"] = asked("nvmlDeviceGetMemoryAffinity", handle, 1, 7)
    said["bad scope of CPUs"] = asked("nvmlDeviceGetCpuAffinityWithinScope", handle, 1, 7)
    for link in range(4):
        said[f"link {link}"] = [asked(f"nvmlDeviceGetNvLink{each}", handle, link)
                                for each in ("State", "RemoteDeviceType", "RemotePciInfo")]
    return said

def everything():
    said = {"before": asked("nvmlDeviceGetCount"), "init": asked("nvmlInit"), "count": asked("nvmlDeviceGetCount"),
            "driver": asked("nvmlSystemGetDriverVersion"), "NVML": asked("nvmlSystemGetNVMLVersion"),
            "no address": asked("nvmlDeviceGetHandleByPciBusId", "nowhere"), "none": asked("nvmlDeviceGetHandleByUUID", "GPU-none"),
            "nowhere": asked("nvmlDeviceGetHandleByPciBusId", "0000:ff:1f.0"), "absent": asked("nvmlDeviceGetSerial", None)}
    for index in range(-1 if said["count"] == 0 else 0, 17):
        said[index] = found = asked("nvmlDeviceGetHandleByIndex", index)
        if found != "handle":
            continue
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        said[index] = device(handle)
        said[f"{index} by UUID"] = device(pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(handle)))
        said[f"{index} by bus"] = device(pynvml.nvmlDeviceGetHandleByPciBusId(pynvml.nvmlDeviceGetPciInfo(handle).busId))
        for place in range(8):
            said[f"{index} MIG {place}"] = asked("nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
            if said[f"{index} MIG {place}"] == "handle":
                said[f"{index} MIG {place}"] = device(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
    said["shutdown"], said["after"] = asked("nvmlShutdown"), asked("nvmlDeviceGetCount")
    return json.loads(json.dumps(said))
"""

ODD = FakeNvml(
    [
        FakeGpu(
            "0000:07:00.0", cpus=CpuSet("0-3,70"), nodes=NodeSet("0"), processes=[11, 12], nvlinks={"0000:0b:00.0": 2}
        ),
        FakeGpu("00000001:0B:00.0", mig=[FakeMig(1, "MIG-a", processes=[7]), FakeMig(4, "MIG-b", gpu_instance=9)]),
        FakeGpu("0000:0c:00.0", mig=False, cpus=CpuSet(), nvlinks={"switch": 3}, name=""),
        FakeGpu("0000:0d:00.0", errors={"nvmlDeviceGetUUID": (GPU_IS_LOST, 1), "nvmlDeviceGetName": NO_PERMISSION}),
    ],
    cpus_in_system=128,
)


def _less_uuids(plan: dict) -> dict:
    """A plan as JSON has it, less what the driver alone knows, and less what the machine is called."""
    rows = [{**row, "gpus": [{**gpu, "uuid": None} for gpu in row["gpus"]]} for row in plan["bindings"]]
    return {**plan, "topology": "", "bindings": rows}


def _planned_elsewhere(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert hwnuma_main(["plan", *words, "--format", "json"]) in (0, 1)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", quick_few(machines()))
def test_every_machine_gives_the_plans_of_its_file(name: str) -> None:
    """In every mode, what plans for this system plans for that machine."""
    try:
        hwnuma.TopologyGpus(load_machine(name)).gpus()
        words, how = (), {}
    except hwnuma.GpuNotFoundError:
        words, how = ("--gpus", "none", "--ranks", "6"), {"gpus": "none", "ranks": 6}
    with loaded_once():
        expected = plans(("--topology", str(TOPOLOGIES / f"{name}.xml"), *words), ((),))
    with machine(name):
        here = hwnuma.plan_here(AffinityMode.EXCLUSIVE, **how).as_dict()
        with loaded_once():
            found = {asked: json.loads(made) for asked, made in plans(words, ((),)).items()}
    assert _less_uuids(here) == _less_uuids(found["--mode exclusive"])
    for asked, made in found.items():
        assert _less_uuids(made) == _less_uuids(json.loads(expected[asked])), asked


def test_the_machines_are_all_of_the_fixtures() -> None:
    """A new fixture needs no other list."""
    assert list(machines()) == sorted(file.stem for file in TOPOLOGIES.glob("*.xml"))


# ---- what is recorded --------------------------------------------------------------------------------------------


def test_bind_is_recorded_and_nothing_is_bound(hwnuma_machine: Enter) -> None:
    """The CPUs of a machine that is not there are asserted on, and this process runs where it ran."""
    before = os.sched_getaffinity(0)
    with hwnuma_machine("dgx_h100") as there:
        hwnuma.bind("exclusive", local_rank=5)
        assert os.sched_getaffinity(0) == before
        assert there.affinity() == CpuSet("70-83,182-195")
    [bound] = there.bound
    assert (bound.pid, bound.thread, bound.local_rank) == (os.getpid(), threading.get_native_id(), 5)
    assert (str(bound.cpus), bound.gpu, bound.by) == ("70-83,182-195", "0000:c3:00.0", "hwnuma")
    assert there.rank(5) == bound
    with pytest.raises(AssertionError, match=r"^local rank 4 was not bound on dgx_h100: local ranks 5 were$"):
        there.rank(4)


@pytest.mark.parametrize("memory", ["bind", "preferred", "interleave"])
def test_a_memory_policy_is_recorded_and_put_back(hwnuma_machine: Enter, memory: str) -> None:
    """The policy of a block is read back as the kernel would tell it, and ends with the block."""
    there = hwnuma_machine("dgx_h100")
    with hwnuma.bound(NumaOptions("node", memory=memory), local_rank=7) as place:
        assert hwnuma.verify(place).ok
    assert (there.bound[0].memory, there.bound[0].nodes) == (MemoryPolicy(memory), NodeSet("1"))
    assert not hwnuma.verify(place).ok
    assert there.affinity() == CpuSet("0-223")


def test_threads_follow_as_under_the_kernel(hwnuma_machine: Enter) -> None:
    """A thread that somebody pinned stays, the others are moved, and later ones inherit."""
    there = hwnuma_machine("dgx_h100", affinity=True)
    ready, done = threading.Barrier(3), threading.Event()
    seen: dict[str, int] = {}

    def live(name: str) -> None:
        seen[name] = threading.get_native_id()
        if name == "pinned":
            os.sched_setaffinity(0, {3})
        ready.wait(30)
        done.wait(30)

    threads = [threading.Thread(target=live, args=[name]) for name in ("plain", "pinned")]
    for thread in threads:
        thread.start()
    ready.wait(30)
    hwnuma.bind("node", local_rank=7)
    moved = there.rank(7).threads
    later = threading.Thread(target=lambda: seen.update(later=len(os.sched_getaffinity(0))))
    later.start()
    later.join()
    found = {name: there.affinity(seen[name]) for name in ("plain", "pinned")}
    done.set()
    for thread in threads:
        thread.join()
    assert {os.getpid(), seen["plain"]} <= set(moved)
    assert seen["pinned"] not in moved
    assert found == {"plain": CpuSet("56-111,168-223"), "pinned": CpuSet("3")}
    assert seen["later"] == 112


def test_the_kernel_refuses_what_it_would_refuse(hwnuma_machine: Enter) -> None:
    """CPUs outside the cgroup are cut, and none is EINVAL; a topology of another machine still binds nothing."""
    there = hwnuma_machine("dgx_h100", allowed="0-7")
    with pytest.raises(BindingError, match="sched_setaffinity|CPUs 8-9"):
        binding.apply(Topology.for_binding(cpuset=CpuSet("8-9")), hwnuma.Binding(0, cpuset=CpuSet("8-9")))
    with pytest.raises(BindingError, match=r"binding to CPUs 7-8 gave CPUs 7"):
        binding.apply(Topology.for_binding(cpuset=CpuSet("7-8")), hwnuma.Binding(0, cpuset=CpuSet("7-8")))
    assert there.affinity() == CpuSet("0-7")
    assert there.bound == []
    with Topology.from_synthetic("pu:4") as foreign, pytest.raises(hwnuma.NotThisSystemError):
        foreign.set_cpubind(CpuSet("0"))


def test_ranks_in_turn_and_assert_bound(hwnuma_machine: Enter) -> None:
    """One process is each rank in turn; what is not where it was planned is named."""
    there = hwnuma_machine("dgx_a100_nps4")
    plan = hwnuma.plan_here("core-complex")
    for rank in range(len(plan)):
        there.restart()
        hwnuma.bind("core-complex", local_rank=rank)
    there.assert_bound(plan)
    there.restart()
    hwnuma.bind("node", local_rank=2)
    with pytest.raises(AssertionError, match=r"^local rank 2 was bound to CPUs .*, and is planned for CPUs "):
        there.assert_bound(plan)


def test_exec_is_recorded_with_its_command(hwnuma_machine: Enter) -> None:
    """In this process it ends as a process that became something else would, with the place in the command's variables."""
    there = hwnuma_machine("dgx_h100")
    for words, cpus in ((["--mode", "exclusive", "--local-rank", "3"], "42-55,154-167"), (["--cpus", "8-9"], "8-9")):
        there.restart()
        with pytest.raises(SystemExit) as end:
            start(["exec", *words, "--", "true", "and", "more"])
        assert end.value.code == 0
        done = there.executed[-1]
        assert (done.command, str(done.cpus)) == (("true", "and", "more"), cpus)
        assert done.environment["HWNUMA_BOUND_CPUS"] == cpus


@pytest.mark.parametrize("variables", [{}, {"HWNUMA_OMP": "set"}], ids=["quick", "whole"])
def test_given_cpus_are_bound_for_the_rank_that_the_launcher_tells(
    hwnuma_machine: Enter, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """On both ways that exec has."""
    there = hwnuma_machine("dgx_h100")
    for name, value in {"LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        start(["exec", "--cpus", "8-9", "--", "true"])
    assert str(there.rank(5).cpus) == "8-9"


# ---- pynvml and os -----------------------------------------------------------------------------------------------


def _everything_asked() -> dict:
    names: dict = {}
    exec(ASK, names)
    return names["everything"]()


@pytest.mark.parametrize("which", ["odd", "dgx_h100", "gb200_nvl72_tray"])
def test_pynvml_answers_what_the_library_answers(which: str, hwnuma_machine: Enter, tmp_path: Path) -> None:
    """The driver in this process and the shared library give the same answers and errors, MIG instances' too."""
    require(compiler(), "there is no C compiler to build the fake NVML with")
    how = {"gpus": ODD} if which == "odd" else {}
    with hwnuma_machine("dgx_h100" if how else which, pynvml=True, **how) as there:
        here = _everything_asked()
        described = there.nvml
    done = subprocess.run(
        [sys.executable, "-c", f"{ASK}\nprint(json.dumps(everything()))"],
        env=fake_nvml(described, tmp_path), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert here == json.loads(done.stdout)
    assert here["init"] is None
    assert here["count"] == (4 if which != "dgx_h100" else 8)


def test_the_drivers_words_for_an_error_and_a_handle_of_no_device(hwnuma_machine: Enter) -> None:
    """As a text with the number in it; what was never given out is an invalid argument."""
    hwnuma_machine("dgx_h100", pynvml=True)
    assert pynvml.nvmlErrorString(pynvml.NVML_ERROR_GPU_IS_LOST) == "fake NVML's text of error 15"
    pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetUUID(ctypes.c_void_p(99))
    pynvml.nvmlShutdown()


def test_the_kernel_refuses_what_is_not_there(hwnuma_machine: Enter) -> None:
    """A thread that is none, CPUs of which none is allowed, and nodes without memory: the kernel's own errors."""
    there = hwnuma_machine("dgx_h100", allowed="0-7", affinity=True)
    for call in (lambda: os.sched_getaffinity(4194303), lambda: os.sched_setaffinity(4194303, {0})):
        with pytest.raises(ProcessLookupError):
            call()
    with pytest.raises(OSError, match="Invalid argument"):
        os.sched_setaffinity(0, {100})
    with pytest.raises(OSError, match="Invalid argument"):
        there._there().set_policy(MemoryPolicy.BIND, NodeSet("9"))
    assert there._there().process_cpu_count() == len(os.sched_getaffinity(0)) == 8


def test_a_machine_that_was_not_entered_says_so() -> None:
    """What is recorded is known after it, and what it sees in its block alone."""
    there = machine("dgx_h100")
    with pytest.raises(OptionError, match="was not entered: with hwnuma_machine"):
        _ = there.bound
    with pytest.raises(OptionError, match="is not entered: that is known in its with block alone"):
        there.affinity()


def test_a_file_that_is_no_topology_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its error comes out, the next machine can be entered, and no folder stays."""
    (tmp_path / "bad.xml").write_text("<a/>")
    before = set(Path(tempfile.gettempdir()).glob("hwnuma-testing-*"))
    with pytest.raises(TopologyFileError):
        machine(tmp_path / "bad.xml").enter()
    assert set(Path(tempfile.gettempdir()).glob("hwnuma-testing-*")) <= before
    with machine("dgx_h100"):
        pass


def test_hwlocs_variables_are_as_they_were(hwnuma_machine: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a process that plans by a file of its own are put aside while a machine is loaded, and back."""
    monkeypatch.setenv("HWLOC_XMLFILE", "/nowhere/at/all.xml")
    hwnuma_machine("dgx_h100")
    assert len(hwnuma.plan_here()) == 8
    assert os.environ["HWLOC_XMLFILE"] == "/nowhere/at/all.xml"


def test_a_gpu_without_an_address_is_none_of_the_drivers() -> None:
    """It says to give it one."""
    with pytest.raises(OptionError, match="has no PCI address, so NVML cannot have it: give it one"):
        FakeNvml.of([Gpu(0)])


def test_a_frameworks_binder_works_and_is_recorded(hwnuma_machine: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that knows nothing of hwnuma ends where the driver says, and it is recorded with its launcher's rank."""
    monkeypatch.setenv("LOCAL_RANK", "6")
    names: dict = {}
    exec(FRAMEWORKS_BINDER, names)
    real = os.sched_getaffinity(0)
    with hwnuma_machine("dgx_h100", pynvml=True, affinity=True) as there:
        assert names["set_affinity"](6) == set(CpuSet("56-111,168-223"))
        pynvml.nvmlDeviceSetCpuAffinity(pynvml.nvmlDeviceGetHandleByIndex(1))
        assert CpuSet(os.sched_getaffinity(0)) == CpuSet("0-55,112-167")
    assert os.sched_getaffinity(0) == real
    assert [(each.local_rank, each.by) for each in there.bound] == [
        (6, "os.sched_setaffinity"),
        (6, "nvmlDeviceSetCpuAffinity"),
    ]


def test_without_request_pynvml_and_os_are_as_they_were(hwnuma_machine: Enter) -> None:
    """Nobody but hwnuma sees the driver of that machine, through a pynvml of its own."""
    functions = [os.sched_getaffinity, os.cpu_count, vars(pynvml)["_nvmlGetFunctionPointer"]]
    hwnuma_machine("dgx_h100")
    assert [os.sched_getaffinity, os.cpu_count, vars(pynvml)["_nvmlGetFunctionPointer"]] == functions
    assert all((place.gpu.uuid or "").startswith("GPU-") for place in hwnuma.plan_here())


def test_a_machine_without_nvidia_has_no_driver(hwnuma_machine: Enter) -> None:
    """The library is said to be missing, as it is there, and hwnuma takes the topology's GPUs without a word."""
    with hwnuma_machine("frontier_mi250x", pynvml=True):
        with pytest.raises(pynvml.NVMLError_LibraryNotFound):
            pynvml.nvmlInit()
        assert hwnuma.plan_here().warnings == ()


def test_visible_devices_and_mig_count(hwnuma_machine: Enter) -> None:
    """Variables count as on that machine, and MIG instances are GPUs."""
    with hwnuma_machine("dgx_h100", visible="6,1"):
        assert [place.gpu.index for place in hwnuma.plan_here()] == [6, 1]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    mig = [
        Gpu(place, "0000:1b:00.0", f"MIG-{place}", mig=MigInstance("GPU-a", place, 0), device_index=0)
        for place in (0, 1)
    ]
    with hwnuma_machine("dgx_h100", gpus=mig, pynvml=True):
        assert [place.gpu.uuid for place in hwnuma.plan_here("exclusive")] == ["MIG-0", "MIG-1"]
        assert len({place.cpuset for place in hwnuma.plan_here("exclusive")}) == 2


# ---- captures ----------------------------------------------------------------------------------------------------


def test_a_capture_plans_as_it_does_elsewhere(
    hwnuma_machine: Enter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its driver's GPUs, affinity, variables and NCCL's nodes are those of this process."""
    with Topology.from_xml_file(TOPOLOGIES / "dgx_h100.xml") as topology:
        exported, there = topology.export_xml(), topology.machine()
    gpus = tuple(
        Gpu(index, gpu.pci_address, f"GPU-{index}", "H100", cpu_affinity=there.pci_device(gpu.pci_address).near_cpuset)
        for index, gpu in enumerate(hwnuma.TopologyGpus(there).gpus())
    )
    facts = Facts(
        gpus=gpus,
        nvlinks=tuple(NvLink(a.pci_address, b.pci_address, 18) for a in gpus for b in gpus if a is not b),
        affinity=CpuSet("0-40,56-100"),
        variables=(("CUDA_VISIBLE_DEVICES", "7,5,0"),),
        nccl_nodes=((gpus[0].pci_address, 1),),
    )
    file = tmp_path / "node001.xml"
    file.write_text(document_of(exported, facts, anonymous=False)[0])
    for mode in AffinityMode:
        expected = _planned_elsewhere(capsys, "--topology", str(file), "--mode", mode.value)
        with hwnuma_machine(file) as entered:
            assert {**_planned_elsewhere(capsys, "--mode", mode.value), "topology": str(file)} == expected
            assert entered.affinity() == facts.affinity
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "7,5,0"
            found = hwnuma_main(["topo"])
            assert (found, "NV18" in capsys.readouterr().out) == (0, True)
        assert "NCCL_TOPO_FILE" not in os.environ


# ---- other processes ---------------------------------------------------------------------------------------------


def test_children_see_the_machine_and_are_recorded(hwnuma_machine: Enter) -> None:
    """Through a shell and `hwnuma exec`, a worker is where it was put, and a process binds another one."""
    there = hwnuma_machine("dgx_h100", affinity=True)
    worker = (
        f"{sys.executable} -c 'import os, sys; print(len(os.sched_getaffinity(0)), os.cpu_count()); sys.stdin.read()'"
    )
    command = [
        sys.executable,
        "-m",
        "hwnuma",
        "exec",
        "--mode",
        "exclusive",
        "--local-rank",
        "2",
        "--",
        "sh",
        "-c",
        worker,
    ]
    with subprocess.Popen(
        command, env=there.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "28 224\n"
        assert there.rank(2).pid == process.pid
        assert there.affinity(process.pid) == there.rank(2).cpus
        assert there.executed[-1].command[0] == "sh"
        hwnuma.bind_process(process.pid, hwnuma.Binding(2, cpuset=CpuSet("0-3")))
        assert os.sched_getaffinity(process.pid) == {0, 1, 2, 3}
        process.stdin.close()
    assert process.returncode == 0


def test_a_wrapped_command_is_recorded(hwnuma_machine: Enter) -> None:
    """`Binding.wrap` starts an isolated Python, which sees the machine all the same; the command does, too."""
    with hwnuma_machine("dgx_h100", children=True, affinity=True) as there:
        place = hwnuma.plan_here("exclusive")[5]
        count = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
        done = subprocess.run(place.wrap(count), capture_output=True, text=True, check=True)
    assert done.stdout == "28\n"
    assert [each.cpus for each in there.bound] == [place.cpuset]
    assert place.wrap(["true"])[2].endswith("hwnuma/__main__.py")


def test_a_forked_child_inherits_and_its_bindings_come_back(hwnuma_machine: Enter) -> None:
    """As affinities are inherited across fork."""
    there = hwnuma_machine("dgx_h100")
    hwnuma.bind("node", local_rank=7)
    child = os.fork()
    if child == 0:
        try:
            inherited = there.affinity()
            there.restart()
            hwnuma.bind("node", local_rank=0)
            os._exit(0 if inherited == CpuSet("56-111,168-223") else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [(each.pid == child, each.local_rank) for each in there.bound] == [(False, 7), (True, 0)]
    assert there.affinity() == CpuSet("56-111,168-223")


def test_a_child_keeps_its_own_sitecustomize(hwnuma_machine: Enter, tmp_path: Path) -> None:
    """What else is imported at Python's start still is."""
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['SEEN'] = 'yes'\n")
    with hwnuma_machine("dgx_h100", affinity=True) as there:
        environment = there.environment({**os.environ, "PYTHONPATH": str(tmp_path)})
        call = "import os; print(os.environ['SEEN'], os.cpu_count())"
        done = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "yes 224\n"


# ---- all is put back ---------------------------------------------------------------------------------------------


def _what_there_is() -> dict[str, object]:
    modules = [
        module for name, module in sorted(sys.modules.items()) if name.split(".")[0] in ("hwnuma", "os", "pynvml")
    ]
    held = {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if callable(value) and not module.__name__.startswith("hwnuma.testing")
    }
    return {
        **held,
        **{f"Topology.{name}": value for name, value in vars(Topology).items()},
        "nvmlLib": vars(pynvml)["nvmlLib"],
        "environment": dict(os.environ),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_all_is_put_back(fails: bool) -> None:
    """Functions, methods, variables and the driver are what they were, whatever happened inside."""
    import hwnuma.launch.capture
    import hwnuma.testing.fake_machine

    sys.modules.pop("hwnuma.cli.processes", None)
    before = _what_there_is()
    folder = None
    try:
        with machine("dgx_h100", pynvml=True, affinity=True, children=True, visible="0") as there:
            import hwnuma.cli.processes  # it takes `affinity` by name, as it is inside

            assert hwnuma.cli.processes.affinity == procfs.affinity != before["hwnuma.processes.procfs.affinity"]
            pynvml.nvmlInit()
            hwnuma.bind(local_rank=0)
            folder = Path(there.environment()["_HWNUMA_TESTING_MACHINE"])
            assert folder.is_dir()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    after = _what_there_is()
    assert {name: value for name, value in after.items() if name in before and before[name] != value} == {}
    assert hwnuma.cli.processes.affinity is procfs.affinity
    assert not folder.exists()
    assert there.rank(0).cpus == CpuSet("0-55,112-167")
    with pytest.raises(OptionError, match="dgx_h100 is not entered"):
        there.affinity()


def test_one_machine_at_a_time(hwnuma_machine: Enter) -> None:
    """A second one is refused, and the first stays."""
    hwnuma_machine("dgx_h100")
    with pytest.raises(
        OptionError, match=r"sees dgx_h100 already, and one machine at a time: leave that before gh200_x4"
    ):
        hwnuma_machine("gh200_x4")
    assert len(hwnuma.plan_here()) == 8


def test_what_is_not_there_is_named() -> None:
    """An unknown machine's error lists those there are; a compiler that is missing is said in a line."""
    with pytest.raises(OptionError, match=r"^there is no machine 'dgx_h1000', and no file .* dgx_h100, "):
        machine("dgx_h1000")
    with pytest.raises(OptionError, match="and not by a int"):
        machine(3)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hwnuma.testing.nothing  # noqa: B018


def test_the_library_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One clear error, whether there is none or the one that is named is missing."""
    monkeypatch.setenv("CC", "/nonexistent/cc -O2")
    with pytest.raises(NvmlError, match=r"^the fake libnvidia-ml.so.1 cannot be built: /nonexistent/cc: No such file"):
        build(tmp_path)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NvmlError, match=r"there is no C compiler \(cc, gcc, clang\): install one, or name it in CC"):
        build(tmp_path)


# ---- the plug-in -------------------------------------------------------------------------------------------------


def test_the_plugin_imports_nothing_until_it_is_used(pytester: pytest.Pytester) -> None:
    """Every pytest of an environment loads it."""
    pytester.makepyfile(
        """
        import sys

        def test_light():
            assert "hwnuma.testing.plugin" in sys.modules
            assert not [name for name in sys.modules if name.startswith(("hwnuma.hwloc", "hwnuma.model", "pynvml"))]
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.slow  # a pytest of its own
def test_the_fixture_ends_with_its_test(pytester: pytest.Pytester) -> None:
    """Without with, the machine is there until the test's end, also where the test fails."""
    pytester.makepyfile(
        """
        import os
        import hwnuma

        def test_first(hwnuma_machine):
            machine = hwnuma_machine("dgx_h100", affinity=True)
            assert (len(hwnuma.plan_here()), os.cpu_count()) == (8, 224)
            assert False, "it fails"

        def test_second(hwnuma_machine):
            assert os.cpu_count() != 224
            with hwnuma_machine("gh200_x4") as machine:
                assert len(hwnuma.plan_here()) == 4
            with hwnuma_machine("dgx2_v100") as machine:
                assert len(hwnuma.plan_here()) == 16
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1, failed=1)


@pytest.mark.slow  # a pytest of its own, and a library that is compiled
def test_the_recipes_of_the_documentation_pass(pytester: pytest.Pytester) -> None:
    """Each Python block of docs/how-to/testing.md is a test, and they build on each other's imports."""
    require(compiler(), "there is no C compiler to build the fake NVML with")
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "how-to" / "testing.md").read_text(), re.MULTILINE | re.DOTALL
    )
    pytester.makepyfile("".join(blocks))
    pytester.runpytest_subprocess().assert_outcomes(passed=len(blocks))


@pytest.mark.slow  # a pytest of its own
def test_the_example_needs_no_more_than_this(pytester: pytest.Pytester) -> None:
    """The example's first test, from the source tree; with the wheel alone, tests/packaging runs all of them."""
    example = ROOT / "examples" / "minilauncher"
    environment = os.environ | {"PYTHONPATH": str(example)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(pytester.path), "-p", "no:cacheprovider",
         "-k", "comes_back", str(example / "tests")],
        cwd=pytester.path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_fake_library_that_cannot_be_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is not there, and one that fails."""
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    with pytest.raises(NvmlError, match=r"cannot be built: .*cc: No such file or directory \(see CC\)"):
        build(tmp_path)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NvmlError, match="cannot be built: false .* failed:"):
        build(tmp_path)


def test_a_description_is_written_without_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m hwnuma.testing.nvml``, with what is asked for and no more; with nothing it says what there is."""
    file = tmp_path / "gpus.txt"
    monkeypatch.setattr(
        sys, "argv", ["nvml", "--describe", str(file), "--gpu", "0000:07:00.0=0-3", "--gpu", "0000:0b:00.0"]
    )
    describe()
    assert file.read_text() == FakeNvml([FakeGpu("0000:07:00.0", cpus=CpuSet("0-3")), FakeGpu("0000:0b:00.0")]).text()
    monkeypatch.setattr(sys, "argv", ["nvml"])
    with pytest.raises(SystemExit) as ended:
        describe()
    assert ended.value.code == 2


def test_the_fakes_folder_comes_ahead_of_others(tmp_path: Path) -> None:
    """What LD_LIBRARY_PATH has already stays in it."""
    require(compiler() is not None, "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    folder = FakeNvml().env(tmp_path, {})["LD_LIBRARY_PATH"]
    assert FakeNvml().env(tmp_path, {"LD_LIBRARY_PATH": "/opt/lib"})["LD_LIBRARY_PATH"] == f"{folder}:/opt/lib"


def test_a_machine_says_what_it_is(hwnuma_machine: Enter) -> None:
    """Its file is what plans elsewhere, its name stands in what pytest prints; of AMD's GPUs, ROCm's variable counts."""
    there = hwnuma_machine("frontier_mi250x", visible="1,0")
    assert there.file.name.startswith("frontier_mi250x.xml")
    assert repr(there) == "<hwnuma.testing machine frontier_mi250x>"
    assert os.environ["ROCR_VISIBLE_DEVICES"] == "1,0"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert repr(machine("dgx_h100")) == "<hwnuma.testing machine dgx_h100, not entered>"


def test_a_machine_without_gpus_is_taken_for_nvidias(tmp_path: Path) -> None:
    """As most are; its variable of visible devices is set, and there is nothing that it could name."""
    with Topology.from_synthetic("numa:2 pu:2") as topology:
        (tmp_path / "none.xml").write_text(topology.export_xml())
    with machine(tmp_path / "none.xml", visible="0"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
