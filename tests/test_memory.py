"""Memory policies on the real kernel: set, read back, restored, denied; and where pages are."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hwnuma
from hwnuma import Binding, BindingError, CpuSet, HwlocError, MemoryPolicy, NodeSet, OptionError, Topology
from hwnuma.hwloc.mempolicy import migrate_pages, restore_policy, save_policy
from hwnuma.processes import memory as of_memory
from hwnuma.processes import procfs
from hwnuma.processes.binding import apply
from hwnuma.processes.memory import nearly_full
from hwnuma.processes.procfs import Pages
from tests.affinity import BEFORE, LAST
from tests.processes import answer_of, clean_environment
from tests.require import require
from tests.seccomp import can_deny

NODE = NodeSet([next(iter(procfs.allowed_nodes() or NodeSet([0])))])
# Linux's words for each policy (mempolicy.c, policy_modes); before 5.15 several nodes cannot be preferred.
WORDS = {
    MemoryPolicy.PREFERRED: (f"prefer (many):{NODE}", f"prefer:{NODE}"),
    MemoryPolicy.BIND: (f"bind:{NODE}",),
    MemoryPolicy.INTERLEAVE: (f"interleave:{NODE}",),
}


def shown() -> str:
    """The calling thread's policy, as the first line of numa_maps shows it after the address."""
    with Path("/proc/thread-self/numa_maps").open() as lines:
        return lines.readline().partition(" ")[2]


@pytest.fixture(autouse=True)
def numa_maps() -> None:
    """Every test here looks at /proc/…/numa_maps, past hwnuma and libhwloc."""
    require(Path("/proc/self/numa_maps").exists(), "there is no /proc/self/numa_maps: a sandbox, or no NUMA kernel")


_BOUND = """
import json, sys
import hwnuma
from tests.test_memory import BEFORE, NODE, Binding, MemoryPolicy, shown

with hwnuma.bound(Binding(0, cpuset=BEFORE, nodeset=NODE, memory=MemoryPolicy(sys.argv[1]))) as binding:
    inside, is_fine = shown(), hwnuma.verify(binding).ok
print(json.dumps([inside, binding.memory_error, is_fine, shown()]))
"""


@pytest.mark.parametrize("policy", WORDS)
def test_a_policy_is_set_and_put_back(policy: MemoryPolicy) -> None:
    """The kernel shows it inside the block, and the default after it, in a process of one thread."""
    (inside, error, is_fine, after), _ = answer_of(_BOUND, policy.value)
    assert inside.startswith(WORDS[policy])
    assert (error, is_fine) == (None, True)
    assert after.startswith("default ")


def test_a_former_policy_is_put_back_exactly() -> None:
    """Libhwloc cannot tell preferred from bind: a saved preferred must not come back as the deadly one."""
    saved = save_policy()
    try:
        with Topology.for_binding(NODE) as topology:
            topology.set_membind(NODE, MemoryPolicy.PREFERRED)
            assert topology.get_membind() == (frozenset({MemoryPolicy.PREFERRED, MemoryPolicy.BIND}), NODE)
        with hwnuma.bound(Binding(0, cpuset=BEFORE, nodeset=NODE, memory=MemoryPolicy.BIND)):
            assert shown().startswith(WORDS[MemoryPolicy.BIND])
        assert shown().startswith(WORDS[MemoryPolicy.PREFERRED])
    finally:
        restore_policy(saved)
    assert shown().startswith("default ")


@pytest.mark.parametrize("policy", WORDS)
def test_exec_hands_the_policy_to_the_command(policy: MemoryPolicy) -> None:
    """`Binding.wrap` gives a command line that sets CPUs and policy ahead of the command's first instruction."""
    look = ["sh", "-c", "grep Cpus_allowed_list /proc/self/status; head -n 1 /proc/self/numa_maps"]
    command = Binding(0, cpuset=LAST, nodeset=NODE, memory=policy).wrap(look)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment(), timeout=60)
    cpus, maps = done.stdout.splitlines()
    assert cpus.split()[1] == str(LAST)
    assert maps.partition(" ")[2].startswith(WORDS[policy])


def test_exec_finds_the_nodes_of_its_cpus() -> None:
    """`--cpus` with `--memory` and no `--nodes`."""
    command = [sys.executable, "-m", "hwnuma", "exec", "--cpus", str(LAST), "--memory", "bind"]
    command += ["head", "-n", "1", "/proc/self/numa_maps"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment(), timeout=60)
    with Topology.from_this_system() as topology:
        nodes = [node.os_index for node in topology.machine().cpu_nodes if node.cpuset >= LAST]
    assert f" bind:{NodeSet(nodes)} " in done.stdout


@pytest.mark.fault("cgroup", "the node to have memory of is not there", "gives an error, and the CPUs as before")
def test_a_node_that_is_not_there_undoes_the_cpus_too() -> None:
    """`bind` to a missing node is an error, and all is as it was; it names the nodes that are allowed."""
    missing = NodeSet([1000])
    with pytest.raises(BindingError, match=r"cpuset\.mems") as caught:
        hwnuma.bound(Binding(0, cpuset=LAST, nodeset=missing, memory=MemoryPolicy.BIND)).__enter__()
    assert str(procfs.allowed_nodes()) in str(caught.value)
    assert CpuSet(os.sched_getaffinity(0)) == BEFORE
    assert shown().startswith("default ")


def test_libhwloc_refuses_a_node_that_the_topology_does_not_have() -> None:
    """With this system's topology too, so a mistake does not become another policy in silence."""
    with Topology.from_this_system() as topology, pytest.raises(HwlocError, match="set_membind"):
        topology.set_membind(NodeSet([1000]), MemoryPolicy.BIND)


DENIED = """
import json, logging, os, sys
import hwnuma
from hwnuma import Binding, CpuSet, MemoryPolicy, NodeSet
from tests.seccomp import deny
logging.basicConfig()
before = os.sched_getaffinity(0)
cpu = CpuSet([max(before)])
deny("set_mempolicy")
try:
    wanted = Binding(0, cpuset=cpu, nodeset=NodeSet(sys.argv[2]), memory=MemoryPolicy(sys.argv[1]))
    with hwnuma.bound(wanted) as binding:
        told = {"held": os.sched_getaffinity(0) == set(cpu), "failed": binding.memory_error.strerror, "raised": False}
except hwnuma.BindingError as error:
    told = {"held": os.sched_getaffinity(0) != before, "failed": error.strerror, "raised": True}
print(json.dumps(told))
"""


@pytest.mark.fault(
    "seccomp", "set_mempolicy is denied, for a policy that may fail", "gives the CPUs bound, and a warning"
)
@pytest.mark.parametrize("policy", ["preferred", "interleave"])
def test_under_a_denied_set_mempolicy_the_cpus_hold_and_the_report_says_what_failed(policy: str) -> None:
    """A real seccomp filter, as Docker's: CPUs are bound, `memory_error` and a warning tell of the policy."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    told, warned = answer_of(DENIED, policy, str(NODE))
    assert (told["held"], told["raised"]) == (True, False)
    assert f"memory policy {policy} on NUMA nodes {NODE}" in told["failed"]
    assert "seccomp" in told["failed"]
    assert "are bound, but the memory policy is not set" in warned


@pytest.mark.fault(
    "seccomp", "set_mempolicy is denied, for a policy that may not fail", "gives an error, and the CPUs as before"
)
def test_a_denied_bind_policy_is_an_error_and_undoes_the_cpus() -> None:
    """Who asks for `bind` must have it, or nothing."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    told, _ = answer_of(DENIED, "bind", str(NODE))
    assert (told["held"], told["raised"]) == (False, True)


EXEC_DENIED = """
import os, sys
from tests.seccomp import deny
deny("set_mempolicy")
os.execv(sys.executable, [sys.executable, "-m", "hwnuma", "exec", *sys.argv[1:]])
"""


@pytest.mark.fault(
    "seccomp", "set_mempolicy is denied, under hwnuma exec", "gives the command bound, and no policy in its record"
)
def test_exec_under_a_denied_set_mempolicy_runs_the_command_and_records_no_policy() -> None:
    """So `hwnuma verify` does not call off later what was known and told at the start."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    arguments = ("--cpus", str(LAST), "--memory", "preferred", "--nodes", str(NODE), "env")
    done = subprocess.run(
        [sys.executable, "-c", EXEC_DENIED, *arguments],
        capture_output=True, text=True, check=True, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert {f"HWNUMA_BOUND_CPUS={LAST}", "HWNUMA_BOUND_MEMORY=none"} <= set(done.stdout.splitlines())
    assert "memory policy is not set" in done.stderr


def test_another_processs_policy_cannot_be_set() -> None:
    """Linux has no call for it: told in `memory_error`, with what can be done; its CPUs are bound."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        binding = Binding(0, cpuset=LAST, nodeset=NODE, memory=MemoryPolicy.PREFERRED)
        bound = hwnuma.bind_process(sleeper.pid, binding)
        assert CpuSet(os.sched_getaffinity(sleeper.pid)) == LAST
        assert "hwnuma exec" in str(bound.memory_error)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_late_binding_counts_where_memory_is() -> None:
    """What is allocated already is counted by node, as /proc/self/numa_maps has it."""
    with Topology.for_binding(NODE, BEFORE) as topology:
        applied = apply(topology, Binding(0, cpuset=BEFORE, nodeset=NODE), migrate=True)
        applied.undo(topology)
    assert applied.pages_before is not None
    resident = applied.pages_before.own_total + sum(applied.pages_before.shared.values())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert resident == pytest.approx(pages * os.sysconf("SC_PAGESIZE"), rel=0.2)


# ---- what the kernel writes ----------------------------------------------------------------------------------


def test_a_nearly_full_node_is_told_with_its_numbers() -> None:
    """MemFree, and the file pages that can be dropped, against a tenth of all."""
    text = (
        "Node 1 MemTotal:       65536000 kB\nNode 1 MemFree:          1048576 kB\n"
        "Node 1 Active(file):     524288 kB\nNode 1 Inactive(file):   524288 kB\n"
    )
    memory = procfs.parse_node_memory(1, text)
    assert (memory.free, memory.reclaimable, memory.total) == (1 << 30, 1 << 30, 65536000 << 10)
    assert nearly_full([memory]) == [
        "NUMA node 1 has 1.0 GiB free (and 1.0 GiB in file pages) of 62.5 GiB: with memory policy bind the kernel "
        "kills the process when that is used up; preferred takes other nodes' memory then"
    ]
    assert nearly_full([procfs.parse_node_memory(1, text.replace(" 1048576", "10485760"))]) == []


@pytest.mark.parametrize(
    ("line", "policy", "nodes", "own", "shared"),
    [
        ("5600 default heap anon=2 dirty=2 N0=1 N3=1 kernelpagesize_kB=4", "none", "", {0: 4096, 3: 4096}, {}),
        ("5600 prefer (many):0-1 file=/bin/a mapped=2 N1=2 kernelpagesize_kB=4", "preferred", "0-1", {}, {1: 8192}),
        ("5600 bind=static:2 anon=1 N2=1 kernelpagesize_kB=2048", "bind", "2", {2: 2097152}, {}),
        ("5600 weighted interleave:0,2 stack", "interleave", "0,2", {}, {}),
        ("5600 local", "none", "", {}, {}),
        ("5600 prefer=relative:1 file=/dev/shm/x\\040N9=9 N1=1 kernelpagesize_kB=4", "preferred", "1", {}, {1: 4096}),
    ],
)
def test_numa_maps_are_read(line: str, policy: str, nodes: str, own: dict[int, int], shared: dict[int, int]) -> None:
    """Policies with flags and spaces in their names, huge pages, files; as Linux writes them."""
    found = procfs.parse_policy(line)
    assert found is not None
    assert (str(found.policy), str(found.nodeset)) == (policy, nodes)
    pages = procfs.count_pages([line])
    assert (dict(pages.own), dict(pages.shared)) == (own, shared)


@pytest.mark.fault(
    "proc", "the kernel has cut a policy in numa_maps, or it is a new one", "gives none, and not a wrong one"
)
@pytest.mark.parametrize(
    "line",
    [
        "",
        "5600",
        "5600 prefers:0",
        "5600 weighted",
        "5600 default0",
        f"5600 bind:{'0,2,' * 15}4",
        "5600 bind:" + "1" * 70,
    ],
)
def test_a_policy_that_is_unknown_or_cut_is_not_told(line: str) -> None:
    """The kernel cuts a policy at 63 characters, in the middle of a node's number if need be: better none than that."""
    assert procfs.parse_policy(line) is None


def test_a_policy_that_is_just_not_cut_is_told() -> None:
    """Of 62 characters."""
    nodes = "0,2,4,6,8," + ",".join(map(str, range(10, 42, 2)))
    found = procfs.parse_policy(f"7f00 bind:{nodes[:57]} file=/bin/a")
    assert found is not None
    assert str(found.nodeset) == nodes[:57]


@pytest.mark.fault("proc", "a count in numa_maps is no number", "gives one line")
@pytest.mark.parametrize(
    "words", ["N0=\u00b21", "N0=" + "1" * 5001, "Nx=1", "N=1", "N0=", "N0=-1", "kernelpagesize_kB=\u0664"]
)
def test_a_count_that_is_no_number_is_one_line(words: str) -> None:
    """Digits of other scripts, or thousands of them: an error that names numa_maps, and no bare ValueError."""
    with pytest.raises(OptionError, match="and not a whole number"):
        procfs.count_pages([f"5600 default {words} anon=1"])


def test_a_files_name_adds_no_pages() -> None:
    """The kernel escapes blanks and line ends in it; other line ends and blanks of Unicode are just characters."""
    names = ["/tmp/a\rN0=7", "/tmp/a\x85N0=7", "/tmp/a\u3000N0=7", "/tmp/a\\040N0=7"]
    pages = procfs.count_pages(f"5600 default file={name} N1=1 kernelpagesize_kB=4\n" for name in names)
    assert dict(pages.shared) == {1: 4 * 4096}


EARLY_HEAP = """
import ctypes, json, sys, time
from hwnuma.processes import procfs
libc = ctypes.CDLL(None)
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: 4 KiB pages, so that there is something to walk
libc.sbrk.restype = ctypes.c_void_p
size = 128 << 20
ctypes.memset(libc.sbrk(ctypes.c_ssize_t(size)), 1, size)
def cost(read):
    start = time.process_time()
    for _ in range(10):
        read()
    return (time.process_time() - start) / 10
print(json.dumps({
    "policy": min(cost(lambda: procfs.thread_policy(procfs.thread_ids()[0])) for _ in range(5)),
    "pages": min(cost(procfs.pages) for _ in range(2)),
}))
"""


def test_a_threads_policy_costs_no_walk_of_the_heap() -> None:
    """The kernel walks 128 MiB of small pages to count them, which takes milliseconds; a policy takes microseconds.

    The heap is among the first mappings, with which a buffered read would fill itself.
    """
    told, _ = answer_of(EARLY_HEAP)
    assert told["policy"] < told["pages"] / 10


# ---- what else may fail --------------------------------------------------------------------------------------


class Instead:
    """A real topology, of which calls about memory give what another kernel would."""

    def __init__(self, topology: Topology, found: tuple[set[MemoryPolicy], NodeSet] | None) -> None:
        self._topology, self._found = topology, found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._topology, name)

    def get_membind(self) -> tuple[set[MemoryPolicy], NodeSet]:
        """What is read back."""
        assert self._found is not None
        return self._found


def _applied(found: tuple[set[MemoryPolicy], NodeSet], policy: MemoryPolicy) -> Any:
    nodes = NODE | NodeSet([NODE.last + 1])
    with Topology.for_binding(nodes, LAST) as topology:
        instead: Any = Instead(topology, found)
        applied = apply(instead, Binding(0, cpuset=LAST, nodeset=nodes, memory=policy))
        applied.undo(topology)
    return applied


def test_a_preference_for_some_of_the_nodes_is_one() -> None:
    """Before Linux 5.15 there is one node at most: a warning says which is preferred."""
    applied = _applied(({MemoryPolicy.PREFERRED}, NODE), MemoryPolicy.PREFERRED)
    assert applied.memory_error is None
    assert applied.warnings[0].startswith(f"only NUMA nodes {NODE} of {NODE | NodeSet([NODE.last + 1])} are preferred:")
    assert (shown().split()[0], CpuSet(os.sched_getaffinity(0))) == ("default", BEFORE)


@pytest.mark.fault(
    "cgroup", "the kernel cuts a memory policy to the nodes that are allowed", "gives an error, and all is as it was"
)
def test_a_policy_that_is_cut_is_an_error_and_undone() -> None:
    """What reading back gave is said, and where memory may be."""
    with pytest.raises(BindingError, match=rf"reading back gave bind on NUMA nodes {NODE}: the kernel cuts it"):
        _applied(({MemoryPolicy.BIND}, NODE), MemoryPolicy.BIND)
    assert (shown().split()[0], CpuSet(os.sched_getaffinity(0))) == ("default", BEFORE)


def test_a_policy_that_cannot_be_put_back_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The affinity is put back all the same."""

    def denied(_policy: object) -> None:
        raise HwlocError(errno.EPERM, "denied")

    former = save_policy()
    with Topology.for_binding(NODE, LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST, nodeset=NODE, memory=MemoryPolicy.PREFERRED))
        with monkeypatch.context() as patch:
            patch.setattr(of_memory, "restore_policy", denied)
            applied.undo(topology)
    restore_policy(former)
    assert "could not be put back: denied" in caplog.text
    assert CpuSet(os.sched_getaffinity(0)) == BEFORE


REMOTE = Pages({0: 1 << 20, 9: 3 << 20}, {})


@pytest.mark.parametrize(
    ("migrated", "said"),
    [
        (0, []),
        (7, ["7 pages could not be moved to NUMA nodes"]),
        (HwlocError(errno.EPERM, "denied"), ["memory on other NUMA nodes was not migrated: denied"]),
    ],
)
def test_what_migration_gives_is_told(
    migrated: int | HwlocError, said: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """How much was elsewhere and still is; pages that stayed; a kernel that denies it."""

    def migrate(source: NodeSet, target: NodeSet, pid: int) -> int:
        assert (source, target, pid) == (NodeSet("0,9") - NODE, NODE, 0)
        if isinstance(migrated, HwlocError):
            raise migrated
        return migrated

    monkeypatch.setattr(procfs, "pages", lambda _pid=None: REMOTE)
    monkeypatch.setattr(procfs, "online_nodes", lambda: NodeSet("0,9"))
    monkeypatch.setattr(of_memory, "migrate_pages", migrate)
    with Topology.for_binding(NODE, LAST) as topology, caplog.at_level("INFO"):
        applied = apply(topology, Binding(0, cpuset=LAST, nodeset=NODE), migrate=True)
        applied.undo(topology)
    assert [text.partition(f" {NODE} (")[0] for text in applied.warnings] == said
    assert ("migrated: 3.0 MiB (75 %, 768 pages) of the 4.0 MiB allocated was on other nodes" in caplog.text) == (
        not isinstance(migrated, HwlocError)
    )


def test_memory_that_stays_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without migration; and where numa_maps cannot be read, that."""

    def denied(_pid: int | None = None) -> Pages:
        raise PermissionError(errno.EACCES, "denied")

    said = []
    for pages in (lambda _pid=None: REMOTE, denied):
        monkeypatch.setattr(procfs, "pages", pages)
        with Topology.for_binding(NODE, LAST) as topology:
            applied = apply(topology, Binding(0, cpuset=LAST, nodeset=NODE, memory=MemoryPolicy.PREFERRED))
            applied.undo(topology)
        said += [text for text in applied.warnings if "other threads" not in text]  # of what runs the tests
    assert said[0].startswith(f"3.0 MiB (75 %, 768 pages) of the 4.0 MiB allocated is on other NUMA nodes than {NODE}")
    assert said[1:] == ["where memory is cannot be seen: there is no readable /proc/…/numa_maps here"]


def test_without_a_policy_libhwloc_tells_none() -> None:
    """The kernel's default, on the node of whoever touches memory first."""
    with Topology.for_binding(NODE, BEFORE) as topology:
        policies, _ = topology.get_membind()
    assert policies == {MemoryPolicy.NONE}


def test_a_policy_of_no_node_is_an_error_that_says_whose_matter_it_is() -> None:
    """The nodes of the CPUs have no memory that this process may use."""
    with (
        Topology.for_binding(NODE, LAST) as topology,
        pytest.raises(BindingError, match=rf"memory policy bind: no memory of the nodes of CPUs {LAST} may be used"),
    ):
        apply(topology, Binding(0, cpuset=LAST, nodeset=NodeSet(), memory=MemoryPolicy.BIND))
    assert (shown().split()[0], CpuSet(os.sched_getaffinity(0))) == ("default", BEFORE)


def test_the_kernel_moves_pages_or_says_why_not() -> None:
    """To where they are there is nothing to do; and of a process that is not there."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    assert migrate_pages(NODE, NODE, 0) == 0
    with pytest.raises(HwlocError, match=rf"migrate_pages of 4194303 from NUMA nodes {NODE} to {NODE}") as refused:
        migrate_pages(NODE, NODE, 4194303)
    assert refused.value.errno == errno.ESRCH
