"""Copies to and from GPUs, measured against a libcuda and a libamdhip64 in C that copy as fast as a test says.

Near and far are in tests/vm, since this machine may have a single node; a real driver is in tests/gpu.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hwnuma import TopologyGpus
from hwnuma.devices.discovery import find_gpus
from hwnuma.measure import gpu_copies
from hwnuma.measure.gpu_copies import FAR, NEAR, OTHER, TO_DEVICE, UNBOUND, Copy, GpuCopies, verdicts
from hwnuma.model.bitmap import NodeSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.measured import Estimate
from hwnuma.model.value import replace
from hwnuma.policy.locality import locate
from hwnuma.processes.procfs import nodes_with_memory
from hwnuma.report.copies import copies_as_lines
from tests.conftest import load_machine
from tests.fake_cuda import FakeCuda, FakeCudaGpu, calls
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.processes import clean_environment
from tests.require import require

FIRST, SECOND = "0000:07:00.0", "0000:0b:00.0"
RATES = dict.fromkeys(range(64), 2000.0)
KINDS = ("cuda", "hip")
NO_ADDRESS = "cuDeviceGetPCIBusId: 'nowhere' is no PCI address: write domain:bus:device.function, such as 0000:07:00.0"

# What the fake logs that comes in pairs: what is taken is given back.
PAIRS = {
    "cuda": [
        ("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease"),
        ("cuMemAlloc", "cuMemFree"),
        ("cuMemHostRegister", "cuMemHostUnregister"),
    ],
    "hip": [("hipMalloc", "hipFree"), ("hipHostRegister", "hipHostUnregister")],
}


@pytest.fixture(autouse=True)
def _compiler() -> None:
    require(compiler() is not None, "the fake CUDA cannot be built: no C compiler")


def _measured(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.fake_cuda.measure", *arguments]
    done = subprocess.run(
        command, env={**clean_environment(), **environment}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _fake(tmp_path: Path, fake: FakeCuda) -> dict[str, str]:
    return fake.env(tmp_path, clean_environment())


@pytest.mark.parametrize("kind", KINDS)
def test_each_gpu_is_measured_both_ways_alone_and_at_once(tmp_path: Path, kind: str) -> None:
    """From every node with memory and unbound, whatever order the driver has its GPUs in."""
    fake = FakeCuda([FakeCudaGpu(SECOND, RATES), FakeCudaGpu(f"0000{FIRST}".upper(), RATES)], kind)
    told = _measured(_fake(tmp_path, fake), f"{FIRST},{SECOND}", kind)
    assert told["notes"] == []
    assert [gpu["gpu"]["pci_address"] for gpu in told["gpus"]] == [FIRST, SECOND]
    nodes = [*nodes_with_memory(), None]
    for gpu in told["gpus"]:
        assert (gpu["runtime"], gpu["error"]) == (kind, "")
        alone = {(c["direction"], c["memory_node"]) for c in gpu["copies"] if not c["at_once"]}
        assert alone == {(way, node) for way in ("host_to_device", "device_to_host") for node in nodes}
        assert {c["place"] for c in gpu["copies"] if c["at_once"]} >= {NEAR, UNBOUND} - (
            {NEAR} if len(nodes) > 2 else set()
        )
        for copy in gpu["copies"]:
            rate = copy["bytes_per_second"]
            assert 0 < rate["low"] <= rate["median"] <= rate["high"] <= 2000e6


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_is_made_in_another_process_only_and_all_is_given_back(tmp_path: Path, kind: str) -> None:
    """What is retained, allocated and pinned is released, freed and unpinned, as often."""
    told = _measured(_fake(tmp_path, FakeCuda([FakeCudaGpu(FIRST, RATES)], kind)), FIRST, kind)
    log = [line.split()[1] for line in (tmp_path / "cuda.log").read_text().splitlines()]
    for taken, given in PAIRS[kind]:
        assert Counter(log)[taken] == Counter(log)[given] > 0
    pids = {pid for pid, _ in calls(tmp_path)}
    assert len(pids) == 1
    assert told["pid"] not in pids


@pytest.mark.parametrize(("kind", "allocate"), [("cuda", "cuMemAlloc"), ("hip", "hipMalloc")])
def test_a_gpu_without_memory_is_told_and_the_other_one_measured(tmp_path: Path, kind: str, allocate: str) -> None:
    """The driver's own words for it; nothing is left pinned."""
    full = FakeCudaGpu(SECOND, RATES, {allocate: 2})
    told = _measured(_fake(tmp_path, FakeCuda([FakeCudaGpu(FIRST, RATES), full], kind)), f"{FIRST},{SECOND}", kind)
    well, failed = told["gpus"]
    assert well["error"] == ""
    assert well["copies"]
    assert failed["error"].startswith(f"{allocate}")
    assert failed["error"].endswith("(2): out of memory")
    assert told["verdicts"][1] == f"GPU 1: not measured: {failed['error']}"


@pytest.mark.parametrize(("kind", "allocate"), [("cuda", "cuMemAlloc"), ("hip", "hipMalloc")])
def test_a_gpu_that_fails_as_all_copy_at_once_lets_the_others_go_on(tmp_path: Path, kind: str, allocate: str) -> None:
    """They wait for all before they copy, so one that never comes is said to them; of three, that is the first cell."""
    full = FakeCudaGpu("0000:0f:00.0", RATES, {allocate: 2})
    fake = FakeCuda([FakeCudaGpu(FIRST, RATES), FakeCudaGpu(SECOND, RATES), full], kind)
    told = _measured(_fake(tmp_path, fake), f"{FIRST},{SECOND},{full.pci}", kind)
    *well, failed = told["gpus"]
    assert [gpu["error"] for gpu in well] == ["", ""]
    assert all(any(copy["at_once"] for copy in gpu["copies"]) for gpu in well)
    assert failed["error"].endswith("(2): out of memory")


def test_less_than_a_page_is_no_memory_to_copy_from(tmp_path: Path) -> None:
    """As on a node that is full: it is told of each GPU, and nothing was taken."""
    told = _measured(_fake(tmp_path, FakeCuda([FakeCudaGpu(FIRST, RATES)])), FIRST, "cuda", "60", "4095")
    [gpu] = told["gpus"]
    assert re.fullmatch(r"NUMA node (None|\d+) has no memory free to copy from", gpu["error"])
    assert calls(tmp_path, "cuMemHostRegister") == []


def test_of_the_other_nodes_the_farthest_is_measured_as_far() -> None:
    """As the kernel's distances have it; a GPU of which nothing is known has neither a near nor a far one."""
    machine = load_machine("dgx_a100_nps4")
    gpus = TopologyGpus(machine, "nvidia").gpus()
    places = dict(zip([gpu.pci_address for gpu in gpus], locate(machine, gpus), strict=True))
    runtime: Any = None  # nothing is asked of it
    topology: Any = None
    measurement = gpu_copies._Measurement(topology, machine, runtime, 0.0, None)
    target = measurement._target(gpus[0], {gpus[0].pci_address or "": 7}, places)
    [near] = target.near
    others = {node.os_index for node in machine.numa_nodes} - {near}
    distances = {node: machine.distances.between(near, node) or 0 for node in others}
    names = {spot.node: name for name, spot in target.spots}
    assert (target.device, names[near], names[None]) == (7, NEAR, UNBOUND)
    assert target.far is not None
    assert names[target.far] == FAR
    assert distances[target.far] == max(distances.values()) > min(distances.values())
    assert Counter(names.values()) == {NEAR: 1, FAR: 1, OTHER: len(machine.numa_nodes) - 2, UNBOUND: 1}
    nowhere = measurement._target(
        Gpu(9, "0000:99:00.0"), {"0000:99:00.0": 1}, {"0000:99:00.0": replace(places[gpus[0].pci_address], nodes=())}
    )
    assert (nowhere.far, {name for name, _ in nowhere.spots}) == (None, {OTHER, UNBOUND})


def test_a_gpu_that_cuda_does_not_show_is_told(tmp_path: Path) -> None:
    """As with CUDA_VISIBLE_DEVICES."""
    told = _measured(_fake(tmp_path, FakeCuda([FakeCudaGpu(SECOND, RATES)])), f"{FIRST},{SECOND}")
    assert [gpu["gpu"]["index"] for gpu in told["gpus"]] == [1]
    assert told["notes"] == [f"GPU 0 ({FIRST}) was not measured: cuda does not show it to this process"]


@pytest.mark.parametrize(
    ("fake", "said"),
    [
        (
            FakeCuda(errors={"cuInit": 100}),
            "cuInit failed: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected",
        ),
        (FakeCuda(crashes=["cuInit"]), "cuda was asked, and the process that asked it ended by SIGABRT"),
        (FakeCuda(hangs=["cuInit"]), "cuda was asked, and it has not answered within 1 s"),
        (FakeCuda(errors={"hipInit": 3}, kind="hip"), "hipInit failed: hipErrorUnknown (3): unknown error"),
        (FakeCuda([FakeCudaGpu("nowhere", RATES)]), NO_ADDRESS),
    ],
    ids=["error", "crash", "hang", "hip", "address"],
)
def test_a_driver_that_does_not_work_is_one_line(tmp_path: Path, fake: FakeCuda, said: str) -> None:
    """And costs nothing else: the process that measures goes on."""
    told = _measured(_fake(tmp_path, fake), FIRST, fake.kind, "1")
    assert told["gpus"] == []
    assert told["notes"] == [f"no copies to GPUs were measured: {said}"]


@pytest.mark.parametrize(("kind", "name"), [("cuda", "libcuda.so.1"), ("hip", "libamdhip64.so")])
def test_without_the_library_it_says_whose_it_is(kind: str, name: str) -> None:
    """The dynamic loader's words, and where the library comes from."""
    told = _measured({}, FIRST, kind)
    require(not told["gpus"], f"{name} is installed here")
    (note,) = told["notes"]
    assert note.startswith(f"no copies to GPUs were measured: {name}: cannot open shared object file")


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        (
            "cuda",
            "int cuInit(unsigned flags) { return (int)flags; }",
            "libcuda.so.1 has no cuDeviceGetCount: the driver is older than hwnuma knows",
        ),
        ("cuda", "int cuInit(unsigned flags) { return flags ? 1 : 999; }", "cuInit failed: error (999)"),
        ("hip", "int hipInit(unsigned flags) { return flags ? 1 : 999; }", "hipInit failed: error (999)"),
    ],
    ids=["function", "words of CUDA", "words of HIP"],
)
def test_a_driver_that_lacks_a_function_is_one_line(tmp_path: Path, kind: str, source: str, said: str) -> None:
    """One from before it, or a stub; without the functions for an error's words, its number is told."""
    (tmp_path / "old.c").write_text(source)
    library = tmp_path / ("libcuda.so.1" if kind == "cuda" else "libamdhip64.so")
    subprocess.run([*compiler(), "-shared", "-fPIC", "-o", str(library), str(tmp_path / "old.c")], check=True)
    told = _measured({"LD_LIBRARY_PATH": str(tmp_path)}, FIRST, kind)
    assert told["notes"] == [f"no copies to GPUs were measured: {said}"]


# ---- in words ------------------------------------------------------------------------------------------------


def _gpu(near: Any = None, far: Any = None, unbound: Any = None) -> GpuCopies:
    copies = [
        Copy(TO_DEVICE, place, node, False, Estimate(rate[1] * 1e9, rate[0] * 1e9, rate[2] * 1e9, 0.0, 9, 0.99))
        for place, node, rate in ((NEAR, 1, near), (FAR, 0, far), (UNBOUND, None, unbound))
        if rate is not None
    ]
    return GpuCopies(Gpu(3), "cuda", NodeSet([1]), None if far is None else 0, tuple(copies))


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        (
            _gpu((53, 54, 55), (30, 31, 32), (38, 45, 54)),
            "GPU 3: near 54 GB/s, far 31 GB/s, unbound 38-54: binding gives 1.0-1.4 ×",  # noqa: RUF001
        ),
        (
            _gpu((53, 54, 55), (52, 54, 56), (53, 54, 55)),
            "GPU 3: near 54 GB/s, far 54 GB/s, unbound 53-55: no difference",
        ),
        (
            _gpu((4, 4.1, 4.2), None, (4, 4, 4)),
            "GPU 3: 4.1 GB/s from the only NUMA node: nothing to gain from binding its copies",
        ),
        (
            _gpu(None, None, (4, 4, 4)),
            "GPU 3: nothing says which NUMA node it is on, so near and far cannot be told apart",
        ),
    ],
    ids=["gain", "none", "one node", "nowhere"],
)
def test_verdict(copies: GpuCopies, said: str) -> None:
    """Of the issue's own example, and of machines with nothing to gain."""
    assert verdicts([copies]) == (said,)


# ---- hwnuma bench --------------------------------------------------------------------------------------------


def _bench(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hwnuma", "bench", "--busy", "--seconds", "0.1", "--memory", "64M", *words]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.slow  # it measures for two seconds and more
def test_bench_measures_the_gpus_that_nvml_tells(tmp_path: Path) -> None:
    """After the nodes: rows for each GPU in the JSON, and a sentence of the verdict."""
    nvml = FakeNvml([FakeGpu(FIRST), FakeGpu(SECOND)]).env(tmp_path, clean_environment())
    rates = dict.fromkeys(RATES, 50_000)
    fake = FakeCuda([FakeCudaGpu(SECOND, rates), FakeCudaGpu(FIRST, rates)]).env(tmp_path, nvml)
    node = next(iter(nodes_with_memory()))
    done = _bench(fake, "--gpu-node", f"0={node},1={node}", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bandwidth"]
    assert [gpu["gpu"]["pci_address"] for gpu in found["gpus"]] == [FIRST, SECOND]
    assert all(gpu["copies"] and not gpu["error"] for gpu in found["gpus"])
    assert [sentence[:6] for sentence in found["verdict"][-2:]] == ["GPU 0:", "GPU 1:"]


def test_a_table_has_a_row_for_each_gpu_and_way() -> None:
    """In GB/s; unbound is a range; and what was not measured is a dash."""
    lines = copies_as_lines([_gpu((53, 54, 55), (30, 31, 32), (38, 45, 54)).as_dict()])
    assert lines[-3].split() == ["3", "to", "it", "54", "31", "38-54", "-", "-", "-"]
    assert lines[-2].split() == ["3", "from", "it", *"------"]
    assert copies_as_lines([]) == []


def test_without_gpus_bench_says_so_and_measures_the_nodes() -> None:
    """Where none is found, and where none is asked for."""
    done = _bench(clean_environment(), "--format", "json", "--gpus", "none")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bandwidth"]
    assert found["gpus"] == []
    assert found["verdict"][-1] == "no GPUs are asked for: no copies to GPUs were measured"


def test_a_driver_without_its_gpus_is_one_line_of_the_verdict(tmp_path: Path) -> None:
    """NVML tells of one, and CUDA does not start: the nodes are measured all the same."""
    nvml = FakeNvml([FakeGpu(FIRST)]).env(tmp_path, clean_environment())
    done = _bench(FakeCuda(errors={"cuInit": 100}).env(tmp_path, nvml), "--format", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["verdict"][-1]
    assert said.startswith("no copies to GPUs were measured: cuInit failed: CUDA_ERROR_NO_DEVICE (100)")


@pytest.mark.parametrize(("name", "runtime"), [("mi300x_8_xeon8480", "hip"), ("dgx_h100", "cuda"), ("dgx_h100", None)])
def test_the_vendor_says_whose_library_is_asked(name: str, runtime: str | None) -> None:
    """Where the driver's own library has not told of the GPUs; others' GPUs cannot be measured, and it is said."""
    machine = load_machine(name)
    found = find_gpus(
        machine.nics[0].pci_address if runtime is None else "auto", replace(machine, is_this_system=False), {}
    )
    assert gpu_copies._runtime_of(machine, found) == runtime
    if runtime is None:
        told: Any = gpu_copies.measure_copies(None, machine, found, (), 0.0)
        assert told == (
            (),
            (f"copies to {found.all[0]} were not measured: only NVIDIA's and AMD's GPUs can be asked for them",),
        )
    by_nvml = replace(found, source="nvml")
    assert gpu_copies._runtime_of(machine, by_nvml) == "cuda"
