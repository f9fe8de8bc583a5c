"""Ask what may never answer, such as a driver that waits for a GPU, within a time limit.

A call that hangs inside a driver cannot be ended by the process that makes it: often the kernel does not let even
SIGKILL through, and an exec waits for all threads. So it is made in a child, which is left behind if need be. That
leaves nothing of the driver's library in this process either, and costs a fork.

A process of several threads must not fork and go on in Python (POSIX: another thread may hold a lock), nor one that has
the library at work already. There it is a thread that makes the call, and that is left behind: such a process is
about to work, and not to become a command.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from typing import Any, NoReturn, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_AnswerT = TypeVar("_AnswerT")
_Outcome = tuple[Any, Exception | None]  # the answer, or why there is none

# What comes before it on the child's pipe is what the child wrote to its standard error.
_MARK = b"\0answer\0"

# How long an ended child may take to be gone, in seconds: it may be stuck in the driver as it closes its files.
_PATIENCE = 1.0


class NoAnswerError(Exception):
    """There was no answer within the time limit (`is_late`), or the child ended without one: the reason, a clause."""

    def __init__(self, reason: str, *, is_late: bool = False) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.is_late = is_late


def ask_within(limit: float, ask: Callable[[], _AnswerT], *, in_child: bool = True) -> _AnswerT:
    """Ask, and wait for the answer no longer than a time limit.

    Args:
        limit: in seconds.
        ask: what to call; its answer, or the exception that it raises, must be picklable.
        in_child: False where the library is at work in this process already, so that a fork would share its state.

    Raises:
        NoAnswerError: there is no answer.
        Exception: what `ask` raised.
    """
    asked = _asked_in_child if in_child and _is_single_threaded() else _asked_in_thread
    outcome = asked(limit, ask)
    if outcome is None:
        raise NoAnswerError(f"it has not answered within {limit:g} s", is_late=True)
    answer, error = outcome
    if error is not None:
        raise error
    made: _AnswerT = answer
    return made


def _is_single_threaded() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 -- their number alone is wanted
    except OSError:
        return False


def _outcome(ask: Callable[[], object]) -> _Outcome:
    try:
        return ask(), None
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised where the answer was asked for
        return None, error


# ---- in a child ----------------------------------------------------------------------------------------------


def _asked_in_child(limit: float, ask: Callable[[], object]) -> _Outcome | None:
    import pickle  # here: what hwnuma plans without a driver does without

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer_as_child(limit, ask, writer)
    os.close(writer)
    status = None
    try:
        said = _read_all(reader, time.monotonic() + limit)
        status = _reap(child) if said is not None else None
    finally:
        os.close(reader)
        if status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            _reap(child)
    if said is None:
        return None
    noise, mark, answer = said.partition(_MARK)
    if not mark:
        raise NoAnswerError(_why_it_ended(status, noise))
    outcome: _Outcome = pickle.loads(answer)  # noqa: S301 -- our own child wrote it
    return outcome


def _answer_as_child(limit: float, ask: Callable[[], object], writer: int) -> NoReturn:
    """Write the answer to the pipe and end at once: nothing of the parent's is flushed, finished or called back."""
    import pickle

    status = 1
    try:
        _become_a_stranger(limit, writer)
        answer = memoryview(_MARK + pickle.dumps(_outcome(ask)))
        while answer:
            answer = answer[os.write(2, answer) :]
        status = 0
    finally:
        os._exit(status)


def _become_a_stranger(limit: float, writer: int) -> None:
    """Give up what this child has of its parent: handlers of signals, and descriptors but for the pipe, as 2.

    Should it hang for good, whoever reads the parent's output to its end is not to wait for this one too. And should
    the parent be killed as it waits, the kernel ends this one.
    """
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(limit) + 1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, source in ((0, nothing), (1, nothing), (2, writer)):
        os.dup2(source, descriptor)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 -- numbers, not paths
        if int(name) > 2:  # noqa: PLR2004 -- standard error
            with contextlib.suppress(OSError):  # the one that lists the folder is closed already
                os.close(int(name))


def _read_all(reader: int, deadline: float) -> bytes | None:
    """What is written to a pipe until its other end is closed; None if that is not before the deadline."""
    pieces: list[bytes] = []
    waiting = select.poll()
    waiting.register(reader, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            return None
        piece = os.read(reader, 1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _reap(child: int) -> int | None:
    """A child's wait status once it is gone; 0 if somebody else has it; None if it is not gone in time."""
    pause, deadline = 0.0002, time.monotonic() + _PATIENCE
    while True:
        try:
            gone, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:  # SIGCHLD is ignored here, or a handler waits for every child
            return 0
        if gone:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _why_it_ended(status: int | None, noise: bytes) -> str:
    how = "without an answer"
    if status is not None and os.WIFSIGNALED(status):
        how = f"by {signal.Signals(os.WTERMSIG(status)).name}"
    lines = noise.decode(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"the process that asked it ended {how}" + (f" ({last.strip()})" if last else "")


# ---- in a thread ---------------------------------------------------------------------------------------------


def _asked_in_thread(limit: float, ask: Callable[[], object]) -> _Outcome | None:
    outcomes: list[_Outcome] = []
    # A daemon: the end of the process does not wait for it.
    asking = threading.Thread(target=lambda: outcomes.append(_outcome(ask)), name="hwnuma-asks", daemon=True)
    asking.start()
    asking.join(limit)
    return outcomes[0] if outcomes else None
