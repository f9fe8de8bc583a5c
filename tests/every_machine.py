"""The same for each of many: the quick tests take some, such as a machine of each kind, and the slow ones the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from tests.conftest import TOPOLOGIES

MACHINES = sorted(path.stem for path in TOPOLOGIES.glob("*.xml"))

# NVIDIA's and AMD's; one package and four nodes of one; nodes of memory alone; half a machine; none with GPUs.
_ONE_OF_EACH_KIND = {
    "dgx_h100",
    "dgx_a100_nps4",
    "frontier_mi250x",
    "gb200_nvl72_tray",
    "slurm_cut_a100_pcie8",
    "xeon_sst_bf",
}


def slow_but(quick: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values to parametrize a test with, all but some of them slow."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


def quick_few(names: Iterable[str]) -> list[Any]:
    """The same of machines' names: all but one of each kind are slow."""
    return slow_but(_ONE_OF_EACH_KIND, names)


every_machine = pytest.mark.parametrize("name", quick_few(MACHINES))
