"""Jobs of real launchers, as the pages have them: every rank is where the plan says.

Each command runs as it stands, with two ranks in place of eight, on this machine, whose two GPUs are the fake driver's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.blocks import Block, typed_by, with_two
from tests.documentation.ssh import Ssh
from tests.launchers.jobs import (
    LIMIT,
    SCRIPTS,
    Told,
    environment,
    planned,
    require_module,
    require_two_cores,
    with_two_gpus,
)
from tests.launchers.slurm import OneNodeSlurm
from tests.require import require

pytestmark = [pytest.mark.launchers, pytest.mark.torch, pytest.mark.root]

HERE = "tests/documentation/test_jobs.py"
RANK = Path(__file__).parents[1] / "launchers" / "rank.py"
# What the pages call train.py: a rank that tells where it runs, as a program and as a module.
TRAIN = f"""\
import os, runpy, sys

def train(*arguments):
    if arguments and type(arguments[0]) is int:
        os.environ.setdefault("LOCAL_RANK", str(arguments[0]))  # torch.multiprocessing tells it so
    sys.argv = [{str(RANK)!r}, os.environ["TOLD"]]
    runpy.run_path({str(RANK)!r}, run_name="a_rank")["main"]()

if __name__ == "__main__":
    train()
"""
# What the machine's administrator or its user sets once: we are root, and DeepSpeed has no GPU.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "DS_ACCELERATOR": "cpu",
}  # fmt: skip
_MODE = re.compile(r'(?:--mode |HWNUMA_MODE=|, "|options=")(node|exclusive)')
MPI = "docs/how-to/launchers/mpi.md"
INTEL = ROOT / "build" / "intel-mpi" / "bin"  # of the Python package impi-rt (tests/launchers/setup)


@dataclass
class Desk:
    """Where commands are typed: a folder, and an environment.

    Attributes:
        folder: it has train.py.
        variables: the environment.
    """

    folder: Path
    variables: dict[str, str]

    def type(self, text: str, **more: str) -> str:
        """Type a command in bash, or a program in Python; standard output."""
        program = (
            [sys.executable, self._program(text)] if text.startswith(("from ", "import ")) else ["bash", "-euc", text]
        )
        done = subprocess.run(
            program, cwd=self.folder, env=self.variables | more, capture_output=True, text=True, timeout=LIMIT, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _program(self, text: str) -> str:
        (self.folder / "program.py").write_text(text)
        return "program.py"

    def see_two_ranks(self, mode: str) -> None:
        """See that both ranks told that they are where the plan has them."""
        told = Told(self.folder / "told")
        assert told.names() == ["0-0", "1-0"]
        assert told.cpus() == planned(self.variables, "--mode", mode, "--ranks", "2")


@pytest.fixture
def desk(tmp_path: Path, one_node_slurm: OneNodeSlurm) -> Desk:
    """A folder with train.py on a machine with two GPUs, a Slurm, and the settings of its user."""
    require_two_cores()
    for package in ("torch", "accelerate", "deepspeed"):
        require_module(package)
    for name in ("told", "nvml"):
        (tmp_path / name).mkdir()
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "ds.json").write_text("{}")
    variables = one_node_slurm.environment(environment(**SETTINGS, TOLD=str(tmp_path / "told")))
    return Desk(tmp_path, with_two_gpus(tmp_path / "nvml", variables))


def jobs() -> list[tuple[Block, str]]:
    """Each command that starts ranks, and each Python block, with its block."""
    found = []
    for block in typed_by(HERE):
        if block.page != MPI and "capture" not in block.text:
            found += [(block, text) for text in ([block.text] if block.language == "python" else block.commands)]
    return found


@pytest.mark.parametrize(("block", "command"), jobs(), ids=lambda value: str(value).partition("\n")[0][:60])
def test_a_job(block: Block, command: str, desk: Desk) -> None:  # noqa: ARG001 -- it names the test
    """Two ranks are where the plan has them; a command that starts none prints something."""
    command = command.replace("bench", "bench --rounds 1")  # five rounds are 15 starts of torchrun
    command = command.replace("deepspeed ", "deepspeed --num_gpus=2 ")  # its CPU accelerator counts none
    printed = desk.type(with_two(command))
    if ("train.py" in command and "bench" not in command) or "train import" in command:
        mode = _MODE.search(command)
        desk.see_two_ranks(mode[1] if mode else "node")
    else:
        assert printed


def mpi_programs(name: str, folder: Path) -> str:
    """A PATH in which ``mpirun`` and ``mpiexec`` are those of one MPI."""
    wanted = {
        "Open MPI 4": ("mpirun.openmpi", "mpiexec.openmpi"),
        "Open MPI 5": (str(SCRIPTS / "mpirun"), str(SCRIPTS / "mpiexec")),
        "MPICH": ("mpirun.mpich", "mpiexec.mpich"),
        "Intel MPI": (str(INTEL / "mpirun"), str(INTEL / "mpiexec")),
    }[name]
    (folder / "programs").mkdir()
    for called, program in zip(("mpirun", "mpiexec"), wanted, strict=True):
        path = shutil.which(program)
        require(path, f"{program} of {name} is not installed")
        script = (
            folder / "programs" / called
        )  # no link: what a launcher is called by is where it looks for the rest of it
        script.write_text(f'#!/bin/sh\nexec {path} "$@"\n')
        script.chmod(0o755)
    return f"{folder / 'programs'}{os.pathsep}{SCRIPTS}{os.pathsep}{os.environ['PATH']}"


def mpi_commands() -> list[tuple[str, str, str]]:
    """Each command of the page, what has to be typed ahead of it, and the MPI that its comment names."""
    plain, bound = typed_by(HERE, MPI)
    first, *others = bound.commands
    told = [("", command) for command in plain.commands] + [(first, command) for command in others]
    found = []
    for ahead, command in told:
        typed, _, comment = command.partition(" # ")
        names = re.findall(r"Open MPI [45]|MPICH|Intel MPI", comment.replace("4 and 5", "4 Open MPI 5")) or ["MPICH"]
        found += [(ahead, typed, name) for name in names]
    return found


@pytest.mark.parametrize(("ahead", "command", "name"), mpi_commands())
def test_a_job_of_mpi(ahead: str, command: str, name: str, desk: Desk) -> None:
    """Two ranks are where the plan has them, whoever binds them."""
    path = mpi_programs(name, desk.folder)
    if ahead:
        desk.type(with_two(ahead))
    desk.type(with_two(command), PATH=path, I_MPI_ROOT=str(INTEL.parent))
    mode = _MODE.search(f"{ahead} {command}")
    desk.see_two_ranks(str(mode and mode[1]))


def test_captures_of_a_cluster(desk: Desk, tmp_path: Path) -> None:
    """srun, pdsh and ssh: a capture of each host, which `hwnuma fleet` reads."""
    (block,) = (block for block in typed_by(HERE) if "capture" in block.text)
    for number, command in enumerate(block.commands):
        folder = tmp_path / str(number)
        (folder / "DIR").mkdir(parents=True)
        (folder / "hosts").write_text("node001\nnode002\n")
        with Ssh(tmp_path / f"ssh{number}", desk.variables, folder) as ssh:
            there = Desk(folder, ssh.variables)
            there.type(command)
            machines = 1 if "srun" in command else 4 if "pdsh" in command else 2
            word = "machine" if machines == 1 else "machines"
            assert there.type("hwnuma fleet DIR").startswith(f"{machines} {word}, all alike")
