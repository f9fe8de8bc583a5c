"""How far a command is that takes long: a bar on standard error, if that is a terminal, and nothing else."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_USUAL_WIDTH, _LEAST_BAR = 80, 10
# Seconds between two drawings: more of them nobody sees.
_PAUSE = 0.1
_CLEAR = "\r\x1b[K"


class Progress:
    """A bar for the length of a with block; at its end nothing is left of it.

    ::

        with Progress(len(files), "files") as progress:
            for file in files:
                read(file)
                progress.advance(1)
    """

    def __init__(self, total: int, what: str) -> None:
        """Say how much there is to do.

        Args:
            total: how many.
            what: of what, for people.
        """
        self._total, self._what, self._done, self._drawn = total, what, 0, 0.0
        stream = sys.stderr
        self._is_shown = total > 0 and stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Progress:
        self.advance(0)
        return self

    def advance(self, number: int = 1) -> None:
        """Note that so many more are done."""
        self._done += number
        now = time.monotonic()
        if self._is_shown and now - self._drawn >= _PAUSE:
            self._drawn = now
            self._write(f"\r{self._line()}")

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._is_shown:
            self._write(_CLEAR)

    def _line(self) -> str:
        numbers = f" {self._done}/{self._total} {self._what}"
        room = max(_LEAST_BAR, _width() - len(numbers) - 3)
        full = room * min(self._done, self._total) // self._total
        return f"[{'#' * full}{'.' * (room - full)}]{numbers}"

    def _write(self, text: str) -> None:
        try:
            print(text, end="", file=sys.stderr, flush=True)
        except OSError:  # the terminal is gone: what is done matters, and not that it is seen
            self._is_shown = False


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH
