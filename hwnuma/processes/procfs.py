"""What the kernel says of processes and their memory, in /proc and /sys. It only reads, and binds nothing.

`hwnuma exec` imports it once a worker, so it does without what is slow to import: re, and pathlib.
"""

from __future__ import annotations

import errno
import os

from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.numbers import whole_number
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NODES = "/sys/devices/system/node"

# PID_MAX_LIMIT of 64-bit Linux (linux/threads.h); /proc/sys/kernel/pid_max may be lower, and can be raised to it.
LARGEST_PID = 1 << 22

# An exec takes at most 6 MiB of arguments and environment (fs/exec.c). But a process may point the kernel at any part
# of its memory instead (PR_SET_MM_MAP).
_MOST_ENVIRONMENT = 8 << 20

# The words of numa_maps (Linux, mpol_to_str). The one that begins like another is ahead of it.
_POLICIES = {
    "default": MemoryPolicy.NONE,
    "local": MemoryPolicy.NONE,
    "prefer (many)": MemoryPolicy.PREFERRED,
    "prefer": MemoryPolicy.PREFERRED,
    "bind": MemoryPolicy.BIND,
    "interleave": MemoryPolicy.INTERLEAVE,
    "weighted interleave": MemoryPolicy.INTERLEAVE,
}

# The kernel writes a policy into a buffer of 64 characters and cuts what is longer (fs/proc/task_mmu.c), so one that
# fills it may have lost nodes. An address of 16 digits, a blank, the policy and a blank is all that is read.
_LONGEST_POLICY = 63
_POLICY_BYTES = 16 + 1 + _LONGEST_POLICY + 1


# A node with less than this share of its memory to be had is nearly full: a policy of `bind` ends in an OOM kill there.
_NEARLY_FULL = 0.10


class ThreadPolicy(Value):
    """A thread's memory policy as numa_maps shows it; no nodes with the default."""

    policy: MemoryPolicy
    nodeset: NodeSet

    def __str__(self) -> str:
        return f"{self.policy}:{self.nodeset}" if self.nodeset else str(self.policy)


class Pages(Value):
    """Where a process's memory is, in bytes by NUMA node.

    Attributes:
        own: private memory: heaps, stacks, what a program allocates.
        shared: memory with a file behind it: programs, libraries, mapped files, shared memory. It may be on a node
            because of another process.
    """

    own: Mapping[int, int] = {}
    shared: Mapping[int, int] = {}

    def own_outside(self, nodeset: NodeSet) -> int:
        """How many bytes of private memory are on other nodes than these."""
        return sum(size for node, size in self.own.items() if node not in nodeset)

    @property
    def own_total(self) -> int:
        """How many bytes of private memory there are."""
        return sum(self.own.values())


# ---- processes and threads -----------------------------------------------------------------------------------


def process_id(text: str) -> int:
    """Read the number of a process.

    Raises:
        OptionError: no process has such a number; to the kernel's calls, 0 is whoever calls them.
    """
    return whole_number(text, "PID", 1, LARGEST_PID)


def check_process_id(pid: int) -> int:
    """Return a number if it can be that of a process.

    Raises:
        OptionError: it cannot.
    """
    return process_id(str(pid))


def thread_ids(pid: int | None = None) -> list[int]:
    """The threads of a process (None: this one), by the kernel's numbers, ascending.

    Raises:
        FileNotFoundError: /proc is not mounted, or is that of another PID namespace, whose numbers are not ours.
        ProcessLookupError: there is no such process.
        PermissionError: /proc is mounted with hidepid, and the process is another user's.
    """
    _see_that_proc_is_ours()
    try:
        names = os.listdir(f"{_process(pid)}/task")
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, f"there is no process {pid} in /proc") from None
    return sorted(whole_number(name, "a thread in /proc", 1) for name in names)


def _see_that_proc_is_ours() -> None:
    try:
        here = os.readlink("/proc/self")
    except OSError:
        text = "/proc is not mounted here (mount -t proc proc /proc), or does not show this process"
        raise FileNotFoundError(errno.ENOENT, text) from None
    if here != str(os.getpid()):
        text = (
            f"/proc is that of another PID namespace, in which this process is {here} and not {os.getpid()}: mount its "
            "own (unshare --mount-proc)"
        )
        raise FileNotFoundError(errno.ENOENT, text)


def thread_name(pid: int, thread: int) -> str:
    """A thread's name, or "" if it has ended."""
    try:
        return _beginning(f"{_process(pid)}/task/{thread}/comm", 64).decode(errors="replace").strip()
    except OSError:
        return ""


def owner(pid: int) -> int | None:
    """The user id of a process, or None if it cannot be known."""
    try:
        return os.stat(_process(pid)).st_uid
    except OSError:
        return None


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; what it has changed since is not in it.

    Raises:
        OSError: there is no such process, or it is another user's; or its environment is larger than any can be.
    """
    content = _beginning(f"{_process(pid)}/environ", _MOST_ENVIRONMENT + 1)
    if len(content) > _MOST_ENVIRONMENT:
        raise OSError(errno.E2BIG, f"the environment of process {pid} is larger than {_MOST_ENVIRONMENT} bytes")
    pieces = content.split(b"\0")
    pairs = (os.fsdecode(piece).partition("=") for piece in pieces if b"=" in piece)
    return {name: value for name, _, value in pairs}


def status(pid: int | None, name: str) -> str | None:
    """A line of a process's status (None: this one's), without its name; None if the kernel does not tell."""
    try:
        text = _content(f"{_process(pid)}/status").decode(errors="replace")
    except OSError:
        return None
    start = f"{name}:"
    return next((line.removeprefix(start).strip() for line in text.split("\n") if line.startswith(start)), None)


def flags(pid: int) -> int | None:
    """The kernel's flags of a process (PF_…, linux/sched.h), or None if it does not tell."""
    fields = _stat(pid)
    return whole_number(fields[9 - _STAT_FROM], f"the flags of /proc/{pid}/stat") if fields else None


def start_time(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks since boot: with its number, no other process has that.

    None if there is none, or if it has ended, all its threads, and nobody has asked for its exit status yet.
    """
    fields = _stat(pid)
    if not fields or (fields[0] in "ZX" and int(fields[20 - _STAT_FROM]) <= 1):
        return None
    return whole_number(fields[22 - _STAT_FROM], f"the start of /proc/{pid}/stat")


def parents() -> dict[int, int]:
    """The parent of every process that there is now."""
    found = {}
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else []
        if fields:
            found[int(name)] = whole_number(fields[4 - _STAT_FROM], f"the parent of /proc/{name}/stat")
    return found


# The number in proc(5) of the first field that `_stat` gives.
_STAT_FROM = 3


def _stat(pid: int) -> list[str]:
    """The fields of a process's stat from its state on; none if the kernel does not tell."""
    try:
        text = _content(f"{_process(pid)}/stat").decode(errors="replace")
    except OSError:
        return []
    # The second field is the name in brackets, which may hold blanks and brackets.
    return text.rpartition(")")[2].split()


def affinity(thread: int) -> CpuSet:
    """The CPUs that a thread may run on (sched_getaffinity; of any user's).

    Raises:
        ProcessLookupError: there is no such thread.
        PermissionError: a seccomp profile denies the call.
    """
    return CpuSet(os.sched_getaffinity(thread))


# ---- memory policies and pages -------------------------------------------------------------------------------


def thread_policy(thread: int, pid: int | None = None) -> ThreadPolicy | None:
    """A thread's memory policy, from the first line of its numa_maps; None if that cannot be read.

    One read of no more bytes than are wanted: the kernel walks all pages of as many mappings as it takes to fill what
    it is asked for, so that a buffered line costs milliseconds a thread, and more as the heap grows.
    """
    try:
        line = _beginning(f"{_process(pid)}/task/{thread}/numa_maps", _POLICY_BYTES)
    except OSError:
        return None
    return parse_policy(line.decode(errors="replace"))


def parse_policy(line: str) -> ThreadPolicy | None:
    """Read the policy of a line of numa_maps; None if it is none that is known, or has been cut."""
    policy, text, _ = _policy_and_rest(line)
    if policy is None or len(text) >= _LONGEST_POLICY:
        return None
    return ThreadPolicy(policy, NodeSet(text.partition(":")[2]))


def _policy_and_rest(line: str) -> tuple[MemoryPolicy | None, str, str]:
    """Take apart a line of numa_maps: after the address, the policy with its flags and nodes, and what else it says."""
    _, _, said = line.rstrip("\n").partition(" ")
    for name, policy in _POLICIES.items():
        more, blank, rest = said.removeprefix(name).partition(" ")
        if said.startswith(name) and (not more or more[0] in "=:"):
            return policy, name + more, blank + rest
    return None, "", ""


def pages(pid: int | None = None) -> Pages:
    """Count where the memory of a process (None: this one) is; takes about a second for 100 GiB of small pages.

    Raises:
        OSError: numa_maps is not there (a sandbox such as gVisor, a kernel without NUMA), or is another user's.
        OptionError: it holds what is no number.
    """
    # No other line ends than the kernel's: a file's name may hold a carriage return.
    with open(f"{_process(pid)}/numa_maps", errors="replace", newline="\n") as lines:
        return count_pages(lines)


def count_pages(lines: Iterable[str]) -> Pages:
    """Add up the lines of a numa_maps.

    Raises:
        OptionError: a count is no number.
    """
    own: dict[int, int] = {}
    shared: dict[int, int] = {}
    for line in lines:
        _, _, rest = _policy_and_rest(line)
        page_size, found = 4 * 1024, []
        for word in rest.split(" "):
            name, is_count, number = word.partition("=")
            if name == "kernelpagesize_kB":
                page_size = whole_number(number, "a page size of numa_maps") * 1024
            elif is_count and name[:1] == "N":
                found.append((whole_number(name[1:], "a node of numa_maps"), whole_number(number, "a page count")))
        counts = shared if " file=" in rest else own
        for node, number_of_pages in found:
            counts[node] = counts.get(node, 0) + number_of_pages * page_size
    return Pages(own, shared)


def allowed_nodes(pid: int | None = None) -> NodeSet | None:
    """The NUMA nodes that a process may have memory of (Mems_allowed_list), or None if the kernel does not tell."""
    nodes = status(pid, "Mems_allowed_list")
    return None if nodes is None else NodeSet(nodes)


# ---- nodes ---------------------------------------------------------------------------------------------------


def nodes_with_memory() -> NodeSet:
    """The NUMA nodes that have memory; those that are online where the kernel does not tell."""
    try:
        return NodeSet(_content(f"{_NODES}/has_memory").decode())
    except OSError:
        return online_nodes()


def nodes_of_cpus(cpuset: CpuSet) -> NodeSet:
    """The NUMA nodes that these CPUs belong to, as the kernel's ``nodeN/cpulist`` has them."""
    found = []
    for node in online_nodes():
        try:
            cpus = CpuSet(_content(f"{_NODES}/node{node}/cpulist").decode())
        except OSError:
            continue
        if not cpus.isdisjoint(cpuset):
            found.append(node)
    return NodeSet(found)


def online_nodes() -> NodeSet:
    """The NUMA nodes that are online; node 0 where the kernel does not tell."""
    try:
        return NodeSet(_content(f"{_NODES}/online").decode())
    except OSError:
        return NodeSet([0])


class NodeMemory(Value):
    """A NUMA node's memory in bytes: all, what is free, and what holds file pages that can be dropped."""

    node: int
    total: int
    free: int
    reclaimable: int

    @property
    def is_nearly_full(self) -> bool:
        """Whether less than a tenth of it is to be had."""
        return self.free + self.reclaimable < _NEARLY_FULL * self.total


def node_memory(node: int) -> NodeMemory | None:
    """How much memory of a node is free now, or None if the kernel does not tell."""
    try:
        text = _content(f"{_NODES}/node{node}/meminfo").decode()
    except OSError:
        return None
    return parse_node_memory(node, text)


def parse_node_memory(node: int, text: str) -> NodeMemory:
    """Read a node's meminfo, whose lines are such as ``Node 0 MemFree:  1048576 kB``."""
    sizes: dict[str, int] = {}
    for line in text.split("\n"):
        head, _, size = line.partition(":")
        if size:
            sizes[head.rpartition(" ")[2]] = (
                whole_number(size.removesuffix("kB"), f"a size of node {node}'s meminfo") * 1024
            )
    dropped = sizes.get("Active(file)", 0) + sizes.get("Inactive(file)", 0)
    return NodeMemory(node, sizes.get("MemTotal", 0), sizes.get("MemFree", 0), dropped)


# ---- files ---------------------------------------------------------------------------------------------------


def _process(pid: int | None) -> str:
    return "/proc/self" if pid is None else f"/proc/{pid}"


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _beginning(path: str, size: int) -> bytes:
    """What one read of at most this many bytes gives."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)
