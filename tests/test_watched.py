"""Asking within a time limit: in a child, or where that must not be, in a thread."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnuma.devices.watched import NoAnswerError, ask_within
from hwnuma.errors import NvmlError
from tests.namespaces import can_unshare, without_proc
from tests.processes import answer_of, clean_environment
from tests.require import require


def _ask(expression: str, limit: float = 30, before: str = "", after: str = "") -> Any:
    """What a fresh process of one thread is answered, as JSON, or the error's type and text."""
    code = (
        "import json, os, signal, sys, threading, time\n"
        "from hwnuma.devices.watched import ask_within, NoAnswerError\n"
        f"{before}\n"
        f"try:\n    answer = ask_within({limit}, lambda: {expression})\n"
        "except Exception as error:\n    answer = [type(error).__name__, str(error)]\n"
        f"sys.stdout.write(json.dumps(answer))\n{after}"
    )
    return answer_of(code)[0]


def test_a_process_of_one_thread_asks_in_a_child() -> None:
    """The answer is another process's, which has handed over everything and is gone."""
    code = (
        "import json, os; from hwnuma.devices.watched import ask_within\n"
        "other = ask_within(30, os.getpid)\n"
        "try:\n    os.waitpid(-1, 0); left = True\nexcept ChildProcessError:\n    left = False\n"
        "print(json.dumps([other != os.getpid(), left]))"
    )
    assert answer_of(code)[0] == [True, False]


def test_a_process_of_several_threads_asks_in_one_of_its_own() -> None:
    """A fork would leave the child with locks that nobody opens."""
    second = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    code = (
        f"import json, os, threading; from hwnuma.devices.watched import ask_within\n{second}\n"
        "print(json.dumps([ask_within(30, os.getpid) == os.getpid(),"
        " ask_within(30, threading.get_native_id) != threading.get_native_id()]))"
    )
    assert answer_of(code)[0] == [True, True]


@pytest.mark.fault("pipe", "an answer is larger than the pipe that it comes through", "gives all of it")
def test_an_answer_larger_than_a_pipe_comes_whole() -> None:
    """The child is read from while it writes."""
    assert _ask("'x' * 3_000_000") == "x" * 3_000_000


@pytest.mark.parametrize("in_child", [True, False])
def test_an_exception_is_raised_where_was_asked(in_child: bool) -> None:
    """As it is, and so an NvmlError stays one."""

    def fail() -> None:
        raise NvmlError("the driver's words")

    with pytest.raises(NvmlError, match="the driver's words"):
        ask_within(30, fail, in_child=in_child)


@pytest.mark.fault("driver", "the child that asks the driver hangs", "gives an error in time; the child is ended")
def test_what_hangs_is_left_behind() -> None:
    """A child is killed, also one that blocks every signal; nothing of it is left, and the limit is kept."""
    started = time.monotonic()
    before = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    assert _ask("signal.pause()", 0.5, before) == ["NoAnswerError", "it has not answered within 0.5 s"]
    assert _ask("[(time.sleep(0.01), None) for _ in range(100_000)]", 0.5)[0] == "NoAnswerError"
    assert time.monotonic() - started < 20
    code = (
        "import json, os, signal; from hwnuma.devices.watched import ask_within\n"
        "try:\n    ask_within(0.2, signal.pause)\nexcept Exception:\n    pass\n"
        "try:\n    os.waitpid(-1, os.WNOHANG); left = True\nexcept ChildProcessError:\n    left = False\n"
        "print(json.dumps([left, len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd'))]))"
    )
    assert answer_of(code)[0] == [False, 1, 4]


@pytest.mark.fault("driver", "the thread that asks the driver hangs", "gives an error in time; the process can end")
def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    """It is a daemon: the error comes in time, and the end of the process does not wait."""
    started = time.monotonic()
    second = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    assert _ask("time.sleep(1000)", 0.5, second) == ["NoAnswerError", "it has not answered within 0.5 s"]
    assert time.monotonic() - started < 20


@pytest.mark.fault(
    "driver", "the child that asks the driver exits, or dies of a signal", "gives an error that says which"
)
@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process that asked it ended by SIGSEGV"),
        ("os._exit(3)", "the process that asked it ended without an answer"),
        (
            "(os.write(2, b'warning\\nlast \\xff words\\n'), os.abort())",
            "the process that asked it ended by SIGABRT (last \ufffd words)",
        ),
        ("lambda: None", "the process that asked it ended without an answer"),
    ],
    ids=["crash", "exit", "words", "unpicklable"],
)
def test_a_child_that_ends_by_itself_is_told(expression: str, reason: str) -> None:
    """With the signal, and the last line of what it wrote to its standard error."""
    assert _ask(expression) == ["NoAnswerError", reason]


def test_a_child_that_closes_its_end_and_does_not_end_is_ended() -> None:
    """Nothing more can come of it: it is waited for a moment, killed, and no child is left."""
    code = (
        "import json, os, signal; from hwnuma.devices.watched import ask_within, NoAnswerError\n"
        "try:\n    ask_within(30, lambda: (os.close(2), signal.pause())); said = ''\n"
        "except NoAnswerError as error:\n    said = str(error)\n"
        "try:\n    os.waitpid(-1, os.WNOHANG); left = True\nexcept ChildProcessError:\n    left = False\n"
        "print(json.dumps([said, left]))"
    )
    assert answer_of(code)[0] == ["the process that asked it ended without an answer", False]


def test_without_proc_it_asks_in_a_thread() -> None:
    """How many threads this process has is not known then, so it is not forked."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    code = "import os; from hwnuma.devices.watched import ask_within; print(ask_within(30, os.getpid) == os.getpid())"
    done = subprocess.run(
        without_proc(sys.executable, "-c", code),
        capture_output=True, text=True, check=True, env=clean_environment(), timeout=120,
    )  # fmt: skip
    assert done.stdout == "True\n"


def test_what_the_child_writes_beside_its_answer_does_not_spoil_it() -> None:
    """A library's chatter on standard output and standard error is not the parent's."""
    code = (
        "import json, os; from hwnuma.devices.watched import ask_within\n"
        "print(json.dumps(ask_within(30, lambda: [os.write(1, b'out'), os.write(2, b'err'), 'answer'])))"
    )
    assert answer_of(code) == ([3, 3, "answer"], "")


def test_the_child_has_nothing_of_its_parent() -> None:
    """No descriptor that a reader waits for, no handler of the program's, no buffered output written twice."""
    before = (
        "pipe = os.pipe()\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\nsignal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsys.stdout.write('[')"
    )
    answer = _ask(
        "[sorted(map(int, os.listdir('/proc/self/fd')))[:3], len(os.listdir('/proc/self/fd')),"
        " *(signal.getsignal(number).name for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP))]",
        before=before,
        after="sys.stdout.write(']')",
    )
    assert answer == [[[0, 1, 2], 4, "SIG_DFL", "SIG_DFL", "SIG_IGN"]]


@pytest.mark.fault("signal", "SIGCHLD is ignored, or a handler reaps every child", "gives the answer all the same")
@pytest.mark.parametrize("action", ["signal.SIG_IGN", "lambda *_: os.waitpid(-1, os.WNOHANG)"])
def test_a_program_that_reaps_every_child_is_answered(action: str) -> None:
    """With SIGCHLD ignored the kernel takes the child away, and a handler may: the answer has come by then."""
    assert _ask("'answer'", before=f"signal.signal(signal.SIGCHLD, {action})") == "answer"


@pytest.mark.fault("signal", "the parent of the child that asks the driver is killed", "gives no child left behind")
def test_a_child_whose_parent_is_killed_ends_by_itself(tmp_path: Path) -> None:
    """A launcher that kills its workers leaves no process behind that waits for a driver."""
    told = tmp_path / "child"
    code = (
        "import os, signal, sys; from hwnuma.devices.watched import ask_within\n"
        "def ask():\n    open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n    signal.pause()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\nask_within(1, ask)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(told)], env=clean_environment())
    _wait_until(told.exists)
    child = int(told.read_text())
    parent.kill()
    parent.wait()
    _wait_until(lambda: not _is_running(child))


def _is_running(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it has not come to be"
        time.sleep(0.01)


@pytest.mark.fault("signal", "SIGINT while the driver is waited for", "gives KeyboardInterrupt; the child is ended")
def test_an_interrupt_ends_the_waiting_and_the_child() -> None:
    """Ctrl-C while a driver hangs: KeyboardInterrupt at once, and no child is left."""
    code = (
        "import json, os, signal, threading, time; from hwnuma.devices.watched import ask_within\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, interrupt)\n"
        "started = time.monotonic()\n"
        "try:\n    ask_within(100, signal.pause); raised = False\nexcept KeyboardInterrupt:\n    raised = True\n"
        "try:\n    os.waitpid(-1, os.WNOHANG); left = True\nexcept ChildProcessError:\n    left = False\n"
        "print(json.dumps([raised, left, time.monotonic() - started < 20]))"
    )
    assert answer_of(code)[0] == [True, False, True]


def test_the_reason_says_whether_it_was_late() -> None:
    """Who asks can tell a hang from a crash."""
    with pytest.raises(NoAnswerError) as late:
        ask_within(0.1, lambda: time.sleep(30), in_child=False)
    assert late.value.is_late
    assert not NoAnswerError("it has ended").is_late
