"""How near two PCI devices are, in the words of ``nvidia-smi topo -m``, from the bridges above them. Pure.

A path between two devices goes up to the lowest bridge that is above both and down again, and the word says what it
crosses there (``nvidia-smi topo -h``): PIX one PCI-to-PCI bridge at most, PXB several, PHB a host bridge, NODE the
interconnect of host bridges within a NUMA node, SYS that between nodes. A switch's upstream port is the bridge that is
above all its downstream ports, so two devices on one switch are PIX: on the way from one to the other there is one
downstream port on each side at most.
"""

from __future__ import annotations

import enum
from collections import defaultdict

from hwnuma.model.machine import HOST_BRIDGE, Machine, PciDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Nearness(int, enum.Enum):
    """How near two devices are; a nearer one is less."""

    X = 0
    """The same device."""

    PIX = 1
    """Across one PCI-to-PCI bridge at most."""

    PXB = 2
    """Across several PCI-to-PCI bridges, below one host bridge."""

    PHB = 3
    """Across a host bridge."""

    NODE = 4
    """Across host bridges of one NUMA node."""

    SYS = 5
    """Across NUMA nodes."""

    def __str__(self) -> str:
        return self.name


def nearness(one: PciDevice, other: PciDevice) -> Nearness:
    """Say how near two devices are."""
    if one.address == other.address:
        return Nearness.X
    above, below = one.bridges[::-1], other.bridges[::-1]
    shared = 0
    for mine, yours in zip(above, below):  # noqa: B905 -- as far as the shorter goes
        if mine != yours:
            break
        shared += 1
    if shared == 0:
        return Nearness.NODE if one.near_nodeset == other.near_nodeset else Nearness.SYS
    return _across(above[shared - 1], max(len(above), len(below)) - shared)


def _across(bridge: str, below: int) -> Nearness:
    """The word for a path whose highest bridge this is.

    Args:
        bridge: the lowest bridge above both devices.
        below: how many more bridges are on the longer side.
    """
    if bridge.startswith(HOST_BRIDGE):
        return Nearness.PHB
    return Nearness.PIX if below <= 1 else Nearness.PXB


def nearness_of_all(rows: Sequence[PciDevice], columns: Sequence[PciDevice]) -> list[list[Nearness]]:
    """Say of each device of one list how near it is to each of another.

    The same as `nearness` of each pair, bridge by bridge instead of pair by pair: a device shares no bridge with most
    others, and those are filled in as a whole.

    Args:
        rows: devices; one may be there several times.
        columns: likewise.

    Returns:
        A list for each row, with a path for each column.
    """
    below: defaultdict[str, list[int]] = defaultdict(list)
    depth = [len(device.bridges) for device in columns]
    same: defaultdict[str, list[int]] = defaultdict(list)
    for place, device in enumerate(columns):
        same[device.address].append(place)
        for bridge in device.bridges:
            below[bridge].append(place)
    nodes = [device.near_nodeset.mask for device in columns]
    apart = {
        own: [Nearness.NODE if own == other else Nearness.SYS for other in nodes]
        for own in {device.near_nodeset.mask for device in rows}
    }
    return [_row(device, apart[device.near_nodeset.mask].copy(), below, depth, same) for device in rows]


def _row(
    device: PciDevice,
    row: list[Nearness],
    below: defaultdict[str, list[int]],
    depth: Sequence[int],
    same: defaultdict[str, list[int]],
) -> list[Nearness]:
    """Write into a row what is nearer than by node: from the host bridge down, so that the lowest bridge tells."""
    own = len(device.bridges)
    for level in range(own, 0, -1):
        bridge = device.bridges[level - 1]
        places = below.get(bridge, ())
        # Where all that is below a bridge is below the next one too, that one tells of all.
        lower = below.get(device.bridges[level - 2], ()) if level > 1 else ()
        if places == lower:
            continue
        if bridge.startswith(HOST_BRIDGE):
            for place in places:
                row[place] = Nearness.PHB
            continue
        most = own - level + 2  # bridges above a device that has one more between it and this one
        for place in places:
            row[place] = Nearness.PIX if own <= most and depth[place] <= most else Nearness.PXB
    for place in same.get(device.address, ()):
        row[place] = Nearness.X
    return row


def tells_bridges(machine: Machine) -> bool:
    """Whether the topology tells any bridge: without, devices are NODE or SYS to each other at best."""
    return any(device.bridges for device in machine.pci_devices)
