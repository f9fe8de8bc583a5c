"""What tests of several launchers share: one Slurm for the session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.slurm import OneNodeSlurm, missing
from tests.require import require


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
