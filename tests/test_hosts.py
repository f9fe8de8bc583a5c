"""Folded names of hosts: as Slurm writes them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnuma import OptionError
from hwnuma.captures.hosts import expanded, folded


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["login"], "login"),
        (["node3"], "node3"),
        ([f"node{each:03}" for each in (*range(1, 18), 20)], "node[001-017,020]"),
        (["node10", "node9", "node8"], "node[8-10]"),
        (["node08", "node09", "node10"], "node[08-10]"),
        (["node1", "node01", "node2"], "node01,node[1-2]"),
        (["a1-ib", "a2-ib", "a3"], "a[1-2]-ib,a3"),
        (["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1"),
        (["n1", "n1", "n1"], "n1"),
        (["7", "8"], "[7-8]"),
        (["a,b1", "c[2]", "d 3"], "a,b1,c[2],d 3"),
    ],
)
def test_names_are_folded(names: list[str], text: str) -> None:
    """Ranges in the last number, with its zeros; what cannot stand in a list stays as it is."""
    assert folded(names) == text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("a,b", ["a", "b"]),
        ("node[001-003,010]", ["node001", "node002", "node003", "node010"]),
        ("r[1-2]n[08-09]-ib, login", ["r1n08-ib", "r1n09-ib", "r2n08-ib", "r2n09-ib", "login"]),
        ("n[0-2]", ["n0", "n1", "n2"]),
        ("n[00-01]", ["n00", "n01"]),
    ],
)
def test_lists_are_expanded(text: str, names: list[str]) -> None:
    """In the order of the list; every pair of brackets counts."""
    assert expanded(text) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n[3-1]", "neither a number nor a range"),
        ("n[]", "neither a number nor a range"),
        ("n[a]", "neither a number nor a range"),
        ("n[1-]", "neither a number nor a range"),
        ("n[1", "a bracket has no other"),
        ("n1]", "a bracket has no other"),
        ("n[0-9999999]", "more than 1048576 hosts"),
        ("n[1-2000][1-2000]", "more than 1048576 hosts"),
        pytest.param(
            "a[1-600000],b[1-600000]", "more than 1048576 hosts", marks=pytest.mark.slow
        ),  # half of them are made
    ],
)
def test_what_is_no_list_is_refused(text: str, said: str) -> None:
    """In one line; a short text that means millions is refused before they are made."""
    with pytest.raises(OptionError, match="list of hosts|hosts, which") as caught:
        expanded(text)
    assert said in str(caught.value)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,8}[0-9]{0,4}(-ib)?", fullmatch=True)
SERIES = st.builds(
    lambda ahead, numbers, width: [f"{ahead}{number:0{width}d}" for number in numbers],
    st.sampled_from(["n", "node", "r1-"]), st.lists(st.integers(0, 1200), max_size=40), st.integers(0, 5),
)  # fmt: skip


@given(st.lists(NAMES, max_size=20), st.lists(SERIES, max_size=4))
def test_what_is_folded_comes_back(names: list[str], series: list[list[str]]) -> None:
    """All names and no other, each once, however they are numbered; and folding them again gives the same."""
    everybody = [*names, *(name for each in series for name in each)]
    text = folded(everybody)
    assert sorted(expanded(text)) == sorted(set(everybody))
    assert folded(expanded(text)) == text
