"""In a pod's cgroup and namespaces on four NUMA nodes: what plan, exec and verify do with what a kubelet gives."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from . import lab
from .conftest import REPOSITORY
from .machines import FOUR_NODES

pytestmark = pytest.mark.vm

_TIMEOUT = 900.0

# Node 0 has CPUs 0-1,8-9, and so on; on each is one GPU.
_NODE = ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]
_NO_MEMORY = (
    "rank 0 has CPUs of NUMA node 1 and no memory there: the cgroup's cpuset.mems allows that of 0 alone; ask the "
    "scheduler for memory of the nodes of the CPUs"
)
_MOVED = (
    "rank 0 has no CPU of NUMA node 0, where its GPU is: none there may be used, and node 1 is the nearest with some"
)


@pytest.fixture(scope="module")
def pods(vm_lab: None) -> dict[str, Any]:  # noqa: ARG001
    """What was found in each pod, all in one guest."""
    command = [sys.executable, "-m", "tests.vm.pods", ",".join(FOUR_NODES.display_addresses())]
    result = lab.run(FOUR_NODES, command, folder=REPOSITORY, timeout=_TIMEOUT)
    assert result.status == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_pod_of_one_node_gets_that_node(pods: dict[str, Any]) -> None:
    """Without a capability, and with /sys read-only: plan, CPUs, memory policy and verify."""
    told = pods["aligned"]
    assert told["plan"] == {"ranks": [[_NODE[1], "1", "hwloc"]], "warnings": []}
    assert told["exec"] == {"status": 0, "cpus": _NODE[1], "policies": ["bind:1"], "said": []}
    assert told["verify"] == {"status": 0, "found": [], "defeaters": []}


@pytest.mark.fault(
    "seccomp", "RuntimeDefault of containerd, in a pod", "binds CPUs and warns; with bind, gives an error"
)
def test_under_runtime_default_cpus_are_bound_and_memory_is_not(pods: dict[str, Any]) -> None:
    """One line names what denies it and how a pod is given it."""
    preferred, bind = (pods["aligned"][f"{policy}, by RuntimeDefault"] for policy in ("preferred", "bind"))
    assert (preferred["status"], preferred["cpus"], preferred["policies"]) == (0, _NODE[1], ["default"])
    assert (bind["status"], bind["cpus"]) == (1, "")
    for told in (preferred, bind):
        (line,) = told["said"]
        assert "a seccomp profile or sandbox denies set_mempolicy" in line
        assert "Kubernetes: capabilities.add: [SYS_NICE]" in line


@pytest.mark.fault(
    "cgroup",
    "a pod has CPUs of three of its GPUs' four nodes",
    "gives an error, or warns of the nearest; the other ranks are as ever",
)
def test_a_pod_with_cpus_of_fewer_nodes_than_its_gpus(pods: dict[str, Any]) -> None:
    """kubernetes/kubernetes#139430: the one rank says what it lacks, and on request shares the nearest node, warned."""
    told = pods["shrunk"]
    others = [[_NODE[2], "2", "hwloc"], [_NODE[3], "3", "hwloc"]]
    assert told["plan"] == {"ranks": ["NoAllowedCpusError", [_NODE[1], "1", "hwloc"], *others], "warnings": []}
    nearest = [["2,10", "1", "nearest"], ["3,11", "1", "hwloc"], *others]
    assert told["nearest"] == {"ranks": nearest, "warnings": [_MOVED]}
    assert told["exec 0"]["status"] == 1
    (line,) = told["exec 0"]["said"]
    assert "on NUMA node 0 with CPUs 0-1,8-9, allowed are CPUs 2-7,10-15, and they have none in common" in line
    assert line.endswith("or take the nearest that are allowed with --fallback nearest")
    moved = {"status": 0, "cpus": "2,10", "policies": ["default"], "said": [f"hwnuma: {_MOVED}"]}
    assert told["exec 0 nearest"] == moved
    assert told["exec 3 nearest"] == {"status": 0, "cpus": _NODE[3], "policies": ["default"], "said": []}
    assert told["verify 0 nearest"] == {"status": 0, "found": [], "defeaters": []}


@pytest.mark.fault(
    "cgroup", "a pod's cpuset.mems lacks the node of its CPUs", "warns, or with bind gives an error; verify: off"
)
def test_a_pod_without_the_memory_of_its_cpus_node(pods: dict[str, Any]) -> None:
    """It is near its GPU and warned, whatever it asks; a policy cannot be had, and verify says that nothing is near."""
    told = pods["far_memory"]
    assert told["plan"] == {"ranks": [[_NODE[1], "", "hwloc"]], "warnings": [_NO_MEMORY]}
    near = {"status": 0, "cpus": _NODE[1], "policies": ["default"]}
    assert told["exec"] == {**near, "said": [f"hwnuma: {_NO_MEMORY}"]}
    first, second = told["preferred"].pop("said")
    assert (told["preferred"], first) == (near, f"hwnuma: {_NO_MEMORY}")
    lacking = "no memory of the nodes of CPUs 2-3,10-11 may be used, but that of NUMA nodes 0 (cpuset.mems)"
    assert f"are bound, but the memory policy is not set: memory policy preferred: {lacking}" in second
    assert (told["bind"]["status"], told["bind"]["cpus"]) == (1, "")
    assert f"hwnuma exec: memory policy bind: {lacking}" in told["bind"]["said"][-1]
    assert told["verify"] == {"status": 1, "found": [], "defeaters": ["cpuset_mems"]}


@pytest.mark.parametrize("plan", ["plan", "plan socket"])
def test_a_pod_with_the_memory_of_one_of_its_nodes(pods: dict[str, Any], plan: str) -> None:
    """The rank on the other node is warned of alone."""
    told = pods["part_of_memory"][plan]
    assert told["ranks"] == [[_NODE[1], "1", "hwloc"], [_NODE[2], "", "hwloc"]]
    assert told["warnings"] == [
        _NO_MEMORY.replace("rank 0", "rank 1").replace("node 1", "node 2").replace("of 0", "of 1")
    ]


@pytest.mark.fault(
    "cgroup", "the kubelet takes a CPU out of a bound process's cpuset", "verify: off, and names the CPUs"
)
def test_a_kernel_before_6_2_forgets_a_binding_when_the_shared_pool_changes(pods: dict[str, Any]) -> None:
    """Verify, from the node, says so; it is lost when the CPU comes back, too."""
    told = pods["shared_pool"]
    assert tuple(map(int, told["release"].split("-")[0].split(".")[:2])) < (6, 2)
    assert told["before"] == {"status": 0, "found": [], "defeaters": []}
    assert told["taken"] == {"status": 1, "found": ["0-2,4-10,12-15"], "defeaters": []}
    assert told["back"] == {"status": 1, "found": ["0-15"], "defeaters": []}
