"""The Slurm that jobs of the pages are typed on is that of tests/launchers; and none of these jobs is measured."""

from tests.launchers.conftest import measured, one_node_slurm

__all__ = ["measured", "one_node_slurm"]
