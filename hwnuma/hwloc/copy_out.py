"""Copy a libhwloc topology out into a Machine, after which the topology may go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hwnuma.hwloc.library import RUNNING_VERSION, check, ffi, lib, new_bitmap, read_bitmap, version_text
from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.gpu import pci_address_key
from hwnuma.model.machine import Cache, Core, Distances, Machine, NumaNode, Package, PciDevice

_ISOLATED = Path("/sys/devices/system/cpu/isolated")

_UNKNOWN_INDEX = (1 << 32) - 1  # HWLOC_UNKNOWN_INDEX

# What the kernel or libhwloc calls memory that is not the CPUs' own (hwloc's NUMANode subtypes).
_MEMORY_ALONE = frozenset({"GPUMemory", "MCDRAM", "HBM", "NVM", "SPM", "CXL-DRAM", "CXL-NVM"})


def copy_machine(topology: Any, source: str) -> Machine:
    """Copy all that planning needs out of a loaded topology.

    Args:
        topology: a loaded ``hwloc_topology_t``.
        source: what to call it, for people.
    """
    objects = list(_normal_objects(topology))
    root = lib.hwloc_get_root_obj(topology)
    cpuset = _cpuset(root)
    is_this_system = bool(lib.hwloc_topology_is_thissystem(topology))
    return Machine(
        source=source,
        is_this_system=is_this_system,
        cpuset=cpuset,
        allowed_cpuset=read_bitmap(CpuSet, lib.hwloc_topology_get_allowed_cpuset(topology)) & cpuset,
        allowed_nodeset=read_bitmap(NodeSet, lib.hwloc_topology_get_allowed_nodeset(topology)),
        packages=_packages(objects),
        numa_nodes=_numa_nodes(topology),
        last_level_caches=_last_level_caches(objects),
        cores=_cores(objects),
        pci_devices=_pci_devices(topology, root),
        distances=_distances(topology),
        cpu_kinds=_cpu_kinds(topology),
        isolated_cpuset=_isolated_cpus() if is_this_system else CpuSet(),
        hwloc_version=version_text(RUNNING_VERSION),
    )


def _isolated_cpus() -> CpuSet:
    """The CPUs of ``isolcpus=``, which libhwloc does not tell; none where sysfs is not mounted."""
    try:
        return CpuSet(_ISOLATED.read_text())
    except OSError:
        return CpuSet()


def _objects_at(topology: Any, depth: int) -> Iterator[Any]:
    for index in range(lib.hwloc_get_nbobjs_by_depth(topology, depth)):
        yield lib.hwloc_get_obj_by_depth(topology, depth, index)


def _normal_objects(topology: Any) -> Iterator[Any]:
    """All objects from the machine down to the PUs. By depth and not by type: cores can be at two depths."""
    for depth in range(lib.hwloc_topology_get_depth(topology)):
        yield from _objects_at(topology, depth)


def _cpuset(obj: Any) -> CpuSet:
    return read_bitmap(CpuSet, obj.cpuset)


def _os_index(obj: Any) -> int:
    return -1 if obj.os_index == _UNKNOWN_INDEX else int(obj.os_index)


def _text(characters: Any) -> str:
    return "" if characters == ffi.NULL else bytes(ffi.string(characters)).decode(errors="replace")


def _packages(objects: Iterable[Any]) -> tuple[Package, ...]:
    packages = (Package(_os_index(obj), _cpuset(obj)) for obj in objects if obj.type == lib.HWLOC_OBJ_PACKAGE)
    return tuple(sorted(packages, key=lambda package: (package.os_index, package.cpuset.first)))


def _cores(objects: Sequence[Any]) -> tuple[Core, ...]:
    """The cores; a PU that no Core object holds is a core of its own (hwloc keeps none where sysfs tells none)."""
    cores = [Core(_os_index(obj), _cpuset(obj)) for obj in objects if obj.type == lib.HWLOC_OBJ_CORE]
    threads = [Core(_os_index(obj), _cpuset(obj)) for obj in objects if obj.type == lib.HWLOC_OBJ_PU]
    in_cores = union(core.cpuset for core in cores)
    cores += [thread for thread in threads if not thread.cpuset <= in_cores]
    return tuple(sorted((core for core in cores if core.cpuset), key=lambda core: core.cpuset.first))


def _last_level_caches(objects: Iterable[Any]) -> tuple[Cache, ...]:
    """For each CPU the highest-level data or unified cache over it; the caches come out disjoint."""
    found = [Cache(int(obj.attr.cache.depth), _cpuset(obj)) for obj in objects if lib.hwnuma_is_data_cache(obj)]
    last: list[Cache] = []
    covered = CpuSet()
    for cache in sorted(found, key=lambda cache: -cache.level):
        fresh = cache.cpuset - covered
        if fresh:
            last.append(Cache(cache.level, fresh))
            covered |= fresh
    return tuple(sorted(last, key=lambda cache: cache.cpuset.first))


def _numa_nodes(topology: Any) -> tuple[NumaNode, ...]:
    """The NUMA nodes, each with the CPUs that belong to it.

    libhwloc gives a node without CPUs the cpuset of the CPUs near it. In the kernel a CPU belongs to one node,
    so of nodes whose sets overlap only one has the CPUs: memory of a special kind has not, nor has the one
    that spans more, nor the one with the higher number (firmware lists the nodes with CPUs first). One that
    spans more keeps what is left over.
    Where no node has any CPU (the saving process was allowed memory far from its CPUs only), all CPUs are equally
    far from memory, and the first node has them all.
    """
    nodes = list(_objects_at(topology, lib.HWLOC_TYPE_DEPTH_NUMANODE))
    owned: dict[int, CpuSet] = {}
    taken = CpuSet()
    for obj in sorted(nodes, key=lambda obj: (_text(obj.subtype) in _MEMORY_ALONE, len(_cpuset(obj)), obj.os_index)):
        near = _cpuset(obj)
        owned[obj.os_index] = near - taken
        taken |= near
    if owned and not taken:
        owned[min(owned)] = _cpuset(lib.hwloc_get_root_obj(topology))
    return tuple(
        NumaNode(
            os_index=int(obj.os_index),
            cpuset=owned[obj.os_index],
            near_cpuset=_cpuset(obj),
            memory=int(obj.attr.numanode.local_memory),
            subtype=_text(obj.subtype),
        )
        for obj in sorted(nodes, key=lambda obj: obj.os_index)
    )


def _pci_devices(topology: Any, root: Any) -> tuple[PciDevice, ...]:
    devices = (_pci_device(topology, root, obj) for obj in _objects_at(topology, lib.HWLOC_TYPE_DEPTH_PCI_DEVICE))
    # libhwloc's own order follows neither the bus nor the domain.
    return tuple(sorted(devices, key=lambda device: pci_address_key(device.address)))


def _pci_device(topology: Any, root: Any, obj: Any) -> PciDevice:
    pci = ffi.new("struct hwnuma_pci *")
    lib.hwnuma_get_pci(obj, pci)
    near = lib.hwloc_get_non_io_ancestor_obj(topology, obj)
    return PciDevice(
        address=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.{pci.function:x}",
        vendor_id=pci.vendor_id,
        device_id=pci.device_id,
        class_id=pci.class_id,
        near_type=_text(lib.hwloc_obj_type_string(near.type)),
        # The complete set: with a restricted cpuset, the ancestor's own can be empty.
        near_cpuset=read_bitmap(CpuSet, near.complete_cpuset),
        near_nodeset=read_bitmap(NodeSet, near.complete_nodeset),
        name=_text(lib.hwloc_obj_get_info_by_name(obj, b"PCIDevice")),
        is_near_root=bool(near == root),
    )


def _distances(topology: Any) -> Distances:
    number = ffi.new("unsigned *", 1)
    matrix = ffi.new("struct hwloc_distances_s **")
    kind = lib.HWLOC_DISTANCES_KIND_FROM_OS | lib.HWLOC_DISTANCES_KIND_MEANS_LATENCY
    check(
        lib.hwloc_distances_get_by_type(topology, lib.HWLOC_OBJ_NUMANODE, number, matrix, kind, 0),
        "hwloc_distances_get_by_type",
    )
    if number[0] == 0:
        return Distances()
    try:
        size = matrix[0].nbobjs
        return Distances(
            nodes=tuple(int(matrix[0].objs[row].os_index) for row in range(size)),
            values=tuple(
                tuple(int(matrix[0].values[row * size + column]) for column in range(size)) for row in range(size)
            ),
        )
    finally:
        lib.hwloc_distances_release(topology, matrix[0])


def _cpu_kinds(topology: Any) -> tuple[CpuSet, ...]:
    kinds = []
    for index in range(max(0, lib.hwloc_cpukinds_get_nr(topology, 0))):
        bitmap, efficiency = new_bitmap(), ffi.new("int *")
        check(lib.hwnuma_cpukind(topology, index, bitmap, efficiency), "hwloc_cpukinds_get_info")
        kinds.append((int(efficiency[0]), read_bitmap(CpuSet, bitmap)))
    if len(kinds) < 2 or any(efficiency < 0 for efficiency, _ in kinds):  # noqa: PLR2004 -- one kind is none
        return ()
    return tuple(cpuset for _, cpuset in sorted(kinds, key=lambda kind: kind[0]))
