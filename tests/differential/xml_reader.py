"""Read a saved hwloc topology as the machine's kernel would have described it, without libhwloc and without hwnuma.

This is the second opinion of the differential test: the trees that PyTorch reads are made from it, so nothing of what
hwnuma concludes from a topology can find its way into them. Formats 1.x, 2.x and 3.0.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fixtures.sysfs import Cache, Core, Node, PciFunction, SysfsMachine
from hwnuma.model.bitmap import CpuSet, NodeSet, union

_IO = frozenset({"Bridge", "PCIDev", "OSDev", "Misc"})
_PACKAGE = frozenset({"Package", "Socket"})
_CACHE_KINDS = {"0": "Unified", "1": "Data", "2": "Instruction"}

# Vendor and classes of what counts as a GPU, in the order in which a machine is searched for them.
_GPUS = (
    (0x10DE, {0x0300, 0x0302}),
    (0x1002, {0x0300, 0x0302, 0x0380, 0x1200}),
    (0x8086, {0x0300, 0x0302, 0x0380}),
)
_ATI_ES1000 = 0x515E


class NotAMachineError(ValueError):
    """The file describes no machine that a kernel could run on, such as one without CPUs."""


@dataclass(frozen=True)
class ReadMachine:
    """A topology as sysfs would have it.

    Attributes:
        sysfs: what to write for PyTorch.
        gpus: the PCI addresses of the GPUs, sorted.
        coarse_gpus: those that hang below several nodes, but not below all: sysfs has no word for that.
    """

    sysfs: SysfsMachine
    gpus: tuple[str, ...]
    coarse_gpus: tuple[str, ...]


def read(path: Path) -> ReadMachine:
    """Read a topology file.

    Raises:
        NotAMachineError: it has no PU, or nodes that share CPUs.
    """
    root = ET.fromstring(path.read_bytes()).find("object")
    if root is None or not _pus(root):
        raise NotAMachineError(f"{path.name} has no PU")
    online = _pus(root)
    nodes = _nodes(root, online)
    devices, coarse = _pci_devices(root, nodes)
    sysfs = SysfsMachine(
        cores=_cores(root, online),
        caches=_caches(root),
        nodes=nodes,
        pci_devices=devices,
        allowed_cpuset=_set(root.get("allowed_cpuset"), online) & online,
    )
    gpus = _gpus(devices)
    return ReadMachine(sysfs, gpus, tuple(address for address in gpus if address in coarse))


def _set(text: str | None, default: CpuSet) -> CpuSet:
    """A set in hwloc's form, 0x0000ffff,,0x1: a word of zeros can be left empty. "0xf...f," is all."""
    if text is None or "..." in text:
        return default
    mask = 0
    for word in text.split(","):
        mask = mask << 32 | int(word or "0", 16)
    return CpuSet.from_mask(mask)


def _below(element: ET.Element) -> Iterator[ET.Element]:
    """The objects below an object, itself included, less I/O."""
    yield element
    for child in element.findall("object"):
        if child.get("type") not in _IO:
            yield from _below(child)


def _pus(element: ET.Element) -> CpuSet:
    return CpuSet(int(each.attrib["os_index"]) for each in _below(element) if each.get("type") == "PU")


def _cores(root: ET.Element, online: CpuSet) -> tuple[Core, ...]:
    """The cores, each with its package; a PU that is in no core is one of its own."""
    package_of: dict[int, int] = {}
    for number, package in enumerate(each for each in _below(root) if each.get("type") in _PACKAGE):
        for cpu in _pus(package):
            package_of[cpu] = int(package.get("os_index", number))
    cpusets = [_pus(each) for each in _below(root) if each.get("type") == "Core"]
    cpusets += [CpuSet([cpu]) for cpu in online - union(cpusets)]
    return tuple(
        Core(number, package_of.get(cpuset.first, 0), cpuset) for number, cpuset in enumerate(cpusets) if cpuset
    )


def _caches(root: ET.Element) -> tuple[Cache, ...]:
    caches = []
    for each in _below(root):
        kind = each.get("type", "")
        if kind == "Cache" or (kind.startswith("L") and kind.endswith("Cache")):
            level = int(each.get("depth") or kind[1])
            caches.append(Cache(level, _CACHE_KINDS[each.get("cache_type", "0")], _pus(each)))
    return tuple(cache for cache in caches if cache.cpuset)


def _nodes(root: ET.Element, online: CpuSet) -> tuple[Node, ...]:
    """The NUMA nodes; a machine for which none is saved has one, as Linux has it."""
    nodes = []
    for each in _below(root):
        if each.get("type") == "NUMANode":
            cpuset = _set(each.get("cpuset"), CpuSet()) & online
            nodes.append(Node(int(each.get("os_index", "0")), cpuset, int(each.get("local_memory", "0"))))
    if not nodes:
        return (Node(0, online),)
    if sum(len(node.cpuset) for node in nodes) != len(union(node.cpuset for node in nodes)):
        raise NotAMachineError("nodes share CPUs: it is not known which of them the kernel gives the CPUs to")
    return tuple(sorted(nodes, key=lambda node: node.os_index))


def _pci_devices(root: ET.Element, nodes: tuple[Node, ...]) -> tuple[tuple[PciFunction, ...], frozenset[str]]:
    """The PCI devices with the kernel's numa_node, and which of them are near several nodes but not all."""
    devices, coarse = {}, set()
    for element, ancestor in _with_ancestors(root, root):
        if element.get("type") != "PCIDev":
            continue
        near = _pus(ancestor)
        touched = [node.os_index for node in nodes if near and not node.cpuset.isdisjoint(near)]
        is_known = ancestor is not root and len(touched) == 1
        if ancestor is not root and 1 < len(touched) < sum(bool(node.cpuset) for node in nodes):
            coarse.add(element.attrib["pci_busid"])
        device = _pci_function(element, touched[0] if is_known else -1)
        devices[device.address] = device
    return tuple(sorted(devices.values(), key=lambda device: _key(device.address))), frozenset(coarse)


def _with_ancestors(element: ET.Element, ancestor: ET.Element) -> Iterator[tuple[ET.Element, ET.Element]]:
    """Every object with its first ancestor that is no I/O object."""
    for child in element.findall("object"):
        yield child, ancestor
        yield from _with_ancestors(child, ancestor if child.get("type") in _IO else child)


def _pci_function(element: ET.Element, numa_node: int) -> PciFunction:
    class_text, identity = element.attrib["pci_type"].split(" ", 1)
    vendor, device = identity.strip("[").split("]", 1)[0].split(":")
    return PciFunction(
        element.attrib["pci_busid"], int(vendor, 16), int(device, 16), int(class_text, 16), numa_node=numa_node
    )


def _key(address: str) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in address.replace(".", ":").split(":"))


def _gpus(devices: tuple[PciFunction, ...]) -> tuple[str, ...]:
    for vendor, classes in _GPUS:
        found = [
            device.address
            for device in devices
            if device.vendor_id == vendor and device.class_id in classes and device.device_id != _ATI_ES1000
        ]
        if found:
            return tuple(found)
    return ()


def nodes_with_cpus(machine: SysfsMachine) -> NodeSet:
    """The nodes that have CPUs."""
    return NodeSet(node.os_index for node in machine.nodes if node.cpuset)
