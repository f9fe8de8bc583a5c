"""`hwnuma plan --format`: each format is given to the program that it is for, and the ranks are where the plan says."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.jobs import LIMIT, SCRIPTS, environment, planned, require_two_cores, run
from tests.launchers.slurm import OneNodeSlurm
from tests.require import require

pytestmark = pytest.mark.launchers

RANK = [sys.executable, str(Path(__file__).with_name("rank.py"))]
EXCLUSIVE = ("--gpus", "none", "--mode", "exclusive", "--ranks", "2")
SHARED = ("--gpus", "none", "--mode", "node", "--ranks", "2")
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def formatted(variables: dict[str, str], name: str, *options: str) -> str:
    """What ``hwnuma plan --format`` prints."""
    command = ["hwnuma", "plan", *options, "--format", name]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def variables() -> dict[str, str]:
    """An environment without launchers' variables."""
    require_two_cores()
    return environment(**ROOT)


@pytest.mark.root
def test_srun_takes_masks(one_node_slurm: OneNodeSlurm, variables: dict[str, str], tmp_path: Path) -> None:
    """`srun` with the option that was printed binds each task itself."""
    variables = one_node_slurm.environment(variables)
    option = formatted(variables, "slurm", *EXCLUSIVE).strip()
    status, _, errors, told = run(["srun", "-n2", option, *RANK, str(tmp_path)], variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)


@pytest.mark.parametrize("options", [EXCLUSIVE, SHARED], ids=["exclusive", "shared"])
def test_open_mpi_4_takes_the_rankfile(options: tuple[str, ...], variables: dict[str, str], tmp_path: Path) -> None:
    """`mpirun` with the rankfile of physical CPUs binds each rank itself, also ranks that share CPUs."""
    require(shutil.which("mpirun.openmpi"), "Open MPI (Debian's openmpi-bin) is not installed")
    file = tmp_path / "rankfile"
    file.write_text(formatted(variables, "openmpi", *options))
    command = ["mpirun.openmpi", "--mca", "rmaps_rank_file_physical", "1", "--rankfile", str(file), "-n", "2"]
    status, _, errors, told = run([*command, *RANK, str(tmp_path)], variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *options)


@pytest.mark.parametrize("options", [EXCLUSIVE, SHARED], ids=["exclusive", "shared"])
def test_open_mpi_5_takes_the_rankfile(options: tuple[str, ...], variables: dict[str, str], tmp_path: Path) -> None:
    """The command line in the file's own comment is the one that works, also for ranks that share CPUs."""
    require((SCRIPTS / "mpirun").exists(), "Open MPI 5 (the Python package openmpi) is not installed")
    file = tmp_path / "rankfile"
    file.write_text(formatted(variables, "openmpi", *options))
    comment = next(line for line in file.read_text().splitlines() if line.startswith("# Open MPI 5: "))
    command = shlex.split(comment.removeprefix("# Open MPI 5: ").removesuffix("COMMAND").replace("THIS", str(file)))
    command[0] = str(SCRIPTS / command[0])
    status, _, errors, told = run([*command, *RANK, str(tmp_path)], variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *options)


@pytest.mark.parametrize("options", [EXCLUSIVE, SHARED], ids=["exclusive", "shared"])
def test_open_mpi_5_takes_the_pe_list(options: tuple[str, ...], variables: dict[str, str], tmp_path: Path) -> None:
    """An ordered list binds each rank to its one CPU, an unordered one all ranks to all of it."""
    require((SCRIPTS / "mpirun").exists(), "Open MPI 5 (the Python package openmpi) is not installed")
    option = formatted(variables, "openmpi-pe-list", *options, "--threads-per-core", "1").split()
    command = [str(SCRIPTS / "mpirun"), *option, "-n", "2", *RANK, str(tmp_path)]
    status, _, errors, told = run(command, variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *options, "--threads-per-core", "1")


@pytest.mark.parametrize("options", [EXCLUSIVE, SHARED], ids=["exclusive", "shared"])
def test_mpich_takes_the_user_binding(options: tuple[str, ...], variables: dict[str, str], tmp_path: Path) -> None:
    """Hydra's `-bind-to user:` binds each rank itself."""
    require(shutil.which("mpiexec.mpich"), "MPICH (Debian's mpich) is not installed")
    option = formatted(variables, "mpich", *options).split()
    status, _, errors, told = run(["mpiexec.mpich", *option, "-n", "2", *RANK, str(tmp_path)], variables, tmp_path)
    assert status == 0, errors
    assert told.cpus() == planned(variables, *options)


@pytest.mark.parametrize("memory", ["none", "preferred", "bind", "interleave"])
def test_numactl_takes_each_line(memory: str, variables: dict[str, str], tmp_path: Path) -> None:
    """Each line, put before a command, binds it; every memory policy is one that this numactl knows."""
    require(shutil.which("numactl"), "numactl is not installed")
    lines = formatted(variables, "numactl", *EXCLUSIVE, "--memory", memory).splitlines()
    for rank, line in enumerate(lines):
        ranked = {**variables, "LOCAL_RANK": str(rank)}
        status, _, errors, told = run([*shlex.split(line), *RANK, str(tmp_path)], ranked, tmp_path)
        assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)


def test_taskset_takes_each_line(variables: dict[str, str], tmp_path: Path) -> None:
    """Each line, put before a command, binds it."""
    require(shutil.which("taskset"), "taskset (util-linux) is not installed")
    for rank, line in enumerate(formatted(variables, "taskset", *EXCLUSIVE).splitlines()):
        ranked = {**variables, "LOCAL_RANK": str(rank)}
        status, _, errors, told = run([*shlex.split(line), *RANK, str(tmp_path)], ranked, tmp_path)
        assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)


def test_exec_takes_each_environment_line(variables: dict[str, str], tmp_path: Path) -> None:
    """`env LINE hwnuma exec COMMAND` binds the command, and knows its rank."""
    for line in formatted(variables, "env", *EXCLUSIVE).splitlines():
        command = ["env", *shlex.split(line), "hwnuma", "exec", *RANK, str(tmp_path)]
        status, _, errors, told = run(command, variables, tmp_path)
        assert status == 0, errors
    assert told.cpus() == planned(variables, *EXCLUSIVE)
    assert [told[rank, 0]["variable"] for rank in range(2)] == ["HWNUMA_LOCAL_RANK"] * 2


def test_systemd_takes_each_section(variables: dict[str, str], tmp_path: Path) -> None:
    """In a service, systemd-analyze finds nothing to say against a section, and something against a wrong one."""
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    sections = formatted(variables, "systemd", *EXCLUSIVE).strip().split("\n\n")
    assert len(sections) == 2
    for section in [*sections, sections[0].replace("AllowedCPUs=", "AllowedCPUs=x")]:
        service = tmp_path / "worker.service"
        service.write_text(f"[Unit]\nDescription=a rank\n\n{section}\nExecStart=/bin/true\n")
        command = ["systemd-analyze", "verify", "--man=no", str(service)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (str(service) in done.stderr) == ("=x" in section), done.stderr


def test_docker_knows_the_options(variables: dict[str, str]) -> None:
    """The command-line client takes each line's options; it has no daemon here to run a container with them."""
    if shutil.which("docker") is None:  # not for CI to install: Debian's package brings the daemon along
        pytest.skip("docker is not installed")
    for line in formatted(variables, "docker", *EXCLUSIVE).splitlines():
        nowhere = ["docker", "--host", "unix:///nonexistent/docker.sock"]
        command = [*nowhere, "run", *shlex.split(line), "image"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert "nonexistent/docker.sock" in done.stderr
        wrong = [*nowhere, "run", "--cpuset-none=0", "image"]
        done = subprocess.run(wrong, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert "unknown flag: --cpuset-none" in done.stderr
