"""Binding the calling thread to a place that is handed over: done and read back, or nothing changed."""

from __future__ import annotations

import os

import pytest

from hwnuma.hwloc.self_binding import MEMBIND
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.options import MemoryPolicy
from tests.processes import answer_of
from tests.require import require
from tests.seccomp import can_deny

ALL = CpuSet(os.sched_getaffinity(0))
LAST = CpuSet([ALL.last])

# Binds to the three arguments and tells whether that worked, and affinity and memory policy before and after.
BIND = """
import json, os, sys
from hwnuma.hwloc.mempolicy import save_policy
from hwnuma.hwloc.self_binding import bind_self
from tests.seccomp import deny
if len(sys.argv) > 4:
    deny(sys.argv[4])
def state():
    return [sorted(os.sched_getaffinity(0)), save_policy().mode, str(save_policy().nodes)]
before = state()
print(json.dumps([bind_self(*sys.argv[1:4]), before, state()]))
"""

# The kernel's modes by our policies (linux/mempolicy.h): MPOL_PREFERRED_MANY since Linux 5.15.
MODES = {"none": {0}, "preferred": {1, 5}, "bind": {2}, "interleave": {3}}


def test_every_memory_policy_has_its_form_in_hwloc() -> None:
    """The table of this module, which imports no options, names just those that there are."""
    assert list(MEMBIND) == [policy.value for policy in MemoryPolicy]


@pytest.mark.parametrize("memory", list(MEMBIND))
def test_cpus_and_memory_are_bound_as_the_kernel_shows(memory: str) -> None:
    """The affinity and the policy of the calling thread are what was asked for."""
    (bound, _, after), _ = answer_of(BIND, str(LAST), "0", memory)
    assert bound
    assert after[0] == list(LAST)
    assert after[1] in MODES[memory]
    assert after[2] == ("" if memory == "none" else "0")


@pytest.mark.parametrize(
    "cpus",
    [
        *("", " 0", "0 ", "0,", ",0", "00", "1-0", "0-0", "0,1", "1,0", "0-1,1", "0-1,2", "+0", "-1", "0-", "0x1"),
        *("0-31:1/2", "1048577", "4294967296", "99999999999999999999"),
        "０",  # noqa: RUF001 -- a digit that is not ASCII
    ],
)
def test_a_list_in_another_form_is_left_to_the_whole_program(cpus: str) -> None:
    """Only what str(CpuSet) writes is taken, since the text becomes the record of what was bound."""
    (bound, before, after), _ = answer_of(BIND, cpus, "", "none")
    assert not bound
    assert before == after


@pytest.mark.parametrize("text", ["0", "1", "0-1", "0,2-4,9", "8191", "0-255", "1048576"])
def test_what_a_set_writes_is_taken(text: str) -> None:
    """Whether it can be bound to depends on the machine; that it is read as the same set does not."""
    assert str(CpuSet(text)) == text
    (bound, _, after), _ = answer_of(BIND, text, "", "none")
    assert bound == (CpuSet(text) <= ALL)
    assert after[0] == (list(CpuSet(text)) if bound else list(ALL))


@pytest.mark.fault(
    "cgroup",
    "the kernel binds to fewer CPUs than were asked for, in a rank's quick way",
    "gives the slow way, which says so",
)
def test_what_the_kernel_cuts_is_undone() -> None:
    """A CPU that is not there beside one that is: the kernel would bind to the rest without a word."""
    (bound, before, after), _ = answer_of(BIND, f"{LAST},8000", "", "none")
    assert not bound
    assert before == after


@pytest.mark.parametrize("policy", [("no such word", "0"), ("bind", ""), ("bind", "1000"), ("interleave", "0,1000")])
def test_where_memory_cannot_be_bound_cpus_are_not_either(policy: tuple[str, str]) -> None:
    """An unknown word, no node, a node that is not there, one of two that is not."""
    memory, nodes = policy
    (bound, before, after), _ = answer_of(BIND, str(LAST), nodes, memory)
    assert not bound
    assert before == after


@pytest.mark.fault(
    "seccomp", "set_mempolicy or sched_setaffinity is denied, in a rank's quick way", "gives all as it was"
)
@pytest.mark.parametrize("call", ["set_mempolicy", "sched_setaffinity"])
def test_a_container_that_denies_it_leaves_all_as_it_was(call: str) -> None:
    """A real seccomp filter against either of the two calls."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    (bound, before, after), _ = answer_of(BIND, str(LAST), "0", "bind", call)
    assert not bound
    assert before == after


@pytest.mark.parametrize(
    ("nodes", "cpus"), [("", ""), ("0", "0"), ("0-1", "0-3"), ("3,7", "0-4,8191"), ("0", "0-8191"), ("5", "9000")]
)
def test_the_topology_for_binding_has_what_is_asked_for_and_more(nodes: str, cpus: str) -> None:
    """The sets to bind to are in it, it is not just these CPUs, and affinities up to the highest CPU can be read."""
    with Topology.for_binding(NodeSet(nodes), CpuSet(cpus)) as topology:
        machine = topology.machine()
    assert machine.cpuset > CpuSet(cpus)
    assert machine.cpuset.last >= 8191
    assert {node.os_index for node in machine.numa_nodes} == set(NodeSet(nodes or "0"))
