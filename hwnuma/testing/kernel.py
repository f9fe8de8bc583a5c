"""The kernel of a machine that is not there: which CPUs its threads may run on, and where their memory comes from.

It cuts what is asked for to the CPUs that are allowed, as Linux does, and refuses what leaves none.
"""

from __future__ import annotations

import errno
import os
from _thread import get_native_id
from collections.abc import Iterable

from hwnuma.environment.local_rank import local_rank_of
from hwnuma.errors import LocalRankError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.machine import Machine
from hwnuma.model.options import MemoryPolicy
from hwnuma.processes import procfs
from hwnuma.testing.record import Bound, Record


class Kernel:
    """What threads are bound to; all of it is in the record, so that other processes of the machine see it too."""

    def __init__(self, machine: Machine, affinity: CpuSet, record: Record) -> None:
        """Make one.

        Args:
            machine: with the CPUs and nodes that are allowed.
            affinity: the CPUs that whoever was not bound yet may run on.
            record: where it is written down.
        """
        self.machine = machine
        self.affinity = affinity
        self.record = record

    def get_affinity(self, thread: int = 0) -> CpuSet:
        """The CPUs that a thread may run on; 0 is the calling one. One that was not moved follows who started it.

        Raises:
            ProcessLookupError: there is no such thread.
        """
        thread = thread or get_native_id()
        found = self.record.affinity(thread)
        if found is not None:
            return found
        process: int | None = _process_of(thread)
        if process is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        while process is not None:
            found = self.record.affinity(process)
            if found is not None:
                return found
            process = _parent_of(process)
        return self.affinity

    def set_affinity(self, cpus: CpuSet, thread: int = 0) -> None:
        """Put a thread on CPUs.

        Raises:
            OSError: EINVAL: none of them is allowed.
            ProcessLookupError: there is no such thread.
        """
        thread = thread or get_native_id()
        process = _process_of(thread)
        if process is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        left = cpus & self.machine.allowed_cpuset
        if not left:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._remember_others(process)
        self.record.write("affinity", thread=thread, cpus=str(left))

    def get_policy(self) -> tuple[MemoryPolicy, NodeSet]:
        """The calling thread's memory policy; its main thread's where it has none of its own."""
        own = self.record.policy(get_native_id())
        process: int | None = os.getpid()
        while own is None and process is not None:
            own, process = self.record.policy(process), _parent_of(process)
        return own or (MemoryPolicy.NONE, NodeSet())

    def set_policy(self, memory: MemoryPolicy, nodes: NodeSet) -> None:
        """Set the calling thread's memory policy.

        Raises:
            OSError: EINVAL: none of the nodes is there.
        """
        left = nodes & self.nodes
        if memory is not MemoryPolicy.NONE and not left:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.record.write("policy", thread=get_native_id(), memory=memory.value, nodes=str(left))

    @property
    def nodes(self) -> NodeSet:
        """The NUMA nodes with memory."""
        return NodeSet(node.os_index for node in self.machine.numa_nodes)

    def sched_getaffinity(self, pid: int, /) -> set[int]:
        """Answer in the place of `os.sched_getaffinity`."""
        return set(self.get_affinity(pid))

    def sched_setaffinity(self, pid: int, mask: Iterable[int], /) -> None:
        """Record in the place of `os.sched_setaffinity`."""
        self.set_affinity(CpuSet(mask), pid)
        self.bound(pid or get_native_id(), "os.sched_setaffinity")

    def cpu_count(self) -> int:
        """Answer in the place of `os.cpu_count`."""
        return len(self.machine.cpuset)

    def process_cpu_count(self) -> int:
        """Answer in the place of `os.process_cpu_count` (Python 3.13)."""
        return len(self.get_affinity())

    def bound(self, thread: int, by: str) -> None:
        """Write down that something else than a plan has moved a thread."""
        pid = _process_of(thread) or os.getpid()
        rank = rank_here() if pid == os.getpid() else None
        memory, nodes = self.get_policy()
        cpus = self.get_affinity(thread)
        self.record.bound(Bound(pid, thread, cpus, rank, None, memory, nodes, (thread,), by))

    def _remember_others(self, process: int) -> None:
        """Write down where a process's threads are ahead of its first move: later ones follow what was moved."""
        if self.record.affinity(process) is not None:
            return
        try:
            threads = procfs.thread_ids(process)
        except OSError:
            threads = [process]
        for thread in threads:
            if self.record.affinity(thread) is None:
                self.record.write("affinity", thread=thread, cpus=str(self.get_affinity(thread)))


def rank_here() -> int | None:
    """The local rank that a launcher tells this process; None if none does."""
    try:
        return local_rank_of(os.environ).rank
    except LocalRankError:
        return None


def _process_of(thread: int) -> int | None:
    """The process of a thread; None if there is none."""
    if thread in (os.getpid(), get_native_id()):
        return os.getpid()
    return _number(thread, "Tgid")


def _parent_of(process: int) -> int | None:
    parent = os.getppid() if process == os.getpid() else _number(process, "PPid")
    return parent or None


def _number(process: int, name: str) -> int | None:
    text = procfs.status(process, name)
    return int(text) if text else None
