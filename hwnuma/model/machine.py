"""Machine: the frozen picture of a topology that all planning is done on.

Everything here is a value: comparable, picklable, and valid long after the libhwloc topology that it was
copied from is gone. All indexes are OS indexes (the kernel's), all sizes are bytes.
"""

from __future__ import annotations

from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.consistency import check_machine
from hwnuma.model.value import Value, cached_property, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hwnuma.model.digest import MachineDigest
    from hwnuma.model.facts import Facts  # a field's type, as the next: at run time only who has any needs it
    from hwnuma.model.nic import Nic


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


HOST_BRIDGE = "host "


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
        bridges: the bridges above it, the nearest first: PCI-to-PCI ones by their address, a host bridge as
            `HOST_BRIDGE` and its domain and first bus. Empty if the topology does not tell, or was not asked.
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
    bridges: tuple[str, ...] = ()


class Distances(Value):
    """The kernel's NUMA distances: ``values[i][j]`` is that from ``nodes[i]`` to ``nodes[j]`` (10 is local)."""

    nodes: tuple[int, ...] = ()
    values: tuple[tuple[int, ...], ...] = ()

    def between(self, node: int, other: int) -> int | None:
        """The distance from a node to another, both by OS index; None if the machine does not tell."""
        row, column = self._places.get(node), self._places.get(other)
        return None if row is None or column is None else self.values[row][column]

    @cached_property
    def _places(self) -> dict[int, int]:
        return {node: place for place, node in enumerate(self.nodes)}


class Machine(Value):
    """What planning needs to know of a machine.

    Attributes:
        source: where this picture comes from, for people: "this system", a file name, …
        is_this_system: whether libhwloc says that it describes the running system, so that binding works.
        cpuset: all CPUs that are online, disallowed ones included.
        allowed_cpuset: the CPUs that may be used (libhwloc's allowed set, from the cgroup; the process's
            own affinity is not in it until `narrowed` is called with it).
        allowed_nodeset: the NUMA nodes whose memory may be used.
        packages: sorted by OS index.
        numa_nodes: likewise.
        last_level_caches: the highest-level data or unified cache over each CPU, by the lowest CPU.
        cores: by the lowest CPU.
        pci_devices: by PCI address.
        distances: between NUMA nodes, where known.
        cpu_kinds: sets of CPUs of one kind, from the most power-efficient to the fastest; empty if all
            are alike or libhwloc cannot rank them (hwloc_cpukinds_get_info).
        nics: the network cards' devices, by PCI address and name; empty if the topology was not asked for them.
        isolated_cpuset: the CPUs that the kernel keeps its scheduler off (``isolcpus=``); known of this system, and of
            one that was captured with its facts.
        hwloc_version: the libhwloc that read the topology.
        facts: what was captured beside the topology of another system, such as its GPUs as the driver told them; None
            for this system, which can be asked itself, and where nothing was kept.
        core_speeds: sets of CPUs from the slowest to the fastest, by the firmware's word where libhwloc has none; empty
            if nobody asked, or if all are alike (`hwnuma.hwloc.core_speeds`).
        device_nodes: NUMA node by PCI address, by the kernel's word where libhwloc knows no place of a device: one on a
            node of memory alone (`hwnuma.hwloc.device_nodes`).
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
    nics: tuple[Nic, ...] = ()
    facts: Facts | None = None
    core_speeds: tuple[CpuSet, ...] = ()
    device_nodes: tuple[tuple[str, int], ...] = ()

    @property
    def called(self) -> str:
        """What sentences of a plan call it: the same on the machine itself and elsewhere, of its capture."""
        return "this system" if self.is_this_system or self.facts is not None else self.source

    @property
    def digest(self) -> MachineDigest:
        """What it is, the same on the machine itself and of its capture; it has to be loaded with its PCI devices."""
        from hwnuma.model.digest import MachineDigest  # only for plans: who binds has no use for it

        return MachineDigest(self)

    def checked(self) -> Machine:
        """The machine itself, if it makes sense. It is looked at once; `narrowed` ones are not looked at again.

        Raises:
            TopologyFileError: its objects contradict each other: two cores that share a CPU, and the like.
        """
        _ = self._directory
        return self

    @property
    def cpu_nodes(self) -> tuple[NumaNode, ...]:
        """The NUMA nodes that have CPUs: those that planning is done on."""
        return self._directory.cpu_nodes

    @property
    def memory_nodes(self) -> tuple[NumaNode, ...]:
        """The NUMA nodes of memory alone."""
        return self._directory.memory_nodes

    def numa_node(self, os_index: int) -> NumaNode | None:
        """The NUMA node with this OS index, or None."""
        return self._directory.nodes.get(os_index)

    def pci_device(self, address: str) -> PciDevice | None:
        """The PCI device with this (normalised) address, or None.

        Several can have it in files that people have edited: it is then near the CPUs of all, and unless that is one
        place, nothing is known of its locality.
        """
        return self._directory.pci_devices.get(address)

    def nodes_of(self, cpuset: CpuSet) -> tuple[NumaNode, ...]:
        """The NUMA nodes that any of these CPUs belongs to, in order."""
        mask = cpuset.mask
        return tuple([node for node, of_node in self._directory.masks_of_nodes if of_node & mask])

    def package_cpus(self, node: NumaNode) -> CpuSet:
        """The CPUs of every package that a node touches, and of the node; all, if the machine tells no packages."""
        around = self._directory.package_cpus_by_node
        if node.os_index not in around:
            touched = [package.cpuset for package in self.packages if not package.cpuset.isdisjoint(node.cpuset)]
            around[node.os_index] = union((*touched, node.cpuset)) if self.packages else self.cpuset
        return around[node.os_index]

    def caches_of(self, cpuset: CpuSet) -> list[Cache]:
        """The last-level caches over any of these CPUs."""
        directory = self._directory
        return [directory.caches[place] for place in _owners(directory.cache_of_cpu, cpuset)]

    def cores_within(self, cpuset: CpuSet) -> Iterator[Core]:
        """The cores of which at least one thread is in the set, each cut down to those threads.

        In order of the core's lowest CPU, disallowed ones counted: torch's order
        (torch/numa/binding.py sorts by the lowest entry of ``thread_siblings_list``).
        """
        for place in _owners(self._directory.core_of_cpu, cpuset):
            core = self.cores[place]
            yield Core(core.os_index, core.cpuset & cpuset)

    def core_masks_within(self, cpuset: CpuSet) -> list[int]:
        """The threads of each core of `cores_within`, as a bit mask."""
        cores, mask = self.cores, cpuset.mask
        return [cores[place].cpuset.mask & mask for place in _owners(self._directory.core_of_cpu, cpuset)]

    def count_cores(self, cpuset: CpuSet) -> int:
        """How many cores have at least one thread in the set."""
        return len(_owners(self._directory.core_of_cpu, cpuset))

    def narrowed(self, cpuset: CpuSet) -> Machine:
        """The same machine with fewer allowed CPUs: never more than before."""
        if self.allowed_cpuset <= cpuset:
            return self
        return self._changed(allowed_cpuset=self.allowed_cpuset & cpuset)

    def with_core_speeds(self, core_speeds: tuple[CpuSet, ...]) -> Machine:
        """The same machine, of which it is known how fast its cores are."""
        return self._changed(core_speeds=core_speeds)

    def _changed(self, **changes: object) -> Machine:
        """The same machine with other fields, of which the directory knows nothing."""
        changed = replace(self, **changes)
        changed.__dict__["_directory"] = self._directory
        return changed

    def __getstate__(self) -> dict[str, object]:
        """The fields alone: what is worked out from them is worked out, and checked, where they arrive."""
        return {name: self.__dict__[name] for name in self._fields}

    @cached_property
    def _directory(self) -> _Directory:
        check_machine(self)
        return _Directory(self)


class _Directory:
    """What is looked up in a machine again and again, whichever of its CPUs are allowed. Made as it is asked for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.cpu_nodes = tuple([node for node in machine.numa_nodes if node.cpuset])
        # There are few nodes: looking at each takes less than a table of CPUs, as cores and caches have it.
        self.masks_of_nodes = [(node, node.cpuset.mask) for node in self.cpu_nodes]
        self.memory_nodes = tuple([node for node in machine.numa_nodes if not node.cpuset])
        self.nodes = {node.os_index: node for node in machine.numa_nodes}
        self.package_cpus_by_node: dict[int, CpuSet] = {}

    @cached_property
    def pci_devices(self) -> dict[str, PciDevice]:
        """By address; of several with one address, all in one."""
        found: dict[str, PciDevice] = {}
        for device in self._machine.pci_devices:
            other = found.setdefault(device.address, device)
            if other.near_cpuset != device.near_cpuset:
                found[device.address] = replace(
                    other,
                    near_cpuset=other.near_cpuset | device.near_cpuset,
                    near_nodeset=other.near_nodeset | device.near_nodeset,
                    is_near_root=True,
                )
        return found

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """From the smallest up: where they nest, the largest over a CPU is its owner."""
        return tuple(sorted(self._machine.last_level_caches, key=lambda cache: len(cache.cpuset)))

    @cached_property
    def core_of_cpu(self) -> list[int]:
        """For each CPU number the place of its core in the machine's `cores`."""
        return self._owner_of_cpu(self._machine.cores)

    @cached_property
    def cache_of_cpu(self) -> list[int]:
        """For each CPU number the place of its last-level cache in `caches`."""
        return self._owner_of_cpu(self.caches)

    def _owner_of_cpu(self, owners: Iterable[Core | Cache]) -> list[int]:
        owner_of_cpu = [_NOBODY] * (self._machine.cpuset.last + 1)
        for place, owner in enumerate(owners):
            mask = owner.cpuset.mask
            while mask:  # highest bit first: a third of the time that iterating over the set takes
                cpu = mask.bit_length() - 1
                owner_of_cpu[cpu] = place
                mask ^= 1 << cpu
        return owner_of_cpu


_NOBODY = -1


def _owners(owner_of_cpu: Sequence[int], cpuset: CpuSet) -> list[int]:
    """The places of the owners of these CPUs, in order."""
    owners: set[int] = set()
    for first, last in cpuset.ranges():
        owners.update(owner_of_cpu[first : last + 1])
    owners.discard(_NOBODY)
    return sorted(owners)
