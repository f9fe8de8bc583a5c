"""Text from outside, as it is shown."""

from __future__ import annotations

import os
import sys
import unicodedata

import pytest

from hwnuma.model.characters import excerpt, printable, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("Grüße, 漢字", "Grüße, 漢字"),
        ("a\x1b[31mred\x07", "a\\x1b[31mred\\x07"),
        ("one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"),
        ("\x7f\x80\x9b", "\\x7f\\x80\\x9b"),
        ("\u202eevil\u2066\u200f\u061c", "\\u202eevil\\u2066\\u200f\\u061c"),
        ("\u2028\u2029\u200b\ufeff\U000e0041", "\\u2028\\u2029\\u200b\\ufeff\\U000e0041"),
        (os.fsdecode(b"name\xff.xml"), "name\\xff.xml"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_acts_on_a_terminal_is_an_escape(text: str, expected: str) -> None:
    """Controls, line ends, bidirectional and invisible characters, and bytes that are no text; letters stay."""
    assert printable(text) == expected
    assert printable(expected) == expected


@pytest.mark.slow  # a million characters
def test_nothing_else_of_unicode_gets_through() -> None:
    """Of all characters, what is left has no control, format, surrogate, private or unassigned one, and no separator."""
    left = set(printable("".join(map(chr, range(sys.maxunicode + 1)))))
    assert {unicodedata.category(character) for character in left - {" "}}.isdisjoint(
        {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    )
    assert all(character.encode() for character in left)


def test_a_long_text_is_cut() -> None:
    """An error that repeats a text of 100,000 characters tells nothing."""
    assert excerpt("\x1b" + "x" * 100_000) == "\\x1b" + "x" * 59 + "…"
    assert shown("a\n" * 100_000) == repr("a\n" * 30 + "…")
    assert excerpt("short") == "short"
