"""What around a process may defeat its binding, as the kernel tells it: read, and never written.

The rule that makes findings of it is `hwnuma.processes.defeaters`.
"""

from __future__ import annotations

from hwnuma.model.bitmap import NodeSet
from hwnuma.model.facts import KernelSettings
from hwnuma.model.numbers import whole_number
from hwnuma.model.value import Value
from hwnuma.processes import procfs
from hwnuma.processes.kernel_settings import read_kernel_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    from hwnuma.processes.procfs import NodeMemory
    from hwnuma.processes.verification import Expected

    _T = TypeVar("_T")

# Variables by which a program places threads itself: libgomp's manual, section "Environment Variables"; LLVM's OpenMP
# runtime (KMP_AFFINITY); NCCL's manual, section "Environment Variables".
THREAD_VARIABLES = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "NCCL_IGNORE_CPU_AFFINITY")

# What of memory is not the program's to move: cudaHostAlloc and cudaMallocHost give shared memory without a file, which
# the kernel counts as RssShmem and not as locked (MakazhanAlpamys/Soup#655), in a process that has the driver open.
_DRIVER_FILE, _SHARED_WITHOUT_FILE = " file=/dev/nvidia", " file=/dev/zero\\040(deleted)"


class PinnedMemory(Value):
    """Memory of a process that the kernel cannot move to another node, in bytes.

    Attributes:
        by_node: locked memory (mlock), and what CUDA pins, by the NUMA node that it is on.
        elsewhere: memory that a device pins (RDMA, VFIO, io_uring): the kernel tells how much, and not where.
    """

    by_node: Mapping[int, int] = {}
    elsewhere: int = 0

    def outside(self, nodeset: NodeSet) -> int:
        """How much of it is known to be on other nodes than these."""
        return sum(size for node, size in self.by_node.items() if node not in nodeset)


class Conditions(Value):
    """What around one process may defeat its binding; what the kernel does not tell is None or empty.

    Attributes:
        nodes: the machine's NUMA nodes that have memory.
        home: those of its CPUs.
        near: where its memory is well: these, what is expected, and nodes of memory alone near them.
        allowed: those that it may have memory of.
        home_memory: how full those of its CPUs are.
        pinned: its memory that stays where it is.
        settings: the kernel's.
        variables: those of its environment that place threads (`THREAD_VARIABLES`), and are not empty.
    """

    nodes: NodeSet = NodeSet()
    home: NodeSet = NodeSet()
    near: NodeSet = NodeSet()
    allowed: NodeSet | None = None
    home_memory: tuple[NodeMemory, ...] = ()
    pinned: PinnedMemory | None = None
    settings: KernelSettings = KernelSettings()
    variables: Mapping[str, str] = {}


def read_conditions(pid: int, expected: Expected, variables: Mapping[str, str] | None = None) -> Conditions:
    """Read what around a process may defeat its binding.

    Args:
        pid: the process.
        expected: where it should be.
        variables: its environment, if that is not what it was started with.
    """
    said = _environment(pid) if variables is None else variables
    nodes = procfs.nodes_with_memory()
    home = procfs.nodes_of_cpus(expected.cpuset) & nodes
    return Conditions(
        nodes=nodes,
        home=home,
        near=home | expected.nodeset | expected.near_memory_nodes,
        allowed=procfs.allowed_nodes(pid),
        home_memory=tuple(filter(None, map(procfs.node_memory, home))),
        pinned=pinned_memory(pid),
        settings=read_kernel_settings(),
        variables={name: said[name] for name in THREAD_VARIABLES if said.get(name)},
    )


def _environment(pid: int) -> Mapping[str, str]:
    """What a process was started with: none of these variables names a file, so another user's may be read too."""
    try:
        return procfs.environment(pid)
    except OSError:
        return {}


# ---- pinned memory -------------------------------------------------------------------------------------------


def pinned_memory(pid: int | None = None) -> PinnedMemory | None:
    """Where the memory of a process is that the kernel cannot move, or None if the kernel does not tell.

    Which mappings are locked stands in smaps, which takes as long as numa_maps: it is read only if any is.
    """
    process = "/proc/self" if pid is None else f"/proc/{pid}"
    try:
        locked: frozenset[str] = frozenset()
        if _size_of_status(pid, "VmLck"):
            locked = _of_lines(f"{process}/smaps", locked_mappings)
        return _of_lines(
            f"{process}/numa_maps", lambda lines: count_pinned(lines, locked, _size_of_status(pid, "VmPin"))
        )
    except OSError:
        return None


def _of_lines(path: str, read: Callable[[Iterable[str]], _T]) -> _T:
    with open(path, errors="replace", newline="\n") as lines:  # noqa: PTH123 -- as procfs opens it
        return read(lines)


def _size_of_status(pid: int | None, name: str) -> int:
    text = procfs.status(pid, name)
    return 0 if text is None else whole_number(text.removesuffix("kB").strip(), f"{name} of a process") * 1024


def locked_mappings(smaps: Iterable[str]) -> frozenset[str]:
    """The first addresses of the mappings that are locked, of the lines of a smaps (VmFlags has ``lo``)."""
    locked, first = [], ""
    for line in smaps:
        head, _, rest = line.partition(" ")
        if head == "VmFlags:":
            locked += [first] if "lo" in rest.split() else []
        elif not head.endswith(":"):
            first = head.partition("-")[0]
    return frozenset(locked)


def count_pinned(numa_maps: Iterable[str], locked: frozenset[str], elsewhere: int) -> PinnedMemory:
    """Add up the pages of locked mappings, and of what CUDA pins where its driver is open, of a numa_maps' lines.

    Args:
        numa_maps: its lines.
        locked: the first addresses of the locked mappings.
        elsewhere: how many bytes devices have pinned.
    """
    kept: list[str] = []
    shared: list[str] = []
    has_driver = False
    for line in numa_maps:
        has_driver = has_driver or _DRIVER_FILE in line
        if line.partition(" ")[0] in locked:
            kept.append(line)
        elif _SHARED_WITHOUT_FILE in line:
            shared.append(line)
    pages = procfs.count_pages(kept + (shared if has_driver else []))
    nodes = {*pages.own, *pages.shared}
    by_node = {node: pages.own.get(node, 0) + pages.shared.get(node, 0) for node in sorted(nodes)}
    return PinnedMemory(by_node, elsewhere)
