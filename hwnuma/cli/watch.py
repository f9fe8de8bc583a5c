"""``hwnuma verify --watch``: look again and again, and say what changed, a line an event, until nothing is left."""

from __future__ import annotations

import os
import select
import signal
import time

from hwnuma.cli.output import say, write
from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.processes.watching import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hwnuma.processes.watching import Event, Seen

# Shorter, it would be all that one CPU does.
_SHORTEST = 0.01


def seconds_of(text: str) -> float:
    """Read ``--watch``.

    Raises:
        OptionError: it is no number of seconds, or too short.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds < float("inf"):
        raise OptionError(f"--watch: {shown(text)} is no number of seconds from {_SHORTEST}")
    return seconds


def watch(seconds: float, look: Callable[[], Sequence[Seen]], form: str | None, *, goes_on: bool = False) -> Watcher:
    """Look every so many seconds, and say what changed, until no process is left or somebody interrupts.

    Ctrl-C and SIGTERM end it after the look that is under way; a second one, at once.

    Args:
        seconds: from the beginning of a look to that of the next; one that is missed is left out.
        look: gives the processes that there are now.
        form: "json" for an object a line.
        goes_on: wait for others when no process is left.
    """
    watcher, began = Watcher(), time.monotonic()
    with _Waiting() as waiting:
        while not waiting.interrupted:
            at = time.monotonic() - began
            seen = look()
            for event in watcher.look(at, seen):
                _say(event, form)
            if not seen and not goes_on:
                break
            next_look = began + seconds * ((time.monotonic() - began) // seconds + 1)
            waiting.until(next_look, [each.pid for each in seen])
    return watcher


def _say(event: Event, form: str | None) -> None:
    if form == "json":
        import json  # only for this format

        write(json.dumps(event.as_dict()) + "\n")
    else:
        say(str(event))


class _Waiting:
    """Waits for a moment, for a process's end, or for an interrupt, whichever comes first."""

    def __init__(self) -> None:
        self.interrupted = False

    def __enter__(self) -> _Waiting:
        self._woken, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number, handler in self._former.items():
            if handler != signal.SIG_IGN:  # as a shell has it for what runs in the background
                signal.signal(number, self._interrupt)
        self._former_waking = signal.set_wakeup_fd(self._waking)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.set_wakeup_fd(self._former_waking)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._waking)

    def _interrupt(self, number: int, _frame: object) -> None:
        self.interrupted = True
        signal.signal(number, signal.SIG_DFL)

    def until(self, moment: float, pids: Iterable[int]) -> None:
        """Wait until a moment of the monotonic clock, or until one of these processes ends."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        descriptors = [descriptor for descriptor in map(_process_descriptor, pids) if descriptor is not None]
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        try:
            poll.poll(max(0.0, moment - time.monotonic()) * 1000)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _process_descriptor(pid: int) -> int | None:
    """What tells at once that a process has ended; None where the kernel has no such (before Linux 5.3, a sandbox)."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
