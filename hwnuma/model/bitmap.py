"""CpuSet and NodeSet: immutable sets of OS indexes, written in the kernel's list form (``0-3,8``)."""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.model.numbers import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet
    from typing import ClassVar, TypeVar

    _BitmapT = TypeVar("_BitmapT", bound="Bitmap")
else:
    # What collections.abc is; importing the package collections costs a rank as much as a fifth of Python's own start.
    from _collections_abc import Set as AbstractSet

# Far above any kernel's NR_CPUS (8,192): a typing mistake must not cost gigabytes.
_LARGEST_INDEX = 1 << 20
_MOST_DIGITS = 9

# Every other one of 8,192 CPUs takes 20 KB. A list may be another user's (a process's environment): what it can cost is
# bounded by its length.
_MOST_CHARACTERS = 1 << 16

_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def _checked_length(text: str, form: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        raise OptionError(f"a {form} of {len(text)} characters is too long: at most {_MOST_CHARACTERS} are read")
    return text


def _numbers_of_range(text: str) -> tuple[int, int, int, int] | None:
    """First, last and stride of a range; None if it is none.

    A range is "3", "0-3", or in the kernel's stride form "0-31:2/8": of each 8, the first 2 (Linux, bitmap_parselist).
    """
    span, colon, stride = text.partition(":")
    first, dash, last = span.partition("-")
    used, slash, group = stride.partition("/")
    if (colon and not (dash and slash)) or (dash and not last):
        return None
    texts = (first, last or first, used or "1", group or "1") if not colon else (first, last, used, group)
    if not all(is_number(each, _MOST_DIGITS) for each in texts):
        return None
    first_number, last_number, used_number, group_number = map(int, texts)
    return first_number, last_number, used_number, group_number


def _mask_of_range(text: str, kind: str) -> int:
    numbers = _numbers_of_range(text)
    if numbers is None:
        raise OptionError(f"{shown(text)} is no {kind} list: write indexes and ranges, such as 0-3,8")
    first, last, used, group = numbers
    if last < first or last > _LARGEST_INDEX or group == 0 or used > group:
        raise OptionError(f"the range {text!r} in a {kind} list is reversed, too large or has a wrong stride")
    length = last - first + 1
    if used == group:
        return ((1 << length) - 1) << first
    mask = (1 << min(used, length)) - 1
    while group < length:  # what was put in place so far, once more behind it: linear in the length
        mask |= mask << group
        group *= 2
    return (mask & (1 << length) - 1) << first


class Bitmap(AbstractSet[int]):
    """What CpuSet and NodeSet share. A bit mask in one Python integer: set algebra is integer algebra.

    Attributes:
        mask: the set as an integer: bit *i* is set if *i* is a member.
    """

    __slots__ = ("mask",)
    _kind: ClassVar[str] = "index"
    mask: int

    def __init__(self, members: str | Iterable[int] = ()) -> None:
        """Make a set from the kernel's list form, or from integers.

        Args:
            members: ``"0-3,8"`` (empty pieces and white space are tolerated, as the kernel's files have
                them), or an iterable of OS indexes.

        Raises:
            OptionError: the text is no list, or an index is negative or absurdly large.
        """
        mask = 0
        if isinstance(members, str):
            text = _checked_length(members, f"{self._kind} list")
            for piece in text.replace("\0", "").split(","):
                if piece.strip():
                    mask |= _mask_of_range(piece.strip(), self._kind)
        elif isinstance(members, Bitmap):
            mask = members.mask
        else:
            for index in members:
                if not 0 <= index <= _LARGEST_INDEX:
                    raise OptionError(f"{index} is no {self._kind} index: they run from 0 to {_LARGEST_INDEX}")
                mask |= 1 << index
        object.__setattr__(self, "mask", mask)

    @classmethod
    def from_mask(cls: type[_BitmapT], mask: int) -> _BitmapT:
        """Make a set whose members are the bits that are set in a non-negative integer."""
        if mask < 0:
            raise OptionError("a bit mask cannot be negative")
        made = cls.__new__(cls)
        object.__setattr__(made, "mask", mask)
        return made

    @classmethod
    def from_mask_text(cls: type[_BitmapT], text: str) -> _BitmapT:
        """Read the kernel's and NCCL's mask form: ``0000ffff,0000ffff``, most significant word first.

        Each group after the first stands for 32 bits however many digits it has, since published files
        have groups with their leading zeros missing. Taken from Linux, ``bitmap_parse``.
        """
        mask = 0
        for group in _checked_length(text, f"{cls._kind} mask").strip().replace("\0", "").split(","):
            digits = group.removeprefix("0x")
            if not digits or not _HEXADECIMAL.issuperset(digits):  # int() takes signs, underscores and more
                raise OptionError(f"{shown(text)} is no {cls._kind} mask: hexadecimal words with commas")
            mask = (mask << 32) | int(digits, 16)
        return cls.from_mask(mask)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return type(self).from_mask, (self.mask,)

    @property
    def mask_text(self) -> str:
        """The set in the kernel's mask form: 32-bit words in hexadecimal, most significant first."""
        digits = f"{self.mask:08x}"
        digits = digits.zfill(-(-len(digits) // 8) * 8)
        return ",".join(digits[start : start + 8] for start in range(0, len(digits), 8))

    @property
    def first(self) -> int:
        """The lowest member; -1 of the empty set, as hwloc_bitmap_first has it."""
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def last(self) -> int:
        """The highest member; -1 of the empty set."""
        return self.mask.bit_length() - 1

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The maximal runs of members, as (first, last), ascending."""
        bits = f"{self.mask:b}"[::-1] + "0"  # a text, in which finding the next change takes no copy of the rest
        start = bits.find("1")
        while start >= 0:
            end = bits.find("0", start)
            yield start, end - 1
            start = bits.find("1", end)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges():
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index >= 0 and bool(self.mask >> index & 1)

    def __hash__(self) -> int:
        # Equal to a frozenset of the same numbers, so it must hash like one.
        return hash(frozenset(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Bitmap):
            return type(self) is type(other) and self.mask == other.mask
        return isinstance(other, AbstractSet) and len(self) == len(other) and all(index in other for index in self)

    def _mask_of(self, other: object) -> int | None:
        """The mask of an operand: ours, or a plain set of integers; a CpuSet and a NodeSet do not mix."""
        if type(other) is type(self):  # isinstance of an abstract class costs five times as much
            mask: int = other.mask  # type: ignore[attr-defined]
            return mask
        if isinstance(other, Bitmap):
            return None
        return type(self)(other).mask if isinstance(other, AbstractSet) else None

    def __and__(self: _BitmapT, other: object) -> _BitmapT:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask & mask)

    def __or__(self: _BitmapT, other: object) -> _BitmapT:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask | mask)

    def __xor__(self: _BitmapT, other: object) -> _BitmapT:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask ^ mask)

    def __sub__(self: _BitmapT, other: object) -> _BitmapT:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask & ~mask)

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__

    def __rsub__(self: _BitmapT, other: object) -> _BitmapT:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.from_mask(mask & ~self.mask)

    def __le__(self, other: object) -> bool:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.mask & ~mask == 0

    def __lt__(self, other: object) -> bool:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else self.mask & ~mask == 0 and self.mask != mask

    def __ge__(self, other: object) -> bool:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else mask & ~self.mask == 0

    def __gt__(self, other: object) -> bool:
        mask = self._mask_of(other)
        return NotImplemented if mask is None else mask & ~self.mask == 0 and self.mask != mask

    def isdisjoint(self, other: Iterable[object]) -> bool:
        """Whether no index is in both."""
        mask = self._mask_of(other)
        return super().isdisjoint(other) if mask is None else self.mask & mask == 0


class CpuSet(Bitmap):
    """An immutable set of CPUs (hwloc: PUs), by OS index.

    >>> CpuSet("0-3,8") | CpuSet([4])
    CpuSet('0-4,8')
    """

    __slots__ = ()
    _kind = "CPU"


class NodeSet(Bitmap):
    """An immutable set of NUMA nodes, by OS index."""

    __slots__ = ()
    _kind = "node"


def joined(masks: Iterable[int]) -> int:
    """The union of bit masks."""
    together = 0
    for mask in masks:
        together |= mask
    return together


def union(sets: Iterable[CpuSet]) -> CpuSet:
    """All CPUs that are in any of the sets."""
    return CpuSet.from_mask(joined([cpuset.mask for cpuset in sets]))
