"""hwnuma's answers are those of PyTorch's own torch.numa.binding, but for the reviewed table.

To renew occurrences.txt and docs/explanation/differences.md after a change, run
``HWNUMA_UPDATE_DIFFERENCES=1 pytest tests/differential/test_against_torch.py`` and read the diff.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from tests.differential import docs, torch_numa, torch_process
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
# The Python of an environment with the newest torch; the other one is this Python's own.
_NEWEST = os.environ.get("HWNUMA_NEWEST_TORCH")


@dataclass(frozen=True)
class Torch:
    """A torch to compare with: its version up to the last point, and the Python that has it; empty where none does."""

    version: str
    python: str
    remedy: str

    def ask(self, machines: Sequence[Compared], *, mount: bool = True) -> dict[str, Any]:
        """What it answers, after a look that it is the one compared with."""
        require(self.python, self.remedy)
        asked = ask_torch(machines, mount=mount, python=self.python)
        assert asked["torch"].startswith(self.version), f"with torch {asked['torch']}, review the table again"
        return asked


_TORCHES = (
    Torch("2.13.", sys.executable if find_spec("torch") else "", "PyTorch is not installed: pip install torch==2.13.0"),
    Torch(
        "2.14.", _NEWEST or "", "PyTorch is not installed: HWNUMA_NEWEST_TORCH names no Python that has torch 2.14.1"
    ),
)
_REFERENCE = _TORCHES[0]


@pytest.fixture(scope="module", params=_TORCHES, ids=lambda torch: f"torch {torch.version}x")
def torch(request: pytest.FixtureRequest) -> Torch:
    """Each torch that hwnuma is compared with."""
    return request.param


@pytest.fixture(scope="module")
def machines() -> list[Compared]:
    """The repository's machines, and other people's where they lie beside the repository."""
    return [*fixtures(), *corpus()]


@pytest.fixture(scope="module")
def comparison(torch: Torch, machines: Sequence[Compared]) -> Comparison:
    """All answers of both, compared."""
    asked = torch.ask(machines)
    compared = compare(machines, asked["answers"])
    print(f"\ntorch {asked['torch']} through a {asked['way']}: {compared.summary}")
    if _UPDATE and torch is _REFERENCE:
        names = frozenset(each.name for each in machines)
        kept = [line for line in saved_occurrences() if line.split(" | ")[1] not in names]
        lines = sorted(kept + compared.lines(names))
        OCCURRENCES.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")
        docs.PAGE.write_text(docs.page(compared, frozenset(m.name for m in machines if m.is_fixture)), encoding="utf-8")
    return compared


@pytest.mark.parametrize("mistake", torch_numa.OUR_MISTAKES)
def test_a_mistake_of_ours_is_no_answer(mistake: type[Exception]) -> None:
    """A wrong call ends the test; what torch itself raises goes through."""

    def wrong(*, device_index: int, numa_options: object) -> None:
        raise mistake(device_index, numa_options)

    def answers(*, gpu_index: int, numa_options: object) -> None:
        raise ValueError(gpu_index, numa_options)

    binding = types.SimpleNamespace(_get_validated_logical_cpus_to_bind_to=wrong)
    with pytest.raises(AssertionError, match="torch was asked wrongly"):
        torch_process.ask(binding, None, 0)
    binding._get_validated_logical_cpus_to_bind_to = answers
    assert torch_process.ask(binding, None, 0) == {"error": "ValueError", "message": "(0, None)"}


def test_an_index_by_another_name_is_no_answer() -> None:
    """Where torch renames the parameter again, the test fails, and does not take the TypeError for what torch answers."""

    def renamed(*, accelerator: int, numa_options: object) -> None:
        """Never called."""

    binding = types.SimpleNamespace(_get_validated_logical_cpus_to_bind_to=renamed)
    with pytest.raises(AssertionError, match="takes accelerator, numa_options, and none of device_index or gpu_index"):
        torch_process.ask(binding, None, 0)


def test_both_ways_to_show_torch_a_machine_give_the_same(torch: Torch, machines: Sequence[Compared]) -> None:
    """Where no mount namespace can be had, intercepted file access takes its place: same machines, same answers."""
    few = [each for each in machines if each.name in ("dgx1_v100", "gh200_x4", "gcp_a3_h100_8")]
    assert len(few) == 3
    assert torch.ask(few, mount=False)["answers"] == torch.ask(few)["answers"]


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
    """docs/explanation/differences.md is what the table and the comparison make it."""
    if not CORPUS_XML.is_dir():
        pytest.skip(f"its counts are of all files, and {CORPUS_XML} is not there")
    expected = docs.page(comparison, frozenset(each.name for each in machines if each.is_fixture))
    assert docs.PAGE.read_text(encoding="utf-8") == expected
