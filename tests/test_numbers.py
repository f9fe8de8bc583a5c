"""The one helper that reads a number from text that somebody else wrote."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnuma import OptionError
from hwnuma.model.numbers import LARGEST_NUMBER, whole_number


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("7", 7), (" 12\n", 12), ("007", 7), (str(LARGEST_NUMBER), LARGEST_NUMBER)]
)
def test_digits_are_a_number(text: str, number: int) -> None:
    """With the white space and the leading zeros that files have, up to the largest number."""
    assert whole_number(text, "it") == number


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "--1", "- 1", "+1", "1.0", "0x1", "1e3", "1_000", "²1", "\u0661", "\uff11", "1²", "1 2", "1\0", "9" * 19, "0" * 20,
     "1" * 5001],
)  # fmt: skip
def test_what_is_no_number_is_one_line(text: str) -> None:
    """Other scripts' digits, signs, underscores, too many digits: the same error, which names what it should be."""
    with pytest.raises(OptionError) as caught:
        whole_number(text, "LOCAL_RANK", most=255)
    said = str(caught.value)
    assert said.startswith("LOCAL_RANK is ")
    assert said.endswith(", and not a whole number from 0 to 255")
    assert len(said) < 120
    assert "\n" not in said


@pytest.mark.parametrize(("text", "fine"), [("0", False), ("1", True), ("8", True), ("9", False), ("-1", False)])
def test_both_bounds_belong_to_it(text: str, fine: bool) -> None:
    """From `least` to `most`, both included."""
    if fine:
        assert whole_number(text, "it", 1, 8) == int(text)
    else:
        with pytest.raises(OptionError, match="it is '-?[0-9]', and not a whole number from 1 to 8"):
            whole_number(text, "it", 1, 8)


def test_a_negative_number_where_it_makes_sense() -> None:
    """The kernel's -1 of a device that is near no node."""
    assert whole_number("-1\n", "numa_node", least=-1) == -1


@given(st.text())
def test_any_text_is_a_number_or_an_option_error(text: str) -> None:
    """Nothing else comes out, whatever goes in."""
    try:
        assert 0 <= whole_number(text, "it") <= LARGEST_NUMBER
    except OptionError:
        assert not (text.strip().isascii() and text.strip().isdigit() and len(text.strip()) < 19)


@pytest.mark.parametrize("columns", ["9" * 5001, "²", "-1", "0", " 80", ""])
def test_a_width_that_is_no_number_is_no_width(columns: str) -> None:
    """COLUMNS is text from outside too: what is no number says nothing, and a drawing has 80 columns."""
    command = [sys.executable, "-m", "hwnuma", "show", "--synthetic", "numa:1 core:2 pu:1", "--gpus", "none"]
    done = subprocess.run(command, env={**os.environ, "COLUMNS": columns}, capture_output=True, text=True, check=True)
    assert max(map(len, done.stdout.splitlines())) == 80
