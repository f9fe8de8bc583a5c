"""`hwnuma bench --compare`: how a command is started in each mode, what is told of it, and that nothing is left of it.

Remote memory takes several nodes: that is in tests/vm. A real torchrun is in tests/launchers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from hwnuma.errors import OptionError
from hwnuma.measure import jobs
from hwnuma.measure.comparison import Comparison, ModeResult
from hwnuma.measure.job_looks import Found, Looks, Yardstick
from hwnuma.measure.jobs import NO_MODE, JobCommand, Run
from hwnuma.model.bitmap import CpuSet
from hwnuma.processes.procfs import nodes_of_cpus
from tests.forked import hwnuma
from tests.processes import ROOT, clean_environment, waiting
from tests.require import require

RANK = [sys.executable, "-S", str(ROOT / "tests/job_rank.py")]
CPUS = sorted(os.sched_getaffinity(0))


def _bench(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return hwnuma(["bench", *words], clean_environment(HWNUMA_GPUS="none", **environment))


def _told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


# ---- how it is started ---------------------------------------------------------------------------------------


def test_every_rank_is_told_what_torchrun_tells_and_bound_in_its_mode(tmp_path: Path) -> None:
    """Two ranks, two rounds, two modes: ranks of one run are together, and each round has each mode once."""
    require(len(CPUS) >= 2, "exclusive shares for two ranks take two CPUs")
    done = _bench(
        "--compare", "none,exclusive", "--ranks", "2", "--rounds", "2", "--format", "json", "--", *RANK, str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    found, told = json.loads(done.stdout), _told(tmp_path)
    runs = [sorted(told[place : place + 2], key=lambda rank: int(rank["RANK"])) for place in range(0, len(told), 2)]
    assert len(runs) == 4
    for run in runs:
        assert [rank["LOCAL_RANK"] for rank in run] == [rank["RANK"] for rank in run] == ["0", "1"]
        assert {rank["WORLD_SIZE"] for rank in run} == {rank["LOCAL_WORLD_SIZE"] for rank in run} == {"2"}
        assert {rank["MASTER_ADDR"] for rank in run} == {"127.0.0.1"}
        assert len({rank["MASTER_PORT"] for rank in run}) == 1
    is_bound = ["HWNUMA_BOUND_CPUS" in run[0] for run in runs]
    assert sorted(is_bound[:2]) == sorted(is_bound[2:]) == [False, True]
    for run, bound in zip(runs, is_bound, strict=True):
        if bound:
            assert set(run[0]["cpus"]).isdisjoint(run[1]["cpus"])
        else:
            assert [rank["cpus"] for rank in run] == [CPUS, CPUS]
    assert [each["mode"] for each in found["modes"]] == ["none", "exclusive"]
    assert found["schema"] == 1
    assert found["ranks"] == found["rounds"] == 2
    for each in found["modes"]:
        assert each["seconds"]["low"] <= each["seconds"]["median"] <= each["seconds"]["high"]
        assert len(each["seconds"]["runs"]) == 2
    assert found["verdict"][0].startswith("exclusive: ")


@pytest.mark.parametrize(
    ("words", "mode", "started", "variables"),
    [
        (["mpirun", "-n", "4", "{}", "app"], "none", ["mpirun", "-n", "4", "app"], {}),
        (["mpirun", "-n", "4", "{}", "app"], "socket", ["mpirun", "-n", "4", "hwnuma", "exec", "--mode", "socket", "--", "app"], {}),
        (["torchrun", "train.py"], "none", ["torchrun", "train.py"], {}),
        (["torchrun", "train.py"], "node", ["torchrun", "train.py"], {"PYTHON_EXEC": "hwnuma-python", "HWNUMA_MODE": "node"}),
        (["python", "-m", "torch.distributed.run", "x"], "node", ["python", "-m", "torch.distributed.run", "x"], {"PYTHON_EXEC": "hwnuma-python", "HWNUMA_MODE": "node"}),
        (["torchrun", "--no-python", "{}", "a"], "node", ["torchrun", "--no-python", "hwnuma", "exec", "--mode", "node", "--", "a"], {}),
    ],
)  # fmt: skip
def test_a_launcher_is_started_once_and_handed_the_mode(
    words: list[str], mode: str, started: list[str], variables: dict[str, str]
) -> None:
    """In place of {}, or in the variables that torchrun's workers start by; what binds this process is not passed on."""
    left = {"HWNUMA_BOUND_CPUS": "0", "HWNUMA_MODE": "socket", "HOME": "/home"}
    ((made, environment),) = JobCommand.of(words, None).starts(mode, left)
    assert [Path(word).name if word.endswith("hwnuma") else word for word in made] == started
    environment["PYTHON_EXEC"] = Path(environment.get("PYTHON_EXEC", "")).name
    assert environment == {"PYTHON_EXEC": "", "HOME": "/home"} | variables


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "true"], "say in which modes to run the command"),
        (["--ranks", "2"], "say in which modes to run the command"),
        (["--compare", "none,node"], "no command is given to compare modes with"),
        (["--compare", "none", "--", "true"], "name two modes at least"),
        (["--compare", "none,near", "--", "true"], "--compare: 'near' is none of none, node, socket, exclusive, core-complex"),
        (["--compare", "none,node", "--rounds", "0", "--", "true"], "--rounds is '0', and not a whole number from 1"),
        (["--compare", "none,node", "--ranks", "0", "--", "true"], "--ranks is '0', and not a whole number from 1"),
        (["--compare", "none,node", "--output", "x.svg", "--", "true"], "--output draws the matrix"),
        (["--compare", "none,node", "--", "no-such-program"], "no-such-program: command not found"),
        (["--compare", "none,node", "--ranks", "2", "--", "torchrun", "x"], "--ranks 2 does not go with torchrun"),
        (["--compare", "none,node", "--", "torchrun", "--logs-specs=hwnuma", "x"], "binds its ranks by hwnuma itself"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_ahead_of_any_run(words: list[str], said: str) -> None:
    """One line, and the status of bad input."""
    done = _bench(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ranks_that_cannot_be_placed_are_refused_ahead_of_any_run(tmp_path: Path) -> None:
    """In exclusive mode each takes a core of its own."""
    ranks = str(len(CPUS) + 1)
    done = _bench("--compare", "none,exclusive", "--ranks", ranks, "--", *RANK, str(tmp_path))
    assert done.returncode == 1
    assert _told(tmp_path) == []


# ---- what is left of it --------------------------------------------------------------------------------------


def test_a_rank_that_fails_ends_the_others_and_is_told(tmp_path: Path) -> None:
    """Its exit status, and what it wrote to standard error; the other rank would have slept on."""
    done = _bench("--compare", "none,node", "--ranks", "2", "--", *RANK, str(tmp_path), "fail")
    assert (done.returncode, done.stdout) == (1, "")
    assert "local rank 1 failed with exit status 1" in done.stderr
    assert done.stderr.splitlines()[-1] == "  there is no such thing"
    told = _told(tmp_path)
    assert len(told) == 2
    assert not any(_is_running(rank["pid"]) for rank in told)


@pytest.mark.slow  # seven seconds, five of which SIGTERM is given
def test_what_a_command_leaves_running_is_ended_and_told(tmp_path: Path) -> None:
    """A process that has gone into a session of its own, and lets SIGTERM pass, too."""
    stubborn = f'setsid sh -c \'test "$HWNUMA_BOUND_CPUS" || trap "" TERM; echo $$ > {tmp_path}/pid.$$; sleep 1000; sleep 1000\' & sleep 1'
    done = _bench("--compare", "none,node", "--rounds", "1", "--", "sh", "-c", stubborn)
    assert done.returncode == 0, done.stderr
    pids = [int(path.read_text()) for path in tmp_path.glob("pid.*")]
    assert len(pids) == 2
    assert not any(_is_running(pid) for pid in pids)
    assert "note: none: 2 processes were left running by the command, and were ended" in done.stdout


def test_a_command_that_the_kernel_cannot_start_is_one_line(tmp_path: Path) -> None:
    """A script of an interpreter that is not there."""
    script = tmp_path / "script"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(0o755)
    with pytest.raises(OptionError, match=f"^{script} cannot be started: No such file or directory$"):
        jobs._Rank(None, [str(script)], {}, SimpleQueue())


def test_where_there_are_no_gpus_ranks_do_without_and_it_is_said() -> None:
    """Unless somebody names GPUs: that is an error ahead of any run."""
    words = ["bench", "--compare", "none,node", "--ranks", "1", "--rounds", "1", "--", "true"]
    environment = {name: value for name, value in clean_environment().items() if name != "HWNUMA_GPUS"}
    done = hwnuma(words, environment)
    require("no GPUs are found here" in done.stderr or done.returncode, "this machine has GPUs")
    assert (done.returncode, done.stderr.count("as by HWNUMA_GPUS=none")) == (0, 1)
    refused = hwnuma(words, environment | {"HWNUMA_GPUS": "nvidia"})
    assert refused.returncode == 2
    assert "no nvidia GPU is among" in refused.stderr


def test_an_interrupt_while_all_are_ended_comes_afterwards() -> None:
    """What runs still is ended to the end of it; then Ctrl-C is what it is."""
    ended = []

    class Tree:
        def end(self, pids: Iterable[int]) -> None:
            ended.append(list(pids))
            if len(ended) == 1:
                raise KeyboardInterrupt

    class Rank:
        pid = 7
        closed = False

        def close(self) -> None:
            self.closed = True

    rank: Any = Rank()
    tree: Any = Tree()
    with pytest.raises(KeyboardInterrupt):
        jobs._end_all(tree, [rank])
    assert (ended, rank.closed) == ([[7], [7]], True)


def test_a_program_that_was_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither beside this Python nor beside what was started."""
    monkeypatch.setattr(jobs.sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "other")])
    with pytest.raises(OptionError, match=r"the program hwnuma-python is not beside this Python .*: install hwnuma"):
        jobs._program("hwnuma-python")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_ranks_and_then_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """By the signal itself, without a word."""
    command = ["--compare", "none,node", "--ranks", "2", "--", *RANK, str(tmp_path), "wait"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnuma", "bench", *command],
        env=clean_environment(HWNUMA_GPUS="none"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while len(_told(tmp_path)) < 2:
        assert time.monotonic() < until, "the ranks have not started"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)
    assert (process.returncode, said) == (-number, ("", ""))
    assert not any(_is_running(rank["pid"]) for rank in _told(tmp_path))


# ---- what is told of it --------------------------------------------------------------------------------------

HOLD = """
import os, sys
memory = bytearray(32 << 20)
memory[::4096] = b"x" * (len(memory) // 4096)
if sys.argv[1]:
    os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_look_tells_memory_and_threads_of_a_bound_process() -> None:
    """By its record: a thread that has left its CPUs is outside, and its memory is counted."""
    require(len(CPUS) >= 2, "to leave its CPU, a thread needs another one")
    first, last = map(str, (CPUS[0], CPUS[-1]))
    place = ["--cpus", first, "--nodes", str(nodes_of_cpus(CpuSet(first)))]
    command = [sys.executable, "-m", "hwnuma", "exec", *place, "--", sys.executable, "-S", "-c", HOLD]
    for moves, outside in (("", 0), (last, 1)):
        with waiting(*command, moves) as process:
            looks = Looks(None)
            looks.look([process.pid])
            found = looks.found()
        assert (found.threads, found.threads_outside, found.processes, found.looks) == (1, outside, 1, 1)
        assert 32 << 20 <= found.own_bytes < 64 << 20
        assert found.remote_bytes <= found.own_bytes


def test_an_unbound_rank_is_held_against_its_node_and_another_process_against_nothing() -> None:
    """A rank by what its launcher told it; a process that no launcher told a rank counts for nothing."""
    for variables, seen in (({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, 1), ({}, 0)):
        job = waiting(sys.executable, "-S", "-c", HOLD, "", HWNUMA_GPUS="none", **variables)
        with job as process, Yardstick() as yardstick:
            looks = Looks(yardstick)
            looks.look([process.pid])
        assert (looks.found().processes, looks.found().looks) == (seen, seen)


def test_the_most_that_was_seen_is_kept() -> None:
    """A look at less changes nothing, and a process that has ended is none."""
    variables = {"HWNUMA_GPUS": "none", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    job = waiting(sys.executable, "-S", "-c", HOLD, "", **variables)
    with Yardstick() as yardstick:
        looks = Looks(yardstick)
        with job as process:
            looks.look([process.pid])
            before = looks.found()
        looks.look([process.pid])
    assert looks.found() == before
    assert before.looks == 1


def _result(mode: str, seconds: list[float], **found: int) -> ModeResult:
    return ModeResult(mode, tuple(Run(mode, each, Found(**{"looks": 1, "threads": 4, **found})) for each in seconds))


def test_the_verdict_is_of_intervals_and_no_difference_where_they_overlap() -> None:
    """Beside unbound, wherever that is named; and what was not seen is said."""
    modes = (
        _result("exclusive", [9.8, 10.0, 10.2]),
        _result("none", [10.0, 10.1, 10.3], remote_bytes=3 << 30, threads_outside=4),
        _result("node", [8.0, 8.4, 8.5], looks=0),
    )
    found = Comparison(JobCommand(("train",), 2), 3, modes)
    assert found.baseline.mode == NO_MODE
    assert found.verdict == (
        "exclusive: no difference from none (0.98-1.05 ×)",  # noqa: RUF001
        "node: 1.18-1.29 × as fast as none",  # noqa: RUF001
    )
    (note,) = found.notes
    assert note.startswith("note: node: in 3 of 3 runs no process was seen that hwnuma had bound")
    text = str(found)
    assert "10.10 s (10.00-10.30)  3.0 GiB          4 of 4" in text
    assert found.as_dict()["modes"][2]["remote_bytes"] is None
    assert found.as_dict()["modes"][1]["remote_bytes"] == {"median": 3 << 30, "low": 3 << 30, "high": 3 << 30}


def test_a_launcher_with_ranks_is_refused() -> None:
    """It starts them itself."""
    with pytest.raises(OptionError, match="--ranks 2 does not go with a command with {}"):
        JobCommand.of(["mpirun", "{}", "app"], 2)
