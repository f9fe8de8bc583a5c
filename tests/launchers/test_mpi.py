"""Open MPI and MPICH: `hwnuma exec` between mpirun and the command, as docs/how-to/launchers/mpi.md has it."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.launchers.jobs import SCRIPTS, environment, planned, require_two_cores, run, started
from tests.require import require

pytestmark = pytest.mark.launchers

RANK = [sys.executable, str(Path(__file__).with_name("rank.py"))]
MEMORY = Path("/dev/shm")
HWNUMA = ["hwnuma", "exec", "--gpus", "none", "--mode", "exclusive", "--"]
# Root is what CI is; Open MPI wants to be told that it knows.
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def _mpirun(name: str) -> tuple[list[str], str]:
    """A launcher's command for two ranks, and the variable in which it tells the local rank."""
    if name == "Open MPI 5":
        program = SCRIPTS / "mpirun"
        require(program.exists(), "Open MPI 5 (the Python package openmpi) is not installed")
        return [str(program), "--bind-to", "none", "-n", "2"], "OMPI_COMM_WORLD_LOCAL_RANK"
    if name == "Open MPI":
        require(shutil.which("mpirun.openmpi"), "Open MPI (Debian's openmpi-bin) is not installed")
        return ["mpirun.openmpi", "--bind-to", "none", "-n", "2"], "OMPI_COMM_WORLD_LOCAL_RANK"
    require(shutil.which("mpiexec.mpich"), "MPICH (Debian's mpich) is not installed")
    return ["mpiexec.mpich", "-n", "2"], "MPI_LOCALRANKID"


every_mpi = pytest.mark.parametrize("mpi", ["Open MPI", "Open MPI 5", "MPICH"])


@every_mpi
def test_ranks_get_the_plans_cpus(mpi: str, tmp_path: Path) -> None:
    """In exclusive mode two ranks are on distinct CPUs, those of `hwnuma plan`; the launcher tells rank and size."""
    require_two_cores()
    command, variable = _mpirun(mpi)
    variables = environment(**ROOT)
    status, _, errors, told = run([*command, *HWNUMA, *RANK, str(tmp_path)], variables, tmp_path)
    assert status == 0, errors
    answers = [told[rank, 0] for rank in range(2)]
    assert told.cpus() == planned(variables, "--gpus", "none", "--mode", "exclusive", "--ranks", "2")
    assert told.cpus()[0] != told.cpus()[1]
    assert [(answer["size"], answer["variable"]) for answer in answers] == [(2, variable)] * 2
    assert [answer["warnings"] for answer in answers] == [[], []]


@every_mpi
def test_a_failing_ranks_exit_status_reaches_the_launcher(mpi: str, tmp_path: Path) -> None:
    """Rank 1 exits with 3, and so does the launcher."""
    require_two_cores()
    command, _ = _mpirun(mpi)
    status, _, _, told = run([*command, *HWNUMA, *RANK, str(tmp_path), "fail"], environment(**ROOT), tmp_path)
    assert "1-0" in told.names()
    assert status == 3


@every_mpi
def test_sigterm_reaches_the_ranks(mpi: str) -> None:
    """The launcher is sent SIGTERM, and every rank gets it: nothing stands between them."""
    require_two_cores()
    command, _ = _mpirun(mpi)
    # In memory: Open MPI kills a rank a second after its SIGTERM, and a busy disk may hold it up for as long.
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        with started([*command, *HWNUMA, *RANK, name, "wait"], environment(**ROOT), folder) as job:
            job.wait_for("0-0", "1-0")
            job.process.send_signal(signal.SIGTERM)
            _, _, errors = job.finish()
            assert {"terminated-0-0", "terminated-1-0"} <= set(job.told.names()), errors


# How each is started that binds ranks to a core: Open MPI by default, where there are at most two ranks; MPICH if told so.
BINDING = {
    "Open MPI": (
        ["mpirun.openmpi", "-n", "2"],
        "Open MPI's mpirun (OMPI_COMM_WORLD_SIZE is set: mpirun --bind-to none)",
    ),
    "Open MPI 5": (
        [str(SCRIPTS / "mpirun"), "-n", "2"],
        "Open MPI's mpirun (OMPI_COMM_WORLD_SIZE is set: mpirun --bind-to none)",
    ),
    "MPICH": (
        ["mpiexec.mpich", "-bind-to", "core", "-n", "2"],
        "MPICH's mpiexec (HYDRA_USER_PROVIDED_BINDING is set: mpiexec -bind-to none)",
    ),
}


@every_mpi
def test_a_mask_of_mpirun_is_respected_and_told(mpi: str, tmp_path: Path) -> None:
    """A rank that its launcher has bound to one core stays there, and is told who it was and how to turn it off.

    Just that turns it off: see `test_ranks_get_the_plans_cpus`.
    """
    require_two_cores()
    _mpirun(mpi)
    command, culprit = BINDING[mpi]
    command = [*command, "hwnuma", "exec", "--gpus", "none", "--mode", "node", "--", *RANK, str(tmp_path)]
    status, _, errors, told = run(command, environment(**ROOT), tmp_path)
    assert status == 0, errors
    whole = planned(environment(), "--gpus", "none", "--mode", "node", "--ranks", "2")
    for rank, cpus in enumerate(told.cpus()):
        assert f"local rank {rank} gets CPUs {cpus} instead of {whole[rank]}: " in errors
    assert len(set(told.cpus())) == 2
    assert f"probably by {culprit}; --outer-mask reset" in errors
