"""All the processes that a command starts, wherever they go: to look at them, and to leave none of them running."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

from hwnuma.processes import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

# How long a process has to end by itself after SIGTERM, and then to be gone, in seconds.
_GRACE, _GONE = 5.0, 5.0
_LOOK_AGAIN = 0.02


class ProcessTree:
    """This process's descendants, but for those that it had before.

    A descendant whose parent ends would become somebody else's child; so this process asks the kernel to be given it.
    """

    def __init__(self) -> None:
        # Where it is refused (a sandbox), processes that outlive their parent are neither seen nor ended.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._others = set(_descendants())

    def processes(self) -> list[int]:
        """Those that there are now, each after its parent."""
        return [pid for pid in _descendants() if pid not in self._others and procfs.start_time(pid) is not None]

    def end(self, own: Iterable[int] = ()) -> list[int]:
        """End all of them: by SIGTERM, and what is left after some seconds by SIGKILL.

        Args:
            own: children that somebody else waits for.

        Returns:
            What had to be ended.
        """
        waited_for = set(own)
        there = self.processes()
        for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GONE)):
            until = time.monotonic() + patience
            told: set[int] = set()
            while True:
                left = self.processes()
                for pid in left:
                    # One that forks while it ends is told as soon as it is seen. A stopped one hears nothing.
                    if pid not in told or number == signal.SIGKILL:
                        _send(pid, number)
                        _send(pid, signal.SIGCONT)
                        told.add(pid)
                self.reap(waited_for)
                if not left or time.monotonic() > until:
                    break
                time.sleep(_LOOK_AGAIN)
        return there

    def reap(self, own: Iterable[int] = ()) -> None:
        """Let go of what has ended and was given to this process by the kernel."""
        me = os.getpid()
        for pid, parent in procfs.parents().items():
            if parent == me and pid not in self._others and pid not in own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in procfs.parents().items():
        children.setdefault(parent, []).append(pid)
    found, ahead = [], [os.getpid()]
    while ahead:
        own = children.get(ahead.pop(), [])
        found += own
        ahead += own
    return found
