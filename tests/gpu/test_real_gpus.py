"""hwnuma on real NVIDIA GPUs: NVML held against sysfs and libhwloc, commands bound, torch's own answer.

They need a driver and a GPU, which CI does not have: there they are skipped, and `hwnuma.testing.nvml` stands in for the driver.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hwnuma import AffinityMode, CpuSet, Gpu, Machine, NumaOptions, Topology, plan
from hwnuma.devices.nvml import NvmlGpus
from tests.differential.torch_numa import call

pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists(), reason="this machine has no NVIDIA GPU: /dev/nvidiactl is not there"
)


@cache
def _machine() -> Machine:
    with Topology.from_this_system() as topology:
        return topology.machine().narrowed(CpuSet(os.sched_getaffinity(0)))


@cache
def _gpus() -> tuple[Gpu, ...]:
    return NvmlGpus().gpus()


def _sysfs(gpu: Gpu, name: str) -> str:
    return Path("/sys/bus/pci/devices", str(gpu.pci_address), name).read_text().strip()


def test_every_gpu_of_nvml_is_a_pci_device() -> None:
    """NVML's addresses, normalised, are sysfs's and libhwloc's; the vendor is NVIDIA."""
    assert _gpus()
    for gpu in _gpus():
        assert _sysfs(gpu, "vendor") == "0x10de"
        assert _machine().pci_device(str(gpu.pci_address)) is not None


def test_the_node_is_sysfs_own() -> None:
    """Where the kernel tells a node with CPUs, the plan is on it."""
    for binding in plan(_machine(), _gpus(), NumaOptions("node", unknown_locality="node0", no_allowed_cpus="nearest")):
        told = int(_sysfs(binding.gpu, "numa_node"))
        if binding.locality == "hwloc" and told >= 0:
            assert told in binding.nodeset


def test_discovery_wakes_no_gpu_and_makes_no_context() -> None:
    """After listing and planning, the driver counts no process of ours on any GPU."""
    pid = os.getpid()
    assert _gpus()
    assert all(process.pid != pid for process in NvmlGpus().processes())


@pytest.mark.parametrize("mode", list(AffinityMode))
def test_exec_binds_to_the_plan(mode: AffinityMode) -> None:
    """Each rank's command runs on the CPUs that the plan shows."""
    options = ["--mode", mode.value, "--unknown-locality", "node0"]
    command = [sys.executable, "-m", "hwnuma"]
    shown = json.loads(subprocess.check_output([*command, "plan", *options, "--format", "json"]))
    for row in shown["bindings"]:
        rank = ["--local-rank", str(row["local_rank"]), "--", "grep", "Cpus_allowed_list", "/proc/self/status"]
        assert subprocess.check_output([*command, "exec", *options, *rank], text=True).split()[1] == row["cpuset"]


@pytest.mark.parametrize("mode", list(AffinityMode))
def test_the_answer_is_torchs(mode: AffinityMode) -> None:
    """torch.numa.binding on this machine, with its real CUDA, gives the same CPUs for every GPU where it answers."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    import torch
    from torch.numa import binding

    if not torch.cuda.is_available():
        pytest.skip("this torch is built without CUDA")
    made = plan(_machine(), _gpus(), NumaOptions(mode, unknown_locality="node0"))
    for rank in range(torch.cuda.device_count()):
        options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode.value))
        try:
            expected = call(binding._get_logical_cpus_to_bind_to, rank, options)
        except (RuntimeError, ValueError) as error:
            pytest.skip(f"torch does not answer here: {error!r}")
        assert made[rank].cpuset == expected


def test_bench_measures_copies_of_every_gpu() -> None:
    """The real libcuda: both ways from each node and unbound, faster than a hard disk and slower than any link."""
    command = [sys.executable, "-m", "hwnuma", "bench", "--busy", "--seconds", "4", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured = {gpu["gpu"]["pci_address"]: gpu for gpu in found["gpus"]}
    assert set(measured) == {gpu.pci_address for gpu in _gpus()}
    for gpu in measured.values():
        assert gpu["error"] == ""
        alone = {(c["direction"], c["place"]) for c in gpu["copies"] if not c["at_once"]}
        assert alone >= {("host_to_device", "unbound"), ("device_to_host", "unbound")}
        for copy in gpu["copies"]:
            assert 1e9 < copy["bytes_per_second"]["median"] < 1e12
