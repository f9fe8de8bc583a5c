"""Plan and Binding: what a launcher reads from them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations

import pytest

import hwnuma
from hwnuma import CpuSet, Gpu, Machine, NoAllowedCpusError, NumaOptions, TopologyGpus
from hwnuma.model.plan import Binding, Plan


@pytest.fixture
def cut(machine_of: Callable[[str], Machine]) -> hwnuma.Plan:
    """The plan of a machine of which Slurm gave only a part of one socket."""
    machine = machine_of("slurm_cut_a100_pcie8")
    return hwnuma.plan(machine, TopologyGpus(machine), "exclusive")


def test_a_plan_is_a_sequence_of_bindings(cut: hwnuma.Plan) -> None:
    """Indexed by local rank, with a length, iterable; each binding names its GPU and its node."""
    assert len(cut) == 8
    assert cut[1].cpuset == CpuSet("4-7,60-63")
    assert cut[1].gpu.pci_address == cut[1].gpus[0].pci_address
    assert str(cut[1].nodeset) == "0"
    assert [binding.local_rank for binding in cut] == list(range(8))


def test_a_rank_that_cannot_be_placed_carries_its_error(cut: hwnuma.Plan) -> None:
    """The others are placed; using the one raises what is wrong with it."""
    assert [type(error) for error in cut.errors] == [NoAllowedCpusError] * 4
    assert cut[4].cpuset == CpuSet()
    for use in (cut[4].check, lambda: cut[4].wrap(["true"])):
        with pytest.raises(NoAllowedCpusError, match="28-55,84-111"):
            use()


def test_a_plan_and_its_errors_pickle(cut: hwnuma.Plan) -> None:
    """A launcher sends them to other processes."""
    again = pickle.loads(pickle.dumps(cut))
    assert again.bindings[:4] == cut.bindings[:4]
    assert [str(error) for error in again.errors] == [str(error) for error in cut.errors]


def test_unused_cpus_and_overlaps_are_known(machine_of: Callable[[str], Machine]) -> None:
    """On a DGX A100 half of the nodes have no GPU; two GPUs share each of the others."""
    machine = machine_of("dgx_a100_nps4")
    exclusive = hwnuma.plan(machine, TopologyGpus(machine), "exclusive")
    assert exclusive.is_disjoint
    assert list(exclusive.overlaps()) == []
    assert str(exclusive.unused_cpuset) == "0-15,32-47,64-79,96-111,128-143,160-175,192-207,224-239"
    shared = hwnuma.plan(machine, TopologyGpus(machine), "node")
    assert not shared.is_disjoint
    assert [(one, other) for one, other, _ in shared.overlaps()] == [(0, 1), (2, 3), (4, 5), (6, 7)]


def _plan_of(*cpusets: str) -> Plan:
    bindings = tuple(Binding(rank, cpuset=CpuSet(cpus)) for rank, cpus in enumerate(cpusets))
    return Plan(NumaOptions("node"), "by hand", CpuSet("0-9"), bindings)


@pytest.mark.parametrize(
    "cpusets",
    [
        (),
        ("0-3", "4-7"),
        ("", "0-3", "", "0-3"),
        ("0-3", "2-5", "4-7", "0-7", "8"),
        ("0-3", "0-3", "0-1", "4", "0-3", "0-1,4"),
        ("4-7", "0-3", "0-7", "0-3", "4-7", "0-7"),
    ],
)
def test_overlaps_are_all_pairs_that_share_and_sharing_tells_them_in_groups(cpusets: tuple[str, ...]) -> None:
    """Pair by pair as they would be found by comparing every two ranks; and the same, each set of CPUs once."""
    plan = _plan_of(*cpusets)
    pairs = [
        (one.local_rank, other.local_rank, one.cpuset & other.cpuset)
        for one, other in combinations(plan, 2)
        if one.cpuset & other.cpuset
    ]
    assert list(plan.overlaps()) == pairs
    assert plan.is_disjoint == (not pairs)
    groups: dict[CpuSet, set[int]] = {}
    for one, other, cpus in pairs:
        groups.setdefault(cpus, set()).update((one, other))
    assert plan.sharing() == [(tuple(sorted(ranks)), cpus) for cpus, ranks in groups.items()]


def test_many_ranks_that_share_are_written_in_groups() -> None:
    """A thousand ranks on one node are half a million pairs, which nobody reads: one row names them all."""
    few, many = _plan_of(*["0-3"] * 3), _plan_of(*["0-3"] * 1000, "4", "4")
    assert [row["ranks"] for row in few.as_dict()["overlaps"]] == [[0, 1], [0, 2], [1, 2]]
    assert many.as_dict()["overlaps"] == [
        {"ranks": list(range(1000)), "cpuset": "0-3"},
        {"ranks": [1000, 1001], "cpuset": "4"},
    ]


def test_one_reason_is_told_once_for_all_its_ranks(cut: hwnuma.Plan) -> None:
    """The table has one line for the four GPUs of the other socket; a rank alone keeps its own sentence."""
    told = [line for line in str(cut).splitlines() if "not placed" in line]
    assert len(told) == 1
    assert told[0].startswith("ranks 4-7 are not placed: the GPU of each is on NUMA node 1 with CPUs 28-55,84-111, ")
    alone = hwnuma.Plan(cut.options, cut.source, cut.allowed_cpuset, cut.bindings[:5])
    assert f"rank 4 is not placed: {cut[4].error}" in str(alone).splitlines()


def test_different_reasons_are_told_apart(machine_of: Callable[[str], Machine]) -> None:
    """A node that is not there, one that nobody knows with the way to say it, and cores that are too few."""
    machine = machine_of("dgx2_v100")
    gpus = [Gpu(0, numa_node=7), Gpu(1), Gpu(2, "0000:77:00.0"), Gpu(3, "0000:78:00.0"), Gpu(4, numa_node=9)]
    told = [line for line in str(hwnuma.plan(machine, gpus, "node")).splitlines() if "not placed" in line]
    assert [line.partition(":")[0] for line in told] == [
        "rank 0 is not placed", "rank 1 is not placed", "ranks 2-3 are not placed", "rank 4 is not placed",
    ]  # fmt: skip
    assert "which NUMA node the GPU of each is on is not known" in told[2]
    assert "--gpu-node ADDRESS=N" in told[2]
    few = hwnuma.plan(
        machine, [Gpu(number, numa_node=0) for number in range(16)], NumaOptions("node", minimum_cores=99)
    )
    assert "ranks 0-15 are not placed: each would get 24 cores, and at least 99" in str(few)


def test_a_wrapped_command_runs_bound() -> None:
    """The command line that wrap gives binds itself to the CPUs and becomes the command."""
    wrapped = Binding(0, cpuset=CpuSet("0")).wrap(["grep", "Cpus_allowed_list", "/proc/self/status"])
    assert wrapped[0] == sys.executable
    assert subprocess.check_output(wrapped, text=True).split()[1] == "0"


def test_idle_nodes_are_handed_to_the_nearest_gpus(machine_of: Callable[[str], Machine]) -> None:
    """On request, a DGX A100's four nodes without GPUs are divided too: own node first, and no CPU is left."""
    machine = machine_of("dgx_a100_nps4")
    plan = hwnuma.plan(machine, TopologyGpus(machine), NumaOptions("exclusive", use_idle_nodes=True))
    assert plan.is_disjoint
    assert plan.unused_cpuset == CpuSet()
    assert {binding.cores for binding in plan} == {16}
    own = hwnuma.plan(machine, TopologyGpus(machine), "exclusive")
    assert all(mine.cpuset < wider.cpuset for mine, wider in zip(own, plan, strict=True))
