"""hwnuma.report.formats: a plan in other programs' words.

That those programs take them, tests/launchers/test_formats_real.py tries.
"""

from __future__ import annotations

import pytest

from hwnuma.cli.start import main
from hwnuma.errors import PlanError
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.job import plan
from hwnuma.model.gpu import Gpu
from hwnuma.model.options import NumaOptions
from hwnuma.model.plan import Plan
from hwnuma.report.formats import FORMATS, plan_as

# Two packages of two nodes of four cores with two threads: CPUs 0-7, 8-15, 16-23, 24-31.
MACHINE = "pack:2 numa:2 core:4 pu:2"


def plan_of(mode: str, ranks: int, **options: object) -> Plan:
    """Plan ranks without GPUs on the synthetic machine."""
    with Topology.from_synthetic(MACHINE) as topology:
        return plan(topology.machine(), (), NumaOptions(mode, **options), ranks=ranks)  # type: ignore[arg-type]


def test_slurm_gives_one_hexadecimal_mask_a_task() -> None:
    """The option --cpu-bind=mask_cpu of srun lists the masks in the order of the tasks' local ids."""
    assert plan_as(plan_of("node", 2), "slurm") == "--cpu-bind=mask_cpu:0xff,0xff0000"


def test_slurm_masks_have_no_32_bit_limit() -> None:
    """A CPU number above 63 is one bit in one number, without the kernel's commas, which separate tasks here."""
    with Topology.from_synthetic("pack:1 numa:2 core:64 pu:1") as topology:
        made = plan(topology.machine(), (), "exclusive", ranks=128)
    assert plan_as(made, "slurm").split(",")[100] == f"0x{1 << 100:x}"


def test_openmpi_is_a_rankfile_of_physical_cpu_numbers() -> None:
    """Each rank has a line with its CPUs; the comments say how each Open MPI wants the file."""
    text = plan_as(plan_of("exclusive", 8), "openmpi")
    ranks = [line for line in text.splitlines() if not line.startswith("#")]
    assert ranks[:3] == ["rank 0=localhost slot=0-3", "rank 1=localhost slot=4-7", "rank 2=localhost slot=8-11"]
    assert "--mca rmaps_rank_file_physical 1 --rankfile THIS -n 8" in text
    assert "overload" not in text


def test_openmpi_says_how_ranks_may_share_cpus() -> None:
    """Open MPI 5 refuses ranks on the same CPUs unless it is told to allow them."""
    assert "--bind-to core:overload-allowed" in plan_as(plan_of("node", 8), "openmpi")


def test_openmpi_pe_list_says_one_cpu_a_rank_in_order() -> None:
    """Ranks with one CPU each are an ordered list."""
    text = plan_as(plan_of("exclusive", 16, threads_per_core=1), "openmpi-pe-list")
    assert text == "--map-by pe-list=" + ",".join(str(cpu) for cpu in range(0, 32, 2)) + ":ordered"


def test_openmpi_pe_list_says_one_list_for_all() -> None:
    """Ranks that share all their CPUs are a list without order."""
    with Topology.from_synthetic("numa:1 core:4 pu:1") as topology:
        made = plan(topology.machine(), (), "node", ranks=4)
    assert plan_as(made, "openmpi-pe-list") == "--map-by pe-list=0,1,2,3"


def test_openmpi_pe_list_refuses_what_it_cannot_say() -> None:
    """Several ranks with several CPUs each cannot be said, and the message names what can."""
    with pytest.raises(PlanError, match="format openmpi"):
        plan_as(plan_of("exclusive", 4), "openmpi-pe-list")


def test_mpich_joins_a_ranks_cpus_with_plus() -> None:
    """Hydra's user binding separates ranks with commas and a rank's CPUs with plus signs."""
    assert plan_as(plan_of("exclusive", 8), "mpich").startswith("-bind-to user:0+1+2+3,4+5+6+7,8+9+10+11,")


def test_vllm_has_one_node_and_one_list_a_gpu() -> None:
    """Both lists are read by the GPU's number, so their order is that of the ranks."""
    assert plan_as(plan_of("exclusive", 4), "vllm") == (
        "--numa-bind --numa-bind-nodes 0 1 2 3 --numa-bind-cpus 0-7 8-15 16-23 24-31"
    )


def test_vllm_refuses_a_rank_on_two_nodes() -> None:
    """Its option takes one node a GPU; the message says which rank has more, and what to do."""
    with pytest.raises(PlanError, match="rank 0 has nodes 0-1: take a mode that stays on one node"):
        plan_as(plan_of("socket", 2), "vllm")


@pytest.mark.parametrize(
    ("memory", "option"),
    [
        ("none", ""),
        ("preferred", " --preferred-many=0"),
        ("bind", " --membind=0"),
        ("interleave", " --interleave=0"),
    ],
)
def test_numactl_sets_the_memory_policy_that_the_plan_has(memory: str, option: str) -> None:
    """The policy is numactl's option of the same meaning; without one, none is set."""
    first = plan_as(plan_of("exclusive", 4, memory=memory), "numactl").splitlines()[0]
    assert first == f"numactl --physcpubind=0-7{option}"


def test_line_formats_have_one_line_a_rank() -> None:
    """Line N+1 is rank N's."""
    made = plan_of("exclusive", 4)
    assert plan_as(made, "taskset").splitlines()[2] == "taskset --cpu-list 16-23"
    assert plan_as(made, "docker").splitlines()[2] == "--cpuset-cpus=16-23 --cpuset-mems=2"
    properties = "--property=AllowedCPUs=16-23 --property=AllowedMemoryNodes=2"
    assert plan_as(made, "systemd-run").splitlines()[2] == properties
    assert plan_as(made, "env").splitlines()[2] == "HWNUMA_LOCAL_RANK=2 HWNUMA_CPUS=16-23"


def test_env_carries_the_memory_policy() -> None:
    """What `hwnuma exec` reads again: the CPUs, the policy and its nodes."""
    assert plan_as(plan_of("exclusive", 4, memory="bind"), "env").splitlines()[1] == (
        "HWNUMA_LOCAL_RANK=1 HWNUMA_CPUS=8-15 HWNUMA_MEMORY=bind HWNUMA_NODES=1"
    )


def test_systemd_is_a_drop_in_a_rank() -> None:
    """Every rank has a section of its own, with a comment that says whose it is."""
    sections = plan_as(plan_of("exclusive", 4), "systemd").split("\n\n")
    assert sections[3] == "# rank 3\n[Service]\nAllowedCPUs=24-31\nAllowedMemoryNodes=3"


@pytest.mark.parametrize("name", FORMATS)
def test_a_rank_without_a_place_leaves_no_format(name: str) -> None:
    """Places are given by position, so one unplaced rank refuses the whole text and is named."""
    gpus = [Gpu(0, numa_node=0), Gpu(1)]
    with Topology.from_synthetic(MACHINE) as topology:
        made = plan(topology.machine(), gpus, "node")
    with pytest.raises(PlanError, match="rank 1 has none"):
        plan_as(made, name)


def test_the_command_line_prints_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    """`hwnuma plan --format` writes the format alone to standard output."""
    arguments = ["plan", "--synthetic", MACHINE, "--gpus", "none", "--ranks", "4", "--mode", "exclusive"]
    assert main([*arguments, "--format", "slurm"]) == 0
    assert capsys.readouterr().out == "--cpu-bind=mask_cpu:0xff,0xff00,0xff0000,0xff000000\n"


def test_the_command_line_keeps_warnings_off_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan's warnings go to standard error: standard output is for another program to read."""
    arguments = ["plan", "--synthetic", "numa:1 core:7 pu:1", "--gpus", "none", "--ranks", "2"]
    assert main([*arguments, "--mode", "core-complex", "--format", "taskset"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "taskset --cpu-list 0-6\n" * 2
    assert captured.err.startswith("hwnuma plan: warning: ")


def test_the_command_line_fails_with_1_for_a_plan_that_no_format_can_say(capsys: pytest.CaptureFixture[str]) -> None:
    """An unplaced rank: status 1, nothing on standard output, one line on standard error."""
    arguments = ["plan", "--synthetic", "numa:1 core:2 pu:1", "--gpus", "none", "--ranks", "3", "--mode", "exclusive"]
    assert main([*arguments, "--format", "openmpi"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "rank 0 has none" in captured.err
