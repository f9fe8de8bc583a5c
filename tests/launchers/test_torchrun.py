"""torchrun with its own command line: the exec wrapper, the interpreter replacement, and the plug-in."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.fake_nvml import calls
from tests.launchers.jobs import (
    SCRIPTS,
    WORKER,
    environment,
    planned,
    require_module,
    require_two_cores,
    run,
    started,
    with_two_gpus,
)
from tests.require import require

pytestmark = [pytest.mark.launchers, pytest.mark.torch]

TORCHRUN = ("torchrun", "--standalone", "--nproc-per-node=2")


@pytest.fixture(autouse=True)
def _needs() -> None:
    """All tests here need torch, hwnuma's programs and two cores."""
    require_module("torch")
    require((SCRIPTS / "hwnuma-python").exists(), f"hwnuma is not installed here: {SCRIPTS} has no hwnuma-python")
    require_two_cores()


def test_exec_before_the_command(tmp_path: Path) -> None:
    """Run torchrun --no-python hwnuma exec: each rank is where the plan says, by its own look at the GPUs.

    The worker is the very process that torchrun started, its output passes through, and gloo works.
    """
    variables = with_two_gpus(tmp_path, environment())
    command = [*TORCHRUN, "--no-python", "hwnuma", "exec", "--mode", "exclusive", "python", "-u", str(WORKER)]
    with started([*command, str(tmp_path / "told"), "all-reduce"], variables, tmp_path / "told") as job:
        status, output, errors = job.finish()
        launcher = job.process.pid
    assert status == 0, errors
    assert calls(tmp_path, "nvmlInit") == 2
    expected = planned(variables, "--mode", "exclusive")
    assert job.told.cpus() == expected
    assert len(set(expected)) == 2
    for rank in (0, 1):
        told = job.told[rank, 0]
        assert f"rank {rank} attempt 0: Cpus_allowed_list {expected[rank]}\n" in output
        assert told["parent"] == launcher
        assert told["unbuffered"] is True
        assert told["sum"] == 3.0


def test_restart_failure_and_sigterm(tmp_path: Path) -> None:
    """After a failure, the restarted ranks are bound again; SIGTERM and the exit code pass through exec."""
    variables = environment(HWNUMA_GPUS="none", HWNUMA_MODE="exclusive")
    command = [*TORCHRUN, "--max-restarts=1", "--no-python", "hwnuma", "exec", "--", "python", str(WORKER)]
    status, output, errors, told = run([*command, str(tmp_path / "told"), "fail"], variables, tmp_path / "told")
    expected = planned(variables, "--ranks", "2")
    assert told.cpus(attempt=0) == expected, errors
    assert told.cpus(attempt=1) == expected
    assert len(set(expected)) == 2
    assert told[0, 0]["pid"] != told[0, 1]["pid"]
    assert {"terminated-0-0", "terminated-0-1"} <= set(told.names())
    assert status == 1
    assert "exitcode  : 3" in errors, errors
    assert "rank 1 attempt 1" in output


def test_interpreter_replacement_and_sigterm_to_the_launcher(tmp_path: Path) -> None:
    """PYTHON_EXEC=hwnuma-python binds with no change to the command line, -m included; SIGTERM reaches the workers."""
    variables = environment(
        HWNUMA_GPUS="none", HWNUMA_MODE="exclusive", PYTHON_EXEC="hwnuma-python", PYTHONPATH=str(WORKER.parent)
    )
    with started([*TORCHRUN, "-m", "worker", str(tmp_path / "told"), "wait"], variables, tmp_path / "told") as job:
        job.wait_for("0-0", "1-0")
        os.kill(job.process.pid, signal.SIGTERM)
        status, _output, errors = job.finish()
    assert job.told.cpus() == planned(variables, "--ranks", "2")
    assert {"terminated-0-0", "terminated-1-0"} <= set(job.told.names()), errors
    assert status != 0
    for rank in (0, 1):
        told = job.told[rank, 0]
        assert told["prefix"] == sys.prefix
        assert told["arguments"] == [str(tmp_path / "told"), "wait"]
        assert told["unbuffered"] is True
        assert told["parent"] == job.process.pid


def test_plug_in_plans_once(tmp_path: Path) -> None:
    """--logs-specs=hwnuma alone: one look at the GPUs, the plan is printed, and each rank is bound to its place.

    So it is even with --virtual-local-rank, where every rank believes to be rank 0 and sees one GPU: the launcher's own
    CUDA_VISIBLE_DEVICES counts, here with the GPUs turned round. OMP_NUM_THREADS, which torchrun sets to 1, becomes the number
    of cores.
    """
    asked = environment(HWNUMA_MODE="exclusive", HWNUMA_MEMORY="preferred", HWNUMA_OMP="torchrun")
    variables = with_two_gpus(tmp_path, {**asked, "CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    command = [*TORCHRUN, "--logs-specs=hwnuma", "--virtual-local-rank", str(WORKER), str(tmp_path / "told")]
    status, _output, errors, told = run(command, variables, tmp_path / "told")
    assert status == 0, errors
    assert calls(tmp_path, "nvmlInit") == 1
    expected = planned(variables)
    assert told.cpus() == expected
    assert len(set(expected)) == 2
    assert errors.count("mode exclusive on this system") == 1
    drives = {line.split()[0]: line.split()[2] for line in errors.splitlines() if "0000:0" in line}
    assert drives == {"0": "0000:0b:00.0", "1": "0000:07:00.0"}
    assert [told[rank, 0]["environment"]["LOCAL_RANK"] for rank in (0, 1)] == ["0", "0"]
    assert [told[rank, 0]["environment"]["CUDA_VISIBLE_DEVICES"] for rank in (0, 1)] == ["1", "0"]
    node = variables["HWNUMA_GPU_NODE"].rpartition("=")[2]
    for rank in (0, 1):
        seen = told[rank, 0]["environment"]
        assert seen["HWNUMA_CPUS"] == expected[rank]
        assert (seen["HWNUMA_MEMORY"], seen["HWNUMA_NODES"]) == ("preferred", node)
        assert seen["OMP_NUM_THREADS"] == str(len(seen["OMP_PLACES"].split("},{")))


def test_plug_in_with_exec_and_restart(tmp_path: Path) -> None:
    """--logs-specs=hwnuma with hwnuma exec: it plans again at a restart, and the workers still look at no GPU.

    An option that asks the workers for another plan is told to do nothing.
    """
    variables = with_two_gpus(tmp_path, environment(HWNUMA_MODE="exclusive"))
    command = [*TORCHRUN, "--logs-specs=hwnuma", "--max-restarts=1", "--no-python", "hwnuma", "exec", "--mode=node"]
    folder = tmp_path / "told"
    status, _output, errors, told = run([*command, "python", str(WORKER), str(folder), "fail"], variables, folder)
    assert status == 1
    assert calls(tmp_path, "nvmlInit") == 2, "once at the start, once at the restart"
    expected = planned(variables)
    assert told.cpus(attempt=0) == expected, errors
    assert told.cpus(attempt=1) == expected
    assert "exitcode  : 3" in errors
    assert f"HWNUMA_CPUS={expected[1]} is this rank's place, as it was planned already: --mode on the command" in errors


def test_plug_in_stops_a_launch_that_cannot_be_placed(tmp_path: Path) -> None:
    """A rank that cannot be placed stops the launch before any worker starts, and the reason is told."""
    cpus = len(os.sched_getaffinity(0))
    variables = environment(HWNUMA_GPUS="none", HWNUMA_MODE="exclusive")
    command = ["torchrun", "--standalone", f"--nproc-per-node={cpus + 1}", "--logs-specs=hwnuma", str(WORKER)]
    status, _output, errors, told = run([*command, str(tmp_path / "told")], variables, tmp_path / "told")
    assert status == 1
    assert told.names() == []
    assert "no worker is started, since not every rank can be placed: rank " in errors
