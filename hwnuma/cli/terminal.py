"""The terminal that a command writes to: how wide it is, whether it has colours, and which characters it knows."""

from __future__ import annotations

import codecs
import io
import os
import sys

from hwnuma.model.numbers import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO


# A file, a pipe and a log are read as an 80-column terminal is.
_USUAL_WIDTH = 80


def width() -> int:
    """The columns of the terminal, or what COLUMNS says."""
    said = os.environ.get("COLUMNS", "")
    if is_number(said) and int(said) > 0:
        return int(said)
    try:  # as shutil.get_terminal_size does, which imports every compression there is
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _USUAL_WIDTH  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return _USUAL_WIDTH


def has_colours(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Whether to write colours: never with NO_COLOR, always with FORCE_COLOR, else to a terminal (no-color.org)."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and environment.get("TERM") != "dumb"


def write_what_it_can() -> None:
    """Let standard output and error write any text: what an ASCII or Latin terminal lacks as what is nearest to it."""
    codecs.register_error("hwnuma", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="hwnuma")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    from hwnuma.report.terminal import ASCII  # only now: most terminals know all that is written

    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    known = "".join(ASCII.get(c, c.encode("ascii", "backslashreplace").decode("ascii")) for c in text)
    return known, error.end
