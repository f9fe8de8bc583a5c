"""CpuSet and NodeSet: held against Python's own sets and libhwloc's own bitmap text."""

from __future__ import annotations

import operator
import os
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnuma import CpuSet, NodeSet, OptionError
from hwnuma.hwloc.library import list_text, new_bitmap, parse_list, read_bitmap
from hwnuma.model.bitmap import Bitmap, joined, union

indexes = st.sets(st.integers(0, 4095), max_size=60)
dense = st.builds(
    lambda first, length, holes: set(range(first, first + length)) - holes,
    st.integers(0, 4000), st.integers(0, 300), st.sets(st.integers(0, 4300), max_size=20),
)  # fmt: skip
members = indexes | dense


@given(members)
def test_list_form_is_libhwlocs(numbers: set[int]) -> None:
    """The text is hwloc_bitmap_list_asprintf's, to the letter, and libhwloc reads it back to the same set."""
    cpuset = CpuSet(numbers)
    assert str(cpuset) == list_text(cpuset)
    assert parse_list(CpuSet, str(cpuset)) == cpuset
    assert CpuSet(str(cpuset)) == cpuset


@given(members)
def test_bitmaps_cross_to_libhwloc_and_back(numbers: set[int]) -> None:
    """A set survives the way into a hwloc bitmap and out again."""
    assert read_bitmap(NodeSet, new_bitmap(NodeSet(numbers))) == NodeSet(numbers)


@given(members, members)
def test_algebra_is_that_of_sets(one: set[int], other: set[int]) -> None:
    """Every operator answers as Python's sets do, with our sets and with plain ones."""
    ours, theirs = CpuSet(one), CpuSet(other)
    for operation in (operator.and_, operator.or_, operator.xor, operator.sub):
        expected = operation(one, other)
        assert set(operation(ours, theirs)) == expected
        assert operation(ours, other) == CpuSet(expected)
        assert operation(one, theirs) == CpuSet(expected)
    for comparison in (operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne):
        assert comparison(ours, theirs) == comparison(one, other)
        assert comparison(ours, other) == comparison(one, other)
    assert ours.isdisjoint(theirs) == one.isdisjoint(other)


@given(members)
def test_reads_like_a_sorted_set(numbers: set[int]) -> None:
    """Iteration is ascending; length, truth, first, last, membership and hash are those of the numbers."""
    cpuset = CpuSet(numbers)
    assert list(cpuset) == sorted(numbers)
    assert len(cpuset) == len(numbers)
    assert bool(cpuset) == bool(numbers)
    assert (cpuset.first, cpuset.last) == ((min(numbers), max(numbers)) if numbers else (-1, -1))
    assert all(number in cpuset for number in numbers)
    assert -1 not in cpuset
    assert repr(cpuset) == f"CpuSet('{cpuset}')"
    assert hash(cpuset) == hash(frozenset(numbers))
    assert pickle.loads(pickle.dumps(cpuset)) == cpuset


@given(members)
def test_mask_form_is_the_kernels(numbers: set[int]) -> None:
    """The mask text is read back, and has groups of eight digits."""
    cpuset = CpuSet(numbers)
    assert CpuSet.from_mask_text(cpuset.mask_text) == cpuset
    assert {len(group) for group in cpuset.mask_text.split(",")} == {8}
    assert cpuset.mask_text.count(",") == max(cpuset.last, 0) // 32  # as many words as it needs


def test_mask_groups_may_lack_their_zeros() -> None:
    """Published NCCL files have groups shorter than eight digits; each still stands for 32 CPUs."""
    assert str(CpuSet.from_mask_text("ff,ffff0000,00ffffff")) == "0-23,48-71"
    assert str(CpuSet.from_mask_text("0000,0fffff00,000fffff")) == "0-19,40-59"
    assert CpuSet.from_mask_text("0xf,0x1") == CpuSet("0,32-35")  # printf's %#x


@pytest.mark.parametrize("text", ["", ",", "ff,", "0x", "g", "X", "fX", "-1", "+1", "f_f", "0x0xf", "f f", "\u0661"])
def test_other_masks_are_refused(text: str) -> None:
    """Also what Python's int() would take: signs, underscores, other scripts' digits."""
    with pytest.raises(OptionError, match="is no node mask: hexadecimal words with commas"):
        NodeSet.from_mask_text(text)


def test_a_negative_integer_is_no_mask() -> None:
    """To Python it has infinitely many bits."""
    assert CpuSet.from_mask(0) == CpuSet()
    for mask in (-1, -256):
        with pytest.raises(OptionError, match="a bit mask cannot be negative"):
            CpuSet.from_mask(mask)


def test_a_mask_of_an_old_capture_ends_in_nul() -> None:
    """As a list of one does; and white space around it is the file's."""
    assert CpuSet.from_mask_text("ff\0\n") == CpuSet.from_mask_text(" ff ") == CpuSet("0-7")


def test_two_sets_are_disjoint_or_not_whatever_the_other_is() -> None:
    """Another set of CPUs, and any iterable, as for Python's own sets; nodes are compared as numbers."""
    for others in (CpuSet("4-7"), [4, 7], {4}, range(4, 9), NodeSet("4"), ()):
        assert CpuSet("0-3").isdisjoint(others)
    for others in (CpuSet("3-7"), [7, 3], {3}, range(9), NodeSet("0")):
        assert not CpuSet("0-3").isdisjoint(others)


def test_sets_are_joined() -> None:
    """What is in any of them; nothing if there are none."""
    assert union([CpuSet("0,2"), CpuSet("2-3"), CpuSet()]) == CpuSet("0,2-3")
    assert union([]) == CpuSet()
    assert joined([0b001, 0b110, 0b010]) == 0b111
    assert joined(iter([])) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n", ""),
        ("0-2,4,6-7", "0-2,4,6-7"),
        (" 3 , 1\n", "1,3"),
        ("0-3,\0", "0-3"),
        ("5-5", "5"),
        ("0-7:2/4", "0-1,4-5"),
        ("0-8:1/4", "0,4,8"),  # the last CPU begins a group
        ("3-12:2/5", "3-4,8-9"),
        ("3-13:2/5", "3-4,8-9,13"),
        ("0-31:8/8", "0-31"),
        ("5-5:1/9", "5"),
        ("0-9:1/999999999", "0"),
        ("1,0,2", "0-2"),
    ],
)
def test_the_kernels_list_form_is_read(text: str, expected: str) -> None:
    """White space, empty pieces, NUL bytes of old captures and strides are read as the kernel means them."""
    assert str(CpuSet(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("a", "1-", "-1", "3-1", "1:2", "0-3:3/2", "0-3:1/0", "0-3:0/0", "9999999999999", "0x3", "1 2", "٣"),
        "0-9:1/1000000000",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    """What is no list is an error that repeats the text, and never a guess."""
    with pytest.raises(OptionError, match="list"):
        CpuSet(text)


def test_an_error_calls_a_set_of_anything_by_its_indexes() -> None:
    """Ranks and GPUs are kept in such a set, too."""
    with pytest.raises(OptionError, match="'a' is no index list: write indexes and ranges"):
        Bitmap("a")


@pytest.mark.parametrize("numbers", [[-1], [1 << 40]])
def test_indexes_out_of_range_are_refused(numbers: list[int]) -> None:
    """A negative index, or one that no kernel has, is an error and not a gigantic integer."""
    with pytest.raises(OptionError):
        CpuSet(numbers)


def test_the_largest_index_is_one_of_those_that_may_be() -> None:
    """A million and some, as a number and in a list; the next one is refused, with the range that may be."""
    assert CpuSet([1 << 20]) == CpuSet(str(1 << 20)) == CpuSet.from_mask(1 << (1 << 20))
    with pytest.raises(OptionError, match="1048577 is no CPU index: they run from 0 to 1048576"):
        CpuSet([(1 << 20) + 1])
    with pytest.raises(OptionError, match="the range '1048577' in a CPU list is reversed, too large"):
        CpuSet(str((1 << 20) + 1))


@given(st.integers(0, 70), st.integers(0, 300), st.integers(0, 20), st.integers(1, 20))
def test_a_stride_is_what_the_kernel_means_by_it(first: int, length: int, used: int, group: int) -> None:
    """Of each group of CPUs from the first on, the first ones, and nothing behind the last (bitmap_parselist)."""
    last, used = first + length, min(used, group)
    expected = {index for index in range(first, last + 1) if (index - first) % group < used}
    assert CpuSet(f"{first}-{last}:{used}/{group}") == expected


def test_what_a_list_can_cost_is_bounded_by_its_length() -> None:
    """Strides over a million indexes are arithmetic, also to print, and a list beyond any kernel's is refused unread.

    Twenty of them took over a minute: twenty sums of half a million numbers of 128 KiB each.
    """
    started = time.process_time()
    every_other = CpuSet(",".join(["0-1048576:1/2"] * 20))
    assert len(every_other) == 524_289
    assert str(every_other).endswith(",1048574,1048576")
    assert time.process_time() - started < 10
    for text in ("0," * 40_000, "0-3" + " " * 70_000):
        with pytest.raises(OptionError, match=r"a CPU list of \d+ characters is too long: at most 65536 are read"):
            CpuSet(text)
    longest = "0," * 32_768
    assert CpuSet(longest) == CpuSet("0")
    with pytest.raises(OptionError, match="of 65537 characters is too long"):
        CpuSet(longest + " ")
    with pytest.raises(OptionError, match="a node mask of 70000 characters is too long"):
        NodeSet.from_mask_text("f" * 70_000)
    with pytest.raises(OptionError, match="list") as raised:
        CpuSet("x" * 60_000)
    assert len(str(raised.value)) < 200


def test_it_is_immutable_and_typed() -> None:
    """A set cannot be changed, and CPUs and nodes do not mix."""
    cpuset = CpuSet("0-3")
    with pytest.raises(AttributeError):
        cpuset.mask = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        cpuset & NodeSet("0-3")  # type: ignore[operator]
    assert cpuset != NodeSet("0-3")


def test_the_operating_system_takes_it() -> None:
    """os.sched_setaffinity accepts a CpuSet, and what os.sched_getaffinity answers compares with one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CpuSet(before))
    assert CpuSet(before) == os.sched_getaffinity(0)


def test_a_mask_below_zero_is_refused() -> None:
    """It would have every bit from some place on."""
    with pytest.raises(OptionError, match="a bit mask cannot be negative"):
        CpuSet.from_mask(-1)
