"""Where roots are made: in memory, where thousands of small files are cheap, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as `platforms`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.platforms)


@pytest.fixture(scope="module")
def root_folder() -> Iterator[Path]:
    """An empty folder for a root file system."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 4 << 30 else None
    with tempfile.TemporaryDirectory(prefix="hwnuma-root-", dir=memory) as folder:
        yield Path(folder)
