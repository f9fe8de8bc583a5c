"""Ctrl-C ends a command as it ends any other program: by the signal, and without a traceback.

Python turns SIGINT into KeyboardInterrupt wherever the program is, in the midst of an import too. Most commands have
nothing to put back, so `hwnuma.cli.start` lets the signal end them at once. `hwnuma bind` has: others' threads.
"""

from __future__ import annotations

import os
from signal import SIG_DFL, SIGHUP, SIGINT, SIGTERM, getsignal, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

# Seconds until a signal that came while an object was finalized is sent again.
_PAUSE = 0.01


class UndoneFirst:
    """A with block in which SIGINT is a KeyboardInterrupt: what is half done is undone before the process ends.

    Where SIGINT would not end the process (it is ignored, or the program that this is part of handles it), that stays.
    """

    def __enter__(self) -> None:
        self._ends_process = getsignal(SIGINT) == SIG_DFL
        if self._ends_process:
            signal(SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not _comes_again(number, frame):
            raise KeyboardInterrupt

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if self._ends_process:
            signal(SIGINT, SIG_DFL)
            if _interrupt_of(error) is not None:
                os.kill(os.getpid(), SIGINT)  # pragma: no cover -- it ends what measures, too


class _Ended(KeyboardInterrupt):
    """A signal that ends a program has come."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class ClearedUpFirst:
    """A with block that SIGINT, SIGTERM and SIGHUP leave as an exception: what it has started is ended before this is.

    One that would not end the process stays as it is. Any that comes while the block clears up changes nothing.
    """

    def __enter__(self) -> None:
        self._handled = [number for number in (SIGINT, SIGTERM, SIGHUP) if getsignal(number) == SIG_DFL]
        self._is_ending = False
        for number in self._handled:
            signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self._is_ending and not _comes_again(number, frame):
            self._is_ending = True
            raise _Ended(number)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        for number in self._handled:
            signal(number, SIG_DFL)
        interrupt = _interrupt_of(error)
        if isinstance(interrupt, _Ended):
            os.kill(os.getpid(), interrupt.number)


def _comes_again(number: int, frame: FrameType | None) -> bool:
    """Whether a signal met a finalizer, where Python prints what is raised, and drops it: then it is sent once more."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    if frame is None:
        return False
    from threading import Timer  # only here: `hwnuma bind` has no use for it

    again = Timer(_PAUSE, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
    return True


def _interrupt_of(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error is, or came of.

    Code that is interrupted where nobody thought of it may raise something else: in the midst of a lock's own methods,
    CPython's `threading` leaves a with block of it with "RuntimeError: release unlocked lock".
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error
