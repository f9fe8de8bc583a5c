"""Memory of this process on a NUMA node that is chosen, and the proof that it is there, for copies to GPUs."""

from __future__ import annotations

import ctypes
import mmap

from hwnuma.errors import BindingError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value
from hwnuma.processes import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.machine import NumaNode


class Spot(Value):
    """Where a thread that works with memory is to be, and its memory.

    Attributes:
        node: the memory's NUMA node; None leaves it to the kernel.
        cpuset: the thread's CPUs; empty leaves them as they are.
    """

    node: int | None = None
    cpuset: CpuSet = CpuSet()

    @classmethod
    def on(cls, node: NumaNode, allowed: CpuSet) -> Spot:
        """On a node: its memory, and of the CPUs near it those that are allowed."""
        return cls(node.os_index, node.near_cpuset & allowed)

    def take(self, topology: Topology) -> None:
        """Put the calling thread there, for good: it is to be one that ends afterwards.

        Raises:
            HwlocError: the kernel refused.
        """
        if self.cpuset:
            topology.set_thread_cpubind(self.cpuset)
        if self.node is not None:
            topology.set_membind(NodeSet([self.node]), MemoryPolicy.BIND)


class HostMemory:
    """Memory that is touched, each page, where the calling thread's policy puts it.

    It is a mapping of shared memory without a name: the kernel merges private ones that are next to each other, and
    where the pages of one of them are could not be told any more.

    Attributes:
        address: where it begins.
        size: in bytes.
        nodes: how many of its bytes are on which NUMA node; empty where the kernel does not tell.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._mapping = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self._view = ctypes.c_char.from_buffer(self._mapping)
        self.address: int = ctypes.addressof(self._view)
        ctypes.memset(self.address, 1, size)
        self.nodes: dict[int, int] = _nodes_of_mapping(self.address)

    def check(self, node: int | None) -> None:
        """See that all of it is on a node.

        Raises:
            BindingError: some of it is not.
        """
        if node is not None and self.nodes and self.nodes.keys() != {node}:
            there = ", ".join(f"{size >> 20} MiB on {other}" for other, size in sorted(self.nodes.items()))
            raise BindingError(None, f"memory that was bound to NUMA node {node} is elsewhere: {there}")

    def close(self) -> None:
        """Give it back."""
        del self._view
        self._mapping.close()


def _nodes_of_mapping(address: int) -> dict[int, int]:
    """Where the pages of the mapping that begins at an address are, in bytes by node."""
    start = f"{address:08x} "
    try:
        with open("/proc/self/numa_maps", errors="replace", newline="\n") as lines:  # noqa: PTH123 -- as in procfs
            found = procfs.count_pages([line for line in lines if line.startswith(start)])
    except OSError:
        return {}
    return {**found.own, **found.shared}
