"""Ray and Dask, as their pages have them: each worker is where the plan has it.

On a DGX H100 that hwnuma.testing makes this machine, so that there are eight GPUs to share out.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hwnuma
from hwnuma.testing import FakeMachine
from tests.documentation.blocks import Block, typed_by, with_two
from tests.launchers.jobs import LIMIT, environment, planned, require_module, require_two_cores
from tests.launchers.slurm import free_port

pytestmark = pytest.mark.launchers

HERE = "tests/documentation/test_clusters.py"
# What Ray asks of the network and of the home folder, turned off, and its own warning of an old way of its own.
RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
CLUSTER = "import ray\nray.init(num_cpus=2, num_gpus=8, include_dashboard=False, object_store_memory=80 * 2**20)\n"


def one(page: str, language: str) -> Block:
    """The block of a page in a language."""
    (found,) = (block for block in typed_by(HERE, page) if block.language == language)
    return found


def python(text: str, folder: Path, variables: dict[str, str]) -> str:
    """Run a program; standard output."""
    program = folder / "program.py"
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ray(hwnuma_machine: Any, tmp_path: Path) -> None:
    """Two actors with one of the eight GPUs each have two different shares of the plan of all eight."""
    require_module("ray")
    machine: FakeMachine = hwnuma_machine("dgx_h100")
    block = one("docs/how-to/launchers/ray.md", "python")
    printed = python(CLUSTER + with_two(block.text), tmp_path, machine.environment(environment(**RAY)))
    assert len(ast.literal_eval(printed.splitlines()[-1])) == 2
    shares = {str(each.cpus) for each in machine.bound}
    assert len(shares) == 2
    assert shares <= {str(place.cpuset) for place in hwnuma.plan_here("exclusive")}


@contextmanager
def scheduler(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """A scheduler of Dask; its address."""
    address = f"127.0.0.1:{free_port()}"
    command = ["dask", "scheduler", "--no-dashboard", "--host", "127.0.0.1", "--port", address.partition(":")[2]]
    with started(command, folder, variables):
        yield address


@contextmanager
def started(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs as long as the block lasts."""
    with (folder / f"{command[1]}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LIMIT)


ASK = """
from distributed import Client, get_worker
client = Client("scheduler:8786")
client.wait_for_workers({workers}, timeout={limit})
def cpus():
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("Cpus_allowed_list"))
print(sorted(client.run(cpus).values()))
"""


def test_dask_plugin(hwnuma_machine: Any, tmp_path: Path) -> None:
    """Two workers that see the GPUs as dask-cuda lets them are bound near their own, when the plug-in is registered."""
    require_module("distributed")
    machine: FakeMachine = hwnuma_machine("dgx_h100")
    variables = machine.environment(environment())
    block = one("docs/how-to/launchers/dask.md", "python")
    with scheduler(tmp_path, variables) as address:
        workers = [
            started(["dask", "worker", address, "--no-dashboard", "--name", str(gpu)], tmp_path,
                    {**variables, "CUDA_VISIBLE_DEVICES": ",".join(str((gpu + turn) % 8) for turn in range(8))})
            for gpu in (1, 6)
        ]  # fmt: skip
        with workers[0], workers[1]:
            ready = ASK.format(workers=2, limit=LIMIT)
            python((ready + block.text).replace("scheduler:8786", address), tmp_path, variables)
    plan = hwnuma.plan_here("node")
    assert {str(each.cpus) for each in machine.bound} == {str(plan[1].cpuset), str(plan[6].cpuset)}


def test_dask_preload(tmp_path: Path) -> None:
    """The workers of the command line have the places of the plan, really; two in place of four."""
    require_module("distributed")
    require_two_cores()
    variables = environment()
    block = one("docs/how-to/launchers/dask.md", "sh")
    with scheduler(tmp_path, variables) as address:
        (command,) = block.commands
        command = (
            command.replace("scheduler:8786", address).replace("4", "2").replace(address.replace("4", "2"), address)
        )
        with started(["bash", "-c", f"exec env {command}"], tmp_path, variables):
            asked = ASK.format(workers=2, limit=LIMIT).replace("scheduler:8786", address)
            printed = python(asked, tmp_path, variables)
    assert ast.literal_eval(printed.splitlines()[-1]) == sorted(
        planned(variables, "--gpus", "none", "--mode", "exclusive", "--ranks", "2")
    )
