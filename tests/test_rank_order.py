"""A launcher that deals CPUs out in another order than the GPUs have: what exec says, and that it says it only then."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import hwnuma
from hwnuma import CpuSet, Gpu, Machine, NodeSet, NumaOptions, TopologyGpus
from hwnuma.environment.outer_mask import explain_order
from hwnuma.model.options import UnknownLocality
from hwnuma.policy.rank_order import OtherPlace, near_another
from hwnuma.testing import FakeMachine

# A DGX H100 has GPUs 0 to 3 on node 0 with CPUs 0-55,112-167, and 4 to 7 on node 1 with CPUs 56-111,168-223.
OFF, NEAR, BOTH = "56-69", "0-13", "0-13,56-69"
SLURM = {"SLURM_CPU_BIND": "quiet,mask_cpu:0x1,0x2", "SLURM_JOB_ID": "7", "SLURM_LOCALID": "1"}
OF_EIGHT = {**SLURM, "SLURM_STEP_TASKS_PER_NODE": "8"}
ORDER = "CPUs were not given out in the order of the GPUs: "

MachineMaker = Callable[..., FakeMachine]


def bound_within(
    make: MachineMaker, mask: str, environment: dict[str, str], options: NumaOptions | None = None, **more: object
) -> hwnuma.Binding:
    """Bind a process as rank 1 of a DGX H100 that was started with an affinity."""
    with make("dgx_h100", affinity=True, environment=environment, **more):
        os.sched_setaffinity(0, CpuSet(mask))
        return hwnuma.bind(options or NumaOptions("node"))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged that somebody should know."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("mode", ["node", "socket", "exclusive", "core-complex"])
def test_a_rank_near_anothers_gpu_is_told_in_one_line(hwnuma_machine: MachineMaker, mode: str) -> None:
    """Slurm's default puts rank 1 on socket 1, and its GPU 1 is on socket 0: who, where, and what to do."""
    with pytest.raises(hwnuma.NoAllowedCpusError) as raised:
        bound_within(hwnuma_machine, OFF, OF_EIGHT, NumaOptions(mode))
    assert str(raised.value) == (
        f"{ORDER}local rank 1 was started on CPUs 56-69 of NUMA node 1, near GPUs 4-7, and drives GPU 1 (0000:43:00.0) on "
        "node 0; Slurm deals sockets out to tasks in turn unless it is told otherwise (SLURM_DISTRIBUTION is not set): "
        "srun --cpu-bind=none, or hwnuma's --outer-mask reset, lets hwnuma place each rank by its GPU; srun "
        "--distribution=block:block goes socket by socket, where the tasks fill the node"
    )


def test_a_rank_that_goes_on_there_is_warned_of_that_alone(
    hwnuma_machine: MachineMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says it all; that no CPU near it may be used comes of the same."""
    binding = bound_within(hwnuma_machine, OFF, OF_EIGHT, NumaOptions("node", no_allowed_cpus="nearest"))
    assert binding.cpuset == CpuSet(OFF)
    (line,) = warnings(caplog)
    assert ORDER in line
    assert line.endswith("; it gets CPUs 56-69 instead of 0-55,112-167")


def test_a_rank_that_goes_on_unbound_is_warned(hwnuma_machine: MachineMaker, caplog: pytest.LogCaptureFixture) -> None:
    """With --fallback unbound the error is the warning."""
    options = NumaOptions("node", should_fall_back_if_binding_fails=True)
    assert isinstance(bound_within(hwnuma_machine, OFF, OF_EIGHT, options).error, hwnuma.NoAllowedCpusError)
    (line,) = warnings(caplog)
    assert f"running unbound, as asked: {ORDER}" in line


@pytest.mark.parametrize("mask", [NEAR, BOTH])
def test_an_affinity_with_cpus_near_its_gpu_is_in_order(
    hwnuma_machine: MachineMaker, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs CPUs, which is told as ever; of the order nothing is said."""
    assert bound_within(hwnuma_machine, mask, OF_EIGHT).cpuset == CpuSet(NEAR)
    (line,) = warnings(caplog)
    assert line.startswith("local rank 1 gets CPUs 0-13 instead of 0-55,112-167: this process was started")


def test_an_affinity_of_all_cpus_says_nothing(hwnuma_machine: MachineMaker, caplog: pytest.LogCaptureFixture) -> None:
    """As with srun --cpu-bind=none."""
    bound_within(hwnuma_machine, "0-223", OF_EIGHT)
    assert warnings(caplog) == []


def test_one_rank_alone_has_no_order(hwnuma_machine: MachineMaker) -> None:
    """Slurm gave it these CPUs for another reason, and another distribution changes nothing."""
    alone = {**SLURM, "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"}
    with pytest.raises(hwnuma.NoAllowedCpusError, match="without the inherited affinity") as raised:
        bound_within(hwnuma_machine, OFF, alone)
    assert ORDER not in str(raised.value)


def test_a_cgroup_that_has_no_cpu_near_the_gpu_is_no_matter_of_order(hwnuma_machine: MachineMaker) -> None:
    """The job was not given any CPU there: no distribution over sockets changes that."""
    with pytest.raises(hwnuma.NoAllowedCpusError, match="ask the scheduler for CPUs near the GPU") as raised:
        bound_within(hwnuma_machine, OFF, OF_EIGHT, allowed="56-111,168-223")
    assert ORDER not in str(raised.value)


def test_a_rank_that_sees_no_gpu_but_its_own_on_its_machine_is_not_said_to_be_near_others(
    hwnuma_machine: MachineMaker,
) -> None:
    """No other GPU is known there."""
    only = [Gpu(0, "0000:1b:00.0")]
    with pytest.raises(hwnuma.NoAllowedCpusError) as raised:
        bound_within(hwnuma_machine, OFF, OF_EIGHT, gpus=only)
    assert ORDER not in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (SLURM, "unless it is told otherwise (SLURM_DISTRIBUTION is not set): srun --cpu-bind=none"),
        ({**SLURM, "SLURM_DISTRIBUTION": "block"}, "(SLURM_DISTRIBUTION=block): srun --cpu-bind=none"),
        ({**SLURM, "SLURM_DISTRIBUTION": "cyclic:cyclic,Pack"}, "(SLURM_DISTRIBUTION=cyclic:cyclic,Pack): "),
        ({**SLURM, "SLURM_DISTRIBUTION": "block:block,Pack"}, "SLURM_DISTRIBUTION=block:block,Pack goes socket by"),
        ({"OMPI_COMM_WORLD_SIZE": "8"}, "probably by Open MPI's mpirun (OMPI_COMM_WORLD_SIZE is set: mpirun --bind-to"),
        ({}, "taskset, numactl"),
        ({**SLURM, "SLURM_CPU_BIND": "quiet,none"}, "taskset, numactl"),
    ],
)
def test_the_remedy_is_the_launchers_own(environment: dict[str, str], said: str) -> None:
    """Slurm's first method is of nodes, its second of sockets; what is block:block already is not advised."""
    text = explain_order(CpuSet(OFF), environment)
    assert said in text
    assert ("--distribution=block:block goes" in text) == (
        "--distribution" in said or "unless" in said or "(SLURM" in said
    )


def test_where_the_own_gpu_is_has_to_be_known(machine_of: Callable[[str], Machine]) -> None:
    """The nodes of both, and the others' GPUs; nothing where one of its own is of an unknown place."""
    machine = machine_of("dgx_h100")
    gpus = TopologyGpus(machine).gpus()
    place = near_another(machine, gpus[1:2], gpus, CpuSet(OFF))
    assert place is not None
    assert (place.own, place.given, place.others) == (NodeSet("0"), NodeSet("1"), tuple(gpus[4:]))
    nowhere = Gpu(9, "0000:ff:00.0")
    assert near_another(machine, [gpus[1], nowhere], [*gpus, nowhere], CpuSet(OFF)) is None
    assert near_another(machine, gpus[3:5], gpus, CpuSet(OFF)) is None
    assert near_another(machine, [], gpus, CpuSet(OFF)) is None


def test_where_gpus_are_is_asked_of_the_sources_that_the_plan_asks(machine_of: Callable[[str], Machine]) -> None:
    """An NCCL topology file, and torch's node 0 on request, where the topology has every GPU below the whole machine."""
    machine = machine_of("dgx_h100")
    mine, other = Gpu(0, "0000:f1:00.0"), Gpu(1, "0000:f2:00.0")
    assert near_another(machine, [mine], [mine, other], CpuSet(OFF)) is None
    by_file = near_another(
        machine, [mine], [mine, other], CpuSet(OFF), nccl_nodes={"0000:f1:00.0": 0, "0000:f2:00.0": 1}
    )
    assert by_file == OtherPlace(NodeSet("0"), NodeSet("1"), (other,))
    stated = Gpu(1, "0000:f2:00.0", numa_node=1)
    by_torch = near_another(machine, [mine], [mine, stated], CpuSet(OFF), unknown=UnknownLocality.NODE_ZERO)
    assert by_torch == OtherPlace(NodeSet("0"), NodeSet("1"), (stated,))
