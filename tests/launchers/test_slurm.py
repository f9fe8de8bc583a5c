"""Slurm: `hwnuma exec` between srun and the command, as docs/how-to/launchers/slurm.md has it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.launchers.jobs import LIMIT, environment, planned, require_module, require_two_cores, run, started
from tests.launchers.slurm import OneNodeSlurm, missing
from tests.require import require
from tests.test_cli import run as hwnuma

pytestmark = [pytest.mark.launchers, pytest.mark.root]

RANK = [sys.executable, str(Path(__file__).with_name("rank.py"))]
HWNUMA = ["hwnuma", "exec", "--gpus", "none", "--mode", "exclusive", "--"]
EXCLUSIVE = ("--gpus", "none", "--mode", "exclusive", "--ranks", "2")


@pytest.fixture
def variables(one_node_slurm: OneNodeSlurm) -> dict[str, str]:
    """An environment for srun."""
    require_two_cores()
    return one_node_slurm.environment(environment())


def test_tasks_get_the_plans_cpus(variables: dict[str, str], tmp_path: Path) -> None:
    """In exclusive mode two tasks are on distinct CPUs, those of `hwnuma plan`; Slurm tells local id and size."""
    command = ["srun", "--cpu-bind=none", "-n2", *HWNUMA, *RANK, str(tmp_path)]
    status, _, errors, told = run(command, variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)
    assert told.cpus()[0] != told.cpus()[1]
    answers = [told[rank, 0] for rank in range(2)]
    assert [(answer["size"], answer["variable"]) for answer in answers] == [(2, "SLURM_LOCALID")] * 2


def test_options_may_come_from_the_environment(variables: dict[str, str], tmp_path: Path) -> None:
    """The srun of a user who cannot change its command line carries HWNUMA_MODE and HWNUMA_GPUS to the tasks."""
    told_by_environment = {**variables, "HWNUMA_MODE": "exclusive", "HWNUMA_GPUS": "none", "SLURM_CPU_BIND": "none"}
    command = ["srun", "-n2", "hwnuma", "exec", *RANK, str(tmp_path)]
    status, _, errors, told = run(command, told_by_environment, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)


@pytest.mark.parametrize("more", [[], ["--mpi=pmi2"]], ids=["plain", "pmi2"])
def test_a_mask_of_srun_is_respected_and_told(more: list[str], variables: dict[str, str], tmp_path: Path) -> None:
    """A task that srun has bound to one core stays there, and is told that it was Slurm, and how to turn it off.

    With pmi2 Slurm sets PMI_RANK, as MPICH's mpiexec does, which is not accused.
    """
    command = ["srun", "-n2", *more, "hwnuma", "exec", "--gpus", "none", "--mode", "node", "--", *RANK, str(tmp_path)]
    status, _, errors, told = run(command, variables, tmp_path)
    assert status == 0, errors
    whole = planned(variables, "--gpus", "none", "--mode", "node", "--ranks", "2")
    for rank, cpus in enumerate(told.cpus()):
        assert f"local rank {rank} gets CPUs {cpus} instead of {whole[rank]}: " in errors
    assert len(set(told.cpus())) == 2
    assert "probably by Slurm (SLURM_CPU_BIND is set: srun --cpu-bind=none); --outer-mask reset" in errors


def test_a_failing_tasks_exit_status_reaches_srun(variables: dict[str, str], tmp_path: Path) -> None:
    """Task 1 exits with 3, and so does srun."""
    command = ["srun", "--cpu-bind=none", "-n2", *HWNUMA, *RANK, str(tmp_path), "fail"]
    status, _, errors, told = run(command, variables, tmp_path)
    assert told.names() == ["0-0", "1-0"]
    assert status == 3
    assert "task 1: Exited with exit code 3" in errors


def test_sigterm_reaches_the_tasks(variables: dict[str, str], tmp_path: Path) -> None:
    """What `scancel` sends comes to every task, since exec leaves nothing in between; srun itself kills at once."""
    command = ["srun", "--cpu-bind=none", "-n2", "--job-name=wait", *HWNUMA, *RANK, str(tmp_path), "wait"]
    with started(command, variables, tmp_path) as job:
        job.wait_for("0-0", "1-0")
        subprocess.run(["scancel", "--signal=TERM", "--name=wait"], env=variables, timeout=LIMIT, check=True)
        status, _, errors = job.finish()
        assert status == 0, errors
        assert {"terminated-0-0", "terminated-1-0"} <= set(job.told.names())


@pytest.mark.torch
def test_one_task_a_node_starts_torchrun(variables: dict[str, str], tmp_path: Path) -> None:
    """Slurm's one task starts torchrun, whose two workers get the plan's CPUs: LOCAL_RANK counts, SLURM_LOCALID not."""
    require_module("torch")
    torchrun = ["torchrun", "--nproc-per-node=2", "--no-python", *HWNUMA, *RANK, str(tmp_path)]
    command = ["srun", "--cpu-bind=none", "-n1", "--ntasks-per-node=1", "--cpus-per-task=2", *torchrun]
    status, _, errors, told = run(command, variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)
    answers = [told[rank, 0] for rank in range(2)]
    assert [(answer["variable"], answer["warnings"]) for answer in answers] == [("LOCAL_RANK", [])] * 2


def test_a_step_captures_every_node(tmp_path: Path) -> None:
    """`srun --ntasks-per-node=1 hwnuma capture DIR/%N.xml` as typed, on two nodes: a file of each, which are alike.

    The nodes are this machine under two names, each with a slurmd of its own.
    """
    require(not missing(), missing())
    with tempfile.TemporaryDirectory(prefix="hwnuma-slurm-") as folder:
        slurm = OneNodeSlurm(Path(folder), ("node1", "node2"))
        try:
            slurm.start()
            command = ["srun", "-N2", "--ntasks-per-node=1", "hwnuma", "capture", f"{tmp_path}/%N.xml"]
            status, _, errors, _ = run(command, slurm.environment(environment()), tmp_path)
            assert status == 0, errors + slurm.logs()
        finally:
            slurm.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node1.xml", "node2.xml"]
    assert hwnuma("fleet", str(tmp_path)).stdout == "2 machines, all alike\n\nnorm, 2: node[1-2]\n"
