"""A real torchrun job under `hwnuma bench --compare`: bound in each mode but none, looked at, and timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.jobs import LIMIT, SCRIPTS, WORKER, environment, planned, require_module, require_two_cores
from tests.require import require

pytestmark = [pytest.mark.launchers, pytest.mark.torch]

COMPARE = (sys.executable, "-m", "hwnuma", "bench", "--compare", "none,exclusive", "--rounds", "1", "--format", "json")


@pytest.fixture(autouse=True)
def _needs() -> None:
    """All tests here need torch, hwnuma's programs and two cores."""
    require_module("torch")
    require((SCRIPTS / "hwnuma-python").exists(), f"hwnuma is not installed here: {SCRIPTS} has no hwnuma-python")
    require_two_cores()


@pytest.mark.parametrize(
    "command",
    [
        ("torchrun", "--standalone", "--nproc-per-node=2", str(WORKER)),
        ("torchrun", "--standalone", "--nproc-per-node=2", "--no-python", "{}", "python", "-u", str(WORKER)),
    ],
    ids=["interpreter", "place"],
)
def test_torchrun_under_compare(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Both ranks of each run are seen by their own record or rank, and in the bound run none is outside its CPUs."""
    variables = environment(HWNUMA_GPUS="none")
    (tmp_path / "told").mkdir()
    worker = [*command, str(tmp_path / "told"), "all-reduce"]
    done = subprocess.run(
        [*COMPARE, "--", *worker], env=variables, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    none, exclusive = found["modes"]
    assert found["ranks"] is None
    assert found["notes"] == [note for note in found["notes"] if "is the start of hwnuma" in note]
    assert none["processes"]["high"] >= 2
    assert exclusive["processes"]["high"] >= 2
    assert exclusive["threads_outside"]["high"] == 0
    assert len(set(planned({**variables, "HWNUMA_MODE": "exclusive"}, "--ranks", "2"))) == 2
    assert found["verdict"][0].startswith("exclusive: ")


def test_a_torchrun_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    """The exit status is torchrun's, the end of its report is there, and nothing of it runs on."""
    (tmp_path / "told").mkdir()
    worker = ["torchrun", "--standalone", "--nproc-per-node=2", str(WORKER), str(tmp_path / "told"), "fail"]
    done = subprocess.run(
        [*COMPARE, "--", *worker],
        env=environment(HWNUMA_GPUS="none"), capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "the command failed with exit status 1" in done.stderr
    assert "exitcode  : 3" in done.stderr
    for path in (tmp_path / "told").glob("[0-9]*.json"):
        assert not Path(f"/proc/{json.loads(path.read_text())['pid']}").exists()
