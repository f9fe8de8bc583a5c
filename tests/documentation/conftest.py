"""The Slurm that jobs of the pages are typed on is that of tests/launchers."""

from tests.launchers.conftest import one_node_slurm

__all__ = ["one_node_slurm"]
