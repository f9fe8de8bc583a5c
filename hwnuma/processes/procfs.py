"""What the kernel says of processes and their memory, in /proc and /sys. It only reads, and binds nothing."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value

_PROC = Path("/proc")
_NODES = Path("/sys/devices/system/node")

# An address, the policy with its flags and nodes, and the rest (Linux, mpol_to_str and Documentation of numa_maps).
_MAPPING = re.compile(r"[0-9a-f]+ (prefer \(many\)|weighted interleave|[a-z]+)(?:=[a-z=|]+)?(?::([0-9,-]+))?(.*)")
_ON_NODE = re.compile(r" N(\d+)=(\d+)")
_PAGE_SIZE = re.compile(r" kernelpagesize_kB=(\d+)")
_FREE = re.compile(r"Node \d+ (\w+(?:\(\w+\))?):\s+(\d+)")

_POLICIES = {
    "default": MemoryPolicy.NONE,
    "local": MemoryPolicy.NONE,
    "prefer": MemoryPolicy.PREFERRED,
    "prefer (many)": MemoryPolicy.PREFERRED,
    "bind": MemoryPolicy.BIND,
    "interleave": MemoryPolicy.INTERLEAVE,
    "weighted interleave": MemoryPolicy.INTERLEAVE,
}


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


def thread_ids(pid: int | None = None) -> list[int]:
    """The threads of a process (None: this one), by the kernel's numbers, ascending.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        return sorted(map(int, os.listdir(_process(pid) / "task")))  # noqa: PTH208 -- names alone are wanted
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None


def thread_name(pid: int, thread: int) -> str:
    """A thread's name, or "" if it has ended."""
    try:
        return (_process(pid) / "task" / str(thread) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def owner(pid: int) -> int | None:
    """The user id of a process, or None if it cannot be known."""
    try:
        return _process(pid).stat().st_uid
    except OSError:
        return None


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; what it has changed since is not in it.

    Raises:
        OSError: there is no such process, or it is another user's.
    """
    pieces = (_process(pid) / "environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(piece).partition("=") for piece in pieces if b"=" in piece)
    return {name: value for name, _, value in pairs}


def thread_policy(thread: int, pid: int | None = None) -> ThreadPolicy | None:
    """A thread's memory policy, from the first line of its numa_maps; None if that cannot be read.

    Only that line: the kernel walks all pages of every mapping that it is asked for.
    """
    try:
        with (_process(pid) / "task" / str(thread) / "numa_maps").open() as lines:
            return parse_policy(lines.readline())
    except OSError:
        return None


def parse_policy(line: str) -> ThreadPolicy | None:
    """Read the policy of a line of numa_maps; None if it is none that is known."""
    match = _MAPPING.match(line)
    if match is None or match[1] not in _POLICIES:
        return None
    return ThreadPolicy(_POLICIES[match[1]], NodeSet(match[2] or ""))


def pages(pid: int | None = None) -> Pages:
    """Count where the memory of a process (None: this one) is; takes about a second for 100 GiB of small pages.

    Raises:
        OSError: numa_maps is not there (a sandbox such as gVisor, a kernel without NUMA), or is another user's.
    """
    with (_process(pid) / "numa_maps").open(errors="replace") as lines:
        return count_pages(lines)


def count_pages(lines: Iterable[str]) -> Pages:
    """Add up the lines of a numa_maps."""
    own: Counter[int] = Counter()
    shared: Counter[int] = Counter()
    for line in lines:
        match = _MAPPING.match(line)
        rest = match[3] if match else ""
        size = _PAGE_SIZE.search(rest)
        counts = shared if " file=" in rest else own
        for node, number in _ON_NODE.findall(rest):
            counts[int(node)] += int(number) * (int(size[1]) if size else 4) * 1024
    return Pages(dict(own), dict(shared))


def allowed_nodes(pid: int | None = None) -> NodeSet | None:
    """The NUMA nodes that a process may have memory of (Mems_allowed_list), or None if the kernel does not tell."""
    try:
        status = (_process(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    match = re.search(r"^Mems_allowed_list:\s*(\S*)", status, re.MULTILINE)
    return None if match is None else NodeSet(match[1])


def online_nodes() -> NodeSet:
    """The NUMA nodes that are online; node 0 where the kernel does not tell."""
    try:
        return NodeSet((_NODES / "online").read_text())
    except OSError:
        return NodeSet([0])


class NodeMemory(Value):
    """A NUMA node's memory in bytes: all, what is free, and what holds file pages that can be dropped."""

    node: int
    total: int
    free: int
    reclaimable: int


def node_memory(node: int) -> NodeMemory | None:
    """How much memory of a node is free now, or None if the kernel does not tell."""
    try:
        text = (_NODES / f"node{node}" / "meminfo").read_text()
    except OSError:
        return None
    return parse_node_memory(node, text)


def parse_node_memory(node: int, text: str) -> NodeMemory:
    """Read a node's meminfo."""
    sizes = {name: int(size) * 1024 for name, size in _FREE.findall(text)}
    dropped = sizes.get("Active(file)", 0) + sizes.get("Inactive(file)", 0)
    return NodeMemory(node, sizes.get("MemTotal", 0), sizes.get("MemFree", 0), dropped)


def affinity(thread: int) -> CpuSet:
    """The CPUs that a thread may run on (sched_getaffinity; of any user's).

    Raises:
        ProcessLookupError: there is no such thread.
    """
    return CpuSet(os.sched_getaffinity(thread))


def _process(pid: int | None) -> Path:
    return _PROC / ("self" if pid is None else str(pid))
