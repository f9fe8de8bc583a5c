"""What is not to be bound, or cannot be looked at: one clear line, and everything is as it was."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hwnuma
from hwnuma import Binding, BindingError, CpuSet, OptionError
from hwnuma.processes import procfs
from hwnuma.processes.binding import LARGEST_CPU
from tests import forked
from tests.affinity import BEFORE, FIRST, LAST
from tests.namespaces import can_unshare, with_anothers_proc, without_proc
from tests.processes import FIFTY_THREADS, clean_environment, waiting
from tests.require import require
from tests.seccomp import can_deny

pytestmark = pytest.mark.usefixtures("two_cpus_untouched")

HWNUMA = (sys.executable, "-m", "hwnuma")
WAIT = ("sh", "-c", "echo ready; read line")
FIFTY_WAITING = FIFTY_THREADS + "print('ready', flush=True); sys.stdin.readline()"
MY_CPUS = (sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))")


def run(*command: str, status: int) -> subprocess.CompletedProcess[str]:
    """Run a command, check its exit status, and that no traceback is all that it says."""
    if command[: len(HWNUMA)] == HWNUMA:
        done = forked.hwnuma(command[len(HWNUMA) :], clean_environment())
    else:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean_environment(), timeout=60
        )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


# ---- no /proc ------------------------------------------------------------------------------------------------

FIVE_THREADS = """
import logging, os, sys, threading
import hwnuma
from hwnuma import Binding, CpuSet, NumaOptions
logging.basicConfig(format="%(message)s")
before, stop = os.sched_getaffinity(0), threading.Event()
threads = [threading.Thread(target=stop.wait, daemon=True) for _ in range(4)]
for each in threads:
    each.start()
def bind(options):
    return hwnuma.bind(NumaOptions("exclusive", **options), local_rank=0, ranks=2, gpus="none")
def block(options):
    with hwnuma.bound(CpuSet([max(before)])):
        print("bound")
how = {"bind": bind, "bound": block}[sys.argv[1]]
try:
    how({"should_fall_back_if_binding_fails": sys.argv[2] == "fallback"})
except hwnuma.BindingError as error:
    print(error.errno, error.strerror)
stray = [each for each in threads if os.sched_getaffinity(each.native_id) != before]
print("as before" if os.sched_getaffinity(0) == before and not stray else "changed")
"""


@pytest.mark.fault(
    "proc", "/proc is not mounted, or is another PID namespace's", "gives an error, and no thread is moved"
)
@pytest.mark.parametrize("wrap", [without_proc, with_anothers_proc])
@pytest.mark.parametrize("how", ["bind", "bound"])
def test_a_process_whose_threads_cannot_be_listed_is_not_bound(wrap: object, how: str) -> None:
    """Without its /proc, four of five threads would be left where they are: none is moved, and it says why."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    assert callable(wrap)
    done = run(*wrap(sys.executable, "-c", FIVE_THREADS, how, "raise"), status=0)
    said, after = done.stdout.splitlines()
    assert said.startswith(f"{errno.ENOENT} process ")
    assert "is not bound, since its threads cannot be listed" in said
    assert ("/proc is not mounted here" if wrap is without_proc else "another PID namespace") in said
    assert "hwnuma exec needs no /proc" in said
    assert after == "as before"


@pytest.mark.fault(
    "proc", "the same, with should_fall_back_if_binding_fails", "gives a warning, and the process as it was"
)
def test_that_is_a_failure_to_fall_back_from() -> None:
    """As any other: the reason is logged, and the process goes on as it was."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    done = run(*without_proc(sys.executable, "-c", FIVE_THREADS, "bind", "fallback"), status=0)
    assert done.stdout == "as before\n"
    assert "running unbound, as asked" in done.stderr


@pytest.mark.fault("proc", "/proc is not mounted, under hwnuma exec", "gives the command bound")
@pytest.mark.parametrize("wrap", [without_proc, with_anothers_proc])
@pytest.mark.parametrize("options", [["--cpus", str(LAST)], ["--gpus", "none", "--ranks", "1", "--local-rank", "0"]])
def test_exec_needs_no_proc(wrap: object, options: list[str]) -> None:
    """What becomes the command is the calling thread alone (execve ends all others), and that one it can bind."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    assert callable(wrap)
    done = run(*wrap(*HWNUMA, "exec", *options, "--", *MY_CPUS), status=0)
    assert (CpuSet(map(int, done.stdout.split())), done.stderr) == (LAST if "--cpus" in options else BEFORE, "")


EXEC_WITH_THREADS = """
import sys, threading
from hwnuma.__main__ import main
for _ in range(4):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
sys.exit(main())
"""


def test_exec_binds_no_thread_that_ends_with_it() -> None:
    """A process that has others all the same (started by a .pth file, say) is bound as the command will have it."""
    done = run(sys.executable, "-c", EXEC_WITH_THREADS, "exec", "--cpus", str(LAST), "--", *MY_CPUS, status=0)
    assert done.stdout == f"{LAST}\n"


@pytest.mark.fault(
    "proc", "/proc does not show the threads of the process to bind", "gives an error, and no thread is moved"
)
@pytest.mark.parametrize("wrap", [without_proc, with_anothers_proc])
def test_another_process_is_bound_as_a_whole_or_not_at_all(wrap: object) -> None:
    """Without a /proc that shows its 51 threads, not even the main one is moved."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    assert callable(wrap)
    with waiting(sys.executable, "-c", FIFTY_WAITING, str(FIRST)) as process:
        done = run(*wrap(*HWNUMA, "bind", "--cpus", str(LAST), str(process.pid)), status=1)
        assert "/proc" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        done = run(*wrap(*HWNUMA, "verify", "--cpus", str(LAST), str(process.pid)), status=2)
        assert "/proc" in done.stderr
        found = {CpuSet(os.sched_getaffinity(tid)) for tid in procfs.thread_ids(process.pid)}
        assert found == {BEFORE, FIRST}


AS_SOMEBODY_ELSE = """
import importlib, os, subprocess, sys  # all that is imported later, too: Python may be in root's home
import hwnuma, hwnuma.launch.bind, hwnuma.processes.refusals, hwnuma.processes.verification
subprocess.run(["mount", "-o", "remount,hidepid=" + sys.argv[1], "/proc"], check=True)
roots = subprocess.Popen(["sleep", "60"])
os.setgroups([])
os.setgid(65534)  # group 0 may see all
os.setuid(65534)
to = hwnuma.CpuSet(sys.argv[2])
for call in (lambda: hwnuma.bind_process(roots.pid, hwnuma.Binding(0, cpuset=to)), lambda: hwnuma.verify(to, roots.pid)):
    try:
        call()
    except hwnuma.BindingError as error:
        print(error.strerror)
"""


@pytest.mark.fault("proc", "/proc is mounted with hidepid", "gives one line that says so")
@pytest.mark.root
@pytest.mark.parametrize("hidden", ["noaccess", "invisible"])
def test_a_process_that_proc_hides_is_told_from_one_that_is_not_there(hidden: str) -> None:
    """The kernel tells its main thread's affinity all the same, and who has CAP_SYS_NICE would move that alone."""
    require(os.geteuid() == 0, "mounting /proc needs root")
    # Who it becomes may not write down what coverage has noted.
    own = (
        "env",
        "--unset=COVERAGE_PROCESS_START",
        "--unset=COVERAGE_PROCESS_CONFIG",
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    )
    done = run(*own, sys.executable, "-c", AS_SOMEBODY_ELSE, hidden, str(LAST), status=0)
    bind, verify = done.stdout.splitlines()
    assert "is not bound, since its threads cannot be listed" in bind
    assert "hidepid" in bind
    assert ("may not be read" if hidden == "noaccess" else "there is no process") in verify


# ---- no permission -------------------------------------------------------------------------------------------

DENIED = """
import os, sys
from tests.seccomp import deny
deny(sys.argv[1])
os.execv(sys.executable, [sys.executable, "-m", "hwnuma", *sys.argv[2:]])
"""


@pytest.mark.fault("seccomp", "sched_getaffinity is denied", "gives one line that names the sandbox")
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["exec", "--cpus", str(LAST), "true"], 1),
        (["exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "true"], 1),
        (["plan", "--gpus", "none", "--ranks", "2"], 1),
        (["verify", "--cpus", str(LAST), "PID"], 2),
        (["bind", "--cpus", str(LAST), "PID"], 1),
    ],
)
def test_a_denied_sched_getaffinity_is_told(words: list[str], status: int) -> None:
    """By a real seccomp filter: one line that names the call, and nothing is bound that could not be read back."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    with waiting(*WAIT) as process:
        words = [word.replace("PID", str(process.pid)) for word in words]
        done = run(sys.executable, "-c", DENIED, "sched_getaffinity", *words, status=status)
        assert len(done.stderr.splitlines()) == 1
        assert "sched_getaffinity of thread" in done.stderr
        assert "seccomp" in done.stderr
        assert CpuSet(os.sched_getaffinity(process.pid)) == BEFORE


@pytest.mark.fault(
    "seccomp", "sched_setaffinity is denied for another process", "gives one line that tells it from a lack of rights"
)
def test_a_sandbox_that_denies_moving_anything_is_told_from_a_process_of_somebody_elses() -> None:
    """It denies hwnuma's own thread too, so it is not about whose process it is."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    with waiting(*WAIT) as process:
        words = ("bind", "--cpus", str(LAST), str(process.pid))
        done = run(sys.executable, "-c", DENIED, "sched_setaffinity", *words, status=1)
        assert "denied to this process even for itself" in done.stderr


NOBODY = ("setpriv", "--reuid", "65534", "--clear-groups")


@pytest.mark.fault("seccomp", "root without CAP_SYS_NICE or CAP_SYS_PTRACE", "gives one line that names the capability")
@pytest.mark.root
@pytest.mark.parametrize(
    ("sandbox", "said"),
    [
        (("setpriv", "--bounding-set", "-sys_nice"), "this root lacks CAP_SYS_NICE"),
        (("unshare", "--map-root-user"), "another user namespace"),
    ],
)
def test_a_root_that_has_not_all_rights_is_told_what_it_lacks(sandbox: tuple[str, ...], said: str) -> None:
    """A container's root is root, so that "only its user or root" helps nobody."""
    require(os.geteuid() == 0, "becoming another user needs root")
    with waiting(*NOBODY, *WAIT) as process:
        done = run(*sandbox, *HWNUMA, "bind", "--cpus", str(LAST), str(process.pid), status=1)
        assert f"process {process.pid} of user 65534" in done.stderr
        assert said in done.stderr
        assert CpuSet(os.sched_getaffinity(process.pid)) == BEFORE


@pytest.mark.fault("proc", "the environment of a process may not be read", "gives one line that names what is missing")
@pytest.mark.root
def test_an_environment_that_may_not_be_read_is_told_with_what_is_missing() -> None:
    """`hwnuma bind PID` plans by the process's environment, which takes another capability."""
    require(os.geteuid() == 0, "becoming another user needs root")
    # Since Linux 6.15 CAP_PERFMON does as well, which CAP_SYS_ADMIN includes (kernel/fork.c, may_access_mm).
    without = ("setpriv", "--bounding-set", "-sys_ptrace,-perfmon,-sys_admin")
    with waiting(*NOBODY, *WAIT) as process:
        done = run(*without, *HWNUMA, "bind", str(process.pid), status=1)
        assert f"/proc/{process.pid}/environ may not be read: this root lacks CAP_SYS_PTRACE" in done.stderr


_KERNEL_THREAD, _NO_SETAFFINITY = 0x00200000, 0x04000000


@pytest.mark.root
def test_a_thread_of_the_kernels_is_named_as_such() -> None:
    """One that is bound to its CPU for good: no message about cgroups."""
    both = _KERNEL_THREAD | _NO_SETAFFINITY
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    flags = {pid: procfs.flags(pid) or 0 for pid in pids}
    fixed = [pid for pid, its in flags.items() if its & both == both]
    require(os.geteuid() == 0 and fixed != [], "this is not root, or a container that shows no kernel threads")
    done = run(*HWNUMA, "bind", "--cpus", str(BEFORE), str(fixed[0]), status=1)
    assert "one of the kernel's own threads" in done.stderr


# ---- numbers that make no sense ------------------------------------------------------------------------------


@pytest.mark.parametrize("pid", ["0", "-1", "4194305", "99999999999", "9" * 5001, "\u00b21", "1.0", "x"])
@pytest.mark.parametrize("command", ["bind", "verify"])
def test_a_pid_that_no_process_can_have_is_one_line(command: str, pid: str) -> None:
    """To the kernel, 0 is whoever asks: hwnuma would bind itself, and say nothing."""
    done = run(*HWNUMA, command, "--cpus", str(LAST), "--", pid, status=2)
    assert "and not a whole number from 1 to 4194304" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("pid", [0, -1, 1 << 40])
def test_nor_does_the_library_take_it(pid: int) -> None:
    """Both calls, and this process is where it was."""
    with pytest.raises(OptionError, match="PID is"):
        hwnuma.bind_process(pid, Binding(0, cpuset=LAST))
    with pytest.raises(OptionError, match="PID is"):
        hwnuma.verify(LAST, pid)


def test_all_pids_are_read_ahead_of_the_first_that_is_bound() -> None:
    """A mistake in the second leaves the first process where it is."""
    with waiting(*WAIT) as process:
        run(*HWNUMA, "bind", "--cpus", str(LAST), str(process.pid), "0", status=2)
        assert CpuSet(os.sched_getaffinity(process.pid)) == BEFORE


@pytest.mark.parametrize("cpus", [f"0-{LARGEST_CPU + 1}", "0-20000", "0-1048575"])
@pytest.mark.parametrize("words", [["exec", "--", "true"], ["bind", str(os.getpid())]])
def test_a_cpu_that_no_linux_has_is_an_error_at_once(cpus: str, words: list[str]) -> None:
    """Said before a topology with all of them is made, which took minutes."""
    done = run(*HWNUMA, words[0], "--cpus", cpus, *words[1:], status=2)
    assert f"they are numbered from 0 to {LARGEST_CPU} at most" in done.stderr


def test_as_many_cpus_as_linux_can_have_are_told_in_a_second() -> None:
    """`Topology.for_binding` has them all, and the kernel's answer is the error."""
    start = time.monotonic()
    with pytest.raises(BindingError, match=f"gave CPUs {BEFORE}:"), hwnuma.bound(CpuSet(f"0-{LARGEST_CPU}")):
        pytest.fail("there is no such machine here")
    assert time.monotonic() - start < 60


def test_a_sandboxed_root_is_not_claimed_to_lack_what_it_has() -> None:
    """What the kernel says of this process: its capabilities as a number, and its own flags without those of kernel threads."""
    status = Path("/proc/self/status").read_text()
    assert f"CapEff:\t{procfs.status(None, 'CapEff')}\n" in status
    flags = procfs.flags(os.getpid())
    assert flags is not None
    assert flags & _KERNEL_THREAD == 0
