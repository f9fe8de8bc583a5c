"""Dask: the plug-in and the preload module bind workers, as docs/how-to/launchers/dask.md has it.

This machine needs no GPU: workers are told which GPU is theirs as dask-cuda tells them, and hwnuma where the GPUs are.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hwnuma.errors import LocalRankError
from hwnuma.hwloc.topology import Topology
from hwnuma.integrations.processes import plan_here
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.gpu import Gpu
from tests.launchers.jobs import LIMIT, environment, planned, require_module, require_two_cores
from tests.test_cli import run

if importlib.util.find_spec("distributed"):
    from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster, WorkerPlugin

    from hwnuma.integrations.dask import HwnumaPlugin, rank_of

    class AffinityOfNode(WorkerPlugin):
        """What dask-cuda's CPUAffinity does (dask_cuda/plugins.py): sched_setaffinity on the worker's main thread."""

        def __init__(self, cpus: str) -> None:
            """Say which CPUs."""
            self.cpus = set(CpuSet(cpus))

        def setup(self, worker: object) -> None:  # noqa: ARG002 -- Dask's signature
            """Bind the calling thread."""
            os.sched_setaffinity(0, self.cpus)


pytestmark = pytest.mark.launchers

EXCLUSIVE = ("--gpus", "none", "--mode", "exclusive", "--ranks", "2")


@pytest.fixture(autouse=True)
def _needs() -> None:
    require_module("distributed")
    require_two_cores()


def two_gpus() -> tuple[Gpu, Gpu]:
    """Two GPUs on the first node that has CPUs."""
    with Topology.from_this_system() as topology:
        node = topology.machine().cpu_nodes[0].os_index
    return Gpu(0, numa_node=node), Gpu(1, numa_node=node)


@contextmanager
def client_of(cluster: Any) -> Iterator[Any]:
    """A client of a cluster that is closed with it."""
    with ExitStack() as stack:
        stack.enter_context(cluster)
        yield stack.enter_context(Client(cluster))


def affinities(client: Any) -> dict[object, str]:
    """The CPUs that tasks run on, by worker."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    told = {}
    for address, facts in workers.items():
        told[facts["name"]] = client.submit(_cpus, workers=[address], pure=False).result(LIMIT)
    return told


def _cpus() -> str:
    return str(CpuSet(os.sched_getaffinity(0)))


def local_cluster(**options: Any) -> Any:
    """Two worker processes on the loopback interface, without a dashboard."""
    return LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", **options)


def cuda_cluster() -> Any:
    """Two workers as dask-cuda starts them: nannies whose CUDA_VISIBLE_DEVICES begins with the worker's own GPU."""
    workers = {
        index: {
            "cls": Nanny,
            "options": {"nthreads": 1, "host": "127.0.0.1", "env": {"CUDA_VISIBLE_DEVICES": f"{index},{1 - index}"}},
        }
        for index in range(2)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": None, "host": "127.0.0.1", "port": 0}}
    return SpecCluster(workers=workers, scheduler=scheduler)


def test_workers_of_a_local_cluster_get_the_plans_cpus() -> None:
    """Two workers of known number are on distinct CPUs, those of `hwnuma plan`, in the threads that run tasks.

    The plug-in is registered with the scheduler, so a worker that its nanny restarts takes its place again.
    """
    first, second = planned(environment(), *EXCLUSIVE)
    assert first != second
    with client_of(local_cluster()) as client:
        client.register_plugin(HwnumaPlugin("exclusive", ranks=2, gpus="none"))
        assert affinities(client) == {0: first, 1: second}
        client.restart()
        assert affinities(client) == {0: first, 1: second}


def test_workers_with_gpus_get_the_plans_cpus() -> None:
    """A worker that dask-cuda gave a GPU is bound near it; which others there are it need not know.

    A plug-in that is set up later has the last word: dask-cuda's own widens the affinity to all CPUs of the node again,
    and ours, registered after it, gives each worker its share, and the threads that have run tasks by then.
    """
    everything = str(CpuSet(os.sched_getaffinity(0)))
    expected = dict(enumerate(str(binding.cpuset) for binding in plan_here("exclusive", gpus=two_gpus())))
    with client_of(cuda_cluster()) as client:
        client.register_plugin(HwnumaPlugin("exclusive", gpus=two_gpus()))
        client.register_plugin(AffinityOfNode(everything), name="CPUAffinity")
        assert affinities(client) == {0: everything, 1: everything}
        client.register_plugin(HwnumaPlugin("exclusive", gpus=two_gpus()), name="hwnuma, after it")
        assert affinities(client) == expected


def test_a_worker_without_a_place_is_told_to_the_client() -> None:
    """Neither a GPU nor a number of workers: registering raises, and the remedy is in the message."""
    with client_of(local_cluster()) as client, pytest.raises(LocalRankError, match="ranks=N"):
        client.register_plugin(HwnumaPlugin("node"))


def test_preload_binds_each_worker_and_signals_reach_it(tmp_path: Path) -> None:
    """The documented command line: two workers, each bound to its place before it takes a task; SIGTERM ends them."""
    scheduler_file = tmp_path / "scheduler.json"
    variables = environment(HWNUMA_MODE="exclusive", HWNUMA_GPUS="none", HWNUMA_RANKS="2")
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(scheduler_file), "--no-dashboard"]
    worker = ["worker", *common, "--name", "here", "--nworkers", "2", "--nthreads", "1"]
    with ExitStack() as stack:
        for command in (
            ["scheduler", *common, "--host", "127.0.0.1", "--port", "0"],
            [*worker, "--preload", "hwnuma.integrations.dask", "--local-directory", str(tmp_path)],
        ):
            process = subprocess.Popen([*dask, *command], env=variables)
            stack.callback(_end, process)
        client = stack.enter_context(Client(scheduler_file=str(scheduler_file), timeout=LIMIT))
        client.wait_for_workers(2, timeout=LIMIT)
        first, second = planned(environment(), *EXCLUSIVE)
        assert affinities(client) == {"here-0": first, "here-1": second}
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(LIMIT)
    finally:
        process.kill()


@pytest.mark.parametrize(("name", "rank"), [(0, 0), (3, 3), ("here-2", 2), ("node17-3", 3), ("1", 1)])
def test_a_workers_name_tells_its_rank(name: object, rank: int) -> None:
    """LocalCluster counts its workers, and `dask worker --nworkers` appends a number to the name."""
    assert rank_of(name, 4) == rank


@pytest.mark.parametrize("name", ["alice", "tcp://127.0.0.1:34567", "here-4", ""])
def test_a_name_that_tells_no_rank_is_refused(name: object) -> None:
    """The message repeats the name and says which numbers there can be."""
    with pytest.raises(LocalRankError, match="from 0 to 3"):
        rank_of(name, 4)


def test_all_machines_of_a_cluster_are_captured(tmp_path: Path) -> None:
    """One file for this one machine with its two workers, without the devices of either; `hwnuma fleet` reads it."""
    from hwnuma.integrations.dask import capture_all

    host = os.uname().nodename.partition(".")[0]
    with client_of(cuda_cluster()) as client:
        captures = capture_all(client, tmp_path)
    assert list(captures) == [host]
    assert captures[host].facts is not None
    assert "CUDA_VISIBLE_DEVICES" not in dict(captures[host].facts.variables)
    assert run("fleet", str(tmp_path)).stdout == f"1 machine, all alike\n\nnorm, 1: {host}\n"
