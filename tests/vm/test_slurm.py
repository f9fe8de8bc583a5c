"""A real Slurm on two sockets of two NUMA nodes each, a GPU on each node: which CPUs ranks are given, and what exec says."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pytest

from tests.launchers.slurm import missing
from tests.require import require

from . import lab
from .conftest import REPOSITORY
from .machines import FOUR_NODES

pytestmark = [pytest.mark.vm, pytest.mark.root]

_TIMEOUT = 900.0

_IN_ORDER = ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]
# Rank 0 on the first socket, 1 on the second, 2 on the first: GPUs 1 and 2 are where the other's rank is.
_IN_TURN = [_IN_ORDER[place] for place in (0, 2, 1, 3)]


@pytest.fixture(scope="module")
def ranks(vm_lab: None) -> dict[str, Any]:  # noqa: ARG001
    """What ranks had, by how srun was called."""
    require(not missing(), missing())
    require(shutil.which("ip"), "the guest gets an address by ip (Debian's iproute2), which is not installed")
    command = [sys.executable, "-m", "tests.vm.slurm_ranks", ",".join(FOUR_NODES.display_addresses())]
    result = lab.run(FOUR_NODES, command, folder=REPOSITORY, timeout=_TIMEOUT)
    assert result.status == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(("way", "told"), [("default", ""), ("cyclic", "block:cyclic")])
def test_srun_deals_sockets_out_in_turn_and_exec_says_so(ranks: dict[str, Any], way: str, told: str) -> None:
    """Of the default no variable tells. The ranks that are near another's GPU end, each with one line of its own."""
    given, done = ranks[way]["given"], ranks[way]["exec"]
    assert (given["cpus"], given["distribution"]) == (_IN_TURN, [told])
    assert (done["status"], done["cpus"]) == (1, [_IN_TURN[0], None, None, _IN_TURN[3]])
    assert [len(lines) for lines in done["said"]] == [0, 1, 1, 0]
    (line,) = done["said"][1]
    assert line.startswith(
        "hwnuma exec: CPUs were not given out in the order of the GPUs: local rank 1 was started on CPUs 4-5,12-13 of NUMA "
        "node 2, near GPU 2, and drives GPU 1 (0000:41:00.0) on node 1; Slurm deals sockets out to tasks in turn unless it "
        f"is told otherwise (SLURM_DISTRIBUTION{f'={told}' if told else ' is not set'}): srun --cpu-bind=none"
    )
    assert "srun --distribution=block:block" in line


def test_a_rank_that_goes_on_near_anothers_gpu_is_warned(ranks: dict[str, Any]) -> None:
    """With --fallback nearest all four run where Slurm has put them, and the two say it in a line."""
    done = ranks["default"]["nearest"]
    assert (done["status"], done["cpus"]) == (0, _IN_TURN)
    assert [len(lines) for lines in done["said"]] == [0, 1, 1, 0]
    assert done["said"][2][0].endswith("; it gets CPUs 2-3,10-11 instead of 4-5,12-13")


@pytest.mark.parametrize(
    ("way", "given", "told"), [("block:block", _IN_ORDER, "block:block"), ("none", ["0-15"] * 4, "")]
)
def test_both_remedies_put_every_rank_near_its_gpu(
    ranks: dict[str, Any], way: str, given: list[str], told: str
) -> None:
    """And nothing is said."""
    assert (ranks[way]["given"]["cpus"], ranks[way]["given"]["distribution"]) == (given, [told])
    done = ranks[way]["exec"]
    assert (done["status"], done["cpus"], done["said"]) == (0, _IN_ORDER, [[], [], [], []])
