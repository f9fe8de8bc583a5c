"""How near all devices are to each other, as data and as the matrix that ``nvidia-smi topo -m`` prints. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwnuma.model.bitmap import CpuSet
from hwnuma.model.characters import printable_text
from hwnuma.model.digest import MachineDigest
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine, PciDevice
from hwnuma.model.nic import ETHERNET_KIND, Nic, natural_key
from hwnuma.model.plan import SCHEMA
from hwnuma.model.value import Value
from hwnuma.policy.nearness import nearness_of_all, tells_bridges

_LEGEND = (
    ("X", "the same device"),
    ("NV#", "# NVLinks (known from the driver alone)"),
    ("PIX", "across one PCI-to-PCI bridge at most"),
    ("PXB", "across several PCI-to-PCI bridges, below one host bridge"),
    ("PHB", "across a host bridge"),
    ("NODE", "across host bridges of one NUMA node"),
    ("SYS", "across NUMA nodes"),
)


class Device(Value):
    """A GPU or a NIC, as a row and a column of the matrix.

    Attributes:
        kind: "gpu" or "nic".
        index: among those of its kind.
        name: the model of a GPU, the name of a NIC; "" if it is not known.
        pci: where it is.
    """

    kind: str
    index: int
    name: str
    pci: PciDevice

    def __str__(self) -> str:
        return f"{self.kind.upper()}{self.index}"


class Topo(Value):
    """Devices and the paths between them.

    Attributes:
        source: which machine.
        devices: GPUs in order of their index, then NICs in natural order of their names.
        paths: a word for each two of them, row by row.
        notes: what to know of that, a sentence each.
        machine: what the machine is, as a digest; None if that is not known.
    """

    source: str
    devices: tuple[Device, ...]
    paths: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    machine: MachineDigest | None = None


def topo_of(machine: Machine, gpus: Sequence[Gpu], nvlinks: Mapping[tuple[str, str], int] | None = None) -> Topo:
    """Work out the paths between all GPUs and NICs of a machine.

    Args:
        machine: with its NICs. Those for RDMA are shown; the others only if there is none.
        gpus: its GPUs.
        nvlinks: how many NVLinks there are between two GPUs, by their PCI addresses.
    """
    devices = [
        Device("gpu", gpu.index, gpu.name or "", device)
        for gpu in gpus
        if (device := machine.pci_device(gpu.pci_address or "")) is not None
    ]
    devices += [
        Device("nic", index, nic.name, device)
        for index, nic in enumerate(shown_nics(machine))
        if (device := machine.pci_device(nic.pci_address)) is not None
    ]
    devices_pci = [device.pci for device in devices]
    paths = [[str(path) for path in row] for row in nearness_of_all(devices_pci, devices_pci)]
    for row, one in enumerate(devices):
        for column, other in enumerate(devices) if nvlinks else ():
            links = (nvlinks or {}).get((one.pci.address, other.pci.address), 0)
            if links and one.kind == other.kind == "gpu" and row != column:
                paths[row][column] = f"NV{links}"
    notes = tuple(_notes(machine, gpus, devices))
    return Topo(machine.source, tuple(devices), tuple(map(tuple, paths)), notes, machine.digest)


def shown_nics(machine: Machine) -> list[Nic]:
    """The NICs to tell of: those for RDMA, or all if there is none."""
    for_rdma = [nic for nic in machine.nics if nic.kind != ETHERNET_KIND]
    return sorted(for_rdma or machine.nics, key=lambda nic: (natural_key(nic.name), nic.pci_address))


def _notes(machine: Machine, gpus: Sequence[Gpu], devices: Sequence[Device]) -> Iterator[str]:
    if not tells_bridges(machine) and devices:
        yield (
            f"{machine.called} tells no PCI bridges, so two devices are NODE or SYS to each other, and no nearer: save "
            "it with hwnuma capture, or lstopo --whole-io"
        )
    absent = [str(gpu) for gpu in gpus if machine.pci_device(gpu.pci_address or "") is None]
    if absent:
        yield f"not among the PCI devices of {machine.called}, and left out: {', '.join(absent)}"


def topo_as_data(topo: Topo) -> dict[str, Any]:
    """The matrix as plain values, by the contract that ``hwnuma topo --format json`` keeps."""
    return {
        "schema": SCHEMA,
        "topology": topo.source,
        "machine": None if topo.machine is None else str(topo.machine),
        "devices": [
            {"kind": each.kind, "index": each.index, "name": each.name or None, "pci_address": each.pci.address}
            for each in topo.devices
        ],
        "paths": [list(row) for row in topo.paths],
        "notes": list(topo.notes),
    }


def topo_as_text(topo: Topo, machine: Machine, width: int = 80) -> str:
    """The matrix for people: as many columns at a time as fit in a width, then what each device is near to.

    Args:
        topo: the matrix.
        machine: for the CPUs and nodes that each device is near to.
        width: columns of the terminal.
    """
    if not topo.devices:
        return printable_text([f"no GPUs and no NICs are known of {topo.source}", *topo.notes])
    lines: list[str] = []
    for block in _blocks(topo, width):
        lines += [*block, ""]
    lines += _affinities(topo, machine)
    nics = [device for device in topo.devices if device.kind == "nic"]
    if nics:
        lines += ["", "NIC Legend:", *(f"  {device}: {device.name}  {device.pci.address}" for device in nics)]
    used = {word.rstrip("0123456789") for row in topo.paths for word in row}
    lines += ["", "Legend:", *(f"  {word:4} = {about}" for word, about in _LEGEND if word.rstrip("#") in used)]
    lines += [f"note: {note}" for note in topo.notes]
    return printable_text(lines)


def _blocks(topo: Topo, most: int) -> Iterator[list[str]]:
    """The matrix in blocks of columns, each no wider than that."""
    names = [str(device) for device in topo.devices]
    head = max(map(len, names))
    width = max(4, head) + 2
    at_once = max(1, (most - head) // width)
    for start in range(0, len(names), at_once):
        columns = range(start, min(start + at_once, len(names)))
        yield [
            f"{' ' * head}{''.join(f'{names[column]:>{width}}' for column in columns)}",
            *(
                f"{name:{head}}{''.join(f'{row[column]:>{width}}' for column in columns)}"
                for name, row in zip(names, topo.paths, strict=True)
            ),
        ]


def _affinities(topo: Topo, machine: Machine) -> Iterator[str]:
    """A line for each device: the CPUs and the NUMA nodes that it is near to."""
    names = [str(device) for device in topo.devices]
    head = max(map(len, names))
    sets = [str(device.pci.near_cpuset & machine.cpuset) or "none" for device in topo.devices]
    width = max(len("CPU Affinity"), *map(len, sets))
    yield f"{' ' * head}  {'CPU Affinity':{width}}  NUMA Affinity"
    for name, cpus, device in zip(names, sets, topo.devices, strict=True):
        yield f"{name:{head}}  {cpus:{width}}  {_nodes_text(machine, device.pci)}"


def _nodes_text(machine: Machine, device: PciDevice) -> str:
    """The nodes with CPUs that a device is near to; N/A where nothing is known of it."""
    near = CpuSet() if device.is_near_root and len(machine.cpu_nodes) > 1 else device.near_cpuset
    nodes = [str(node.os_index) for node in machine.nodes_of(near)]
    return ",".join(nodes) or "N/A"
