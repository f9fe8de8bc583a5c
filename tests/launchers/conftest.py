"""What tests of several launchers share: one Slurm for the session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.slurm import OneNodeSlurm, missing
from tests.require import require

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What launchers warn of is theirs, and another release's is another warning: it is told, and fails nothing."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.filterwarnings("default"))


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
