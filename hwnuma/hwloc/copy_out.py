"""Make a Machine of what the extension copied out of a libhwloc topology (copy_out.c), after which that may go."""

from __future__ import annotations

import os

from hwnuma.errors import OptionError, TopologyFileError
from hwnuma.hwloc.library import RUNNING_VERSION, version_text
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import pci_address_key
from hwnuma.model.machine import HOST_BRIDGE, Cache, Core, Distances, Machine, NumaNode, Package, PciDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from hwnuma.model.facts import Facts
    from hwnuma.model.nic import Nic

_ISOLATED = "/sys/devices/system/cpu/isolated"

# What the kernel or libhwloc calls memory that is not the CPUs' own (hwloc's NUMANode subtypes).
_MEMORY_ALONE = frozenset({"GPUMemory", "MCDRAM", "HBM", "NVM", "SPM", "CXL-DRAM", "CXL-NVM"})


def machine_of(text: str, source: str) -> Machine:
    """Read what the extension wrote of a topology.

    Args:
        text: records of fields, as copy_out.c has them.
        source: what to call the topology, for people.
    """
    found: dict[str, list[Any]] = {kind: [] for kind in _READERS}
    fields = iter(text.split("\0"))
    for kind in fields:
        if kind:  # what comes after the last field is empty
            found[kind].append(_READERS[kind](fields))
    [(is_this_system, cpuset, allowed_cpuset, allowed_nodeset)] = found["machine"]
    facts = _facts(found["fact"], cpuset, source) if found["fact"] and not is_this_system else None
    numa_nodes = _numa_nodes(found["node"], cpuset)
    # libhwloc's own order follows neither the bus nor the domain.
    pci_devices = tuple(sorted(found["pci"], key=lambda device: pci_address_key(device.address)))
    return Machine(
        source=source,
        is_this_system=is_this_system,
        cpuset=cpuset,
        allowed_cpuset=allowed_cpuset & cpuset,
        allowed_nodeset=allowed_nodeset,
        packages=tuple(sorted(found["package"], key=lambda package: (package.os_index, package.cpuset.first))),
        numa_nodes=numa_nodes,
        last_level_caches=_last_level_caches(found["cache"]),
        cores=tuple(sorted((core for core in found["core"] if core.cpuset), key=lambda core: core.cpuset.first)),
        pci_devices=pci_devices,
        distances=next(iter(found["distances"]), Distances()),
        cpu_kinds=_cpu_kinds(found["kind"]),
        isolated_cpuset=_isolated_cpus() if is_this_system else _isolated_there(facts),
        hwloc_version=version_text(RUNNING_VERSION),
        nics=_nics(found["network"]) if found["network"] else (),
        facts=facts,
        core_speeds=facts.core_speeds if facts is not None else (),
        device_nodes=_device_nodes_here(pci_devices, numa_nodes) if is_this_system else _device_nodes_there(facts),
    )


def _device_nodes_here(devices: Sequence[PciDevice], nodes: Sequence[NumaNode]) -> tuple[tuple[str, int], ...]:
    if all(node.cpuset for node in nodes):
        return ()  # and nothing is imported
    from hwnuma.hwloc.device_nodes import read_device_nodes

    return read_device_nodes(devices, nodes, os.environ.get("HWLOC_FSROOT", ""))


def _device_nodes_there(facts: Facts | None) -> tuple[tuple[str, int], ...]:
    return facts.device_nodes if facts is not None else ()


def _isolated_cpus() -> CpuSet:
    """The CPUs of ``isolcpus=``, which libhwloc does not tell; none where sysfs is not mounted."""
    try:
        with open(_ISOLATED, encoding="ascii") as file:  # noqa: PTH123 -- pathlib costs more than libhwloc
            return CpuSet(file.read())
    except OSError:
        return CpuSet()


def _facts(infos: list[tuple[str, str]], cpuset: CpuSet, source: str) -> Facts | None:
    """The facts of another system that was captured. Of this one, everybody can be asked anew.

    Raises:
        TopologyFileError: they make no sense, or are not of this topology.
    """
    from hwnuma.model.facts import facts_of_infos  # only here: most topologies have none

    try:
        facts = facts_of_infos(infos)
        if facts is not None and facts.affinity is not None and facts.affinity.isdisjoint(cpuset):
            raise OptionError(f"affinity is CPUs {facts.affinity or 'none'}, and the topology has CPUs {cpuset}")
    except OptionError as error:
        raise TopologyFileError(
            f"the facts that hwnuma saved in {source} make no sense: {error}; capture the machine anew"
        ) from None
    return facts


def _isolated_there(facts: Facts | None) -> CpuSet:
    return (facts and facts.kernel_settings.isolated_cpuset) or CpuSet()


# ---- records -------------------------------------------------------------------------------------------------


def _mask(text: str) -> int:
    """A set's bits from its list form, as the extension writes it."""
    mask = 0
    for piece in text.split(",") if text else ():
        if piece.isdigit():
            mask |= 1 << int(piece)
        else:
            first, _, last = piece.partition("-")
            mask |= (2 << int(last)) - (1 << int(first))
    return mask


def _cpus(fields: Iterator[str]) -> CpuSet:
    return CpuSet.from_mask(_mask(next(fields)))


def _nodes(fields: Iterator[str]) -> NodeSet:
    return NodeSet.from_mask(_mask(next(fields)))


def _number(fields: Iterator[str]) -> int:
    return int(next(fields))


def _machine(fields: Iterator[str]) -> tuple[bool, CpuSet, CpuSet, NodeSet]:
    return next(fields) == "1", _cpus(fields), _cpus(fields), _nodes(fields)


def _fact(fields: Iterator[str]) -> tuple[str, str]:
    return next(fields), next(fields)


def _package(fields: Iterator[str]) -> Package:
    return Package(_number(fields), _cpus(fields))


def _core(fields: Iterator[str]) -> Core:
    return Core(_number(fields), _cpus(fields))


def _cache(fields: Iterator[str]) -> Cache:
    return Cache(_number(fields), _cpus(fields))


def _node(fields: Iterator[str]) -> NumaNode:
    """A node with the CPUs that libhwloc gives it; which of them are its own is seen from all nodes."""
    index, near = _number(fields), _cpus(fields)
    return NumaNode(index, near, near, memory=_number(fields), subtype=next(fields))


def _address(fields: Iterator[str]) -> str:
    domain, bus, device, function = (_number(fields) for _ in range(4))
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"


def _bridges(fields: Iterator[str]) -> Iterator[str]:
    for kind in iter(fields.__next__, ""):
        address = _address(fields)
        yield HOST_BRIDGE + address.rpartition(":")[0] if kind == "host" else address


def _pci_device(fields: Iterator[str]) -> PciDevice:
    return PciDevice(
        address=_address(fields),
        vendor_id=_number(fields),
        device_id=_number(fields),
        class_id=_number(fields),
        near_type=next(fields),
        near_cpuset=_cpus(fields),
        near_nodeset=_nodes(fields),
        name=next(fields),
        is_near_root=next(fields) == "1",
        bridges=tuple(_bridges(fields)),
    )


def _network_device(fields: Iterator[str]) -> tuple[str, tuple[int, int, int], bool, str, dict[str, str]]:
    """The PCI address, class, vendor and device of the card; is it an OpenFabrics device; its name and attributes."""
    address = _address(fields)
    identity = (_number(fields), _number(fields), _number(fields))
    is_openfabrics, name = next(fields) == "1", next(fields)
    # Of an attribute that is there twice, libhwloc's own look-up gives the first.
    infos = [(next(fields), next(fields)) for _ in range(_number(fields))]
    return address, identity, is_openfabrics, name, dict(reversed(infos))


def _distances(fields: Iterator[str]) -> Distances:
    size = range(_number(fields))
    nodes = tuple(_number(fields) for _ in size)
    return Distances(nodes, tuple(tuple(_number(fields) for _ in size) for _ in size))


def _cpu_kind(fields: Iterator[str]) -> tuple[int, CpuSet]:
    return _number(fields), _cpus(fields)


_READERS: dict[str, Callable[[Iterator[str]], Any]] = {
    "machine": _machine,
    "fact": _fact,
    "package": _package,
    "core": _core,
    "cache": _cache,
    "node": _node,
    "pci": _pci_device,
    "network": _network_device,
    "distances": _distances,
    "kind": _cpu_kind,
}


# ---- what is seen from several of them -----------------------------------------------------------------------


def _last_level_caches(found: Iterable[Cache]) -> tuple[Cache, ...]:
    """For each CPU the highest-level data or unified cache over it; the caches come out disjoint."""
    last: list[Cache] = []
    covered = CpuSet()
    for cache in sorted(found, key=lambda cache: -cache.level):
        fresh = cache.cpuset - covered
        if fresh:
            last.append(Cache(cache.level, fresh))
            covered |= fresh
    return tuple(sorted(last, key=lambda cache: cache.cpuset.first))


def _numa_nodes(found: list[NumaNode], cpuset: CpuSet) -> tuple[NumaNode, ...]:
    """The NUMA nodes, each with the CPUs that belong to it.

    libhwloc gives a node without CPUs the cpuset of the CPUs near it. In the kernel a CPU belongs to one node,
    so of nodes whose sets overlap only one has the CPUs: memory of a special kind has not, nor has the one
    that spans more, nor the one with the higher number (firmware lists the nodes with CPUs first). One that
    spans more keeps what is left over.
    Where no node has any CPU (the saving process was allowed memory far from its CPUs only), all CPUs are equally
    far from memory, and the first node has them all.
    """
    owned: dict[int, CpuSet] = {}
    taken = CpuSet()
    for node in sorted(found, key=lambda node: (node.subtype in _MEMORY_ALONE, len(node.cpuset), node.os_index)):
        owned[node.os_index] = node.near_cpuset - taken
        taken |= node.near_cpuset
    if owned and not taken:
        owned[min(owned)] = cpuset
    return tuple(
        NumaNode(node.os_index, owned[node.os_index], node.near_cpuset, node.memory, node.subtype)
        for node in sorted(found, key=lambda node: node.os_index)
    )


def _nics(found: Iterable[tuple[str, tuple[int, int, int], bool, str, dict[str, str]]]) -> tuple[Nic, ...]:
    """The network cards: PCI devices with an OpenFabrics device or a network interface."""
    from hwnuma.model.nic import natural_key, nics_of_function  # only here: most processes have no use for NICs

    functions: dict[str, tuple[tuple[int, int, int], dict[str, dict[str, str]], dict[str, dict[str, str]]]] = {}
    for address, identity, is_openfabrics, name, infos in found:
        _, fabrics, interfaces = functions.setdefault(address, (identity, {}, {}))
        (fabrics if is_openfabrics else interfaces)[name] = infos
    nics = [nic for address, function in functions.items() for nic in nics_of_function(address, *function)]
    return tuple(sorted(nics, key=lambda nic: (pci_address_key(nic.pci_address), natural_key(nic.name))))


def _cpu_kinds(kinds: list[tuple[int, CpuSet]]) -> tuple[CpuSet, ...]:
    if len(kinds) < 2 or any(efficiency < 0 for efficiency, _ in kinds):  # noqa: PLR2004 -- one kind is none
        return ()
    return tuple(cpuset for _, cpuset in sorted(kinds, key=lambda kind: kind[0]))
