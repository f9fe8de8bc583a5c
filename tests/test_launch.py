"""bind() in real processes, and the plan of one rank from inside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from hwnuma import CpuSet, Gpu, LocalRankError, Machine, NumaOptions, OptionError, TopologyGpus, plan
from hwnuma.environment.local_rank import LocalRank
from hwnuma.launch.job import Job, plan_job, plan_rank

TWO_CPUS = len(os.sched_getaffinity(0)) >= 2


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, since binding lasts as long as its process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOCAL_", "HWNUMA_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=inherited | environment,
        timeout=60,
    )


@pytest.mark.skipif(not TWO_CPUS, reason="this process may use one CPU only, and two ranks need two")
@pytest.mark.parametrize("rank", [0, 1])
def test_bind_puts_this_process_where_the_plan_says(rank: int) -> None:
    """The rank comes from the launcher's variables; the kernel's answer is the binding's."""
    code = (
        "import os, hwnuma; b = hwnuma.bind('exclusive', gpus='none'); print(b.cpuset, sorted(os.sched_getaffinity(0)))"
    )
    done = run_python(code, LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    assert done.stdout.split(" ", 1) == [str(rank), f"[{rank}]\n"], done.stderr


@pytest.mark.fault("cgroup", "the CPUs of the plan are not this process's", "gives an error, and all as before")
def test_a_failed_bind_leaves_the_process_as_it_was() -> None:
    """It raises, or with should_fall_back_if_binding_fails warns with the whole reason; nothing is bound."""
    code = (
        "import os, hwnuma\n"
        "before = os.sched_getaffinity(0)\n"
        "try: hwnuma.bind('node', gpus='amd', local_rank=0)\n"
        "except hwnuma.GpuNotFoundError as error: print('raised', error)\n"
        "options = hwnuma.NumaOptions('node', should_fall_back_if_binding_fails=True)\n"
        "print(type(hwnuma.bind(options, gpus='amd', local_rank=0).error).__name__)\n"
        "print(before == os.sched_getaffinity(0))\n"
    )
    done = run_python(code)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("raised no amd GPU")
    assert lines[1:] == ["GpuNotFoundError", "True"]
    assert "running unbound, as asked: no amd GPU" in done.stderr


@pytest.fixture
def dgx(machine_of: Callable[[str], Machine]) -> Machine:
    """A DGX A100."""
    return machine_of("dgx_a100_nps4")


@pytest.mark.parametrize("rank", [0, 5, 7])
def test_a_rank_that_sees_all_gpus_gets_its_row_of_the_plan(dgx: Machine, rank: int) -> None:
    """Planned from inside a worker, the answer is the launcher's."""
    gpus = TopologyGpus(dgx).gpus()
    binding, warnings = plan_rank(dgx, Job(NumaOptions("exclusive"), gpus, environment={}), LocalRank(rank, 8, ""))
    assert binding == plan(dgx, gpus, "exclusive")[rank]
    assert warnings == ()


def _visible(index: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": str(index)}


def test_ranks_that_see_only_their_own_gpu_do_not_overlap(dgx: Machine) -> None:
    """Each has another CUDA_VISIBLE_DEVICES; a node is divided among all GPUs that the machine has."""
    job = Job(NumaOptions("exclusive"), "nvidia", environment={})
    expected = [binding.cpuset for binding in plan(dgx, TopologyGpus(dgx), "exclusive")]
    for rank, cpuset in enumerate(expected):
        alone = Job(job.options, "nvidia", environment=_visible(rank))
        binding, _ = plan_rank(dgx, alone, LocalRank(rank, 8, "SLURM_LOCALID"))
        assert (binding.cpuset, binding.local_rank, binding.gpu.index) == (cpuset, rank, rank)


def test_dividing_among_visible_gpus_is_an_explicit_choice(dgx: Machine) -> None:
    """Asked for, a lone visible GPU gets its whole node, as in torch."""
    job = Job(NumaOptions("exclusive", divide_among="visible"), "nvidia", environment=_visible(1))
    binding, _ = plan_rank(dgx, job, LocalRank(1, 8, ""))
    assert str(binding.cpuset) == "48-63,176-191"


def test_virtual_local_rank_drives_the_gpu_it_sees(dgx: Machine) -> None:
    """Torchrun --virtual-local-rank: every worker's LOCAL_RANK is 0, and it sees one GPU."""
    job = Job(NumaOptions("exclusive"), "nvidia", environment=_visible(6))
    binding, _ = plan_rank(dgx, job, LocalRank(0, 8, "LOCAL_RANK"))
    assert binding.gpu.index == 6
    assert binding.cpuset == plan(dgx, TopologyGpus(dgx), "exclusive")[6].cpuset


def test_a_gpu_alone_in_sight_is_told(dgx: Machine) -> None:
    """Where nothing shows the other ranks' GPUs, exclusive may overlap, and the rank is told."""
    gpus = TopologyGpus(dgx).gpus()
    _, warnings = plan_rank(dgx, Job(NumaOptions("exclusive"), gpus[:1], environment={}), LocalRank(3, 8, ""))
    assert "may overlap" in warnings[0]


def test_two_jobs_that_divide_among_all_never_share_a_core(dgx: Machine) -> None:
    """Two jobs with disjoint GPUs of one node, each planning for itself."""
    gpus = TopologyGpus(dgx).gpus()
    options = NumaOptions("exclusive", divide_among="all")
    even = plan(dgx, gpus[0::2], options, all_gpus=gpus)
    odd = plan(dgx, gpus[1::2], options, all_gpus=gpus)
    sets = [binding.cpuset for binding in (*even, *odd)]
    assert sum(map(len, sets)) == len(set().union(*sets))
    overlapping = plan(dgx, gpus[0::2], "exclusive")[0].cpuset & plan(dgx, gpus[1::2], "exclusive")[0].cpuset
    assert overlapping == CpuSet("48-63,176-191")


def test_more_ranks_than_gpus_are_refused_unless_asked_for(dgx: Machine) -> None:
    """Nothing is guessed: the error names the option."""
    gpus = TopologyGpus(dgx).gpus()
    with pytest.raises(OptionError, match="--ranks-per-gpu"):
        plan_rank(dgx, Job(NumaOptions("node"), gpus, environment={}), LocalRank(0, 16, ""))
    binding, _ = plan_rank(
        dgx, Job(NumaOptions("exclusive", ranks_per_gpu=2), gpus, environment={}), LocalRank(15, 16, "")
    )
    assert str(binding.cpuset) == "92-95,220-223"


def test_round_robin_order(dgx: Machine) -> None:
    """Ranks 0 and 8 of 16 share a GPU instead of 0 and 1; no two ranks share a core."""
    gpus = TopologyGpus(dgx).gpus()
    made = plan(dgx, gpus, NumaOptions("exclusive", ranks_per_gpu=2, rank_order="round-robin"))
    assert made[0].gpu == made[8].gpu == gpus[0]
    assert made.is_disjoint
    assert len(made) == 16


@pytest.mark.parametrize("order", ["block", "round-robin"])
@pytest.mark.parametrize("divide_among", ["auto", "all"])
def test_ranks_that_share_a_gpu_and_see_no_other_get_different_shares(
    dgx: Machine, order: str, divide_among: str
) -> None:
    """Two ranks a GPU, each with a CUDA_VISIBLE_DEVICES of that GPU alone: together they have the launcher's plan."""
    options = NumaOptions("exclusive", ranks_per_gpu=2, rank_order=order, divide_among=divide_among)
    expected = plan(dgx, TopologyGpus(dgx), options)
    for whole in expected:
        alone = Job(options, "nvidia", environment=_visible(whole.gpu.index))
        binding, _ = plan_rank(dgx, alone, LocalRank(whole.local_rank, 16, "SLURM_LOCALID"))
        assert (binding.cpuset, binding.local_rank) == (whole.cpuset, whole.local_rank)
        assert binding.gpu == whole.gpu
    assert expected.is_disjoint


def test_the_visible_gpu_alone_is_divided_among_its_ranks_if_asked_for(dgx: Machine) -> None:
    """With divide_among=visible, the two ranks of a GPU have its node to themselves, half of it each."""
    options = NumaOptions("exclusive", ranks_per_gpu=2, divide_among="visible")
    job = Job(options, "nvidia", environment=_visible(1))
    shares = [plan_rank(dgx, job, LocalRank(rank, 16, ""))[0].cpuset for rank in (2, 3)]
    assert shares == [CpuSet("48-55,176-183"), CpuSet("56-63,184-191")]


def test_round_robin_with_one_gpu_in_sight_needs_the_number_of_ranks(dgx: Machine) -> None:
    """Which of its GPU's ranks one is depends on it there; in blocks it does not."""
    round_robin = NumaOptions("exclusive", ranks_per_gpu=2, rank_order="round-robin")
    with pytest.raises(LocalRankError, match="--ranks N"):
        plan_rank(dgx, Job(round_robin, "nvidia", environment=_visible(1)), LocalRank(9, None, ""))
    block = NumaOptions("exclusive", ranks_per_gpu=2)
    binding, _ = plan_rank(dgx, Job(block, "nvidia", environment=_visible(1)), LocalRank(3, None, ""))
    assert binding.cpuset == plan(dgx, TopologyGpus(dgx), block)[3].cpuset


def test_ranks_without_gpus_need_their_number(dgx: Machine) -> None:
    """Spreading is over all ranks, so their number has to be known."""
    with pytest.raises(LocalRankError, match="--ranks N"):
        plan_rank(dgx, Job(NumaOptions("node"), "none", environment={}), LocalRank(0, None, ""))


def test_a_gpu_stated_to_be_on_a_node_is_there(dgx: Machine) -> None:
    """A test's own GPUs need no PCI address."""
    made = plan(dgx, [Gpu(0, numa_node=2), Gpu(1, numa_node=2)], "exclusive")
    assert [str(binding.cpuset) for binding in made] == ["32-39,160-167", "40-47,168-175"]
    assert {binding.locality for binding in made} == {"given"}


def test_without_gpus_the_number_of_ranks_is_asked_for_where_it_can_be_told(dgx: Machine) -> None:
    """For another machine, this one's LOCAL_WORLD_SIZE is left out, so it is not offered as a remedy."""
    job = Job(NumaOptions("node"), "none")
    with pytest.raises(OptionError, match=r"say --ranks N \(ranks=N\), since .* another one is planned for$"):
        plan_job(dgx, job)
    with pytest.raises(OptionError, match=r"say --ranks N \(ranks=N\), or set LOCAL_WORLD_SIZE$"):
        plan_job(replace(dgx, is_this_system=True), job)


def test_a_rank_that_is_none_of_the_ranks_is_told_so(dgx: Machine) -> None:
    """Ranks without GPUs are not advised to do without GPUs; a rank that lacks one is."""
    with pytest.raises(LocalRankError, match="local rank 2 is none of the 2 ranks .* from 0 to 1: say") as caught:
        plan_rank(dgx, Job(NumaOptions("node"), "none", 2), LocalRank(2, 2, ""))
    assert "--gpus none" not in str(caught.value)
    with pytest.raises(LocalRankError, match="local rank 8 has no GPU: 8 are visible, .*--gpus none"):
        plan_rank(dgx, Job(NumaOptions("node"), "nvidia"), LocalRank(8, None, ""))
