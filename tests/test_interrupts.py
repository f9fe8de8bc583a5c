"""Ctrl-C and other interrupts, at every moment: all threads are bound or none is, and commands end by the signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

import hwnuma
from hwnuma import Binding, CpuSet, MemoryPolicy, NodeSet, Topology
from hwnuma.cli import interrupts
from hwnuma.cli.interrupts import ClearedUpFirst
from hwnuma.hwloc.mempolicy import save_policy
from hwnuma.processes import memory, procfs
from hwnuma.processes.binding import apply, bind_thread, to_the_end
from tests.affinity import BEFORE, LAST
from tests.processes import answer_of, clean_environment, waiting

pytestmark = pytest.mark.usefixtures("two_cpus_untouched")

NODE = NodeSet([next(iter(procfs.allowed_nodes() or NodeSet([0])))])
SIGNALS = int(os.environ.get("HWNUMA_SIGNALS", "300"))


# ---- a block that clears up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_block_as_an_exception_and_then_ends_the_process(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes while the block clears up changes nothing; one that is ignored stays so."""
    sent: list[tuple[int, int]] = []
    cleared = False
    ignored = signal.SIGHUP if number == signal.SIGTERM else signal.SIGTERM
    former = [(each, signal.getsignal(each)) for each in (number, ignored)]
    signal.signal(number, signal.SIG_DFL)
    signal.signal(ignored, signal.SIG_IGN)
    monkeypatch.setattr(interrupts.os, "kill", lambda *told: sent.append(told))

    def interrupted() -> None:
        nonlocal cleared
        with ClearedUpFirst():
            assert signal.getsignal(ignored) == signal.SIG_IGN
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)
                cleared = True

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert (sent, cleared, signal.getsignal(number)) == ([(os.getpid(), number)], True, signal.SIG_DFL)
    finally:
        for each, handler in former:
            signal.signal(each, handler)


TURNED = """
import signal, sys
from hwnuma.cli import interrupts
signal.signal(signal.SIGINT, signal.SIG_DFL)
with getattr(interrupts, sys.argv[1])():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        raise RuntimeError("release unlocked lock")
"""


@pytest.mark.fault("signal", "SIGINT in the midst of a lock's own methods", "gives the end by the signal all the same")
@pytest.mark.parametrize("block", ["ClearedUpFirst", "UndoneFirst"])
def test_an_interrupt_that_became_another_error_ends_the_process_too(block: str) -> None:
    """As `threading.Event.wait` makes one of it, once in some hundred times."""
    done = subprocess.run(
        [sys.executable, "-c", TURNED, block],
        capture_output=True, text=True, check=False, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


FINALIZED = """
import signal, sys, time
from hwnuma.cli import interrupts
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.SIG_DFL)
with getattr(interrupts, sys.argv[1])():
    Finalized()
    time.sleep(30)
"""


@pytest.mark.fault("signal", "SIGINT while an object is finalized", "gives the end by the signal all the same")
@pytest.mark.parametrize("block", ["ClearedUpFirst", "UndoneFirst"])
def test_an_interrupt_that_meets_a_finalizer_is_not_lost(block: str) -> None:
    """Python drops what is raised in one: hwnuma bench went on for all its seconds."""
    done = subprocess.run(
        [sys.executable, "-c", FINALIZED, block],
        capture_output=True, text=True, check=False, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


# ---- binding -------------------------------------------------------------------------------------------------

STORM = """
import collections, json, os, random, signal, sys, threading, time
import hwnuma
from hwnuma.cli import interrupts
from hwnuma.cli.interrupts import ClearedUpFirst
from hwnuma import Binding, CpuSet, NumaOptions
from hwnuma.launch.bind import bind_job
from hwnuma.launch.job import Job
what, count = sys.argv[1], int(sys.argv[2])
before = CpuSet(os.sched_getaffinity(0))
to, stop = CpuSet([before.last]), threading.Event()
threads = [threading.Thread(target=stop.wait, daemon=True) for _ in range(4)]
for each in threads: each.start()
tids = [os.getpid(), *(each.native_id for each in threads)]
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
def given(): bind_job(Job(NumaOptions("node")), None, Binding(0, cpuset=to))
def planned(): hwnuma.bind("exclusive", local_rank=1, ranks=2, gpus="none")
def block():
    with hwnuma.bound(to): pass
act = {"given": given, "planned": planned, "block": block}[what]
def attempt(delay):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            act()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return "interrupted"
    return "done"
def state():
    found = {CpuSet(os.sched_getaffinity(tid)) for tid in tids}
    return "before" if found == {before} else "bound" if found == {to} else "between"
def reset():
    for tid in tids: os.sched_setaffinity(tid, before)
took = []
for _ in range(10):
    start = time.monotonic()
    act()
    took.append(time.monotonic() - start)
    reset()
seen = collections.Counter()
for _ in range(count):
    seen[attempt(random.uniform(1e-6, 1.2 * sorted(took)[5])) + " " + state()] += 1
    reset()
print(json.dumps(seen))
"""


@pytest.mark.fault(
    "signal", "a handler raises at any moment of binding and undoing", "gives all threads bound, or none"
)
@pytest.mark.parametrize(("what", "part"), [("given", 6), ("planned", 1), ("block", 3)])
def test_random_signals_leave_all_threads_bound_or_none(
    what: str, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """HWNUMA_SIGNALS of them, at random moments of a bind of five threads; a block never leaves them bound."""
    seen, _ = answer_of(STORM, what, str(SIGNALS * part // 10), timeout=1200)
    with capsys.disabled():
        print(f"\n{what}: {seen}")
    possible = {"interrupted before", "interrupted bound", "done bound"} if what != "block" else {
        "interrupted before", "done before",
    }  # fmt: skip
    assert seen.keys() <= possible
    assert seen["interrupted before"] > 0


class Interrupted:
    """A topology that interrupts this process ahead of or after its n-th call, as a signal's handler would."""

    def __init__(self, topology: Topology, number: int, when: str) -> None:
        self._topology, self._number, self._when = topology, number, when
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._topology, name)
        if not callable(inner):
            return inner

        def outer(*arguments: object) -> Any:
            self.calls += 1
            this_one = self.calls == self._number
            if this_one and self._when == "ahead":
                raise KeyboardInterrupt
            found = inner(*arguments)
            if this_one and self._when == "after":
                raise KeyboardInterrupt
            return found

        return outer


@pytest.mark.fault(
    "signal", "SIGINT ahead of, or after, each call of libhwloc", "gives KeyboardInterrupt, and all as before"
)
@pytest.mark.parametrize("when", ["ahead", "after"])
def test_an_interrupt_at_each_call_of_libhwloc_undoes_all(when: str) -> None:
    """Ahead of each read and move, and right after it: threads and memory policy are as they were."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    tids = [0, *(thread.native_id or 0 for thread in threads)]
    binding = Binding(0, cpuset=LAST, nodeset=NODE, memory=MemoryPolicy.INTERLEAVE)
    policy, number, interrupted = save_policy(), 0, True
    try:
        while interrupted:
            number += 1
            with Topology.for_binding(NODE, LAST) as topology:
                hooked: Any = Interrupted(topology, number, when)
                try:
                    applied = apply(hooked, binding)
                except KeyboardInterrupt:
                    pass
                else:
                    interrupted = False
                    applied.undo(topology)
            assert [CpuSet(os.sched_getaffinity(tid)) for tid in tids] == [BEFORE] * 3
            assert save_policy() == policy
    finally:
        stop.set()
    assert number > 12  # three threads are read, read, moved, and read, and a policy is set and read


@pytest.mark.parametrize("when", ["ahead", "after"])
def test_an_interrupt_while_one_thread_is_bound_puts_it_back(when: str) -> None:
    """`bind_thread` too: read, move, read."""
    for number in (1, 2, 3):
        with Topology.for_binding(cpuset=LAST) as topology:
            hooked: Any = Interrupted(topology, number, when)
            with pytest.raises(KeyboardInterrupt):
                bind_thread(hooked, LAST)
        assert CpuSet(os.sched_getaffinity(0)) == BEFORE


@pytest.mark.fault("signal", "SIGINT while pages are counted", "gives KeyboardInterrupt, and the policy as before")
def test_an_interrupt_while_memory_is_looked_at_undoes_the_policy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting pages takes a second for 100 GiB, so that is where people press Ctrl-C."""

    def interrupted(_pid: int) -> None:
        raise KeyboardInterrupt

    policy = save_policy()
    monkeypatch.setattr(memory, "_pages", interrupted)
    with Topology.for_binding(NODE, LAST) as topology, pytest.raises(KeyboardInterrupt):
        apply(topology, Binding(0, cpuset=LAST, nodeset=NODE, memory=MemoryPolicy.INTERLEAVE))
    assert (CpuSet(os.sched_getaffinity(0)), save_policy()) == (BEFORE, policy)


@pytest.mark.fault(
    "signal", "SIGINT again and again while a binding is undone", "gives all as before, then the interrupt"
)
def test_undoing_goes_on_through_interrupts() -> None:
    """It is done again until it has been done, and the interrupt comes out at the end."""
    done: list[int] = []

    def undo() -> None:
        done.append(len(done))
        if len(done) < 4:
            raise KeyboardInterrupt(len(done))

    with pytest.raises(KeyboardInterrupt, match="3"):
        to_the_end(undo)
    assert done == [0, 1, 2, 3]


def test_what_undoing_raises_comes_out() -> None:
    """An error is no interrupt: it is not done again."""
    done: list[int] = []

    def undo() -> None:
        done.append(0)
        raise KeyError

    with pytest.raises(KeyError):
        to_the_end(undo)
    assert done == [0]


def test_an_interrupt_of_the_undoing_itself_leaves_nothing_bound() -> None:
    """Somebody who presses Ctrl-C twice: the second one comes while the first one is undone."""
    with Topology.for_binding(cpuset=LAST) as topology:
        moving: Any = Interrupted(topology, 3, "after")
        undoing: Any = Interrupted(moving, 5, "ahead")
        with pytest.raises(KeyboardInterrupt):
            apply(undoing, Binding(0, cpuset=LAST))
        assert undoing.calls > 5
    assert CpuSet(os.sched_getaffinity(0)) == BEFORE


# ---- commands ------------------------------------------------------------------------------------------------

# Sends this process SIGINT when a module is about to be imported, or right after a call of a method.
AT = """
import os, signal, sys
where = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == where:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
if where == "a move":
    from hwnuma.hwloc.topology import Topology
    move = Topology.set_thread_cpubind
    def moved(*arguments):
        move(*arguments)
        print("moved", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    Topology.set_thread_cpubind = moved
from hwnuma.cli.start import main
sys.exit(main())
"""


def interrupted(where: str, *words: str, wrap: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command that gets SIGINT at one moment."""
    return subprocess.run(
        [*wrap, sys.executable, "-c", AT, where, *words],
        capture_output=True, text=True, check=False, env=clean_environment(), timeout=60,
    )  # fmt: skip


@pytest.mark.fault("signal", "Ctrl-C in a command", "gives the end by the signal, without a traceback")
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("hwnuma.cli.main", ["plan", "--gpus", "none", "--ranks", "2"]),
        ("hwnuma.hwloc.library", ["plan", "--gpus", "none", "--ranks", "2"]),
        ("hwnuma.model.plan_text", ["plan", "--gpus", "none", "--ranks", "2"]),
        ("hwnuma.hwloc.self_binding", ["exec", "--cpus", str(LAST), "echo", "done"]),
        ("hwnuma.launch.bind", ["exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "echo", "done"]),
        ("hwnuma.processes.verification", ["verify", "--cpus", str(BEFORE), "1"]),
    ],
)
def test_ctrl_c_ends_a_command_by_the_signal_without_a_traceback(where: str, words: list[str]) -> None:
    """Its parent sees that it was interrupted (in a shell: 130), and a loop around it ends too."""
    done = interrupted(where, *words)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_ignored_sigint_stays_ignored() -> None:
    """As a shell has it for what runs in the background: a Ctrl-C is for the one in the foreground."""
    words = ("exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "grep", "SigIgn", "/proc/self/status")
    done = interrupted("hwnuma.launch.bind", *words, wrap=("sh", "-c", 'trap "" INT; exec "$@"', "sh"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1], 16) >> (signal.SIGINT - 1) & 1


def test_hwnuma_python_is_ended_by_the_signal_too() -> None:
    """From its first import on."""
    code = AT.replace("from hwnuma.cli.start import main", "from hwnuma.cli.python import main")
    done = subprocess.run(
        [sys.executable, "-c", code, "hwnuma.launch.bind", "-c", "print('started')"],
        capture_output=True, text=True, check=False, timeout=60,
        env=clean_environment(HWNUMA_GPUS="none", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1"),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.fault("signal", "Ctrl-C while another process is bound", "gives the process as it was")
def test_ctrl_c_in_the_midst_of_hwnuma_bind_puts_the_process_back() -> None:
    """Its main thread was moved already; it is back before hwnuma ends by the signal."""
    with waiting("sh", "-c", "echo ready; read line") as process:
        done = interrupted("a move", "bind", "--cpus", str(LAST), str(process.pid))
        assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
        assert done.stdout == "moved\nmoved\n"  # there, and back, which is interrupted as well
        assert CpuSet(os.sched_getaffinity(process.pid)) == BEFORE


def test_a_program_that_handles_sigint_keeps_its_handler() -> None:
    """The command line as a call in somebody's process: its signals are its own."""
    code = """
import signal, sys
from hwnuma.cli.start import main
handler = signal.getsignal(signal.SIGINT)
assert main(["verify", "--cpus", sys.argv[1], sys.argv[2]]) in (0, 1)
assert main(["bind", "--cpus", sys.argv[1], sys.argv[2]]) == 0
print("true" if signal.getsignal(signal.SIGINT) is handler else "false")
"""
    with waiting("sh", "-c", "echo ready; read line") as process:
        told, _ = answer_of(code, str(LAST), str(process.pid))
    assert told is True


def test_a_keyboard_interrupt_in_a_block_is_the_callers() -> None:
    """It comes out of `bound`, and everything is back."""
    with pytest.raises(KeyboardInterrupt), hwnuma.bound(LAST):
        signal.raise_signal(signal.SIGINT)
    assert CpuSet(os.sched_getaffinity(0)) == BEFORE
