"""What another user's process may decide when root verifies or binds it (SECURITY.md): real processes of nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hwnuma.errors import BindingError
from hwnuma.processes import procfs
from hwnuma.processes.trust import environment_of, why_foreign
from tests.processes import clean_environment, waiting
from tests.require import require

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("_root")]


@pytest.fixture(scope="module")
def _root() -> None:
    """Only root looks at another user's processes, and may become that user."""
    require(os.geteuid() == 0 and shutil.which("setpriv"), "another user's processes are for root, with setpriv")


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
# Its first argument becomes the name of its one thread, which its own user may choose.
WAIT = ("/bin/sh", "-c", 'test -z "$1" || printf "$1" >/proc/$$/comm; echo ready; read line', "-")
PLANNED = {"HWNUMA_GPUS": "none", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
FIRST = str(min(os.sched_getaffinity(0)))


@contextmanager
def nobodys(*before: str, name: str = "", **environment: str) -> Iterator[int]:
    """A process of nobody's, started behind some words, with a name and variables of its choice."""
    with waiting(*before, *NOBODY, *WAIT, name, **environment) as process:
        yield process.pid


def hwnuma(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as root, for a minute and with a gigabyte at most."""
    limited = ("prlimit", "--as=1500000000", "--", sys.executable, "-m", "hwnuma", *words)
    return subprocess.run(
        limited, capture_output=True, text=True, check=False, env=clean_environment(**environment), timeout=60
    )


def is_printable(text: str) -> bool:
    """Whether a terminal only shows it."""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.fault(
    "disk", "another user's process names a FIFO, a device or a secret file", "gives a warning, and it is not opened"
)
@pytest.mark.parametrize("variable", ["NCCL_TOPO_FILE", "HWNUMA_NCCL_TOPO"])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "secret"])
def test_no_file_that_another_users_process_names_is_read(variable: str, kind: str, tmp_path: Path) -> None:
    """A FIFO would hang root, /dev/zero take its memory, and a file that only root may read be told of."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "secret").write_text("<TOPSECRET/>")
    (tmp_path / "secret").chmod(0o600)
    with nobodys(**PLANNED, **{variable: str(tmp_path / kind)}) as pid:
        done = hwnuma("verify", str(pid))
    assert done.returncode == 0, done.stderr
    assert "the plan for its rank" in done.stdout
    assert done.stderr == (
        f"hwnuma: the file that {variable} of process {pid} names is not read (it is user 65534's): give --nccl-topo "
        "FILE if it is to count\n"
    )
    assert "TOPSECRET" not in done.stdout + done.stderr


def test_a_file_that_root_names_is_read_for_any_process(tmp_path: Path) -> None:
    """By --nccl-topo or by root's own variable; the process's own does not get in the way."""
    (tmp_path / "wrong.xml").write_text("<wrong/>")
    with nobodys(**PLANNED, NCCL_TOPO_FILE="/dev/zero") as pid:
        for done in (
            hwnuma("verify", "--nccl-topo", str(tmp_path / "wrong.xml"), str(pid)),
            hwnuma("verify", str(pid), HWNUMA_NCCL_TOPO=str(tmp_path / "wrong.xml")),
        ):
            assert done.returncode == 2
            assert "its root element is <wrong>" in done.stderr


def test_a_process_of_the_same_user_is_believed(tmp_path: Path) -> None:
    """Root's own job has its NCCL file read, as `hwnuma exec` would have done in it."""
    (tmp_path / "wrong.xml").write_text("<wrong/>")
    with waiting(*WAIT, "", **PLANNED, NCCL_TOPO_FILE=str(tmp_path / "wrong.xml")) as process:
        assert why_foreign(process.pid) == ""
        done = hwnuma("verify", str(process.pid))
    assert done.returncode == 2
    assert "its root element is <wrong>" in done.stderr


def test_a_program_that_runs_as_root_for_somebody_is_that_users() -> None:
    """A set-user-ID program has the environment of whoever started it, though /proc says that it is root's."""
    wait = (sys.executable, "-c", "print('ready', flush=True); input()")  # a shell would give up being root
    with waiting("setpriv", "--ruid", "65534", "--", *wait, NCCL_TOPO_FILE="/dev/zero") as process:
        assert Path(f"/proc/{process.pid}").stat().st_uid == 0
        assert why_foreign(process.pid) == "it is user 65534's"
        assert "NCCL_TOPO_FILE" not in environment_of(process.pid).variables


def test_the_files_of_a_container_are_not_those_of_the_same_name_here() -> None:
    """A process of the same user in another mount namespace names a file of its own."""
    with waiting("unshare", "--mount", "--", *WAIT, "", NCCL_TOPO_FILE="/dev/zero") as process:
        assert why_foreign(process.pid) == "it sees other files, as in a container"
        assert "NCCL_TOPO_FILE" not in environment_of(process.pid).variables


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"LOCAL_WORLD_SIZE": "999999999"}, "LOCAL_WORLD_SIZE='999999999' makes no sense: it is a whole number from 1"),
        ({"HWNUMA_BOUND_CPUS": ",".join(["0-1048576:1/2"] * 20)}, "Linux has at most 8192 CPUs and 1024 nodes"),
        ({"HWNUMA_BOUND_CPUS": "0," * 60_000}, "a CPU list of 120000 characters is too long"),
        ({"HWNUMA_BOUND_CPUS": "0", "HWNUMA_BOUND_NODES": "0-1048576:1/2"}, "Linux has at most 8192 CPUs"),
        ({"HWNUMA_BOUND_CPUS": "0", "HWNUMA_BOUND_MEMORY": "\x1b[31m"}, r"'\x1b[31m' is no memory policy"),
        ({"HWNUMA_MODE": "\x1b]0;title\x07" + "x" * 100_000}, r"'\x1b]0;title\x07xxx"),
        ({"CUDA_VISIBLE_DEVICES": "\u202e" * 40_000, "HWNUMA_GPUS": "nvidia"}, ""),
    ],
    ids=["ranks", "strides", "long", "nodes", "policy", "mode", "devices"],
)
def test_nothing_in_its_environment_costs_root_more_than_a_line(environment: dict[str, str], reason: str) -> None:
    """Numbers and lists are within bounds, and what is repeated of them is short and printable."""
    started = time.monotonic()
    with nobodys(**{"HWNUMA_GPUS": "none", "LOCAL_RANK": "0"} | environment) as pid:
        done = hwnuma("verify", str(pid))
    assert time.monotonic() - started < 40
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 1500
    assert is_printable(done.stderr)


def test_a_record_of_another_user_is_its_own_word() -> None:
    """It can be verified against, and it is said whose word that is; of root's own process it is hwnuma's record."""
    record = {"HWNUMA_BOUND_CPUS": FIRST, "HWNUMA_BOUND_NODES": "", "HWNUMA_BOUND_MEMORY": "none"}
    with nobodys(**record) as pid:
        done = hwnuma("verify", "--format", "json", str(pid))
    source = json.loads(done.stdout)["processes"][0]["expected"]["source"]
    assert source == "HWNUMA_BOUND_CPUS in its environment, on its own word (it is user 65534's)"
    with waiting(*WAIT, "", **record) as process:
        done = hwnuma("verify", "--format", "json", str(process.pid))
    source = json.loads(done.stdout)["processes"][0]["expected"]["source"]
    assert source == "hwnuma exec (HWNUMA_BOUND_CPUS in its environment)"


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_threads_name_is_shown_and_not_obeyed(form: str) -> None:
    """Escape codes, line ends and bidirectional controls of a name, in the line, in the table and in JSON."""
    with nobodys("taskset", "-c", FIRST, name=r"\033[31m\n\r\342\200\256x\177", HWNUMA_BOUND_CPUS="8000") as pid:
        done = hwnuma("verify", "--format", form, str(pid))
    assert done.returncode == 1
    assert is_printable(done.stdout)
    assert done.stdout.isascii()
    if form == "json":
        assert json.loads(done.stdout)["processes"][0]["name"].startswith("\x1b[31m")
    else:
        assert r"(\x1b[31m\n\r\u202ex\x7f)" in done.stdout
        assert done.stdout.splitlines()[0].endswith("threads may run outside CPUs 8000")


def test_what_a_process_says_of_its_binder_is_shown_and_not_obeyed() -> None:
    """`hwnuma bind PID` tells who may have narrowed the process, by its variables."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a mask that leaves something out needs two CPUs")
    escapes = {"OMP_PLACES": "\x1b]0;owned\x07\u202e" + "x" * 10_000, "OMPI_COMM_WORLD_SIZE": "\x1b[2J"}
    with nobodys("taskset", "-c", FIRST, **PLANNED, **escapes) as pid:
        done = hwnuma("bind", "--gpus", "none", "--ranks", "1", str(pid))
    assert done.returncode == 0, done.stderr
    assert r"OMP_PLACES=\x1b]0;owned\x07\u202exxx" in done.stderr
    assert is_printable(done.stderr)
    assert len(done.stderr) < 2000


@pytest.mark.fault("proc", "an environment is larger than any can be", "gives one line")
def test_an_environment_larger_than_any_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the bound is held of it, and the error says what it is."""
    with nobodys(LONG="x" * 1000) as pid:
        monkeypatch.setattr(procfs, "_MOST_ENVIRONMENT", 500)
        with pytest.raises(BindingError, match=f"the environment of process {pid} is larger than 500 bytes"):
            environment_of(pid)
