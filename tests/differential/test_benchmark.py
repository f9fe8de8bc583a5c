"""PyTorch takes its turn in the benchmark of planning."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarks import library
from benchmarks.settings import Settings
from benchmarks.timing import Figure
from hwnuma import AffinityMode
from tests.require import require

pytestmark = pytest.mark.torch


def test_each_mode_is_planned_by_both() -> None:
    """One round of each: torch's own functions plan all ranks on the files of the machine that hwnuma plans on."""
    require(find_spec("torch"), "PyTorch is not installed: pip install torch==2.13.0")
    found = library.plan(Settings(rounds=1))
    assert set(found) == {mode.value for mode in AffinityMode}
    assert all(isinstance(figure, Figure) and figure.median > 0 for figure in found.values())
