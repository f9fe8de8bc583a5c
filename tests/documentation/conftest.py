"""The Slurm that jobs of the pages are typed on, and what launchers warn of, as in tests/launchers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launchers.conftest import one_node_slurm

__all__ = ["one_node_slurm"]

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What launchers warn of is theirs, and fails nothing."""
    for item in items:
        if item.path.is_relative_to(FOLDER) and item.get_closest_marker("launchers"):
            item.add_marker(pytest.mark.filterwarnings("default"))
