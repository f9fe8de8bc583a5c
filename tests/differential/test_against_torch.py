"""hwnuma's answers are those of PyTorch's own torch.numa.binding, but for the reviewed table.

To renew occurrences.txt and docs/differences.md after a change, run
``HWNUMA_UPDATE_DIFFERENCES=1 pytest tests/differential/test_against_torch.py`` and read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from tests.differential import docs
from tests.differential.compare import OCCURRENCES, Comparison, compare, saved_occurrences, table
from tests.differential.machines import CORPUS_XML, Compared, corpus, fixtures
from tests.differential.torch_answers import ask_torch
from tests.require import require

pytestmark = pytest.mark.torch

_UPDATE = bool(os.environ.get("HWNUMA_UPDATE_DIFFERENCES"))
_HEAD = """\
# Every place where the entries of differences.toml occur: entry | machine | allowed CPUs | mode | GPUs.
# Written by HWNUMA_UPDATE_DIFFERENCES=1 pytest tests/differential/test_against_torch.py
"""


@pytest.fixture(scope="module")
def machines() -> list[Compared]:
    """The repository's machines, and other people's where they lie beside the repository."""
    return [*fixtures(), *corpus()]


@pytest.fixture(scope="module")
def comparison(machines: Sequence[Compared]) -> Comparison:
    """All answers of both, compared."""
    require(find_spec("torch"), "PyTorch is not installed: pip install torch==2.13.0")
    asked = ask_torch(machines)
    compared = compare(machines, asked["answers"])
    print(f"\ntorch {asked['torch']} through a {asked['way']}: {compared.summary}")
    if _UPDATE:
        names = frozenset(each.name for each in machines)
        kept = [line for line in saved_occurrences() if line.split(" | ")[1] not in names]
        lines = sorted(kept + compared.lines(names))
        OCCURRENCES.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")
        docs.PAGE.write_text(docs.page(compared, frozenset(m.name for m in machines if m.is_fixture)), encoding="utf-8")
    return compared


def test_torch_is_the_version_compared_with() -> None:
    """The reference is torch 2.13: with another version, the table has to be reviewed again."""
    require(find_spec("torch"), "PyTorch is not installed: pip install torch==2.13.0")
    assert version("torch").startswith("2.13.")


def test_both_ways_to_show_torch_a_machine_give_the_same(machines: Sequence[Compared]) -> None:
    """Where no mount namespace can be had, intercepted file access takes its place: same machines, same answers."""
    require(find_spec("torch"), "PyTorch is not installed: pip install torch==2.13.0")
    few = [each for each in machines if each.name in ("dgx1_v100", "gh200_x4", "gcp_a3_h100_8")]
    assert len(few) == 3
    assert ask_torch(few, mount=False)["answers"] == ask_torch(few)["answers"]


def test_every_difference_is_reviewed(comparison: Comparison) -> None:
    """Wherever torch answers, hwnuma's set is the same to the CPU, or an entry of the table says why not."""
    assert comparison.unreviewed == []


def test_the_reviewed_differences_are_those_that_occur(comparison: Comparison, machines: Sequence[Compared]) -> None:
    """No entry occurs anywhere else than reviewed, and none has gone: the table is neither short nor stale."""
    names = frozenset(each.name for each in machines)
    saved = [line for line in saved_occurrences() if line.split(" | ")[1] in names]
    assert comparison.lines(names) == saved


def test_every_entry_occurs(comparison: Comparison) -> None:
    """An entry of the table that explains nothing any more has to go."""
    if not CORPUS_XML.is_dir():
        pytest.skip(f"some entries occur only in other people's files, and {CORPUS_XML} is not there")
    assert {entry.name for entry in table()} == set(comparison.occurrences)


def test_nothing_is_compared_by_half(comparison: Comparison, machines: Sequence[Compared]) -> None:
    """Every machine, GPU, set of allowed CPUs and mode is in the counts, most are equal, and node 0 was compared too."""
    expected = sum(4 * len(each.cuts()) * len(each.addresses) for each in machines)
    assert comparison.counts.total() == expected
    assert comparison.counts["equal"] > expected // 2
    assert comparison.node_zero > 0


def test_the_docs_show_the_table(comparison: Comparison, machines: Sequence[Compared]) -> None:
    """docs/differences.md is what the table and the comparison make it."""
    if not CORPUS_XML.is_dir():
        pytest.skip(f"its counts are of all files, and {CORPUS_XML} is not there")
    expected = docs.page(comparison, frozenset(each.name for each in machines if each.is_fixture))
    assert docs.PAGE.read_text(encoding="utf-8") == expected
