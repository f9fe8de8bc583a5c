"""torch's Python API: elastic_launch under every start method, and torch.multiprocessing.spawn."""

from __future__ import annotations

import functools
import json
import operator
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma.errors import OptionError
from hwnuma.integrations.torch import Bound
from hwnuma.model.options import NumaOptions
from tests.launchers.jobs import LIMIT, environment, planned, require_module, require_two_cores

JOB = Path(__file__).with_name("elastic_job.py")
WAYS = ("spawn", "fork", "forkserver", "torch.multiprocessing", "command")


@pytest.mark.launchers
@pytest.mark.torch
def test_every_start_method_binds() -> None:
    """Under spawn, fork, forkserver, torch.multiprocessing.spawn and as a command, each worker is where the plan says.

    torch's own NumaOptions are taken, the function gets its arguments and its result comes back, a restarted worker is
    bound again, a plan of the launcher's is kept to, and torch gets the number of threads that is asked for. A rank that
    cannot be placed is a failed worker to torch, with hwnuma's error.
    """
    require_module("torch")
    require_two_cores()
    variables = environment(HWNUMA_GPUS="none", HWNUMA_MODE="exclusive", HWNUMA_OMP="set")
    done = subprocess.run(
        [sys.executable, str(JOB)], env=variables, capture_output=True, text=True, timeout=2 * LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    expected = planned(variables, "--ranks", "2")
    assert len(set(expected)) == 2
    assert {way: [told[way][rank]["cpus"] for rank in ("0", "1")] for way in WAYS} == dict.fromkeys(WAYS, expected)
    assert told["refused"]
    assert all("NotEnoughCoresError" in message for message in told["refused"]), told["refused"]
    assert [told["spawn"][rank]["word"] for rank in ("0", "1")] == ["a word", "a word"]
    assert [told["fork"][rank]["attempt"] for rank in ("0", "1")] == ["1", "1"]
    assert [told["forkserver"][rank]["planned"] for rank in ("0", "1")] == expected
    assert [told["spawn"][rank]["planned"] for rank in ("0", "1")] == [None, None]
    cores = [row["cores"] for row in _rows(variables)]
    assert [told["fork"][rank]["threads"] for rank in ("0", "1")] == cores
    assert [told["forkserver"][rank]["threads"] for rank in ("0", "1")] == cores
    assert done.stderr.count("mode exclusive on this system") == 2  # printed by the two launchers that plan


def _rows(variables: dict[str, str]) -> list[dict[str, int]]:
    command = [sys.executable, "-m", "hwnuma", "plan", "--ranks", "2", "--format", "json"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=True)
    rows: list[dict[str, int]] = json.loads(done.stdout)["bindings"]
    return rows


def test_a_bound_function_keeps_its_name_and_pickles() -> None:
    """What torch asks of an entrypoint is there: __name__, __qualname__, and pickling with the options."""
    bound = Bound(operator.add, NumaOptions("exclusive"), ranks=2)  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(bound))
    assert (again.__name__, again.__qualname__) == ("add", "add")
    assert vars(again) == vars(bound)


def test_a_partial_is_taken() -> None:
    """A functools.partial has no name of its own, without which torch fails; bound, it has one."""
    bound = Bound(functools.partial(operator.add, 1))
    assert (bound.__name__, bound.__qualname__) == ("partial", "partial")


def test_wrong_options_are_refused_at_once() -> None:
    """A mode that does not exist is refused where it is written, not in every worker."""
    with pytest.raises(OptionError, match="'nearby' is no affinity mode"):
        Bound(print, "nearby")


def test_a_rank_that_cannot_be_placed_does_not_run_the_function() -> None:
    """The function is not called, and the process keeps its CPUs."""
    code = """
import os
from hwnuma.errors import NotEnoughCoresError
from hwnuma.integrations.torch import Bound
before = os.sched_getaffinity(0)
try:
    Bound(print, "exclusive", rank_is_first_argument=True, ranks=len(before) + 1, gpus="none")(0)
except NotEnoughCoresError:
    print("refused", os.sched_getaffinity(0) == before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.stdout, done.stderr) == ("refused True\n", "")
