"""Ray: actors and tasks bind to the CPUs near the GPUs that Ray gives them, as docs/how-to/launchers/ray.md has it.

This machine needs no GPU: Ray is told that there are two, and hwnuma on which NUMA node they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnuma.hwloc.topology import Topology
from hwnuma.integrations.processes import plan_here
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.options import AffinityMode, NumaOptions
from tests.launchers.jobs import LIMIT, require_module, require_two_cores
from tests.launchers.rank import allowed_cpus
from tests.test_cli import run

pytestmark = pytest.mark.launchers

SHARED_MEMORY = 80 * 2**20  # bytes, about the least that Ray takes


def two_gpus() -> tuple[Gpu, Gpu]:
    """Two GPUs on the first node that has CPUs."""
    with Topology.from_this_system() as topology:
        node = topology.machine().cpu_nodes[0].os_index
    return Gpu(0, numa_node=node), Gpu(1, numa_node=node)


def expected(mode: str) -> list[str]:
    """What a plan of both GPUs gives to each."""
    return [str(binding.cpuset) for binding in plan_here(mode, gpus=two_gpus())]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of this machine alone, with two CPUs and two GPUs in its books."""
    require_module("ray")
    require_two_cores()
    before = dict(os.environ)
    # No file in the home folder, and no question to the network who uses Ray.
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    root = str(Path(__file__).resolve().parents[2])
    import ray

    ray.init(
        num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=SHARED_MEMORY, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )  # fmt: skip
    try:
        yield ray
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ |= before


class Worker:
    """An actor that binds itself first, as the documentation shows."""

    def __init__(self, options: NumaOptions | str) -> None:
        """Bind, before anything else."""
        from hwnuma.integrations.ray import bind

        self.binding = bind(options, gpus=two_gpus())

    def where(self) -> tuple[list[int], str, set[str], str]:
        """The GPUs, this process's CPUs, those of all its threads, and what `bind` answered."""
        import ray

        tasks = Path("/proc/self/task").iterdir()
        threads = {str(CpuSet(os.sched_getaffinity(int(task.name)))) for task in tasks}
        return ray.get_gpu_ids(), allowed_cpus(), threads, str(self.binding.cpuset)


def test_actors_get_the_plans_cpus(ray: Any) -> None:
    """Two actors with a GPU each are on distinct CPUs, those of the plan of both GPUs, with all their threads."""
    actors = [ray.remote(num_gpus=1)(Worker).remote("exclusive") for _ in range(2)]
    told = ray.get([actor.where.remote() for actor in actors], timeout=LIMIT)
    for devices, cpus, threads, answered in told:
        assert cpus == expected("exclusive")[int(devices[0])]
        assert threads == {cpus}
        assert answered == cpus
    assert told[0][1] != told[1][1]


def test_an_actor_with_two_gpus_gets_both_shares(ray: Any) -> None:
    """One that drives both GPUs gets the union of what each would get."""
    actor = ray.remote(num_gpus=2)(Worker).remote("exclusive")
    _, cpus, _, _ = ray.get(actor.where.remote(), timeout=LIMIT)
    assert cpus == str(CpuSet(",".join(expected("exclusive"))))


def test_tasks_that_share_a_process_are_bound_anew(ray: Any) -> None:
    """Ray reuses a process for the next task, which may have the other GPU: it is bound from the CPUs of the first."""

    @ray.remote(num_gpus=1)
    def where() -> tuple[int, int, str]:
        from hwnuma.integrations.devices import bind_to_devices
        from hwnuma.integrations.ray import bind

        mine = int(ray.get_gpu_ids()[0])
        bind_to_devices([1 - mine], "exclusive", gpus=two_gpus())
        bind("exclusive", gpus=two_gpus())
        return os.getpid(), mine, allowed_cpus()

    for _, mine, cpus in ray.get([where.remote() for _ in range(4)], timeout=LIMIT):
        assert cpus == expected("exclusive")[mine]


def test_an_actor_without_a_gpu_is_told_what_to_do(ray: Any) -> None:
    """Ray's actors have no rank: without a GPU it cannot be known where one belongs."""
    actor = ray.remote(num_gpus=0)(Worker).remote("node")
    with pytest.raises(ray.exceptions.RayActorError, match="ask for one"):
        ray.get(actor.where.remote(), timeout=LIMIT)


def test_a_bound_function_binds_first(ray: Any) -> None:
    """`Bound(function)` is what Ray Train's train_loop_per_worker takes; options and name travel with it."""
    from hwnuma.integrations.ray import Bound

    loop = Bound(_tell, NumaOptions(AffinityMode.EXCLUSIVE), gpus=two_gpus())
    assert loop.__name__ == "_tell"
    told = ray.get([ray.remote(num_gpus=1)(_run).remote(loop, 7) for _ in range(2)], timeout=LIMIT)
    for devices, number, cpus in told:
        assert (number, cpus) == (7, expected("exclusive")[int(devices[0])])


def _run(function: Callable[[int], Any], number: int) -> Any:
    return function(number)


def _tell(number: int) -> tuple[list[int], int, str]:
    import ray

    return ray.get_gpu_ids(), number, allowed_cpus()


@pytest.mark.usefixtures("ray")
def test_ray_train_takes_a_bound_loop(tmp_path: Path) -> None:
    """`train_loop_per_worker=Bound(loop)`: two workers on distinct CPUs, and the loop still gets its configuration."""
    for name in ("pyarrow", "pandas", "pydantic"):  # what ray[train] brings
        require_module(name)
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from hwnuma.integrations.ray import Bound

    trainer = DataParallelTrainer(
        Bound(_loop, "exclusive", gpus=two_gpus()),
        train_loop_config={"folder": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2, use_gpu=True, resources_per_worker={"CPU": 0.5, "GPU": 1}),
        run_config=RunConfig(storage_path=str(tmp_path / "runs")),
    )
    assert trainer.fit().error is None
    assert [(tmp_path / f"{device}.cpus").read_text() for device in range(2)] == expected("exclusive")


def _loop(configuration: dict[str, str]) -> None:
    import ray

    (Path(configuration["folder"]) / f"{ray.get_gpu_ids()[0]}.cpus").write_text(allowed_cpus())


@pytest.mark.usefixtures("ray")
def test_all_machines_of_a_cluster_are_captured(tmp_path: Path) -> None:
    """One file for this one machine, though Ray hides its GPUs from a task that asks for none; `hwnuma fleet` reads it."""
    from hwnuma.integrations.ray import capture_all

    captures = capture_all(tmp_path)
    host = os.uname().nodename.partition(".")[0]
    assert list(captures) == [host]
    assert captures[host].facts is not None
    assert "CUDA_VISIBLE_DEVICES" not in dict(captures[host].facts.variables)
    assert run("fleet", str(tmp_path)).stdout == f"1 machine, all alike\n\nnorm, 1: {host}\n"
