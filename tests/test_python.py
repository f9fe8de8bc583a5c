"""hwnuma-python alone: no launcher is needed to see what it does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hwnuma.cli import python
from tests.launchers.jobs import LIMIT, SCRIPTS, environment
from tests.require import require


def hwnuma_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run hwnuma-python."""
    command = [str(SCRIPTS / "hwnuma-python"), *arguments]
    require((SCRIPTS / "hwnuma-python").exists(), f"hwnuma is not installed here: {SCRIPTS} has no hwnuma-python")
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_hwnuma_python_passes_everything_on() -> None:
    """All arguments are Python's, even those that look like hwnuma's, and so is the exit status."""
    code = "import sys; print(sys.prefix, *sys.argv[1:], sep='|'); sys.exit(5)"
    done = hwnuma_python("-u", "-c", code, "--mode", "--", "x y", HWNUMA_CPUS="0")
    assert done.returncode == 5, done.stderr
    assert done.stdout == f"{sys.prefix}|--mode|--|x y\n"


@pytest.mark.parametrize(
    ("variables", "status", "reason"),
    [
        ({}, 2, "local rank is not known"),
        ({"HWNUMA_MODE": "nearby", "LOCAL_RANK": "0"}, 2, "HWNUMA_MODE: 'nearby' is no affinity mode"),
        ({"HWNUMA_GPUS": "none", "HWNUMA_MODE": "exclusive", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "999"}, 1, "cores"),
    ],
)
def test_hwnuma_python_fails_with_one_line(variables: dict[str, str], status: int, reason: str) -> None:
    """What cannot be bound is not started: one line on standard error says why."""
    done = hwnuma_python("-c", "print('started')", **variables)
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert reason in done.stderr


def test_a_python_without_a_path_of_its_own_cannot_be_become(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where Python is part of another program: one line, and a shell's status for it."""
    monkeypatch.setattr(sys, "executable", "")
    assert python.main(["-c", "pass"]) == 126
    assert (
        capsys.readouterr().err == "hwnuma-python: this Python does not know its own path (sys.executable is empty)\n"
    )
