"""Which NUMA node the kernel says that a PCI device is on, where libhwloc hangs it below the whole machine.

libhwloc goes by a device's ``local_cpus``. Of a device on a node of memory alone these are none or all, and so
is libhwloc's answer; the kernel's ``numa_node`` names that node all the same, and which CPUs are near it is known.
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.numbers import whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwnuma.model.machine import NumaNode, PciDevice

_DEVICES = "/sys/bus/pci/devices"
# Bridges, memory controllers and the like: on no machine does a plan depend on where they are, and there are hundreds.
_GPU_CLASSES = frozenset({0x03, 0x12})


def read_device_nodes(
    devices: Iterable[PciDevice], nodes: Iterable[NumaNode], root: str = ""
) -> tuple[tuple[str, int], ...]:
    """Read the kernel's node of each display and accelerator of which libhwloc knows no place.

    Args:
        devices: the machine's.
        nodes: the machine's. Where all have CPUs, libhwloc knows what the kernel knows, and no file is read.
        root: what is ahead of ``/sys``; "" for this system.

    Returns:
        Node by PCI address, of those that the kernel has a node for, in the devices' order.
    """
    if all(node.cpuset for node in nodes):
        return ()
    unplaced = (each for each in devices if each.is_near_root and each.class_id >> 8 in _GPU_CLASSES)
    found = ((device.address, _numa_node(device.address, root)) for device in unplaced)
    return tuple((address, node) for address, node in found if node is not None)


def _numa_node(address: str, root: str) -> int | None:
    """The kernel's node of a device; None if it has none (-1), or there is no such file."""
    try:
        with open(f"{root}{_DEVICES}/{address}/numa_node", encoding="ascii") as file:  # noqa: PTH123 -- light
            return whole_number(file.read(), "numa_node")
    except (OSError, OptionError):
        return None
