"""``hwnuma verify --watch``: what changed on made-up looks; and real processes that are moved, end, and are interrupted.

Whoever waits for an event reads the watch's next line, so nothing here depends on how long anything takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hwnuma import CpuSet, MemoryPolicy, NodeSet, OptionError
from hwnuma.cli.watch import seconds_of
from hwnuma.model.value import replace
from hwnuma.processes import procfs
from hwnuma.processes.procfs import Pages, ThreadPolicy
from hwnuma.processes.verification import Defeater, Expected, ThreadState, Verification
from hwnuma.processes.watching import Seen, Watcher
from tests.affinity import BEFORE, LAST
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.processes import clean_environment, waiting
from tests.require import require

EXEC_LAST = (sys.executable, "-m", "hwnuma", "exec", "--cpus", str(LAST))
WAIT = ("sh", "-c", "echo ready; read line")
# Longer than any test: what comes earlier did not wait for the next look.
NEVER = "600"

PLACE = Expected(CpuSet("0-3"), NodeSet("0"), MemoryPolicy.BIND, "test")
POLICY = ThreadPolicy(MemoryPolicy.BIND, NodeSet("0"))
MIB = 1 << 20


def state(*threads: tuple[int, str], own: dict[int, int] | None = None, policy: ThreadPolicy = POLICY) -> Verification:
    """A process as it may be found: threads by number and CPUs."""
    found = tuple(ThreadState(tid, "worker", CpuSet(cpus), policy) for tid, cpus in threads)
    return Verification(7, "python", PLACE, found, Pages(own or {0: 100 * MIB}))


WELL = state((7, "0-3"))


def told(*looks: Verification | None) -> list[str]:
    """The events' words of one process that is found so at each look; None is none."""
    watcher, words = Watcher(), []
    for at, found in enumerate(looks):
        words += [event.event for event in watcher.look(at, [] if found is None else [Seen(7, 1, found)])]
    return words


# ---- what changed --------------------------------------------------------------------------------------------


def test_a_process_is_told_once_as_long_as_nothing_changes() -> None:
    """And when it ends."""
    assert told(WELL, WELL, WELL, None, None) == ["watched", "ended"]


def test_a_thread_that_leaves_and_comes_back() -> None:
    """One event each; one that goes on elsewhere is told again; one that ends there is not back."""
    away, further = state((7, "0-3"), (8, "9")), state((7, "0-3"), (8, "10"))
    two = state((7, "0-3"), (8, "0-3"))
    assert told(two, away, away, further, two) == ["watched", "thread_left", "thread_left", "thread_back"]
    assert told(WELL, away, WELL) == ["watched", "thread_outside"]


def test_what_is_outside_at_the_first_look_is_told() -> None:
    """The first look has nothing before it, and still names each thread."""
    assert told(state((7, "0-3"), (8, "9"))) == ["watched", "thread_outside"]


def test_a_process_that_is_narrowed() -> None:
    """Its threads are on some of the CPUs only, and later on all again."""
    assert told(WELL, state((7, "0-1")), state((7, "0-1")), WELL) == ["watched", "narrowed", "widened"]


def test_pinned_threads_count_where_exactness_is_asked_for() -> None:
    """With --exact a narrower thread is off, and told as one."""
    two = replace(state((7, "0-3"), (8, "0-3")), exact=True)
    pinned = replace(state((7, "0-3"), (8, "1")), exact=True)
    assert told(two, pinned, two) == ["watched", "thread_left", "thread_back"]
    assert told(replace(two, exact=False), replace(pinned, exact=False)) == ["watched"]


def test_remote_memory_is_told_as_it_grows_past_bounds() -> None:
    """By 64 MiB and a tenth of all, over what was told last; once it has shrunk by half, it is told anew."""
    grown = [state((7, "0-3"), own={0: 100 * MIB, 1: size * MIB}) for size in (63, 64, 127, 128, 10, 80)]
    words = told(*grown)
    assert words == ["watched", "remote_memory", "remote_memory", "remote_memory"]
    large = [state((7, "0-3"), own={0: 10_000 * MIB, 1: size * MIB}) for size in (900, 1200)]
    assert told(*large) == ["watched", "remote_memory"], "a tenth of 10 GiB is more than 64 MiB"


def test_a_memory_policy_that_changes() -> None:
    """And one that is set again."""
    lost = state((7, "0-3"), policy=ThreadPolicy(MemoryPolicy.NONE, NodeSet()))
    assert told(WELL, lost, lost, WELL) == ["watched", "policy_changed", "policy_back"]


def test_a_defeater_that_appears_and_goes() -> None:
    """With its remedy; information is no event."""
    defeated = replace(WELL, defeaters=(Defeater("numa_balancing", "warning", "it is on", "switch it off"),))
    informed = replace(WELL, defeaters=(Defeater("huge", "information", "so it is", "nothing"),))
    assert told(WELL, defeated, defeated, WELL) == ["watched", "defeater", "defeater_gone"]
    assert told(WELL, informed, WELL) == ["watched"]
    watcher = Watcher()
    watcher.look(0, [Seen(7, 1, WELL)])
    (event,) = watcher.look(1.25, [Seen(7, 1, defeated)])
    text = "defeated by numa_balancing: it is on; remedy: switch it off"
    assert str(event) == f"+1.2 s process 7 (python): {text}"
    assert event.as_dict() == {
        "seconds": 1.25, "pid": 7, "name": "python", "event": "defeater", "text": text,
        "defeater": "numa_balancing", "found": "it is on", "remedy": "switch it off",
    }  # fmt: skip


def test_a_number_that_is_given_anew_is_another_process() -> None:
    """Known by its start too: the first has ended, and the second is a new one."""
    watcher = Watcher()
    watcher.look(0, [Seen(7, 1, WELL)])
    assert [event.event for event in watcher.look(1, [Seen(7, 2, WELL)])] == ["ended", "watched"]


def test_what_was_off_once_is_remembered() -> None:
    """Whatever it is later; and what could not be verified is told once."""
    watcher = Watcher()
    watcher.look(0, [Seen(7, 1, WELL)])
    assert (watcher.drifted, watcher.verified, watcher.not_verified) == (False, True, False)
    watcher.look(1, [Seen(7, 1, state((7, "9")))])
    watcher.look(2, [Seen(7, 1, WELL)])
    assert watcher.drifted
    words = [event.event for at in (3, 4) for event in watcher.look(at, [Seen(7, 1, error="it is not to be seen")])]
    assert (words, watcher.not_verified) == (["not_verified"], True)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "often", "", "0.001"])
def test_seconds_that_make_no_sense(text: str) -> None:
    """Refused with what would."""
    with pytest.raises(OptionError, match="is no number of seconds from 0.01"):
        seconds_of(text)


# ---- real processes ------------------------------------------------------------------------------------------


@contextmanager
def watching(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """``hwnuma verify --format json`` with these words, which is ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnuma", "verify", "--format", "json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(**environment),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def event(watch: subprocess.Popen[str]) -> dict[str, Any]:
    """The watch's next event, however long it takes."""
    assert watch.stdout is not None
    line = watch.stdout.readline()
    assert line, watch.stderr and watch.stderr.read()
    answer: dict[str, Any] = json.loads(line)
    return answer


def ended(watch: subprocess.Popen[str]) -> tuple[int, str]:
    """The watch's exit status, and what it said beside its events."""
    output, errors = watch.communicate(timeout=60)
    assert output == ""
    return watch.returncode, errors


@pytest.fixture
def two_cpus() -> None:
    """Drift needs two."""
    require(len(BEFORE) >= 2, "this process may use one CPU only, and drift needs two")


@pytest.mark.usefixtures("two_cpus")
def test_a_real_process_drifts_comes_back_and_ends() -> None:
    """Each is an event as it happens; the status says that it drifted, though all is well at the end."""
    with waiting(*EXEC_LAST, *WAIT) as process, watching("--watch", "0.05", str(process.pid)) as watch:
        first = event(watch)
        assert (first["event"], first["pid"], first["ok"]) == ("watched", process.pid, True)
        os.sched_setaffinity(process.pid, BEFORE)
        left = event(watch)
        assert (left["event"], left["tid"], left["found"], left["expected"]) == (
            "thread_left", process.pid, str(BEFORE), str(LAST),
        )  # fmt: skip
        os.sched_setaffinity(process.pid, LAST)
        assert event(watch)["event"] == "thread_back"
        process.kill()
        last = event(watch)
        assert last["event"] == "ended"
        assert last["seconds"] >= left["seconds"] >= first["seconds"]
        assert ended(watch) == (1, "")


def test_the_end_is_told_at_once_and_not_at_the_next_look() -> None:
    """The kernel tells of it (pidfd); a process that was well to the end is a status of 0."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        try:
            os.close(os.pidfd_open(process.pid))
        except OSError:
            require(condition=False, reason="this kernel has no pidfd_open")
        with watching("--watch", NEVER, str(process.pid)) as watch:
            assert event(watch)["event"] == "watched"
            process.kill()  # and nobody asks for its status yet: what has ended and is still listed has ended
            assert event(watch)["event"] == "ended"
            assert ended(watch) == (0, "")


@pytest.mark.fault("signal", "SIGINT or SIGTERM while a process is watched", "gives the status of what was seen")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_watch_with_its_status(number: signal.Signals) -> None:
    """No traceback, and no waiting for the next look."""
    with waiting(*EXEC_LAST, *WAIT) as process, watching("--watch", NEVER, str(process.pid)) as watch:
        assert event(watch)["event"] == "watched"
        watch.send_signal(number)
        assert ended(watch) == (0, "")
        assert process.poll() is None


@pytest.mark.usefixtures("two_cpus")
def test_what_is_off_at_the_first_look_is_the_status() -> None:
    """Even if nothing ever changes."""
    with waiting(*WAIT) as process, watching("--watch", NEVER, "--cpus", str(LAST), str(process.pid)) as watch:
        assert event(watch)["ok"] is False
        assert event(watch)["event"] == "thread_outside"
        process.kill()
        assert event(watch)["event"] == "ended"
        assert ended(watch)[0] == 1


def test_a_process_that_is_not_there_cannot_be_watched() -> None:
    """A status of 2, and why; beside one that can be, 1."""
    with watching("--watch", NEVER, "--cpus", "0", "4194303") as watch:
        assert ended(watch) == (2, "")
    with watching("--watch", NEVER, "4194303") as watch:
        status, errors = ended(watch)
        assert (status, "no process 4194303" in errors) == (2, True)
    with waiting(*EXEC_LAST, *WAIT) as process, watching("--watch", NEVER, str(process.pid), "4194303") as watch:
        assert event(watch)["event"] == "watched"
        process.kill()
        assert event(watch)["event"] == "ended"
        assert ended(watch)[0] == 1


def test_lines_for_people() -> None:
    """With seconds since the watch began, the process and what happened."""
    with waiting(*EXEC_LAST, *WAIT) as process:
        watch = subprocess.Popen(
            [sys.executable, "-m", "hwnuma", "verify", "--watch", NEVER, str(process.pid)],
            stdout=subprocess.PIPE, text=True, env=clean_environment(),
        )  # fmt: skip
        assert watch.stdout is not None
        first = watch.stdout.readline()
        assert f" s process {process.pid} (sh): watched, 1 threads, CPUs {LAST} expected by hwnuma exec" in first
        process.kill()
        rest, _ = watch.communicate(timeout=60)
        assert rest.endswith(f" s process {process.pid} (sh): ended\n")
        assert watch.returncode == 0


@pytest.mark.fault("pipe", "the reader of the events has gone", "gives the end of the watch without a traceback")
def test_whoever_reads_the_events_may_have_enough() -> None:
    """`| head -1` ends the watch at its next event, without a traceback, as it ends any other command."""
    with waiting(*EXEC_LAST, *WAIT) as process, watching("--watch", "0.05", str(process.pid)) as watch:
        event(watch)
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.close()
        process.kill()
        watch.wait(60)
        assert watch.stderr.read() == ""
        watch.stdout = None


def test_processes_on_gpus_are_watched_as_they_come(tmp_path: Path) -> None:
    """The driver is asked at each look; it goes on when none is left, until it is interrupted."""
    require(compiler() is not None, "the fake NVML is C and there is no compiler (CC, cc, gcc, clang)")
    node = next(iter(procfs.nodes_of_cpus(BEFORE) or NodeSet([0])))
    with waiting(*WAIT) as process:
        driver = FakeNvml([FakeGpu("0000:ff:1f.0", processes=[process.pid])]).variables(tmp_path)
        with watching("--gpus", "--gpu-node", f"0={node}", "--watch", "0.05", **driver) as watch:
            assert (event(watch)["event"], process.poll()) == ("watched", None)
            process.kill()
            process.wait()
            # The driver still tells its number, which now is nobody's.
            assert {event(watch)["event"] for _ in range(2)} == {"ended", "not_verified"}
            watch.send_signal(signal.SIGINT)
            status, errors = ended(watch)
            assert (status in (0, 1), errors) == (True, "")


@pytest.mark.fault("threads", "the first thread of a process ends, and others go on", "gives the process as running")
def test_a_zombie_has_ended_and_a_process_whose_first_thread_has_ended_has_not() -> None:
    """The state of the first thread alone does not tell."""
    with waiting(*WAIT) as process:
        start = procfs.start_time(process.pid)
        assert start is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert procfs.start_time(process.pid) is None
    code = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=lambda: (print('ready', flush=True), sys.stdin.readline())).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)"  # exit(2) of this thread alone
    )
    require(os.uname().machine == "x86_64", "the number of exit(2) is x86-64's")
    with waiting(sys.executable, "-c", code) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            os.sched_yield()
        assert procfs.start_time(process.pid) is not None
