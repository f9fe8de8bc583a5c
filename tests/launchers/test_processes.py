"""Plain Python: subprocess, multiprocessing and concurrent.futures, as docs/how-to/launchers/python.md has it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hwnuma.errors import LocalRankError, NotEnoughCoresError
from hwnuma.integrations.processes import Bound, PlacePool, plan_here
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.options import AffinityMode, MemoryPolicy, NumaOptions
from hwnuma.model.plan import Plan
from tests.launchers.jobs import LIMIT, environment, require_two_cores, started
from tests.launchers.rank import allowed_cpus

pytestmark = pytest.mark.launchers

every_start_method = pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())


@pytest.fixture
def two_places() -> Plan:
    """An exclusive plan of two workers on this machine."""
    require_two_cores()
    plan = plan_here("exclusive", ranks=2, gpus="none")
    assert plan.is_disjoint
    return plan


def _put(box: multiprocessing.SimpleQueue[tuple[int, str]], rank: int) -> None:
    box.put((rank, allowed_cpus()))


def _exit(status: int) -> None:
    sys.exit(status)


def _cpus(_: int) -> tuple[int, str]:
    return os.getpid(), allowed_cpus()


@every_start_method
def test_processes_of_known_rank_get_their_places(method: str, two_places: Plan) -> None:
    """`Bound(function, plan[rank])` as a target binds before the function begins, under every start method."""
    context: Any = multiprocessing.get_context(method)
    box = context.SimpleQueue()
    workers = [context.Process(target=Bound(_put, place), args=(box, rank)) for rank, place in enumerate(two_places)]
    for worker in workers:
        worker.start()
    told = dict(box.get() for _ in workers)
    for worker in workers:
        worker.join(LIMIT)
    assert told == {rank: str(binding.cpuset) for rank, binding in enumerate(two_places)}


def test_a_failing_workers_status_reaches_its_parent(two_places: Plan) -> None:
    """The exit status of a bound target is its own."""
    worker = multiprocessing.get_context("spawn").Process(target=Bound(_exit, two_places[1]), args=(3,))
    worker.start()
    worker.join(LIMIT)
    assert worker.exitcode == 3


def test_the_memory_policy_comes_with_the_place() -> None:
    """A worker of a plan with memory=bind has the policy of its node, as the kernel shows it."""
    plan = plan_here(NumaOptions(AffinityMode.NODE, memory=MemoryPolicy.BIND), ranks=1, gpus="none")
    context = multiprocessing.get_context("spawn")
    with PlacePool(plan) as places, ProcessPoolExecutor(1, context, initializer=places.take) as pool:
        assert f" bind:{plan[0].nodeset} " in pool.submit(_policies, 0).result(LIMIT)


def test_a_bound_function_keeps_its_name(two_places: Plan) -> None:
    """Launchers log a function's name, and some refuse one without."""
    assert Bound(_put, two_places[0]).__name__ == "_put"


def test_a_rank_without_a_place_is_refused_before_its_process_starts() -> None:
    """`Bound` raises in the parent."""
    cores = len(CpuSet(os.sched_getaffinity(0)))
    plan = plan_here("exclusive", ranks=cores + 1, gpus="none")
    with pytest.raises(NotEnoughCoresError):
        Bound(_put, plan[0])
    with pytest.raises(NotEnoughCoresError):
        PlacePool(plan)


def _policies(_: int) -> str:
    return Path("/proc/self/numa_maps").read_text()


# ---- pools ---------------------------------------------------------------------------------------------------


@every_start_method
def test_an_executors_workers_take_one_place_each(method: str, two_places: Plan) -> None:
    """Two workers of a ProcessPoolExecutor hold the plan's two places, whoever comes first."""
    context = multiprocessing.get_context(method)
    with PlacePool(two_places) as places:
        barrier = context.Barrier(2, timeout=LIMIT)
        with ProcessPoolExecutor(2, context, initializer=_take_and_meet, initargs=(places, barrier)) as pool:
            told = dict(pool.map(_cpus, range(40)))
    assert sorted(told.values()) == sorted(str(binding.cpuset) for binding in two_places)
    assert not Path(places.path).exists()


def _take_and_meet(places: PlacePool, barrier: threading.Barrier) -> None:
    """Take a place, and go on once the other worker has taken one: no worker does all the work alone."""
    places.take()
    barrier.wait()


def test_a_place_is_free_again_when_its_process_ends(two_places: Plan) -> None:
    """A multiprocessing.Pool replaces each worker after a task; the new one takes the place of the old one."""
    context = multiprocessing.get_context("spawn")
    with PlacePool(two_places) as places, context.Pool(2, places.take, maxtasksperchild=1) as pool:
        told = pool.map(_cpus, range(3), chunksize=1)
    assert len({process for process, _ in told}) == 3
    assert {cpus for _, cpus in told} <= {str(binding.cpuset) for binding in two_places}


def test_more_workers_than_places_are_told(two_places: Plan) -> None:
    """While two processes hold the two places, a third one is told so instead of sharing one."""
    context = multiprocessing.get_context("spawn")
    box, done = context.SimpleQueue(), context.Event()
    with PlacePool(two_places) as places:
        workers = [context.Process(target=_take_and_hold, args=(places, box, done)) for _ in range(3)]
        for worker in workers:
            worker.start()
        told = sorted((box.get() for _ in workers), key=len)
        done.set()
        for worker in workers:
            worker.join(LIMIT)
    assert sorted(told[:2]) == sorted(str(binding.cpuset) for binding in two_places)
    assert told[2].startswith("all 2 places of the plan are taken")


def _take_and_hold(places: PlacePool, box: multiprocessing.SimpleQueue[str], done: threading.Event) -> None:
    """Take a place, tell which or why not, and live until all have told."""
    try:
        box.put(str(places.take().cpuset))
    except LocalRankError as error:
        box.put(str(error))
    done.wait(LIMIT)


def test_taking_twice_changes_nothing(two_places: Plan) -> None:
    """A worker whose initializer runs twice keeps its place."""
    context = multiprocessing.get_context("spawn")
    with PlacePool(two_places) as places, ProcessPoolExecutor(1, context) as pool:
        again = pickle.loads(pickle.dumps(places))
        first = pool.submit(places.take).result(LIMIT)
        assert pool.submit(again.take).result(LIMIT) == first


def test_a_rank_may_run_unbound_if_asked() -> None:
    """With `should_fall_back_if_binding_fails`, a worker without a place runs on all CPUs."""
    cores = len(CpuSet(os.sched_getaffinity(0)))
    options = NumaOptions(AffinityMode.EXCLUSIVE, should_fall_back_if_binding_fails=True)
    plan = plan_here(options, ranks=cores + 1, gpus="none")
    with PlacePool(plan) as places:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=places.take) as pool:
            assert pool.submit(_cpus, 0).result(LIMIT)[1] == allowed_cpus()


# ---- subprocess ----------------------------------------------------------------------------------------------


def test_a_subprocess_gets_its_place_before_it_starts(two_places: Plan) -> None:
    """`binding.wrap(command)` runs the command on the plan's CPUs, with its own exit status."""
    command = ["sh", "-c", "grep Cpus_allowed_list /proc/self/status; exit 5"]
    for binding in two_places:
        done = subprocess.run(binding.wrap(command), capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (done.stdout.split()[-1], done.returncode) == (str(binding.cpuset), 5)


def test_sigterm_reaches_a_wrapped_command(two_places: Plan, tmp_path: Path) -> None:
    """The process that was started is the command itself, so its signals are its own."""
    rank = [sys.executable, str(Path(__file__).with_name("rank.py")), str(tmp_path), "wait"]
    with started(two_places[1].wrap(rank), environment(LOCAL_RANK="1"), tmp_path) as job:
        job.wait_for("1-0")
        job.process.send_signal(signal.SIGTERM)
        status, _, errors = job.finish()
        assert status == 0, errors
        assert "terminated-1-0" in job.told.names()
