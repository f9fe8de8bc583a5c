"""What defeats a binding: each rule on made-up facts, and each reading on real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnuma import CpuSet, MemoryPolicy, NodeSet
from hwnuma.model.facts import KernelSettings
from hwnuma.model.value import replace
from hwnuma.processes import procfs
from hwnuma.processes.conditions import (
    THREAD_VARIABLES,
    Conditions,
    PinnedMemory,
    count_pinned,
    locked_mappings,
    pinned_memory,
    read_conditions,
)
from hwnuma.processes.defeaters import RULES, defeaters, with_defeaters
from hwnuma.processes.procfs import NodeMemory, Pages
from hwnuma.processes.verification import Expected, ThreadState, Verification, verify_process
from tests.processes import ROOT, clean_environment, waiting
from tests.require import require

GIB = 1 << 30
NEAR = Expected(CpuSet("8-15"), NodeSet("1"), source="test")
WELL = Verification(100, "python", NEAR, (ThreadState(100, "python", CpuSet("8-15")),))
# Two nodes of which nothing is wrong.
QUIET = Conditions(
    nodes=NodeSet("0-1"),
    home=NodeSet("1"),
    near=NodeSet("1"),
    allowed=NodeSet("0-1"),
    home_memory=(NodeMemory(1, 64 * GIB, 32 * GIB, 8 * GIB),),
    pinned=PinnedMemory({1: GIB}),
    settings=KernelSettings(0, 0, "madvise", "madvise"),
)


def found(around: Conditions, verified: Verification = WELL) -> dict[str, str]:
    """The sentences of what counts, by name."""
    return {each.name: each.found for each in defeaters(verified, around)}


def settings(**said: Any) -> Conditions:
    """The quiet machine with other settings."""
    return replace(QUIET, settings=replace(QUIET.settings, **said))


# ---- the rules -----------------------------------------------------------------------------------------------


def test_nothing_defeats_a_quiet_machine() -> None:
    """No finding, and where the kernel tells nothing at all, none either."""
    assert found(QUIET) == {}
    assert found(Conditions()) == {}


@pytest.mark.parametrize("value", [1, 2, 3])
def test_numa_balancing_counts_whatever_its_bits(value: int) -> None:
    """kernel.numa_balancing is a set of bits; each has the kernel scan memory. The remedy names the sysctl."""
    (each,) = defeaters(WELL, settings(numa_balancing=value))
    assert (each.name, each.weight, each.of_machine) == ("numa_balancing", "warning", True)
    assert f"kernel.numa_balancing is {value}:" in each.found
    assert "sysctl kernel.numa_balancing=0" in each.remedy


def test_numa_balancing_leaves_memory_with_a_policy_alone() -> None:
    """A process that has the memory policy it should have is not scanned; one that lost its policy is."""
    around = settings(numa_balancing=1)
    bound = replace(NEAR, memory=MemoryPolicy.BIND)
    as_bound = procfs.ThreadPolicy(MemoryPolicy.BIND, NodeSet("1"))
    kept = replace(WELL, expected=bound, threads=(ThreadState(100, "python", NEAR.cpuset, as_bound),))
    assert found(around, kept) == {}
    lost = procfs.ThreadPolicy(MemoryPolicy.NONE, NodeSet())
    assert "numa_balancing" in found(around, replace(kept, threads=(ThreadState(100, "python", NEAR.cpuset, lost),)))


def test_settings_of_several_nodes_do_not_count_with_one() -> None:
    """On one NUMA node there is nowhere else to move or take memory."""
    all_on = settings(numa_balancing=1, zone_reclaim_mode=1, huge_pages="always")
    assert [*found(all_on)] == ["numa_balancing", "zone_reclaim_mode", "transparent_huge_pages"]
    assert found(replace(all_on, nodes=NodeSet("1"))) == {}


def test_huge_pages_are_information() -> None:
    """Always on is common: it is told as such, and that allocation waits only where defrag is always too."""
    (each,) = defeaters(WELL, settings(huge_pages="always"))
    assert each.weight == "information"
    assert "thread waits" not in each.found
    (each,) = defeaters(WELL, settings(huge_pages="always", huge_pages_defrag="always"))
    assert "thread waits" in each.found
    assert found(settings(huge_pages="never", huge_pages_defrag="always")) == {}


def test_a_near_node_that_is_nearly_full() -> None:
    """Less than a tenth to be had, file pages counted in; with what of the process is elsewhere already."""
    full = replace(QUIET, home_memory=(NodeMemory(1, 64 * GIB, 2 * GIB, 4 * GIB),))
    assert "node 1 has 2.0 GiB free of 64.0 GiB" in found(full)["node_nearly_full"]
    spilled = replace(WELL, pages=Pages({0: 3 * GIB, 1: GIB}))
    assert found(full, spilled)["node_nearly_full"].endswith("; 3.0 GiB of its own memory is elsewhere")
    assert found(replace(QUIET, home_memory=(NodeMemory(1, 64 * GIB, 2 * GIB, 5 * GIB),))) == {}


def test_pinned_memory_on_another_node() -> None:
    """Known to be elsewhere, or pinned by a device so that the kernel tells only how much may be."""
    there = replace(QUIET, pinned=PinnedMemory({0: 3 * GIB, 1: GIB}))
    assert "3.0 GiB of locked or pinned memory is not on NUMA nodes 1" in found(there)["pinned_elsewhere"]
    by_device = replace(QUIET, pinned=PinnedMemory({}, 2 * GIB))
    assert found(by_device) == {}
    remote = replace(WELL, pages=Pages({0: GIB}))
    assert "devices have pinned 2.0 GiB, and up to 1.0 GiB" in found(by_device, remote)["pinned_elsewhere"]


def test_a_gpus_own_memory_is_near() -> None:
    """What is pinned on a node of memory alone near the CPUs is not elsewhere."""
    pinned = PinnedMemory({1: GIB, 9: GIB})
    assert found(replace(QUIET, near=NodeSet("1,9"), pinned=pinned)) == {}


def outside(*threads: tuple[int, str]) -> Verification:
    """The process with more threads, on CPUs of the other node."""
    return replace(WELL, threads=(*WELL.threads, *(ThreadState(tid, name, CpuSet("0")) for tid, name in threads)))


def test_threads_that_nccl_pinned_are_known_by_name() -> None:
    """NCCL names its threads; others are nobody's as long as no variable tells of OpenMP."""
    told = found(QUIET, outside((101, "NCCL Service 0"), (102, "NCCL Progress0"), (103, "python")))
    assert told == {"threads_pinned": "a library has pinned threads elsewhere: 2 threads of NCCL"}
    assert found(QUIET, outside((103, "python"))) == {}


def test_threads_that_openmp_pinned_are_known_by_its_variables() -> None:
    """With what the variable says; one that says that nothing is pinned does not count."""
    bound = replace(QUIET, variables={"OMP_PROC_BIND": "close", "OMP_PLACES": "{0}"})
    told = found(bound, outside((103, "python"), (101, "NCCL Service 0")))["threads_pinned"]
    assert told.endswith("1 threads of NCCL and 1 threads, probably of OpenMP (OMP_PROC_BIND=close, OMP_PLACES={0})")
    assert found(bound) == {}, "no thread is elsewhere"
    assert found(replace(QUIET, variables={"OMP_PROC_BIND": "false"}), outside((103, "python"))) == {}


@pytest.mark.parametrize(
    ("text", "beyond"),
    [("8-15", ""), ("0 3 8-9", "0,3"), ("8-15,4", "4"), ("4-11:2", "4,6"), ("no list", ""), ("8:x", ""), ("0:0", ""),
     ("0-1048575:1", str(CpuSet.from_mask((1 << 8192) - 1) - CpuSet("8-15"))), ("0 " * 1000, "")],
)  # fmt: skip
def test_a_list_for_libgomp_beyond_the_binding(text: str, beyond: str) -> None:
    """GOMP_CPU_AFFINITY in all its forms; what makes no sense, or nobody writes, is nothing."""
    told = found(replace(QUIET, variables={"GOMP_CPU_AFFINITY": text})).get("openmp_list", "")
    assert (f"names CPUs {beyond}, which" in told) if beyond else told == ""


def test_nccl_is_told_to_ignore_the_affinity() -> None:
    """0 is NCCL's default, and anything else makes it go by the GPU alone."""
    assert found(replace(QUIET, variables={"NCCL_IGNORE_CPU_AFFINITY": "0"})) == {}
    assert "nccl_ignores_affinity" in found(replace(QUIET, variables={"NCCL_IGNORE_CPU_AFFINITY": "1"}))


@pytest.mark.fault("cgroup", "the cpuset has no memory of the node near the GPU", "gives the process as off")
def test_no_memory_of_the_near_node_is_misplacement() -> None:
    """Nothing can be near: the process is off. Where some of its nodes may be used, it is a warning."""
    nowhere = replace(QUIET, allowed=NodeSet("0"))
    (each,) = defeaters(WELL, nowhere)
    assert (each.name, each.weight) == ("cpuset_mems", "off")
    verified = replace(WELL, defeaters=(each,))
    assert (verified.ok, verified.problems) == (False, (each.found,))
    some = replace(nowhere, home=NodeSet("0-1"))
    (each,) = defeaters(WELL, some)
    assert (each.name, each.weight) == ("cpuset_mems_part", "warning")
    assert replace(WELL, defeaters=(each,)).ok


def test_every_rule_tells_where_it_reads_what_to_do_and_who_says_so() -> None:
    """And the documentation has each, by name."""
    page = (ROOT / "docs/explanation/binding.md").read_text()
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert all((rule.where, rule.remedy, rule.source)), rule.name
        assert f"`{rule.name}`" in page, rule.name


# ---- what the rules are about --------------------------------------------------------------------------------


def test_locked_mappings_are_found_in_smaps() -> None:
    """By the flag `lo`, and no other that begins like it."""
    smaps = (
        "7f00-7f10 rw-p 0 00:00 0 \nSize: 4 kB\nLocked: 4 kB\nVmFlags: rd wr mr mw me ac lo \n"
        "7f20-7f30 r--p 0 00:00 0 /usr/lib/a lo b\nVmFlags: rd mr mw me loop \n"
    )
    assert locked_mappings(smaps.splitlines(keepends=True)) == {"7f00"}


def test_memory_that_cuda_pins_is_found_where_its_driver_is_open() -> None:
    """It is shared memory without a file (RssShmem, not VmLck); in a process without the driver that is anybody's."""
    lines = [
        "7f00 default file=/dev/zero\\040(deleted) dirty=3 N0=1 N1=2 kernelpagesize_kB=4\n",
        "7f10 default anon=1 dirty=1 N0=1 kernelpagesize_kB=4\n",
    ]
    assert count_pinned(lines, frozenset(), 0).by_node == {}
    driver = "7f20 default file=/dev/nvidiactl\n"
    assert count_pinned([*lines, driver], frozenset(), 7) == PinnedMemory({0: 4096, 1: 8192}, 7)
    assert count_pinned(lines, frozenset({"7f10"}), 0).by_node == {0: 4096}


_LOCK = """
import ctypes, mmap, sys
memory = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b"x" * (1 << 20)
if ctypes.CDLL(None, use_errno=True).mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), 1 << 20):
    sys.exit("mlock failed")
print("ready", flush=True)
sys.stdin.readline()
"""


def test_locked_memory_of_a_real_process_is_told_by_node() -> None:
    """What mlock pins is counted where it is; on a machine that says it should be elsewhere, it is a finding."""
    require(Path("/proc/self/numa_maps").exists(), "there is no /proc/self/numa_maps: a sandbox, or no NUMA kernel")
    with waiting(sys.executable, "-c", _LOCK) as process:
        pinned = pinned_memory(process.pid)
        assert pinned is not None
        assert (1 << 20) <= sum(pinned.by_node.values()) < (2 << 20)
        (node,) = pinned.by_node
        around = replace(QUIET, near=NodeSet([node + 1]), pinned=pinned)
        assert f"is not on NUMA nodes {node + 1}, and cannot be moved" in found(around)["pinned_elsewhere"]
    with waiting("sh", "-c", "echo ready; read line") as process:
        assert pinned_memory(process.pid) == PinnedMemory()


@pytest.mark.fault("proc", "a process ends while it is looked at", "gives nothing of it, and no error")
def test_a_process_that_has_ended_has_no_conditions_and_no_error() -> None:
    """It may end between the two looks: nothing is known then."""
    around = read_conditions(4194303, Expected(CpuSet("0")))
    assert (around.allowed, around.pinned, around.variables) == (None, None, {})


def test_the_conditions_of_a_real_process() -> None:
    """Its nodes as sysfs has them, its own allowed ones, and the variables that it was started with."""
    cpus = CpuSet(os.sched_getaffinity(0))
    variables = dict.fromkeys(THREAD_VARIABLES, "false")
    with waiting("sh", "-c", "echo ready; read line", **variables) as process:
        around = read_conditions(process.pid, Expected(cpus))
    assert around.home <= around.nodes
    assert around.home == around.near
    assert around.allowed == procfs.allowed_nodes()
    assert around.variables == variables
    assert [memory.node for memory in around.home_memory] == list(around.home)


# ---- as they are told ----------------------------------------------------------------------------------------


def run(*words: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run hwnuma and check its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "hwnuma", *words],
        capture_output=True, text=True, check=False, env=clean_environment(**environment), timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_verify_tells_what_defeats_and_what_to_do() -> None:
    """In the text and the JSON; by itself it does not change the exit status."""
    cpus = str(CpuSet(os.sched_getaffinity(0)))
    with waiting("sh", "-c", "echo ready; read line", NCCL_IGNORE_CPU_AFFINITY="1") as process:
        text = run("verify", "--cpus", cpus, str(process.pid)).stdout
        data = json.loads(run("verify", "--cpus", cpus, "--format", "json", str(process.pid)).stdout)
    (line,) = [line for line in text.splitlines() if line.startswith("defeated by nccl_ignores_affinity: ")]
    assert "; remedy: unset NCCL_IGNORE_CPU_AFFINITY" in line
    (row,) = data["processes"]
    (each,) = [each for each in row["defeaters"] if each["name"] == "nccl_ignores_affinity"]
    assert sorted(each) == ["found", "name", "remedy", "weight"]
    assert (row["ok"], each["weight"]) == (True, "warning")


def test_what_is_of_the_machine_is_told_once_for_all_processes() -> None:
    """Settings of the kernel are the same for each."""
    from hwnuma.report.verification import verifications_as_text

    verified = replace(WELL, defeaters=defeaters(WELL, settings(zone_reclaim_mode=1)))
    text = verifications_as_text([verified, replace(verified, pid=101)])
    assert text.count("defeated by zone_reclaim_mode: ") == 1


def test_exec_verbose_names_what_may_defeat_in_one_line() -> None:
    """Only there: without the option nothing is read."""
    cpu = str(CpuSet(os.sched_getaffinity(0)).first)
    variables = {"NCCL_IGNORE_CPU_AFFINITY": "1"}
    told = run("exec", "--verbose", "--cpus", cpu, "--", "true", **variables).stderr
    (line,) = [line for line in told.splitlines() if "may be defeated by" in line]
    assert "nccl_ignores_affinity" in line
    assert run("exec", "--cpus", cpu, "--", "true", **variables).stderr == ""


def test_a_real_process_can_be_verified_with_what_defeats_it() -> None:
    """`with_defeaters` adds to a verification and changes nothing else."""
    verified = verify_process(None, Expected(CpuSet(os.sched_getaffinity(0))))
    assert replace(with_defeaters(verified), defeaters=()) == verified
