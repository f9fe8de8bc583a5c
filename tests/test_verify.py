"""`hwnuma.verify` and ``hwnuma verify``: real processes, moved away on purpose; a fake driver for those on GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import hwnuma
from hwnuma import Binding, BindingError, CpuSet, NodeSet, OptionError
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from hwnuma.processes import procfs, refusals
from hwnuma.processes.refusals import not_readable
from hwnuma.processes.trust import why_foreign
from hwnuma.processes.verification import Expected, audit_gpu_processes
from tests import forked
from tests.affinity import BEFORE, FIRST, LAST
from tests.conftest import load_machine, synthetic
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.processes import FIFTY_THREADS, clean_environment, waiting
from tests.require import require

pytestmark = pytest.mark.usefixtures("two_cpus_and_back")

FIFTY_WAITING = FIFTY_THREADS + "print('ready', flush=True); sys.stdin.readline()"
EXEC_LAST = (sys.executable, "-m", "hwnuma", "exec", "--cpus", str(LAST))
WAIT = ("sh", "-c", "echo ready; read line")
NOBODY = 4194303  # more than any kernel numbers processes to


def verify(*arguments: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``hwnuma verify`` and check its exit status."""
    done = forked.hwnuma(["verify", *map(str, arguments)], clean_environment(**environment))
    assert done.returncode == status, done.stdout + done.stderr
    return done


def rows(*arguments: object, status: int = 0, **environment: str) -> list[dict[str, Any]]:
    """The processes of ``hwnuma verify --format json``."""
    answer: dict[str, Any] = json.loads(verify("--format", "json", *arguments, status=status, **environment).stdout)
    assert answer["schema"] == 1
    return list(answer["processes"])


# ---- the library ---------------------------------------------------------------------------------------------


def test_a_thread_moved_away_is_named_with_both_sets() -> None:
    """Thread, name, expected, found; one line each."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        binding = Binding(0, cpuset=LAST)
        assert hwnuma.verify(binding, process.pid).ok
        os.sched_setaffinity(process.pid, FIRST)
        found = hwnuma.verify(binding, process.pid)
        (drift,) = found.drift
        assert (drift.tid, drift.name, drift.expected, drift.found) == (process.pid, "sh", LAST, FIRST)
        assert str(drift) == f"thread {process.pid} (sh) is on CPUs {FIRST}, expected {LAST}"
        assert found.problems == (f"1 of 1 threads may run outside CPUs {LAST}",)


def test_a_narrower_thread_is_named_and_is_off_only_if_asked() -> None:
    """OpenMP pins threads within a binding, and that is fine."""
    with waiting(sys.executable, "-c", FIFTY_WAITING, str(LAST)) as process:
        found = hwnuma.verify(Binding(0, cpuset=BEFORE), process.pid)
        assert (len(found.drift), found.outside, found.ok) == (5, (), True)
        strict = hwnuma.verify(Binding(0, cpuset=BEFORE), process.pid, exact=True)
        assert strict.problems == (f"5 threads are pinned to some of CPUs {BEFORE}",)


def test_a_process_that_was_narrowed_as_a_whole_is_off() -> None:
    """An outer launcher's one core: inside, but none of the threads can use the rest."""
    with waiting(*WAIT) as process:
        os.sched_setaffinity(process.pid, FIRST)
        found = hwnuma.verify(Binding(0, cpuset=BEFORE), process.pid)
        assert found.unreached_cpuset == BEFORE - FIRST
        assert not found.ok


def test_this_process_is_verified_by_default() -> None:
    """Without a pid; with CPUs instead of a Binding too."""
    assert hwnuma.verify(BEFORE).pid == os.getpid()
    assert hwnuma.verify(BEFORE).ok
    assert not hwnuma.verify(LAST).ok


def test_nothing_expected_is_an_error() -> None:
    """A process that hwnuma exec did not start has no record."""
    with waiting(*WAIT) as process, pytest.raises(OptionError, match="nothing says where process"):
        hwnuma.verify(pid=process.pid)


@pytest.mark.fault("proc", "the process to verify is not there", "gives one line with its number")
def test_a_process_that_is_not_there() -> None:
    """An error with the pid."""
    with pytest.raises(BindingError, match="no process 4194303"):
        hwnuma.verify(LAST, pid=4194303)


def test_a_binding_that_carries_an_error_cannot_be_verified() -> None:
    """Its own error comes out."""
    with pytest.raises(OptionError, match="so it is"):
        hwnuma.verify(Binding(0, error=OptionError("so it is")))


# ---- the command line ----------------------------------------------------------------------------------------


def test_what_exec_did_is_verified_by_its_record() -> None:
    """Without options: the record in the process's own environment says what is expected."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        (row,) = rows(process.pid)
        assert (row["ok"], row["expected"]["cpuset"], row["threads"], row["drift"]) == (True, str(LAST), 1, [])
        os.sched_setaffinity(process.pid, BEFORE)
        (row,) = rows(process.pid, status=1)
        assert row["drift"] == [
            {"tid": process.pid, "name": "sh", "expected": str(LAST), "found": str(BEFORE), "inside": False}
        ]
        first, *_, last = verify(process.pid, status=1).stdout.splitlines()
        assert first.endswith(f": 1 of 1 threads may run outside CPUs {LAST}")
        assert last.split() == [str(process.pid), "sh", str(LAST), str(BEFORE), "outside"]


def test_the_record_is_inherited_by_what_the_command_starts() -> None:
    """A worker's own children are expected where it is."""
    with waiting(*EXEC_LAST, "sh", "-c", "sleep 60 >/dev/null & echo ready; wait") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert [row["expected"]["cpuset"] for row in rows(*children)] == [str(LAST)]


def test_fifty_threads_are_named_on_the_command_line() -> None:
    """Those that are outside, and no others; a status of 1."""
    with waiting(*EXEC_LAST, sys.executable, "-c", FIFTY_WAITING, str(FIRST)) as process:
        (row,) = rows(process.pid, status=1)
        assert (row["threads"], len(row["drift"])) == (51, 5)
        assert {drift["found"] for drift in row["drift"]} == {str(FIRST)}


def test_expected_cpus_can_be_said() -> None:
    """`--cpus` goes before the record."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        assert rows("--cpus", FIRST, process.pid, status=1)[0]["expected"]["source"] == "--cpus"


def test_without_a_record_the_rank_is_planned_from_the_processes_environment() -> None:
    """As `hwnuma exec` would have done in it: here a rank without a GPU, by the variables of its launcher."""
    variables = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "HWNUMA_GPUS": "none", "HWNUMA_MODE": "exclusive"}
    with waiting(*WAIT, **variables) as process:
        (row,) = rows(process.pid, status=1)
        assert (row["expected"]["cpuset"], row["expected"]["source"]) == (
            str(LAST),
            "the plan for its rank, mode exclusive",
        )
        os.sched_setaffinity(process.pid, LAST)
        assert rows(process.pid)[0]["ok"]


def test_a_memory_policy_that_is_missing_is_off() -> None:
    """Expected by `--memory`, read from the thread's own numa_maps."""
    require(Path("/proc/self/numa_maps").exists(), "there is no /proc/self/numa_maps: a sandbox, or no NUMA kernel")
    node = NodeSet([next(iter(procfs.allowed_nodes() or NodeSet([0])))])
    with waiting(*EXEC_LAST, "--memory", "bind", "--nodes", str(node), *WAIT) as process:
        (row,) = rows(process.pid)
        assert (row["expected"]["memory"], row["remote_bytes"]) == ("bind", 0)
        assert row["pages"]["own"][str(node)] > 0
    with waiting(*EXEC_LAST, *WAIT) as process:
        (row,) = rows("--cpus", LAST, "--nodes", node, "--memory", "bind", process.pid, status=1)
        assert [(drift["expected"], drift["found"]) for drift in row["memory_drift"]] == [(f"bind:{node}", "none")]


def test_nothing_verified_is_status_2() -> None:
    """No such process, nothing to go by, nothing asked for: each says so in one line."""
    assert "no process 4194303" in verify(4194303, status=2).stderr
    assert "say what to verify" in verify(status=2).stderr
    with waiting(*WAIT, HWNUMA_GPUS="none") as process:
        assert "give --cpus LIST" in verify(process.pid, status=2).stderr


def test_one_of_two_that_cannot_be_verified_is_status_1() -> None:
    """The other one is told all the same."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        assert [row["pid"] for row in rows(process.pid, 4194303, status=1)] == [process.pid]


# ---- processes on GPUs ---------------------------------------------------------------------------------------


def fake_driver(tmp_path: Path, *processes: int) -> dict[str, str]:
    """The variables of a driver with one GPU, at a PCI device of this machine or nowhere, and these processes on it."""
    require(compiler() is not None, "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    return FakeNvml([FakeGpu("0000:ff:1f.0", processes=processes)]).variables(tmp_path)


def this_node() -> tuple[int, CpuSet]:
    """A NUMA node of this machine with CPUs."""
    with hwnuma.Topology.from_this_system() as topology:
        node = topology.machine().cpu_nodes[0]
    return node.os_index, node.cpuset


def test_gpu_processes_are_audited(tmp_path: Path) -> None:
    """NVML's processes against the CPUs of the GPU's node: one table, and JSON; a status of 0 when all are near."""
    node, cpus = this_node()
    with waiting(*EXEC_LAST, *WAIT) as process:
        driver = fake_driver(tmp_path, process.pid)
        os.sched_setaffinity(process.pid, cpus & BEFORE)
        (row,) = rows("--gpus", "--gpu-node", f"0={node}", **driver)
        assert (row["pid"], row["ok"], row["expected"]["cpuset"], row["numa_nodes"]) == (
            process.pid, True, str(cpus), str(node),
        )  # fmt: skip
        text = verify("--gpus", "--gpu-node", f"0={node}", **driver).stdout
        assert text.splitlines()[0].split()[:3] == ["pid", "name", "GPU"]
        assert f"{process.pid}" in text


@pytest.mark.fault("driver", "NVML tells processes of another PID namespace", "gives each named, and exit status 2")
def test_gpu_processes_that_are_not_there_cannot_be_verified(tmp_path: Path) -> None:
    """NVML in a container may tell the host's pids: named, and a status of 2 if none could be verified."""
    node, _ = this_node()
    (row,) = rows("--gpus", "--gpu-node", f"0={node}", status=2, **fake_driver(tmp_path, 4194303))
    assert row["ok"] is None
    assert "another container" in row["error"]
    assert "no process is on any" in verify("--gpus", status=2, **fake_driver(tmp_path)).stderr


def audit(machine: Machine, gpu: Gpu, pid: int, mode: str = "node") -> tuple[bool | None, str]:
    """Audit one process against a machine that is not here: verdict, and what was expected or is wrong."""
    (found,) = audit_gpu_processes(machine, [(gpu, pid)], mode=hwnuma.AffinityMode(mode))
    return found.ok, found.error or str(found.verification and found.verification.expected.cpuset)


def test_a_process_away_from_its_gpu_is_off() -> None:
    """A machine whose node 1 has other CPUs than the process is on: its thread is outside; in the socket, it is not."""
    machine = synthetic("pack:2 numa:2 core:64 pu:1")
    require(BEFORE.first < 64, "the first CPU of this process is above 63, and the test's machine has it elsewhere")
    with waiting(*WAIT) as process:
        os.sched_setaffinity(process.pid, FIRST)
        assert audit(machine, Gpu(0, numa_node=0), process.pid) == (True, "0-63")
        assert audit(machine, Gpu(0, numa_node=1), process.pid) == (False, "64-127")
        assert audit(machine, Gpu(0, numa_node=1), process.pid, "socket") == (True, "0-127")


def test_memory_of_the_gpus_own_node_is_near() -> None:
    """GB200: a GPU's memory is a NUMA node without CPUs, near its Grace."""
    machine = load_machine("gb200_nvl72_tray")
    with waiting(*WAIT) as process:
        (found,) = audit_gpu_processes(machine, [(Gpu(0, numa_node=0), process.pid)])
    assert found.verification is not None
    assert len(found.verification.expected.nodeset) > 1
    assert 1 not in found.verification.expected.nodeset


def test_a_gpu_of_unknown_place_is_told() -> None:
    """Its process cannot be verified, and the remedy is named."""
    ok, error = audit(synthetic("numa:2 core:2 pu:1"), Gpu(0), os.getpid())
    assert ok is None
    assert "--gpu-node" in error


def test_the_record_of_a_binding_is_read_back() -> None:
    """`Binding.record` and `Expected.recorded` are each other's inverse."""
    binding = Binding(0, cpuset=CpuSet("0-3,8"), nodeset=NodeSet("1"), memory=hwnuma.MemoryPolicy.INTERLEAVE)
    read = Expected.recorded(binding.record())
    assert read is not None
    assert (read.cpuset, read.nodeset, read.memory) == (binding.cpuset, binding.nodeset, binding.memory)
    assert Expected.recorded({}) is None


# ---- what the kernel does not tell ---------------------------------------------------------------------------


def test_a_policy_that_is_not_told_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a thread that has ended meanwhile is none."""
    ended = threading.get_native_id() + 1
    listed, real = procfs.thread_ids, procfs.affinity

    def affinity(thread: int) -> CpuSet:
        if thread == ended:
            raise ProcessLookupError
        return real(thread)

    monkeypatch.setattr(procfs, "thread_policy", lambda _thread, _pid=None: None)
    monkeypatch.setattr(procfs, "thread_ids", lambda pid=None: [*listed(pid), ended])
    monkeypatch.setattr(procfs, "affinity", affinity)
    found = hwnuma.verify(Binding(0, cpuset=BEFORE, nodeset=NodeSet("0"), memory=hwnuma.MemoryPolicy.BIND))
    assert ended not in {thread.tid for thread in found.threads}
    assert "the memory policy was not verified: the kernel does not tell it (numa_maps)" in found.notes


def test_without_the_kernels_files_there_is_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /sys/devices/system/node, as in a sandbox: node 0, of which nothing more is known."""

    def missing(path: str) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(procfs, "_content", missing)
    assert procfs.nodes_with_memory() == procfs.online_nodes() == NodeSet("0")
    assert procfs.nodes_of_cpus(BEFORE) == NodeSet()
    assert procfs.node_memory(0) is None
    assert (procfs.status(None, "Uid"), procfs.flags(os.getpid())) == (None, None)


def test_of_a_process_that_is_not_there_nothing_is_known() -> None:
    """No name, no owner, no policy; and why its files cannot be read."""
    assert (procfs.thread_name(NOBODY, NOBODY), procfs.owner(NOBODY)) == ("", None)
    assert procfs.thread_policy(NOBODY, NOBODY) is None
    assert why_foreign(NOBODY) == "its user is not known"
    assert "there is no process 4194303 here" in not_readable(NOBODY, "numa_maps", FileNotFoundError())
    said = not_readable(os.getpid(), "numa_maps", FileNotFoundError())
    assert said == f"there is no /proc/{os.getpid()}/numa_maps: this is a sandbox, or a kernel without NUMA"


def test_whose_right_it_is_depends_on_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root; and root of another user namespace."""
    denied = PermissionError()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not_readable(1, "environ", denied).endswith("that is for its own user, or for root with CAP_SYS_PTRACE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(refusals, "_has", lambda _capability: True)
    monkeypatch.setattr(refusals, "_in_another_user_namespace", lambda _pid: True)
    assert "it is in another user namespace, where this root has no rights" in not_readable(1, "environ", denied)


def test_a_process_is_held_against_what_exec_recorded() -> None:
    """From Python, as from the command line; of this process itself there is no record, and no word is foreign."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        found = hwnuma.verify(pid=process.pid)
    assert (found.pid, found.ok, [thread.cpuset for thread in found.threads]) == (process.pid, True, [LAST])
    assert why_foreign(os.getpid()) == ""
