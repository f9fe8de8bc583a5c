"""``hwnuma verify --gpus --prometheus FILE``: read back by Prometheus' own parsers."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hwnuma import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import replace
from hwnuma.processes.procfs import Pages, ThreadPolicy
from hwnuma.processes.verification import Defeater, Expected, GpuAudit, ThreadState, Verification
from hwnuma.report.prometheus import audits_as_prometheus
from hwnuma.report.verification import audits_as_text, verifications_as_text
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.processes import clean_environment, waiting
from tests.require import require

WAIT = ("sh", "-c", "echo ready; read line")

FIRST = Gpu(0, "0000:07:00.0", "GPU-0")
SECOND = Gpu(1, "0000:0b:00.0", 'GPU-"\\\n')
EXPECTED = Expected(CpuSet("0-3"), NodeSet("0"), source="test", anywhere_within=True)
DEFEATED = (Defeater("numa_balancing", "warning", "", ""), Defeater("huge", "information", "", ""))


def process(*cpus: str, own: dict[int, int] | None = None) -> Verification:
    """One with a thread on each of these CPUs."""
    threads = tuple(ThreadState(number, "t", CpuSet(each)) for number, each in enumerate(cpus))
    return Verification(7, "python", EXPECTED, threads, Pages(own or {}), defeaters=DEFEATED)


def samples(text: str) -> dict[tuple[str, str], float]:
    """The values by metric and GPU, as prometheus_client reads them; every metric is a gauge with a HELP."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            assert set(sample.labels) - {"defeater"} == {"gpu", "uuid", "pci_address"}
            found[sample.name, sample.labels["gpu"] + sample.labels.get("defeater", "")] = sample.value
    return found


def linted(text: str) -> None:
    """Let promtool look at it too, where there is one."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_people_read_the_same_of_each_process() -> None:
    """A row each; below, what is off, a thread's memory policy too, and why one cannot be verified."""
    bound = Verification(
        8, "python", replace(EXPECTED, memory=MemoryPolicy.BIND),
        (ThreadState(8, "main", CpuSet("0"), ThreadPolicy(MemoryPolicy.NONE, NodeSet())),), None,
    )  # fmt: skip
    audits = [GpuAudit(8, (FIRST,), NodeSet("0"), bound), GpuAudit(9, (SECOND,), error="another container's")]
    lines = audits_as_text(audits).splitlines()
    assert lines[3].split()[:3] == ["9", "-", "1"]
    assert lines[3].endswith("not verified")
    assert "process 9 cannot be verified: another container's" in lines
    text = verifications_as_text([bound])
    assert re.search(r"^8 +main +bind:0 +none", text, re.MULTILINE)


def test_each_gpu_has_every_metric_and_processes_count_at_all_their_gpus() -> None:
    """Zeros where there is no process; a process that could not be looked at is one, and nothing else."""
    audits = [
        GpuAudit(7, (FIRST,), verification=process("0", "1", "9", own={0: 10, 1: 32})),
        GpuAudit(8, (FIRST, SECOND), verification=process("2")),
        GpuAudit(9, (FIRST,), error="another container's"),
    ]
    text = audits_as_prometheus([FIRST, SECOND, Gpu(2)], audits)
    linted(text)
    assert samples(text) == {
        ("hwnuma_gpu_processes", "0"): 3, ("hwnuma_gpu_processes", "1"): 1, ("hwnuma_gpu_processes", "2"): 0,
        ("hwnuma_gpu_processes_unverified", "0"): 1, ("hwnuma_gpu_processes_unverified", "1"): 0,
        ("hwnuma_gpu_processes_unverified", "2"): 0,
        ("hwnuma_gpu_processes_misplaced", "0"): 1, ("hwnuma_gpu_processes_misplaced", "1"): 0,
        ("hwnuma_gpu_processes_misplaced", "2"): 0,
        ("hwnuma_threads", "0"): 4, ("hwnuma_threads", "1"): 1, ("hwnuma_threads", "2"): 0,
        ("hwnuma_threads_outside", "0"): 1, ("hwnuma_threads_outside", "1"): 0, ("hwnuma_threads_outside", "2"): 0,
        ("hwnuma_memory_remote_bytes", "0"): 32, ("hwnuma_memory_remote_bytes", "1"): 0,
        ("hwnuma_memory_remote_bytes", "2"): 0,
        ("hwnuma_gpu_processes_defeated", "0numa_balancing"): 2,
        ("hwnuma_gpu_processes_defeated", "1numa_balancing"): 1,
    }  # fmt: skip


def test_labels_are_escaped() -> None:
    """A backslash, a quotation mark and a line's end come back as they were."""
    text = audits_as_prometheus([SECOND], [])
    linted(text)
    uuids = {sample.labels["uuid"] for family in text_string_to_metric_families(text) for sample in family.samples}
    assert uuids == {'GPU-"\\\n'}


def verify(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``hwnuma verify`` with a umask that keeps all from others."""
    return subprocess.run(
        [sys.executable, "-m", "hwnuma", "verify", *words],
        capture_output=True, text=True, check=False, env=clean_environment(**environment), timeout=60, umask=0o077,
    )  # fmt: skip


def this_node() -> tuple[int, CpuSet]:
    """A NUMA node of this machine, and its CPUs."""
    import hwnuma

    with hwnuma.Topology.from_this_system() as topology:
        node = topology.machine().cpu_nodes[0]
    return node.os_index, node.cpuset


def test_the_file_is_whole_and_readable_by_all(tmp_path: Path) -> None:
    """Over a real process; node_exporter is another user; nothing is printed; a link is refused."""
    require(compiler() is not None, "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    node, cpus = this_node()
    file = tmp_path / "hwnuma.prom"
    with waiting(*WAIT) as running:
        os.sched_setaffinity(running.pid, cpus & set(os.sched_getaffinity(0)))
        driver = FakeNvml([FakeGpu("0000:ff:1f.0", processes=[running.pid])]).variables(tmp_path)
        words = ("--gpus", "--gpu-node", f"0={node}", "--prometheus", str(file))
        done = verify(*words, **driver)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        linted(file.read_text())
        values = samples(file.read_text())
        assert (values["hwnuma_gpu_processes", "0"], values["hwnuma_threads_outside", "0"]) == (1, 0)
        assert "ok" in verify(*words, "--format", "table", **driver).stdout
        link = tmp_path / "link.prom"
        link.symlink_to(file)
        refused = verify(*words[:-1], str(link), **driver)
        assert (refused.returncode, "symbolic link" in refused.stderr) == (2, True)


def test_no_process_on_any_gpu_is_all_zeros(tmp_path: Path) -> None:
    """A machine that idles is well: the series stay, and the status is 0."""
    require(compiler() is not None, "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    driver = FakeNvml([FakeGpu("0000:ff:1f.0")]).variables(tmp_path)
    file = tmp_path / "hwnuma.prom"
    assert verify("--gpus", "--gpu-node", "0=0", "--prometheus", str(file), **driver).returncode == 0
    assert set(samples(file.read_text()).values()) == {0}


@pytest.mark.fault("driver", "the driver fails while metrics are written", "gives exit status 2, and the old file")
def test_where_the_driver_fails_the_file_stays(tmp_path: Path) -> None:
    """node_exporter tells the age of it: a file without GPUs would look well."""
    file = tmp_path / "hwnuma.prom"
    file.write_text("as it was\n")
    done = verify("--gpus", "--prometheus", str(file), LD_LIBRARY_PATH=str(tmp_path))
    require("NVIDIA" in done.stderr or "NVML" in done.stderr, "this machine has a driver that works")
    assert done.returncode == 2
    assert file.read_text() == "as it was\n"


def test_metrics_are_of_gpus() -> None:
    """Without --gpus there are none."""
    done = verify("--prometheus", "x.prom", "1")
    assert (done.returncode, "--prometheus goes with --gpus" in done.stderr) == (2, True)
