"""Faults that no other test provokes, and the page of all that are: docs/developers/faults.md."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import faults
from tests.affinity import BEFORE, LAST
from tests.conftest import TOPOLOGIES
from tests.namespaces import can_unshare, in_mounts, without_sysfs
from tests.processes import answer_of, clean_environment
from tests.require import require

HWNUMA = (sys.executable, "-m", "hwnuma")


def test_the_page_of_faults_is_what_the_tests_are_marked_with() -> None:
    """Written by ``python -m tests.faults``."""
    assert faults.PAGE.read_text(encoding="utf-8") == faults.page(faults.collected())


@pytest.mark.root
@pytest.mark.fault("fork", "no process may be started (RLIMIT_NPROC)", "gives one line that says what to raise")
def test_a_limit_of_processes_is_told() -> None:
    """It counts for who is not root: the limit is reached by being another user."""
    require(os.geteuid() == 0, "only root can become another user")
    code = """
import json, os, resource
from hwnuma import HwlocError, Topology
from tests.documents import GOOD
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setuid(65534)
try:
    Topology.from_xml_buffer(GOOD)
except HwlocError as error:
    print(json.dumps([error.errno, error.strerror]))
"""
    (number, told), _ = answer_of(code)
    assert number == errno.EAGAIN
    assert "raise the limit of processes (ulimit -u)" in told


@pytest.mark.fault(
    "signal", "a handler runs every millisecond while files are tried (EINTR)", "gives the machine each time"
)
def test_signals_do_not_disturb_the_trial_of_a_file() -> None:
    """A profiler's timer, say: what waits for the process that tries is not ended by it."""
    code = """
import json, signal
from hwnuma import Topology
from tests.documents import GOOD
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
cores = set()
while len(handled) < 100:
    cores.add(len(Topology.from_xml_buffer(GOOD).machine().cores))
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps(sorted(cores)))
"""
    cores, _ = answer_of(code)
    assert cores == [128]


@pytest.mark.fault("threads", "threads start and end all the time within a block", "gives no error, and all as before")
def test_threads_that_end_within_a_block_are_no_error() -> None:
    """A thread can end between being listed and being moved, on the way in and on the way out."""
    require(len(BEFORE) >= 2, "this process may use one CPU only, and moving needs two")
    code = """
import json, os, threading
import hwnuma
before, done = os.sched_getaffinity(0), threading.Event()
def churn():
    while not done.is_set():
        short = threading.Thread(target=int)
        short.start()
        short.join()
churning = [threading.Thread(target=churn) for _ in range(3)]
for each in churning:
    each.start()
for _ in range(40):
    with hwnuma.bound(hwnuma.CpuSet([max(before)])):
        assert os.sched_getaffinity(0) == {max(before)}
after = [os.sched_getaffinity(each.native_id) == before for each in churning]
done.set()
for each in churning:
    each.join()
print(json.dumps([os.sched_getaffinity(0) == before, *after]))
"""
    assert answer_of(code)[0] == [True] * 4


def _under(mounts: list[tuple[str, str]], *words: str) -> subprocess.CompletedProcess[str]:
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    done = subprocess.run(
        in_mounts(mounts, *HWNUMA, *words),
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done


MY_CPUS = (sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))")
NODES = "/sys/devices/system/node"


@pytest.mark.fault("sysfs", "the lists of NUMA nodes are empty or no lists", "gives the command bound, or one line")
@pytest.mark.parametrize("content", ["", "0-", "x"])
def test_lists_of_nodes_that_are_none(content: str) -> None:
    """As a sandbox that makes up its /sys might have them."""
    if not Path(NODES).is_dir():
        pytest.skip("this kernel has no NUMA, and so no lists of nodes")
    mounts = [(content, f"{NODES}/{name}") for name in ("online", "has_memory") if Path(NODES, name).exists()]
    done = _under(mounts, "exec", "--cpus", str(LAST), "--memory", "preferred", "--", *MY_CPUS)
    if done.returncode:
        assert done.stderr.count("\n") == 1, done.stderr
    else:
        assert done.stdout == f"{LAST}\n"


@pytest.mark.fault("sysfs", "the list of isolated CPUs is cut short", "gives one line")
def test_a_list_of_isolated_cpus_that_is_none() -> None:
    """It decides which CPUs are planned on, so it is not passed over."""
    done = _under([("0-", "/sys/devices/system/cpu/isolated")], "show")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "is no CPU list" in done.stderr


@pytest.mark.fault("sysfs", "/sys is not mounted", "gives the saved machine, with no CPU isolated")
def test_a_saved_machine_is_read_without_sysfs() -> None:
    """One that is said to be this system (HWLOC_THISSYSTEM), in a sandbox that has nothing in /sys."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    told = {"HWLOC_XMLFILE": str(TOPOLOGIES / "dgx_h100.xml"), "HWLOC_THISSYSTEM": "1"}
    done = subprocess.run(
        without_sysfs(*HWNUMA, "show"),
        capture_output=True, text=True, check=False, env=clean_environment(**told), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "package 1" in done.stdout
    assert "isolated" not in done.stdout


@pytest.mark.fault("proc", "the status of a process is empty", "gives one line, and no wrong answer")
@pytest.mark.parametrize("command", ["bind", "verify"])
def test_a_status_of_a_process_that_is_empty(command: str) -> None:
    """A sandbox that hides /proc/PID/status: whose process it is cannot be known then."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            done = _under([("", f"/proc/{process.pid}/status")], command, "--cpus", str(BEFORE), str(process.pid))
        finally:
            process.kill()
    assert done.returncode in (0, 1, 2)
    assert done.returncode == 0 or done.stderr.count("\n") == 1, done.stderr
