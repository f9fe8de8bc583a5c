"""The launcher on machines that are not there: the workers are real processes, and their places are recorded."""

from __future__ import annotations

import sys
from pathlib import Path

from minilauncher import launch

import hwnuma

FAILS_ONCE = """
import os, pathlib, sys
seen = pathlib.Path(sys.argv[1], os.environ["LOCAL_RANK"])
if os.environ["LOCAL_RANK"] == "1" and not seen.exists():
    seen.touch()
    sys.exit("the worker dies")
"""

SAYS_ITS_CPUS = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], os.environ["LOCAL_RANK"]).write_text(str(len(os.sched_getaffinity(0))))
"""


def test_every_rank_starts_at_its_planned_place(hwnuma_machine, tmp_path: Path) -> None:
    """Eight workers of a DGX H100, each of which finds itself on the CPUs that the plan gives it."""
    with hwnuma_machine("dgx_h100", affinity=True, children=True) as machine:
        assert launch([sys.executable, "-c", SAYS_ITS_CPUS, str(tmp_path)])
        plan = hwnuma.plan_here("exclusive")
    machine.assert_bound(plan)
    found = {int(file.name): int(file.read_text()) for file in tmp_path.iterdir()}
    assert found == {place.local_rank: len(place.cpuset) for place in plan}


def test_a_worker_that_dies_comes_back_at_the_same_place(hwnuma_machine, tmp_path: Path, capfd) -> None:
    """The second process of rank 1 gets the CPUs of the first."""
    with hwnuma_machine("dgx_h100", visible="0,4", children=True) as machine:
        assert launch([sys.executable, "-c", FAILS_ONCE, str(tmp_path)])
    first, second = (each for each in machine.bound if each.local_rank == 1)
    assert first.pid != second.pid
    assert str(first.cpus) == str(second.cpus) == "56-111,168-223"
    assert "rank 1 failed and is started again (1 of 2)" in capfd.readouterr().err


def test_a_worker_that_always_dies_is_given_up(hwnuma_machine) -> None:
    """After its restarts, the launcher says that not all succeeded."""
    with hwnuma_machine("dgx_h100", visible="0", children=True) as machine:
        assert not launch([sys.executable, "-c", "import sys; sys.exit(3)"], restarts=1)
    assert len(machine.bound) == 2


def test_a_rank_without_a_place_runs_all_the_same(hwnuma_machine, capfd) -> None:
    """The cgroup leaves the CPUs of NUMA node 0 alone, so the ranks of node 1 have none near their GPUs."""
    with hwnuma_machine("dgx_h100", allowed="0-55,112-167", visible="0,4", children=True) as machine:
        assert launch([sys.executable, "-c", "pass"])
    assert [each.local_rank for each in machine.bound] == [0]
    said = capfd.readouterr().err
    assert "minilauncher: rank 1 has no place and runs where it may: GPU 4 (0000:9d:00.0) is on NUMA node 1" in said
