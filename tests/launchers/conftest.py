"""What tests of several launchers share: one Slurm for the session, and whose jobs are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.slurm import OneNodeSlurm, missing
from tests.require import require

# Whose jobs reach what no others do: hwnuma's parts of Dask, Ray and torchrun.
_MEASURED = ("test_dask", "test_ray", "test_torchrun")


@pytest.fixture(autouse=True)
def measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where coverage is measured, leave out jobs in which it sees nothing new: of hundreds of Pythons each is slower by it."""
    name = request.module.__name__.rpartition(".")[2]
    if request.node.get_closest_marker("launchers") is not None and name not in _MEASURED:
        for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def one_node_slurm() -> Iterator[OneNodeSlurm]:
    """A Slurm of one node, started for the session; its folder's name is short, since a socket's path has 107 bytes."""
    require(not missing(), missing())
    with tempfile.TemporaryDirectory(prefix="hwnuma-slurm-") as folder:
        slurm = OneNodeSlurm(Path(folder))
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()
