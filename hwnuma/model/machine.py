"""Machine: the frozen picture of a topology that all planning is done on.

Everything here is a value: comparable, picklable, and valid long after the libhwloc topology that it was
copied from is gone. All indexes are OS indexes (the kernel's), all sizes are bytes.
"""

from __future__ import annotations

from functools import cached_property

from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Package(Value):
    """A processor package (socket)."""

    os_index: int
    cpuset: CpuSet


class NumaNode(Value):
    """A NUMA node, with the CPUs that belong to it and the CPUs that are near it.

    Attributes:
        os_index: the kernel's number of the node.
        cpuset: the CPUs that belong to the node, as the kernel's ``nodeN/cpulist`` has them. Empty for a
            node of memory alone (GPU memory, CXL, HBM).
        near_cpuset: the CPUs that libhwloc names as nearest; for a node with CPUs the same as ``cpuset``.
        memory: size of the node's memory in bytes; 0 if not known.
        subtype: libhwloc's word for the kind of memory ("GPUMemory", "HBM", "MCDRAM", …), or "".
    """

    os_index: int
    cpuset: CpuSet
    near_cpuset: CpuSet
    memory: int = 0
    subtype: str = ""


class Cache(Value):
    """A data or unified cache and all the CPUs that share it."""

    level: int
    cpuset: CpuSet


class Core(Value):
    """A core with all its hardware threads, allowed or not (offline ones are left out)."""

    os_index: int
    cpuset: CpuSet


class PciDevice(Value):
    """A PCI device and where it hangs in the topology.

    Attributes:
        address: ``domain:bus:device.function`` in lower-case hexadecimal, domain of at least four digits.
        class_id: the 16-bit PCI class (0x0302: a 3D controller).
        near_type: libhwloc's type name of the device's first ancestor that is no I/O object ("Package",
            "Group", "L3Cache", "Machine", …).
        near_cpuset: that ancestor's CPUs, disallowed ones included. It may be part of a node, one
            node, several nodes or nothing at all: see `hwnuma.policy.locality`.
        near_nodeset: that ancestor's NUMA nodes.
        name: the model's name, if the topology has it.
        is_near_root: the ancestor is the root of the topology, so nothing is known of the locality.
    """

    address: str
    vendor_id: int
    device_id: int
    class_id: int
    near_type: str
    near_cpuset: CpuSet
    near_nodeset: NodeSet
    name: str = ""
    is_near_root: bool = False


class Distances(Value):
    """The kernel's NUMA distances: ``values[i][j]`` is that from ``nodes[i]`` to ``nodes[j]`` (10 is local)."""

    nodes: tuple[int, ...] = ()
    values: tuple[tuple[int, ...], ...] = ()

    def between(self, node: int, other: int) -> int | None:
        """The distance from a node to another, both by OS index; None if the machine does not tell."""
        if node not in self.nodes or other not in self.nodes:
            return None
        return self.values[self.nodes.index(node)][self.nodes.index(other)]


class Machine(Value):
    """What planning needs to know of a machine.

    Attributes:
        source: where this picture comes from, for people: "this system", a file name, …
        is_this_system: whether libhwloc says that it describes the running system, so that binding works.
        cpuset: all CPUs that are online, disallowed ones included.
        allowed_cpuset: the CPUs that may be used (libhwloc's allowed set, from the cgroup; the process's
            own affinity is not in it until `narrowed` is called with it).
        allowed_nodeset: the NUMA nodes whose memory may be used.
        packages, numa_nodes, last_level_caches, cores, pci_devices: sorted by OS index, lowest CPU or
            PCI address. The caches are the highest-level data or unified cache over each CPU.
        distances: between NUMA nodes, where known.
        cpu_kinds: sets of CPUs of one kind, from the most power-efficient to the fastest; empty if all
            are alike or libhwloc cannot rank them (hwloc_cpukinds_get_info).
        isolated_cpuset: the CPUs that the kernel keeps its scheduler off (``isolcpus=``); known of this system only.
        hwloc_version: the libhwloc that read the topology.
    """

    source: str
    is_this_system: bool
    cpuset: CpuSet
    allowed_cpuset: CpuSet
    allowed_nodeset: NodeSet
    packages: tuple[Package, ...]
    numa_nodes: tuple[NumaNode, ...]
    last_level_caches: tuple[Cache, ...]
    cores: tuple[Core, ...]
    pci_devices: tuple[PciDevice, ...] = ()
    distances: Distances = Distances()
    cpu_kinds: tuple[CpuSet, ...] = ()
    isolated_cpuset: CpuSet = CpuSet()
    hwloc_version: str = ""

    @cached_property
    def cpu_nodes(self) -> tuple[NumaNode, ...]:
        """The NUMA nodes that have CPUs: those that planning is done on."""
        return tuple(node for node in self.numa_nodes if node.cpuset)

    def numa_node(self, os_index: int) -> NumaNode | None:
        """The NUMA node with this OS index, or None."""
        return next((node for node in self.numa_nodes if node.os_index == os_index), None)

    def pci_device(self, address: str) -> PciDevice | None:
        """The PCI device with this (normalised) address, or None."""
        return self._pci_devices_by_address.get(address)

    @cached_property
    def _pci_devices_by_address(self) -> dict[str, PciDevice]:
        return {device.address: device for device in self.pci_devices}

    def cores_within(self, cpuset: CpuSet) -> Iterator[Core]:
        """The cores of which at least one thread is in the set, each cut down to those threads.

        In order of the core's lowest CPU, disallowed ones counted: torch's order
        (torch/numa/binding.py sorts by the lowest entry of ``thread_siblings_list``).
        """
        for core in self.cores:
            threads = core.cpuset & cpuset
            if threads:
                yield Core(core.os_index, threads)

    def narrowed(self, cpuset: CpuSet) -> Machine:
        """The same machine with fewer allowed CPUs: never more than before."""
        return replace(self, allowed_cpuset=self.allowed_cpuset & cpuset)
