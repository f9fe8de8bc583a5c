"""A fresh clone: CONTRIBUTING's set-up, then the tutorial, command by command as typed, in one shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.blocks import typed_by
from tests.launchers.jobs import environment, with_two_gpus
from tests.require import require

pytestmark = pytest.mark.packaging

HERE = "tests/documentation/test_clone.py"
LIMIT = 580.0  # seconds, only so that nothing hangs
MARK = "==== typed: "


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, and nothing else."""
    require((ROOT / ".git").exists(), "this is no clone, and so none can be made of it")
    folder = tmp_path_factory.mktemp("fresh") / "hwnuma"
    subprocess.run(["git", "clone", "-q", "--no-local", "--depth", "1", f"file://{ROOT}", str(folder)], check=True)
    return folder


def typed_in(folder: Path, commands: list[str], variables: dict[str, str]) -> list[str]:
    """What each of the commands printed, typed one after the other in one shell."""
    lines = [f"echo '{MARK}{number}'\n{command}" for number, command in enumerate(commands)]
    done = subprocess.run(
        ["bash", "-e"], input="\n".join(lines), cwd=folder, env=variables, text=True, check=False, timeout=LIMIT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return [part.partition("\n")[2] for part in done.stdout.split(MARK)[1:]]


def test_contributing_sets_up(clone: Path) -> None:
    """The one command sets up, and the test that it names passes."""
    (block,) = typed_by(HERE, "CONTRIBUTING.md")
    (printed,) = typed_in(clone, block.commands, environment())
    assert " passed" in printed.splitlines()[-1]


def test_the_tutorial(clone: Path, tmp_path: Path) -> None:
    """Every command of the tutorial, in order, on a machine with two GPUs; each line that it shows is printed."""
    blocks = typed_by(HERE, "docs/tutorial.md")
    commands = [command for block in blocks for command in block.commands]
    shown = [part.split("\n")[1:] for block in blocks for part in f"\n{block.text}".split("\n$ ")[1:]]
    variables = with_two_gpus(tmp_path, environment())
    del variables["HWNUMA_GPU_NODE"]  # which counts for a DGX's file, too; this machine has one node
    printed = typed_in(clone, commands, variables)
    for command, wanted, output in zip(commands, shown, printed, strict=True):
        lines = iter([line.rstrip() for line in output.splitlines()])
        for line in (line.rstrip() for line in wanted):
            assert line in ("", "…") or line in lines, f"{command}: not printed: {line}\n{output}"
    bound, verified = printed[-2:]
    assert bound.startswith("Cpus_allowed_list:")
    assert "ok" in verified
