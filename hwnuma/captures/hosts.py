"""Names of hosts, folded as Slurm and pdsh write them: ``node[001-017,020]``; and such a text's names. Pure.

Of our own making, since the libraries that do it (ClusterShell, python-hostlist) are under the LGPL and GPL.
"""

from __future__ import annotations

import re

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.model.nic import natural_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# The last number of a name, with what is ahead of it and behind. Longer ones are names, and no numbers.
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)
_MEANT_IN_LISTS = frozenset("[], \t\n\r\v\f")

# More hosts than any cluster has: a short text could mean any number.
_MOST_NAMES = 1 << 20

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def folded(names: Iterable[str]) -> str:
    """Write names as one list, those that differ in their last number alone as one of them, each name once.

    Leading zeros stay: node[08-10] is node08, node09 and node10. A name that has a comma, bracket or blank in it
    stands as it is, and such a list cannot be read back.
    """
    singles: set[str] = set()
    series: dict[tuple[str, str], set[str]] = {}
    for name in set(names):
        match = _NUMBERED.fullmatch(name)
        if match is None or not _MEANT_IN_LISTS.isdisjoint(name):
            singles.add(name)
        else:
            series.setdefault((match[1], match[3]), set()).add(match[2])
    lists = [_series(*ends, width, numbers) for ends, all_of in series.items() for width, numbers in _by_width(all_of)]
    return ",".join(sorted([*singles, *lists], key=lambda text: natural_key(text.replace("[", ""))))


def _by_width(numbers: Iterable[str]) -> Iterator[tuple[int, list[int]]]:
    """The numbers in order, those that are filled up with zeros by how many digits they have; else by width 0."""
    all_of_them = sorted(numbers)
    filled = {len(number) for number in all_of_them if number[0] == "0" and len(number) > 1}
    groups: dict[int, list[int]] = {}
    for number in all_of_them:
        groups.setdefault(len(number) if len(number) in filled else 0, []).append(int(number))
    for width, members in sorted(groups.items()):
        yield width, sorted(members)


def _series(ahead: str, behind: str, width: int, numbers: Sequence[int]) -> str:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    if len(numbers) == 1:
        return f"{ahead}{numbers[0]:0{width}d}{behind}"
    pieces = [
        f"{first:0{width}d}" if first == last else f"{first:0{width}d}-{last:0{width}d}" for first, last in ranges
    ]
    return f"{ahead}[{','.join(pieces)}]{behind}"


def expanded(text: str) -> list[str]:
    """The names that a folded list means, in its order; several brackets in a name mean all that they give together.

    Raises:
        OptionError: it is no such list, or means more names than any cluster has hosts.
    """
    names: list[str] = []
    for piece in _pieces(text):
        names += _names(piece, text)
        if len(names) > _MOST_NAMES:
            raise _too_many(text)
    return names


def _pieces(text: str) -> Iterator[str]:
    """What stands between the commas that are in no brackets."""
    for piece in re.findall(r"(?:\[[^\[\]]*\]|[^,])+", text):
        if piece.strip():
            yield piece.strip()


def _names(piece: str, text: str) -> list[str]:
    texts = _BRACKETS.split(piece)  # in turn what stands outside of brackets, and within
    if any("[" in outside or "]" in outside for outside in texts[::2]):
        raise OptionError(f"{shown(text)} is no list of hosts: a bracket has no other, or no number in it")
    names = [texts[0]]
    for within, behind in zip(texts[1::2], texts[2::2], strict=True):
        numbers = _numbers(within, text)
        if len(numbers) * len(names) > _MOST_NAMES:
            raise _too_many(text)
        names = [f"{ahead}{number}{behind}" for ahead in names for number in numbers]
    return names


def _numbers(within: str, text: str) -> list[str]:
    numbers: list[str] = []
    for piece in within.split(","):
        match = _RANGE.fullmatch(piece.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if match is None or last < first:
            raise OptionError(f"{shown(text)} is no list of hosts: {shown(piece)} is neither a number nor a range")
        if last - first >= _MOST_NAMES:
            raise _too_many(text)
        width = len(match[1]) if match[1].startswith("0") else 0
        numbers += [f"{number:0{width}d}" for number in range(first, last + 1)]
    return numbers


def _too_many(text: str) -> OptionError:
    return OptionError(f"{shown(text)} means more than {_MOST_NAMES} hosts, which no cluster has")
