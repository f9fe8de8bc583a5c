"""A launcher's own planning of its ranks, and what it hands to each."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from hwnuma.errors import LocalRankError, OptionError, PlanError
from hwnuma.hwloc.topology import Topology
from hwnuma.integrations.places import Places
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.options import NumaOptions
from hwnuma.processes.binding import current_affinity
from tests.processes import answer_of

WITHOUT_GPUS = {"HWNUMA_GPUS": "none"}
TOO_MANY = len(os.sched_getaffinity(0)) + 1


def own_cpus() -> CpuSet:
    """The CPUs that this process may use."""
    with Topology.from_this_system() as topology:
        return current_affinity(topology)


def test_each_rank_is_handed_its_cpus_and_nothing_that_was_not_asked_for() -> None:
    """Without a memory policy or threads, its CPUs and the nodes of these are all."""
    places = Places.of(2, WITHOUT_GPUS, "node")
    assert [places.variables(rank, {}) for rank in (0, 1)] == [
        {"HWNUMA_CPUS": str(row.cpuset), "HWNUMA_NODES": str(row.nodeset)} for row in places.plan
    ]


def test_a_command_with_a_handed_place_is_told_what_one_that_planned_is_told() -> None:
    """HWNUMA_BOUND_CPUS, HWNUMA_BOUND_NODES and HWNUMA_BOUND_MEMORY say the same however the rank came by its place."""
    handed = told_by_exec(**Places.of(1, WITHOUT_GPUS).variables(0, {}))
    planned = told_by_exec(HWNUMA_GPUS="none", HWNUMA_RANKS="1", HWNUMA_LOCAL_RANK="0")
    assert handed == planned
    assert handed["HWNUMA_BOUND_NODES"] != ""


def told_by_exec(**variables: str) -> dict[str, str]:
    """What `hwnuma exec` tells its command, in an environment with these variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HWNUMA_")}
    command = [sys.executable, "-m", "hwnuma", "exec", "env"]
    done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("HWNUMA_BOUND_"))
    assert sorted(told) == ["HWNUMA_BOUND_CPUS", "HWNUMA_BOUND_MEMORY", "HWNUMA_BOUND_NODES"]
    return told


def test_memory_and_threads_go_with_the_cpus() -> None:
    """A memory policy comes with its nodes, and OMP_NUM_THREADS is the number of cores, unless the user has set it."""
    asked = {**WITHOUT_GPUS, "HWNUMA_MEMORY": "bind", "HWNUMA_OMP": "set"}
    places = Places.of(1, asked)
    (binding,) = places.plan
    handed = places.variables(0, {"OMP_PLACES": "cores"})
    assert handed == {
        "HWNUMA_CPUS": str(binding.cpuset),
        "HWNUMA_MEMORY": "bind",
        "HWNUMA_NODES": str(binding.nodeset),
        "OMP_NUM_THREADS": str(binding.cores),
    }
    assert "OMP_NUM_THREADS" not in places.variables(0, {"OMP_NUM_THREADS": "3"})


def test_cpus_in_the_launchers_environment_limit_what_is_given_out() -> None:
    """With HWNUMA_CPUS, the ranks get these CPUs only."""
    last = CpuSet([max(own_cpus())])
    places = Places.of(1, {**WITHOUT_GPUS, "HWNUMA_CPUS": str(last)})
    assert places.plan[0].cpuset == last


def test_ranks_that_others_start_count() -> None:
    """With HWNUMA_RANKS, this launcher's ranks get the share that they have among so many."""
    asked = {**WITHOUT_GPUS, "HWNUMA_MODE": "exclusive", "HWNUMA_RANKS": str(TOO_MANY)}
    places = Places.of(1, asked)
    assert len(places.plan) == TOO_MANY
    with pytest.raises(LocalRankError, match=r"HWNUMA_RANKS=1, but 2 ranks are started here"):
        Places.of(2, {**asked, "HWNUMA_RANKS": "1"})


def test_a_rank_that_cannot_be_placed_stops_the_launch() -> None:
    """The error has each reason once, with the ranks that it stops."""
    places = Places.of(TOO_MANY, WITHOUT_GPUS, "exclusive")
    with pytest.raises(PlanError, match=r"^no worker is started, since not every rank can be placed: rank ") as caught:
        places.check()
    assert str(caught.value).count("cores of their own") == len({str(error) for error in places.plan.errors})


def test_unbound_ranks_keep_the_launchers_cpus(caplog: pytest.LogCaptureFixture) -> None:
    """With the fallback, the reason is a warning, and the rank is handed what it would have had without hwnuma."""
    options = NumaOptions("exclusive", should_fall_back_if_binding_fails=True)  # type: ignore[arg-type]
    places = Places.of(TOO_MANY, WITHOUT_GPUS, options)
    with caplog.at_level(logging.WARNING, logger="hwnuma"):
        places.check()
    assert "running unbound, as asked: rank " in caplog.text
    failed = next(row.local_rank for row in places.plan if row.error is not None)
    assert places.variables(failed, {}) == {"HWNUMA_CPUS": str(own_cpus())}


def test_a_wrong_value_in_the_environment_is_refused() -> None:
    """The message names the variable, since nothing was written on a command line."""
    with pytest.raises(OptionError, match=r"^HWNUMA_MODE: 'nearby' is no affinity mode"):
        Places.of(1, {**WITHOUT_GPUS, "HWNUMA_MODE": "nearby"})


def test_the_launchers_variables_of_planning_are_spent() -> None:
    """What was planned by is named, so that a worker need not read it; what a binding goes by is not."""
    asked = {
        **WITHOUT_GPUS,
        "HWNUMA_MODE": "exclusive",
        "HWNUMA_FALLBACK": "1",
        "HWNUMA_MEMORY": "none",
        "PATH": "/bin",
    }
    assert sorted(Places.of(1, asked).spent) == ["HWNUMA_GPUS", "HWNUMA_MODE"]


POOL = """
import json, os, pickle
import hwnuma
from hwnuma.integrations.processes import PlacePool
with PlacePool(hwnuma.plan_here("node", gpus="none", ranks=1)) as pool:
    first = pool.take()
    again = pool.take() is first
    other = pickle.loads(pickle.dumps(pool))
    child = os.fork()
    if child == 0:
        try:
            other.take()
        except hwnuma.LocalRankError as error:
            os._exit(7 if "all 1 places of the plan are taken by processes that live" in str(error) else 1)
        os._exit(0)
    refused = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    other.close()
    shared = os.path.exists(pool.path)
print(json.dumps([first.local_rank, again, refused, shared, os.path.exists(pool.path)]))
"""


def test_a_pool_gives_each_place_once_and_removes_its_file() -> None:
    """A second call changes nothing; who comes too late is told; a pickled one leaves the file to the first."""
    told, _ = answer_of(POOL)
    assert told == [0, True, True, True, False]
