"""The fuzzing that CI goes on with, in small: what went wrong once, and some hundred inputs of each reader's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS
from tests.fuzz.worker import KINDS, Notes
from tests.processes import ROOT


@pytest.mark.parametrize("name", TARGETS)
def test_what_went_wrong_once_is_read_or_refused(name: str) -> None:
    """The corpus: small files, each of which a reader once did, or could do, something else with."""
    files = sorted((CORPUS / name).iterdir())
    assert files
    found = {path.name: TARGETS[name].check(path.read_bytes()) for path in files}
    assert {name: word for name, word in found.items() if word not in ("read", "refused")} == {}


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_are_read_or_refused(name: str) -> None:
    """No bare exception, no answer that breaks a promise; in CI many more (python -m tests.fuzz)."""
    target = TARGETS[name]
    found = {number: target.check(target.input(11, number)) for number in range(100 if name == "xml" else 300)}
    assert {number: word for number, word in found.items() if word not in ("read", "refused")} == {}
    assert {"read", "refused"} <= set(found.values())


def test_an_input_is_the_same_each_time() -> None:
    """So that one which went wrong can be looked at."""
    target = TARGETS["xml"]
    assert target.input(5, 17) == target.input(5, 17)
    assert target.input(5, 17) != target.input(5, 18)


DYING = """
import os, signal, sys
from pathlib import Path
from tests.fuzz import targets, worker
def read(content):
    if content == b"dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == b"raises":
        raise KeyError("x")
    if content == b"takes memory":
        taken = b"x" * (worker.MOST_BYTES + (1 << 20))
target = targets.Target("made", read, list, [], 1.0)
targets.TARGETS["made"] = target
made = worker.Worker("made", Path(sys.argv[1]))
for content in (b"well", b"raises", b"takes memory", b"dies"):
    made.feed(content)
"""


@pytest.mark.slow  # it fills memory
def test_what_goes_wrong_is_counted(tmp_path: Path) -> None:
    """A reader that raises, takes too much memory and dies of a signal: the notes of its worker tell each."""
    notes = f"{tmp_path}/notes"
    done = subprocess.run(
        [sys.executable, "-c", DYING, notes], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert done.returncode == -11, done.stderr
    told = Notes(Path(notes))
    assert told.counts == dict.fromkeys(KINDS, 0) | {"read": 1, "bare exceptions": 1, "over memory": 1}
    assert told.unfinished == b"dies"
    assert "made 1: bare exceptions: \"bare exception KeyError: 'x'\"; the input is" in done.stdout


def _printed(folder: Path, *words: str) -> list[str]:
    """What a run that finds nothing prints, by lines."""
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "2", "--engine", "loop", "--folder", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_figures_are_printed(tmp_path: Path) -> None:
    """A row for each target and the total; an exit status that says whether anything went wrong."""
    head, row, total, last = _printed(tmp_path / "fuzz", "--executions", "60", "--target", "cpusets")
    assert head.split()[:2] == ["target", "executions"]
    assert (row.split()[:2], total.split()[:2]) == (["cpusets", "60"], ["total", "60"])
    assert last.startswith("60 executions (seed 2, loop, ")
    assert last.endswith("; 0 went wrong")


@pytest.mark.slow  # several processes that plan
def test_several_processes_share_the_inputs_of_a_target(tmp_path: Path) -> None:
    """Each input is one's: the figures are those of one process, and one that has none left to feed ends."""
    words = ("--executions", "4", "--target", "cpusets", "--jobs")
    one, five = (_printed(tmp_path / jobs, *words, jobs) for jobs in ("1", "5"))
    assert one[:-1] == five[:-1]
    assert {each.name for each in (tmp_path / "5").glob("*.notes")} == {f"cpusets-{n}.notes" for n in range(4)}
