"""deepspeed: its launcher starts one process a rank, and its CPU accelerator runs without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launchers.jobs import WORKER, environment, planned, require_module, require_two_cores, run

pytestmark = [pytest.mark.launchers, pytest.mark.torch]


def test_exec_before_the_command(tmp_path: Path) -> None:
    """--no_python --no_local_rank hwnuma exec: each rank is where the plan says; a rank's exit code is the launcher's.

    When one rank fails, the launcher's SIGTERM reaches the other.
    """
    require_module("deepspeed")
    require_module("torch")
    require_two_cores()
    variables = environment(HWNUMA_GPUS="none", DS_ACCELERATOR="cpu")
    command = ["deepspeed", "--num_gpus=2", "--no_python", "--no_local_rank", "hwnuma", "exec", "--mode", "exclusive"]
    folder = tmp_path / "told"
    command += ["--", "python", "-u", str(WORKER), str(folder), "fail"]
    status, output, errors, told = run(command, variables, folder)
    expected = planned(variables, "--mode", "exclusive", "--ranks", "2")
    assert told.cpus() == expected, output + errors
    assert len(set(expected)) == 2
    assert f"rank 1 attempt 0: Cpus_allowed_list {expected[1]}\n" in output
    assert status == 3, errors
    assert "terminated-0-0" in told.names()
