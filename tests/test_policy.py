"""hwnuma.policy: worked examples of the modes, of what restricts them and of the options; and as the CLI shows them."""

from __future__ import annotations

import json
import subprocess
import sys
import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import NoAllowedCpusError, NotEnoughCoresError, OptionError, PlanError
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Cache, Core, Distances, Machine, NumaNode, Package
from hwnuma.model.numbers import MOST_RANKS
from hwnuma.model.options import AffinityMode, MemoryPolicy, NumaOptions
from hwnuma.model.plan import Plan
from hwnuma.policy.locality import Locality, locate
from hwnuma.policy.modes import SHARES, cache_groups
from hwnuma.policy.planning import draft_plan, make_plan
from hwnuma.policy.ranks import ranks_to_gpus

TOPOLOGIES = Path(__file__).parent.parent / "fixtures" / "topologies"
ALL_MODES = [mode.value for mode in AffinityMode]


def synthetic(description: str) -> Machine:
    """What libhwloc makes of a synthetic description."""
    with Topology.from_synthetic(description) as topology:
        return topology.machine()


@cache
def fixture(name: str) -> Machine:
    """One of the repository's machines."""
    with Topology.from_xml_file(TOPOLOGIES / f"{name}.xml") as topology:
        return topology.machine()


def on_nodes(*nodes: int) -> tuple[Gpu, ...]:
    """GPUs of which it is stated on which node each is."""
    return tuple(Gpu(index, numa_node=node) for index, node in enumerate(nodes))


def plan(machine: Machine, gpus: tuple[Gpu, ...], mode: str, /, **options: Any) -> Plan:
    """A plan, with options by name."""
    more = {name: options.pop(name) for name in ("ranks", "all_gpus") if name in options}
    return make_plan(machine, gpus, NumaOptions(AffinityMode(mode), **options), **more)


def cpus(made: Plan) -> list[str]:
    """The CPUs of each rank; of one that is not placed, the error's class."""
    return [str(binding.cpuset) if binding.error is None else type(binding.error).__name__ for binding in made]


# ---- the planning rows of torch's own test table -----------------------------------------------------------------

# Machine: sockets, nodes a socket, GPUs a node, L3s a node, cores an L3; two threads a core, numbered 2k and 2k+1; the
# GPU with index i is on node i // GPUs a node. As in pytorch/pytorch, test/test_numa_binding.py, at 70ebddf5.
_TORCH_TESTS = [
    ("test_node_numa_binding", (4, 2, 2, 4, 2), "", "node", {11: "80-95"}),
    ("test_socket_numa_binding_with_multiple_numa_per_socket", (4, 2, 2, 4, 2), "", "socket", {15: "96-127"}),
    ("test_socket_numa_binding_with_single_numa_per_socket", (4, 1, 2, 4, 2), "", "socket", {7: "48-63"}),
    ("test_exclusive_numa_binding", (2, 1, 2, 1, 3), "", "exclusive", {0: "0-3", 1: "4-5"}),
    ("test_exclusive_raises_if_too_few_physical_cores", (2, 1, 2, 1, 1), "", "exclusive", {1: "NotEnoughCoresError"}),
    ("test_core_complex_numa_binding_with_extra_l3", (2, 1, 2, 3, 3), "", "core-complex", {3: "24-29"}),
    ("test_core_complex_numa_binding_with_fewer_l3_than_gpu", (2, 1, 2, 1, 3), "", "core-complex", {3: "6-11"}),
    ("test_core_complex_prefers_caches_with_more_cpus", (1, 1, 1, 3, 3), "0,4,6,7,9", "core-complex", {0: "6-7,9"}),
    ("test_core_complex_tiebreak_prefers_lower_cache_key", (1, 1, 1, 2, 1), "", "core-complex", {0: "0-1"}),
    ("test_binds_to_node_0_if_node_stored_as_minus_one", (1, 1, 1, 1, 1), "", "node", {0: "0-1"}),
]


@pytest.mark.parametrize(
    ("name", "shape", "allowed", "mode", "expected"), _TORCH_TESTS, ids=[row[0] for row in _TORCH_TESTS]
)
def test_torchs_own_expectations(
    name: str, shape: tuple[int, int, int, int, int], allowed: str, mode: str, expected: dict[int, str]
) -> None:
    """On the machines of torch's tests, the answers are those that torch's tests expect."""
    sockets, nodes, gpus_each, caches, cores = shape
    machine = synthetic(f"pack:{sockets} numa:{nodes} l3:{caches} core:{cores} pu:2")
    if allowed:
        machine = machine.narrowed(CpuSet(allowed))
    gpus = on_nodes(*(index // gpus_each for index in range(sockets * nodes * gpus_each)))
    if name.endswith("minus_one"):
        gpus = (Gpu(0),)  # of which nothing is known
    made = plan(machine, gpus, mode)
    assert {rank: cpus(made)[rank] for rank in expected} == expected


# ---- the modes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("node", ["0-7", "0-7", "8-15"]),
        ("socket", ["0-15", "0-15", "0-15"]),
        ("exclusive", ["0-3", "4-7", "8-15"]),
        ("core-complex", ["0-3", "4-7", "8-11"]),
    ],
)
def test_the_modes_are_as_their_documentation_says(mode: str, expected: list[str]) -> None:
    """The example of AffinityMode: two nodes in a package, two L3s each."""
    machine = synthetic("pack:1 numa:2 l3:2 core:4 pu:1")
    assert cpus(plan(machine, on_nodes(0, 0, 1), mode)) == expected


def test_odd_cores_go_to_the_first_gpus() -> None:
    """Seven cores for three GPUs are three, two and two."""
    assert cpus(plan(synthetic("numa:1 core:7 pu:1"), on_nodes(0, 0, 0), "exclusive")) == ["0-2", "3-4", "5-6"]


def test_a_core_with_one_allowed_thread_is_a_core() -> None:
    """Siblings c and c+4 with CPUs 0-5 allowed are four cores: two with both threads and two with one."""
    machine = synthetic("numa:1 core:4 pu:2(indexes=0,4,1,5,2,6,3,7)")
    assert [str(core.cpuset) for core in machine.cores] == ["0,4", "1,5", "2,6", "3,7"]
    assert cpus(plan(machine.narrowed(CpuSet("0-5")), on_nodes(0, 0), "exclusive")) == ["0-1,4-5", "2-3"]


def test_cores_count_by_their_lowest_cpu_even_if_it_is_not_allowed() -> None:
    """Torch orders cores by the whole core's lowest CPU: here by 0, 1, 2, 3 although only 4, 5, 2, 3 are allowed."""
    machine = synthetic("numa:1 core:4 pu:2(indexes=0,4,1,5,2,6,3,7)").narrowed(CpuSet("2-5"))
    assert cpus(plan(machine, on_nodes(0, 0), "exclusive")) == ["4-5", "2-3"]


def test_a_cache_over_several_nodes_is_cut_to_the_node() -> None:
    """One L3 over two nodes (sub-NUMA clustering): the core complex is what of it is on the GPU's node."""
    machine = fixture("gigabyte_g593_h200_snc4")
    gpus = TopologyGpus(machine).gpus()
    for binding in plan(machine, gpus, "core-complex"):
        (node,) = [node for node in machine.cpu_nodes if node.os_index in binding.nodeset]
        assert binding.cpuset == node.cpuset


def test_without_caches_the_node_is_one_group_and_the_plan_says_so() -> None:
    """Where no cache is known at all, core-complex is the node, with a warning."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1")
    made = plan(machine, on_nodes(0, 1), "core-complex")
    assert cpus(made) == ["0-3", "4-7"]
    assert [warning for warning in made.warnings if "no cache" in warning]


def test_cpus_under_no_cache_are_a_group_of_their_own() -> None:
    """Of six CPUs with an L3 over the first two, the other four are the larger group, and so the first."""
    machine = replace(synthetic("numa:1 core:6 pu:1"), last_level_caches=(Cache(3, CpuSet("0-1")),))
    assert [str(group) for group in cache_groups(machine, machine.cpu_nodes[0])] == ["2-5", "0-1"]
    even = replace(machine, last_level_caches=(Cache(3, CpuSet("3-5")),))  # as large as the rest, and behind it
    assert [str(group) for group in cache_groups(even, even.cpu_nodes[0])] == ["0-2", "3-5"]


def test_a_node_that_crosses_packages_has_the_cpus_of_both() -> None:
    """Some virtual machines have such nodes: the socket of the node is every package that it touches."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1")
    crossing = NumaNode(0, CpuSet("0-5"), CpuSet("0-5")), NumaNode(1, CpuSet("6-7"), CpuSet("6-7"))
    made = plan(replace(machine, numa_nodes=crossing), on_nodes(0, 1), "socket")
    assert cpus(made) == ["0-7", "4-7"]


def test_cpus_of_no_node_still_belong_to_a_socket() -> None:
    """As on a Threadripper 2990WX, whose every second die has no memory."""
    machine = synthetic("pack:1 numa:2 core:4 pu:1")
    machine = replace(machine, numa_nodes=machine.numa_nodes[:1])
    assert cpus(plan(machine, on_nodes(0), "node")) == ["0-3"]
    assert cpus(plan(machine, on_nodes(0), "socket")) == ["0-7"]


def test_in_socket_a_single_package_needs_no_locality() -> None:
    """Nothing says on which of the nodes the GPU is, but there is one package: only the other modes have to know."""
    machine = synthetic("pack:1 numa:2 core:2 pu:1")
    made = plan(machine, (Gpu(0), Gpu(1)), "socket")
    assert cpus(made) == ["0-3", "0-3"]
    assert {binding.locality for binding in made} == {"single-package"}
    assert cpus(plan(machine, (Gpu(0),), "node")) == ["UnknownLocalityError"]
    assert cpus(plan(machine, on_nodes(7), "socket")) == ["UnknownLocalityError"]
    assert cpus(plan(synthetic("pack:2 numa:2 core:2 pu:1"), (Gpu(0),), "socket")) == ["UnknownLocalityError"]


def test_a_node_of_memory_alone_is_no_error_and_is_named_apart() -> None:
    """GPU memory on a GH200: socket works, and its nodes are listed as near, never among those to use."""
    machine = fixture("gh200_x4")
    for mode in ALL_MODES:
        made = plan(machine, TopologyGpus(machine).gpus(), mode)
        assert made.errors == ()
        for binding in made:
            assert binding.nodeset <= NodeSet(node.os_index for node in machine.cpu_nodes)
            assert binding.near_memory_nodes
            assert binding.near_memory_nodes.isdisjoint(binding.nodeset)


def test_where_libhwloc_names_no_cpus_near_a_gpus_memory_the_kernels_distances_do() -> None:
    """As on a GB200 without the driver's files: the nearest node of a GPU's memory is an empty one of the same GPU."""
    machine = fixture("gb200_nvl72_tray")
    nodes = [replace(node, near_cpuset=node.cpuset) for node in machine.numa_nodes]
    silent = replace(machine, numa_nodes=tuple(nodes))
    near = [binding.near_memory_nodes for binding in plan(silent, TopologyGpus(silent).gpus(), "node")]
    assert near == [NodeSet("2-17")] * 2 + [NodeSet("18-33")] * 2


# ---- restricted machines -------------------------------------------------------------------------------------


def test_a_gpu_whose_node_has_nothing_allowed_is_an_error_of_its_rank_alone() -> None:
    """The message names the node's CPUs, the allowed CPUs and that they have nothing in common."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1").narrowed(CpuSet("0-3"))
    for mode in ALL_MODES:
        made = plan(machine, on_nodes(0, 1), mode)
        assert made[0].cpuset == CpuSet("0-3")
        with pytest.raises(
            NoAllowedCpusError, match=r"GPU 1 is on NUMA node 1 with CPUs 4-7.*allowed are CPUs 0-3.*--fallback nearest"
        ):
            made[1].check()


def test_in_socket_a_node_without_allowed_cpus_is_no_error_if_its_package_has_some() -> None:
    """The GPU's own node is outside the cpuset, another one of its package is inside: that is what it gets."""
    machine = synthetic("pack:2 numa:2 core:2 pu:1").narrowed(CpuSet("2-5"))
    assert cpus(plan(machine, on_nodes(0, 1, 2, 3), "socket")) == ["2-3", "2-3", "4-5", "4-5"]
    assert cpus(plan(machine, on_nodes(0, 1), "node")) == ["NoAllowedCpusError", "2-3"]


def test_in_socket_the_error_names_the_packages_cpus() -> None:
    """Where the whole package has nothing allowed, the message says what the package has."""
    made = plan(synthetic("pack:2 numa:2 core:2 pu:1").narrowed(CpuSet("0-3")), on_nodes(2), "socket")
    with pytest.raises(NoAllowedCpusError, match=r"CPUs 4-5 \(those of its package: 4-7\), allowed are CPUs 0-3"):
        made[0].check()


def test_on_request_the_nearest_node_by_distance_is_taken() -> None:
    """Of two nodes with allowed CPUs, that with the smaller distance, whatever its number; its source is named."""
    machine = synthetic("pack:4 numa:1 core:2 pu:1")
    rows = ((10, 32, 32, 20), (32, 10, 20, 32), (32, 20, 10, 32), (20, 32, 32, 10))
    machine = replace(machine, distances=Distances((0, 1, 2, 3), rows)).narrowed(CpuSet("2-7"))
    made = plan(machine, on_nodes(0, 1), "node", no_allowed_cpus="nearest")
    assert cpus(made) == ["6-7", "2-3"]
    assert [binding.locality for binding in made] == ["nearest", "given"]
    assert made.warnings == (
        "rank 0 has no CPU of NUMA node 0, where its GPU is: none there may be used, and node 3 is the nearest with some",
    )


def test_ranks_that_were_moved_are_told_by_where_they_come_from_and_go() -> None:
    """A line a pair of nodes; a share that is held for another job's GPU is nobody's to be told of."""
    machine = synthetic("pack:2 numa:2 core:2 pu:1").narrowed(CpuSet("2-3,6-7"))
    others = [Gpu(9, numa_node=0)]
    made = plan(machine, on_nodes(0, 0, 2, 1), "node", no_allowed_cpus="nearest", divide_among="all", all_gpus=others)
    assert cpus(made) == ["2-3", "2-3", "6-7", "2-3"]
    assert made.warnings == (
        "ranks 0-1 have no CPU of NUMA node 0, where their GPUs are: none there may be used, and node 1 is the nearest "
        "with some",
        "rank 2 has no CPU of NUMA node 2, where its GPU is: none there may be used, and node 3 is the nearest with some",
    )


@pytest.mark.parametrize(
    ("mode", "mems", "said"),
    [
        ("node", "0-3", []),
        ("node", "0-2", []),
        (
            "node",
            "0",
            ["ranks 0-1 have CPUs of NUMA node 1 and no memory", "rank 2 has CPUs of NUMA node 2 and no memory"],
        ),
        (
            "socket",
            "1-2",
            ["ranks 0-1 have CPUs of NUMA node 0 and no memory", "rank 2 has CPUs of NUMA node 3 and no"],
        ),
        ("socket", "2-3", ["ranks 0-1 have CPUs of NUMA nodes 0-1 and no memory"]),
    ],
)
def test_cpus_whose_nodes_memory_may_not_be_used_are_told(mode: str, mems: str, said: list[str]) -> None:
    """By node, with what cpuset.mems allows; the nodes of the binding are those whose memory it may use."""
    machine = replace(synthetic("pack:2 numa:2 core:2 pu:1"), allowed_nodeset=NodeSet(mems))
    made = plan(machine, on_nodes(1, 1, 2), mode)
    assert [warning[: len(start)] for warning, start in zip(made.warnings, said, strict=True)] == said
    assert all(f": the cgroup's cpuset.mems allows that of {mems} alone; ask" in warning for warning in made.warnings)
    assert all(binding.nodeset <= NodeSet(mems) for binding in made)


def test_a_cgroup_that_allows_no_memory_at_all_is_told_as_none() -> None:
    """As a capture or a file of somebody's may say."""
    made = plan(replace(synthetic("numa:1 core:2 pu:1"), allowed_nodeset=NodeSet()), on_nodes(0), "node")
    assert "cpuset.mems allows that of none alone; ask" in made.warnings[0]


def test_a_node_without_memory_has_none_to_forbid() -> None:
    """The kernel allows nobody's cpuset a node that has no memory."""
    machine = synthetic("pack:2 numa:1 core:2 pu:1")
    bare = tuple(replace(node, memory=0) if node.os_index == 0 else node for node in machine.numa_nodes)
    machine = replace(machine, numa_nodes=bare, allowed_nodeset=NodeSet("1"))
    assert plan(machine, on_nodes(0, 1), "node").warnings == ()


def test_without_distances_the_nearest_is_in_the_same_package() -> None:
    """Node 2's neighbour is node 3, not the lower numbers of the other package."""
    machine = replace(synthetic("pack:2 numa:2 core:2 pu:1"), distances=Distances()).narrowed(CpuSet("0-3,6-7"))
    assert cpus(plan(machine, on_nodes(2), "node", no_allowed_cpus="nearest")) == ["6-7"]


def test_ranks_without_gpus_are_spread_by_the_cores_that_may_be_used() -> None:
    """Of four and two, the second of two ranks begins in the midst, on the first node still."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1").narrowed(CpuSet("0-5"))
    assert cpus(plan(machine, (), "node", ranks=2)) == ["0-3", "0-3"]
    assert cpus(plan(machine, (), "node", ranks=3)) == ["0-3", "0-3", "4-5"]


def test_a_node_whose_distance_is_not_known_is_farther_than_any_that_is() -> None:
    """Node 1, whose distance is known, though node 3 is in the same package."""
    machine = replace(synthetic("pack:2 numa:2 core:2 pu:1"), distances=Distances((1, 2), ((10, 255), (255, 10))))
    made = plan(machine.narrowed(CpuSet("2-3,6-7")), on_nodes(2), "node", no_allowed_cpus="nearest")
    assert cpus(made) == ["2-3"]


def test_no_allowed_cpu_at_all_leaves_every_rank_its_error() -> None:
    """Even ranks without GPUs: the plan is whole, and nothing is raised."""
    machine = synthetic("pack:2 numa:1 core:2 pu:1").narrowed(CpuSet())
    for mode in ALL_MODES:
        assert cpus(plan(machine, on_nodes(0, 1), mode)) == ["NoAllowedCpusError"] * 2
        assert cpus(plan(machine, (), mode, ranks=3)) == ["NoAllowedCpusError"] * 3
        assert cpus(plan(machine, on_nodes(0), mode, no_allowed_cpus="nearest")) == ["NoAllowedCpusError"]
        with pytest.raises(NoAllowedCpusError, match="allowed are CPUs none, and they have none in common"):
            plan(machine, on_nodes(0), mode)[0].check()
        with pytest.raises(NoAllowedCpusError, match="allowed CPUs are none$"):
            plan(machine, (), mode, ranks=1)[0].check()


def test_allowed_cpus_of_no_node_are_named_in_the_error() -> None:
    """Dies without memory belong to no node, and nobody can be spread over those."""
    machine = synthetic("pack:2 numa:1 core:2 pu:1")
    made = plan(replace(machine, numa_nodes=machine.numa_nodes[:1]).narrowed(CpuSet("2-3")), (), "node", ranks=1)
    with pytest.raises(NoAllowedCpusError, match="has a CPU that may be used: allowed CPUs are 2-3$"):
        made[0].check()


def test_too_few_cores_on_one_node_leave_the_others_placed() -> None:
    """Two cores for three GPUs on node 0 are refused there, and node 1 is divided as ever."""
    machine = synthetic("pack:2 numa:1 core:2 pu:1")
    made = plan(machine, on_nodes(0, 0, 0, 1, 1), "exclusive")
    assert cpus(made) == ["NotEnoughCoresError"] * 3 + ["2", "3"]
    with pytest.raises(NotEnoughCoresError, match=r"NUMA node 0 has 2 cores to use \(CPUs 0-1\), and 3 GPUs"):
        made[0].check()


# ---- who divides with whom -------------------------------------------------------------------------------------


def test_ranks_drive_gpus_in_the_visible_order() -> None:
    """Rank i has the i-th of the visible GPUs; the first of them gets the first part, whatever its own number."""
    machine = synthetic("numa:1 core:5 pu:1")
    made = plan(machine, tuple(reversed(on_nodes(0, 0))), "exclusive")
    assert cpus(made) == ["0-2", "3-4"]
    assert [gpu.index for binding in made for gpu in binding.gpus] == [1, 0]


@pytest.mark.parametrize("ranks_per_gpu", [1, 2])
def test_divided_among_all_two_jobs_do_not_overlap(ranks_per_gpu: int) -> None:
    """A job's share depends on its GPUs' own numbers and not on what else it sees, nor on the order it sees it in."""
    machine, gpus = synthetic("numa:1 core:16 pu:1"), on_nodes(0, 0, 0, 0)
    options = {"divide_among": "all", "ranks_per_gpu": ranks_per_gpu, "all_gpus": gpus}
    whole = plan(machine, gpus, "exclusive", **options)
    of_gpu = {b.gpu: union(other.cpuset for other in whole if other.gpu == b.gpu) for b in whole}
    for visible in ((gpus[3], gpus[1]), (gpus[0],), (gpus[2],), tuple(reversed(gpus))):
        for binding in plan(machine, visible, "exclusive", **options):
            assert binding.cpuset <= of_gpu[binding.gpu]
            assert binding.cores == 4 // ranks_per_gpu


def test_several_gpus_at_one_address_each_have_a_share() -> None:
    """MIG instances and partitions count by GPU index, not by PCI device."""
    machine = fixture("mi300x_8_xeon8480")
    first = TopologyGpus(machine).gpus()[0]
    parts = tuple(replace(first, index=index) for index in range(4))
    made = plan(machine, parts, "exclusive")
    assert made.is_disjoint
    assert len({binding.cpuset for binding in made}) == 4
    assert len({binding.nodeset for binding in made}) == 1


def test_a_visible_gpu_without_a_rank_keeps_its_share() -> None:
    """With fewer ranks than GPUs a node is divided among the GPUs, as torch does."""
    machine = synthetic("numa:1 core:4 pu:1")
    assert cpus(plan(machine, on_nodes(0, 0), "exclusive", ranks=1)) == ["0-1"]


def test_several_ranks_a_gpu_share_its_slice() -> None:
    """Six cores for two GPUs are three each, whatever number of ranks divides them."""
    made = plan(synthetic("numa:1 core:6 pu:1"), on_nodes(0, 0), "exclusive", ranks_per_gpu=2)
    assert cpus(made) == ["0-1", "2", "3-4", "5"]


def test_uneven_ranks_share_alike() -> None:
    """Three ranks on two GPUs: none goes empty for its GPU's slice being too small."""
    made = plan(synthetic("numa:1 core:3 pu:1"), on_nodes(0, 0), "exclusive", ranks_per_gpu=2, ranks=3)
    assert cpus(made) == ["0", "1", "2"]


def test_several_gpus_a_rank_add_up() -> None:
    """In exclusive a rank gets the sum of its GPUs' shares, elsewhere the union of what each would get."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1")
    gpus = on_nodes(0, 1, 0, 1)
    assert cpus(plan(machine, gpus, "exclusive", gpus_per_rank=2)) == ["0-1,4-5", "2-3,6-7"]
    assert cpus(plan(machine, gpus, "node", gpus_per_rank=2)) == ["0-7", "0-7"]


@pytest.mark.parametrize(
    ("gpus", "ranks", "options", "expected"),
    [
        (4, None, {}, [(0,), (1,), (2,), (3,)]),
        (4, 2, {}, [(0,), (1,)]),
        (2, None, {"ranks_per_gpu": 2}, [(0,), (0,), (1,), (1,)]),
        (2, None, {"ranks_per_gpu": 2, "rank_order": "round-robin"}, [(0,), (1,), (0,), (1,)]),
        (4, None, {"gpus_per_rank": 2}, [(0, 1), (2, 3)]),
        (5, None, {"gpus_per_rank": 2}, [(0, 1), (2, 3)]),
        (0, 3, {}, [(), (), ()]),
    ],
)
def test_which_rank_drives_which_gpu(
    gpus: int, ranks: int | None, options: dict[str, Any], expected: list[tuple[int, ...]]
) -> None:
    """One GPU a rank, unless several are asked for; the order is the visible one."""
    assert ranks_to_gpus(gpus, NumaOptions("node", **options), ranks) == expected


@pytest.mark.parametrize(
    ("gpus", "ranks", "options", "message"),
    [
        (2, 3, {}, "3 ranks are more than 2 GPUs take"),
        (0, None, {}, r"0 ranks cannot be planned: say how many .*--ranks N"),
        (2, 0, {}, "0 ranks cannot be planned on 2 GPUs"),
        (1, None, {"gpus_per_rank": 2}, "0 ranks cannot be planned on 1 GPUs with 2 GPUs a rank"),
    ],
)
def test_ranks_that_do_not_fit_are_refused(gpus: int, ranks: int | None, options: dict[str, Any], message: str) -> None:
    """More ranks than GPUs only on request; and without GPUs the number of ranks has to be said."""
    with pytest.raises(OptionError, match=message):
        ranks_to_gpus(gpus, NumaOptions("node", **options), ranks)


def test_ranks_without_gpus_are_spread_over_the_cores() -> None:
    """Three ranks on two nodes of four cores, in each mode."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1")
    assert cpus(plan(machine, (), "node", ranks=3)) == ["0-3", "0-3", "4-7"]
    assert cpus(plan(machine, (), "exclusive", ranks=3)) == ["0-1", "2-3", "4-7"]


# ---- options -------------------------------------------------------------------------------------------------


def test_one_thread_a_core() -> None:
    """Of each core the lowest allowed thread."""
    machine = synthetic("numa:1 core:4 pu:2")
    assert cpus(plan(machine, on_nodes(0, 0), "exclusive", threads_per_core=1)) == ["0,2", "4,6"]


def test_reserved_cpus_and_first_cores_are_given_to_nobody() -> None:
    """Named CPUs, and the first core of each last-level cache."""
    machine = synthetic("numa:1 l3:2 core:4 pu:1")
    made = plan(machine, on_nodes(0), "node", reserved_cpus=CpuSet("7"), reserve_first_cores=True)
    assert cpus(made) == ["1-3,5-6"]
    assert made.unused_cpuset == CpuSet("0,4,7")


def test_idle_nodes_go_to_the_nearest_gpus_of_their_package() -> None:
    """On a DGX A100, half of the cores are on nodes without a GPU; with the option no core is unused."""
    machine = fixture("dgx_a100_nps4")
    gpus = TopologyGpus(machine).gpus()
    assert len(plan(machine, gpus, "exclusive").unused_cpuset) == 128
    made = plan(machine, gpus, "exclusive", use_idle_nodes=True)
    assert made.is_disjoint
    assert made.unused_cpuset == CpuSet()
    for binding in made:
        assert binding.cores == 16
        packages = [package for package in machine.packages if package.cpuset & binding.cpuset]
        assert len(packages) == 1


def test_an_idle_node_of_another_package_stays_idle() -> None:
    """GPUs on node 0 alone: node 1 of the same package is theirs too, nodes 2 and 3 are across the link."""
    machine = synthetic("pack:2 numa:2 core:2 pu:1")
    made = plan(machine, on_nodes(0, 0), "exclusive", use_idle_nodes=True)
    assert cpus(made) == ["0,2", "1,3"]
    assert made.unused_cpuset == CpuSet("4-7")
    flat = replace(machine, distances=Distances())  # where no distance tells the packages apart
    assert cpus(plan(flat, on_nodes(3), "node", use_idle_nodes=True)) == ["4-7"]


@pytest.mark.parametrize(
    ("nodes", "homes", "rows", "expected"),
    [
        (3, (0, 2), ((10, 32, 32), (32, 10, 20), (32, 20, 10)), ["0", "1-2"]),  # the distance before all
        (3, (0, 1), (), ["0", "1-2"]),  # node 2's number is nearer to 1
        (4, (0, 3), (), ["0-1", "2-3"]),  # as many for each, by their numbers
        (5, (0, 4, 4), (), ["0-1", "2-4", "2-4"]),  # two GPUs are handed two nodes, one GPU one
        (4, (0, 1), (), ["0,3", "1-2"]),  # node 3 is nearer to 1 too, and 1 has one already
    ],
)
def test_idle_nodes_are_dealt_out_by_distance_then_evenly_then_by_number(
    nodes: int, homes: tuple[int, ...], rows: tuple[tuple[int, ...], ...], expected: list[str]
) -> None:
    """Nodes of one CPU in one package: the homes' own, and what else each is handed."""
    machine = replace(
        synthetic(f"pack:1 numa:{nodes} core:1 pu:1"), distances=Distances(tuple(range(nodes)) if rows else (), rows)
    )
    assert cpus(plan(machine, on_nodes(*homes), "node", use_idle_nodes=True)) == expected


def test_an_idle_node_helps_where_the_own_is_too_small() -> None:
    """Two cores for three GPUs, and four more on the idle node beside: placed there instead of refused."""
    machine = Machine(
        source="by hand", is_this_system=False, cpuset=CpuSet("0-5"), allowed_cpuset=CpuSet("0-5"),
        allowed_nodeset=NodeSet("0-1"), packages=(Package(0, CpuSet("0-5")),),
        numa_nodes=(NumaNode(0, CpuSet("0-1"), CpuSet("0-1")), NumaNode(1, CpuSet("2-5"), CpuSet("2-5"))),
        last_level_caches=(), cores=tuple(Core(number, CpuSet([number])) for number in range(6)),
    )  # fmt: skip
    assert cpus(plan(machine, on_nodes(0, 0, 0), "exclusive")) == ["NotEnoughCoresError"] * 3
    assert cpus(plan(machine, on_nodes(0, 0, 0), "exclusive", use_idle_nodes=True)) == ["2-3", "4", "5"]


def test_shares_that_differ_by_more_than_a_core_are_told() -> None:
    """By one they cannot but differ where cores do not divide; by two, one node has more than another."""
    machine = synthetic("pack:2 numa:1 core:4 pu:1")
    assert plan(machine.narrowed(CpuSet("0-6")), on_nodes(0, 1), "exclusive").warnings == ()
    assert plan(machine.narrowed(CpuSet("0-5")), on_nodes(0, 1), "exclusive").warnings == (
        "the ranks' shares are uneven: from 2 to 4 cores",
    )


@pytest.mark.parametrize("memory", list(MemoryPolicy))
def test_the_memory_policy_is_every_ranks(memory: MemoryPolicy) -> None:
    """What is asked for the job is in each binding, which a worker is given alone."""
    made = plan(synthetic("numa:1 core:2 pu:1"), on_nodes(0, 0), "node", memory=memory)
    assert [binding.memory for binding in made] == [memory, memory]


def test_a_minimum_of_cores_is_kept() -> None:
    """Below it the rank is refused, and the message says how many it would have got."""
    made = plan(synthetic("numa:1 core:5 pu:1"), on_nodes(0, 0), "exclusive", minimum_cores=3)
    assert cpus(made) == ["0-2", "NotEnoughCoresError"]
    assert "would get 2 cores" in str(made[1].error)


def test_performance_cores_only() -> None:
    """On a hybrid CPU the fastest kind; where kinds are not told, all cores, with a warning."""
    machine = synthetic("numa:1 core:6 pu:1")
    hybrid = replace(machine, cpu_kinds=(CpuSet("0-3"), CpuSet("4-5")))
    assert cpus(plan(hybrid, on_nodes(0), "node", performance_cores_only=True)) == ["4-5"]
    three = replace(
        machine, cpu_kinds=(CpuSet("0-1"), CpuSet("2-4"), CpuSet("5"))
    )  # as of laptops with low-power cores
    assert cpus(plan(three, on_nodes(0), "node", performance_cores_only=True)) == ["5"]
    made = plan(machine, on_nodes(0), "node", performance_cores_only=True)
    assert cpus(made) == ["0-5"]
    assert [warning for warning in made.warnings if "kinds of cores" in warning]


# ---- what a plan promises, and what it costs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([0b0011, 0b0110], "ranks 0 and 1 would both get CPU 1"),
        ([0b0001, 0b1000_0010], "rank 1 would get CPUs 7, which are not to be given out"),
        ([0b0001, 0], "rank 1 has neither CPUs nor an error"),
    ],
)
def test_a_plan_that_breaks_its_promise_is_an_error(
    parts: list[int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong on the way: no plan comes out, nor one rank's binding."""
    machine = synthetic("numa:1 core:6 pu:1")
    monkeypatch.setitem(SHARES, AffinityMode.EXCLUSIVE, lambda *_: parts)
    for answer in (make_plan, draft_plan):
        with pytest.raises(PlanError, match=f"breaks its promise: {message}; this is an error in hwnuma"):
            answer(machine, on_nodes(0, 0), NumaOptions("exclusive"))


def test_one_ranks_binding_is_that_of_the_plan() -> None:
    """A worker asks the draft for its own binding alone, and gets what the launcher's plan has, errors included."""
    machine = fixture("slurm_cut_a100_pcie8")
    for mode in ALL_MODES:
        draft = draft_plan(machine, TopologyGpus(machine).gpus(), NumaOptions(AffinityMode(mode)))
        whole = draft.plan()
        assert len(draft) == len(whole) == 8
        assert draft.warnings() == whole.warnings
        assert [draft.binding(rank) for rank in range(8)] == list(whole)


def test_gpus_are_located_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the claims and for what other sources say of them alike."""
    located: list[int] = []

    def counting(*arguments: Any, **named: Any) -> list[Locality]:
        located.append(len(arguments[1]))
        return locate(*arguments, **named)

    monkeypatch.setattr("hwnuma.policy.planning.locate", counting)
    machine = fixture("dgx_a100_nps4")
    plan(machine, TopologyGpus(machine).gpus(), "exclusive")
    assert located == [8]


def seconds(make: Callable[[], object]) -> float:
    """How long something takes at best."""
    return min(timeit.repeat(make, number=1, repeat=3))


@pytest.mark.parametrize("mode", ALL_MODES)
def test_planning_grows_as_the_machine_does(mode: str) -> None:
    """With 16 times the CPUs and 8 times the GPUs a plan takes some 10 to 20 times as long; squared it would be 256."""
    small, big = synthetic("pack:2 numa:4 l3:2 core:8 pu:2"), synthetic("pack:8 numa:8 l3:4 core:8 pu:2")
    few, many = on_nodes(*range(8)), on_nodes(*range(64))
    assert seconds(lambda: plan(replace(big), many, mode)) < 100 * seconds(lambda: plan(replace(small), few, mode))


@pytest.mark.slow  # half a second of CPU time a mode
@pytest.mark.parametrize("mode", ALL_MODES)
def test_planning_grows_as_the_ranks_do(mode: str) -> None:
    """32 and 512 ranks without GPUs, and all that is shown of them: 16 times as many are not 256 times the work."""
    machine = synthetic("pack:2 numa:4 l3:2 core:128 pu:4")

    def shown(ranks: int) -> object:
        made = plan(machine, (), mode, ranks=ranks)
        return made.as_dict(), str(made), made.unused_cpuset

    assert seconds(lambda: shown(512)) < 100 * seconds(lambda: shown(32))


@pytest.mark.parametrize(
    ("gpus", "options"),
    [
        (0, {"ranks": 999_999_999}),
        (0, {"ranks": MOST_RANKS + 1}),
        (8, {"ranks": 1, "ranks_per_gpu": 999_999_999}),
        (8, {"ranks_per_gpu": 10_000}),
    ],
)
def test_a_number_of_ranks_that_no_machine_runs_is_refused(gpus: int, options: dict[str, Any]) -> None:
    """Before any memory is taken for them; the message names the bound."""
    with pytest.raises(OptionError, match=rf"ranks cannot be planned on one machine: {MOST_RANKS} is the most; set"):
        plan(synthetic("numa:1 core:8 pu:1"), on_nodes(*[0] * gpus), "node", **options)


@pytest.mark.slow  # the most that there may be
def test_as_many_ranks_as_the_bound_are_planned() -> None:
    """MPI jobs run several ranks a CPU: no number below the bound is too many for the modes that share."""
    made = plan(synthetic("numa:2 core:4 pu:1"), (), "node", ranks=MOST_RANKS)
    assert [str(made[rank].cpuset) for rank in (0, MOST_RANKS // 2, MOST_RANKS - 1)] == ["0-3", "4-7", "4-7"]


# ---- as the command line shows it ----------------------------------------------------------------------------


def shown(name: str, mode: str, *more: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON of `hwnuma plan`."""
    command = [sys.executable, "-m", "hwnuma", "plan", "--topology", str(TOPOLOGIES / f"{name}.xml"), "--mode", mode]
    done = subprocess.run([*command, "--format", "json", *more], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_slurm_job_that_has_one_sockets_cpus_only() -> None:
    """Four of eight GPUs have allowed CPUs: these are placed, the others say why not, and the status is 1."""
    status, data = shown("slurm_cut_a100_pcie8", "socket")
    assert status == 1
    assert data["allowed_cpuset"] == "0-15,56-71"
    assert [row.get("cpuset") for row in data["bindings"]] == ["0-15,56-71"] * 4 + [None] * 4
    assert [row["error"]["type"] for row in data["bindings"][4:]] == ["NoAllowedCpusError"] * 4
    message = data["bindings"][4]["error"]["message"]
    assert "28-55,84-111" in message
    assert "0-15,56-71" in message


def test_that_slurm_job_with_the_nearest_cpus() -> None:
    """On request, all eight ranks are placed within the job's CPUs, and the plan says which were moved."""
    status, data = shown("slurm_cut_a100_pcie8", "exclusive", "--fallback", "nearest")
    assert status == 0
    assert [row["locality"] for row in data["bindings"]] == ["hwloc"] * 4 + ["nearest"] * 4
    assert data["unused_cpuset"] == ""
    assert data["warnings"] == [
        "ranks 4-7 have no CPU of NUMA node 1, where their GPUs are: none there may be used, and node 0 is the nearest "
        "with some"
    ]


@pytest.mark.parametrize("mode", ALL_MODES)
def test_gb200_places_every_rank(mode: str) -> None:
    """34 nodes, two with CPUs: torch's socket raises there, hwnuma places all four ranks in every mode."""
    status, data = shown("gb200_nvl72_tray", mode)
    assert status == 0
    per_node = {"exclusive": ["0-35", "36-71", "72-107", "108-143"]}
    assert [row["cpuset"] for row in data["bindings"]] == per_node.get(mode, ["0-71", "0-71", "72-143", "72-143"])
    assert [row["nodeset"] for row in data["bindings"]] == ["0", "0", "1", "1"]


def test_isolated_cpus_are_left_out_on_request() -> None:
    """What the kernel isolates is given to no rank; of a saved machine it is not known, and the plan says so."""
    machine = synthetic("numa:2 core:4 pu:1")
    options = NumaOptions("node", reserve_isolated_cpus=True)
    isolating = replace(machine, isolated_cpuset=CpuSet("3,7"), is_this_system=True)
    made = make_plan(isolating, [Gpu(0, numa_node=0), Gpu(1, numa_node=1)], options)
    assert [str(binding.cpuset) for binding in made] == ["0-2", "4-6"]
    assert made.warnings == ()
    saved = make_plan(machine, [Gpu(0, numa_node=0)], options)
    assert str(saved[0].cpuset) == "0-3"
    assert "running system only" in saved.warnings[0]


def test_isolated_cpus_are_the_kernels() -> None:
    """This system's are those that sysfs names."""
    with Topology.from_this_system() as topology:
        assert topology.machine().isolated_cpuset == CpuSet(Path("/sys/devices/system/cpu/isolated").read_text())


def test_a_machine_without_nodes_has_no_package_to_be_on() -> None:
    """In `socket`, where one package needs no node to be known: an error for the rank, and none of ours."""
    machine = replace(synthetic("numa:1 core:2 pu:1"), numa_nodes=(), distances=Distances((), ()))
    made = plan(machine, (Gpu(0, "0000:01:00.0"),), "socket")
    assert cpus(made) == ["UnknownLocalityError"]
    assert "nodes with CPUs: none)" in str(made[0].error)
