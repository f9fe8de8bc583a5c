"""A progress bar on standard error, where that is a terminal: what is done, and of how much."""

from __future__ import annotations

import sys

from hwnuma.cli import terminal

_WIDTH = 30


class Progress:
    """A bar for the length of a with block; on anything but a terminal, nothing."""

    def __init__(self, total: float, what: str) -> None:
        """Begin.

        Args:
            total: how much there is to do.
            what: the word ahead of the bar.
        """
        self._total, self._what, self._done = total, what, 0.0
        self._shown = ""
        self._is_seen = sys.stderr is not None and sys.stderr.isatty()

    def advance(self, amount: float = 1.0) -> None:
        """Say that so much more is done."""
        self._done = min(self._total, self._done + amount)
        part = self._done / self._total if self._total else 1.0
        filled = round(_WIDTH * part)
        self._show(f"{self._what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {100 * part:3.0f} %")

    def __enter__(self) -> Progress:
        self.advance(0)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._is_seen and self._shown:
            self._write("\r" + " " * len(self._shown) + "\r")

    def _show(self, text: str) -> None:
        text = text[: terminal.width() - 1]
        if self._is_seen and text != self._shown:
            self._shown = text
            self._write(f"\r{text}")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._is_seen = False
