"""Start a launcher's job of `worker.py`, and read what its workers told."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnuma.environment.local_rank import VARIABLES
from hwnuma.hwloc.topology import Topology
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.require import require

LIMIT = 240.0  # seconds for a whole job, only so that nothing hangs: the cores may be busy with other things
SCRIPTS = Path(sysconfig.get_path("scripts"))
WORKER = Path(__file__).with_name("worker.py")
_RANK_VARIABLES = {name for each in VARIABLES for name in (each.rank, each.size)} | {"RANK", "WORLD_SIZE"}


def require_module(name: str) -> None:
    """Skip a test that needs a Python package which is not installed."""
    require(importlib.util.find_spec(name) is not None, f"the Python package {name} is not installed")


def require_two_cores() -> None:
    """Skip a test that tells two ranks apart by their cores."""
    with Topology.from_this_system() as topology:
        cores = len(topology.machine().narrowed(topology.get_thread_cpubind()).cores)
    require(cores >= 2, f"two ranks can be told apart on two cores, and this process may use {cores}")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, without what another launcher or user said, and with these variables.

    The programs of this Python come first in PATH.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HWNUMA_", "TORCHELASTIC_"))}
    dropped = {*_RANK_VARIABLES, "PYTHON_EXEC", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    kept = {name: value for name, value in kept.items() if name not in dropped}
    return {**kept, "PATH": f"{SCRIPTS}{os.pathsep}{kept.get('PATH', os.defpath)}", **variables}


def with_two_gpus(folder: Path, base: Mapping[str, str]) -> dict[str, str]:
    """An environment in which NVML has two GPUs, both on the first node that has CPUs.

    How often NVML was asked, ``tests.fake_nvml.calls(folder, "nvmlInit")`` tells.
    """
    require(compiler() is not None, "a stand-in for NVML is built with a C compiler, and there is none")
    with Topology.from_this_system() as topology:
        node = topology.machine().cpu_nodes[0].os_index
    made = FakeNvml([FakeGpu("0000:07:00.0"), FakeGpu("0000:0b:00.0")]).env(folder, base)
    return {**made, "HWNUMA_GPU_NODE": f"0={node},1={node}"}


def planned(variables: Mapping[str, str], *options: str) -> list[str]:
    """What ``hwnuma plan`` answers in an environment: the CPUs of each rank."""
    command = [sys.executable, "-m", "hwnuma", "plan", "--format", "json", *options]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return [row["cpuset"] for row in json.loads(done.stdout)["bindings"]]


@dataclass
class Told:
    """What the workers of a job told.

    Attributes:
        folder: where they wrote it.
    """

    folder: Path

    def __getitem__(self, rank_and_attempt: tuple[int, int]) -> dict[str, Any]:
        """What one rank told at one attempt."""
        rank, attempt = rank_and_attempt
        return dict(json.loads((self.folder / f"{rank}-{attempt}.json").read_text()))

    def cpus(self, attempt: int = 0, ranks: int = 2) -> list[str]:
        """Each rank's Cpus_allowed_list."""
        return [self[rank, attempt]["cpus"] for rank in range(ranks)]

    def names(self) -> list[str]:
        """What there is, such as 0-0 for rank 0 at its first attempt."""
        return sorted(path.stem for path in self.folder.glob("*.json"))


@dataclass
class Job:
    """A launcher that was started, and its process id."""

    process: subprocess.Popen[str]
    told: Told

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end: exit status, standard output, standard error."""
        output, errors = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, output, errors

    def wait_for(self, *names: str) -> None:
        """Wait until workers have told this."""
        end = time.monotonic() + LIMIT
        while not set(names) <= set(self.told.names()):
            assert self.process.poll() is None, f"the launcher has ended:\n{''.join(self.process.communicate())}"
            assert time.monotonic() < end, f"{names} did not come within {LIMIT:.0f} s; there is {self.told.names()}"
            time.sleep(0.02)


@contextmanager
def started(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> Iterator[Job]:
    """Start a launcher whose workers tell into a folder; what is left of it at the end of the block is killed."""
    program = shutil.which(command[0], path=variables["PATH"])
    require(program is not None, f"the program {command[0]} is not installed")
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        command, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield Job(process, Told(folder))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def run(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> tuple[int, str, str, Told]:
    """Run a launcher to its end: exit status, standard output, standard error, and what its workers told."""
    with started(command, variables, folder) as job:
        return (*job.finish(), job.told)
