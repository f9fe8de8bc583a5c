"""Text from outside as it may be shown: on a terminal, in a log, in an error.

A file, a driver, a process's name or an environment can hold escape codes that a terminal obeys, line ends that forge a
line of their own, and bidirectional controls that show a text in another order than it has (Unicode Technical Report
36). Pure.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# How much of a text an error repeats.
_SHOWN = 60


def printable(text: str) -> str:
    r"""Write a text so that it is one line that only shows something: what acts on a terminal becomes an escape.

    Those are the characters that Python's `str.isprintable` excludes: controls (C0, DEL, C1), format characters
    (bidirectional controls, zero-width ones), separators other than the space, what is unassigned, private or half a
    surrogate pair. A byte of a file name that is no UTF-8 is shown as ``\xff``.

    >>> printable("a\x1b[31m\u202e")
    'a\\x1b[31m\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def printable_text(lines: Iterable[str]) -> str:
    """Put lines together, each so that it only shows something and stays one line."""
    return "\n".join(map(printable, lines))


def _escape(character: str) -> str:
    first_byte, last_byte = 0xDC80, 0xDCFF  # PEP 383: how Python holds a byte that it cannot decode
    number = ord(character)
    if first_byte <= number <= last_byte:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def excerpt(text: str, most: int = _SHOWN) -> str:
    """Repeat a text from outside in a message: printable, and no more of it than tells what it is."""
    return printable(text if len(text) <= most else f"{text[:most]}…")


def shown(text: str) -> str:
    """The same in quotes, for a text that makes no sense."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
