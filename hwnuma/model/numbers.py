"""Numbers in text from outside: a command line, an environment, a file of the kernel's."""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown

# What a signed 64-bit number of the kernel's can hold; nobody counts ranks, CPUs or pages beyond it.
LARGEST_NUMBER = (1 << 63) - 1

# That number's digits. More are refused unread: int() takes quadratic time, and above 4,300 digits a ValueError.
_MOST_DIGITS = len(str(LARGEST_NUMBER))

# Of one machine, and of one GPU: eight for each of the 8,192 CPUs that Linux can have, since MPI jobs may run several
# on a CPU. A rank or a number of ranks above it is a mistake, or somebody's attempt to have memory allocated for it.
MOST_RANKS = 65_536


def is_number(text: str, most_digits: int = _MOST_DIGITS) -> bool:
    """Whether a text is ASCII digits alone, and not more than so many: then `int` reads it, and as its writer meant it.

    `str.isdigit` is true of ``²`` and of more than 4,300 digits, both of which `int` refuses with a ValueError.
    """
    return text.isascii() and text.isdigit() and len(text) <= most_digits


def whole_number(text: str, what: str, least: int = 0, most: int = LARGEST_NUMBER) -> int:
    """Read a whole number from text that somebody else wrote, in place of `int`.

    `int` takes more than people write (``1_000``, ``+1``, the digits of all scripts). Here it is what `is_number`
    takes, at most nineteen digits, with a minus sign ahead and white space around them allowed.

    Args:
        text: the text.
        what: what the number is, as an error is to call it: ``LOCAL_RANK``, ``a page count of numa_maps``.
        least: the least number that makes sense.
        most: the greatest.

    Raises:
        OptionError: it is no such number.
    """
    word = text.strip()
    if is_number(word.removeprefix("-")):
        number = int(word)
        if least <= number <= most:
            return number
    raise OptionError(f"{what} is {shown(text)}, and not a whole number from {least} to {most}")


def size_text(size: int) -> str:
    """A size in bytes for people, in MiB or GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
