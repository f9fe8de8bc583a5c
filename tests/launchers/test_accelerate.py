"""accelerate launch: through torchrun's code in its own process, so that the same two ways bind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launchers.jobs import WORKER, environment, planned, require_module, require_two_cores, run

pytestmark = [pytest.mark.launchers, pytest.mark.torch]

ACCELERATE = ("accelerate", "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1")
ACCELERATE += ("--mixed_precision=no", "--dynamo_backend=no")  # said, so that it does not warn of its defaults


@pytest.fixture(autouse=True)
def _needs() -> None:
    """All tests here need accelerate, torch and two cores."""
    require_module("accelerate")
    require_module("torch")
    require_two_cores()


def test_exec_before_the_command(tmp_path: Path) -> None:
    """--no_python hwnuma exec: each rank is where the plan says; SIGTERM and a rank's exit code pass through."""
    variables = environment(HWNUMA_GPUS="none")
    options = ("--no_python", "hwnuma", "exec", "--mode", "exclusive", "--", "python", "-u", str(WORKER))
    folder = tmp_path / "told"
    status, output, errors, told = run([*ACCELERATE, *options, str(folder), "fail"], variables, folder)
    expected = planned(variables, "--mode", "exclusive", "--ranks", "2")
    assert told.cpus() == expected, errors
    assert len(set(expected)) == 2
    assert f"rank 1 attempt 0: Cpus_allowed_list {expected[1]}\n" in output
    assert "terminated-0-0" in told.names()
    assert status == 1
    assert "exitcode  : 3" in errors


def test_interpreter_replacement(tmp_path: Path) -> None:
    """PYTHON_EXEC=hwnuma-python binds with no change to the command line."""
    variables = environment(HWNUMA_GPUS="none", HWNUMA_MODE="exclusive", PYTHON_EXEC="hwnuma-python")
    folder = tmp_path / "told"
    status, _output, errors, told = run([*ACCELERATE, str(WORKER), str(folder)], variables, folder)
    assert status == 0, errors
    assert told.cpus() == planned(variables, "--ranks", "2")
    assert told[0, 0]["arguments"] == [str(folder)]
