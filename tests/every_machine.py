"""The fixtures' machines, each a test of its own: the quick tests take one of each kind, and the slow ones the others."""

from __future__ import annotations

from collections.abc import Iterable
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


def quick_few(names: Iterable[str]) -> list[Any]:
    """Values to parametrize a test with: the machines' names, of which all but one of each kind are slow."""
    return [name if name in _ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.slow) for name in names]


every_machine = pytest.mark.parametrize("name", quick_few(MACHINES))
