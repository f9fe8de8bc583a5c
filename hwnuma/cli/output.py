"""What the command line writes: all of it, or an error that says why not; and nothing that a terminal would obey."""

from __future__ import annotations

import os
import sys

from hwnuma.errors import OptionError
from hwnuma.model.characters import printable, printable_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def say(text: str) -> None:
    """Write lines for people to standard output.

    Raises:
        OptionError: it is closed, or takes no more (a full disk).
        BrokenPipeError: whoever reads it has had enough.
    """
    write(printable_text([*text.split("\n"), ""]))


def say_data(data: object) -> None:
    """Write JSON to standard output; `say` tells of the errors."""
    import json

    write(json.dumps(data, indent=2, ensure_ascii=True) + "\n")  # which escapes all that `printable` does


def write(text: str) -> None:
    """Write a text to standard output as it is; `say` tells of the errors."""
    # A locale may know fewer characters than our own texts have (see `hwnuma.cli.terminal`).
    encoding, errors = (getattr(sys.stdout, name, None) for name in ("encoding", "errors"))
    instead = errors if errors and errors != "strict" else "backslashreplace"
    write_bytes(text.encode(encoding or "utf-8", instead))


def write_bytes(document: bytes) -> None:
    """Write bytes to standard output as they are; `say` tells of the errors."""
    if sys.stdout is None:
        raise OptionError("standard output is closed, and there is something to write to it")
    try:
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.flush()
            sys.stdout.buffer.write(document)
        else:  # a stand-in, such as io.StringIO
            sys.stdout.write(document.decode(errors="replace"))
        sys.stdout.flush()
    except OSError as error:
        drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OptionError(f"cannot write to standard output: {error.strerror}") from None


def complain(line: str) -> None:
    """Write one line to standard error, if there is any that takes it: the exit status says the same."""
    if sys.stderr is None:
        return
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, or else the interpreter complains of it as it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stand-in without a descriptor
        return
