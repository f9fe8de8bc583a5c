"""A digest of what a machine is: the same on the machine itself and of its capture, wherever that lies.

Pure. It is of the hardware that a plan depends on: packages, NUMA nodes with their memory and distances, caches, cores
with their CPUs, and PCI devices with where they hang. It is not of names, serial numbers and UUIDs, so that two
machines that are built alike have the same; nor of what is allowed here and now.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwnuma.model.machine import Machine

# 32 hexadecimal digits: two machines of any number of them do not share one by chance.
_BYTES = 16


class MachineDigest:
    """A machine's digest, worked out when it is asked for: who binds never asks. It pickles as its text."""

    __slots__ = ("_machine", "_text")

    def __init__(self, machine: Machine | None, text: str = "") -> None:
        """Keep the machine until somebody asks.

        Args:
            machine: with its PCI devices, or else the digest is another one.
            text: the digest itself, where there is no machine any more.
        """
        self._machine, self._text = machine, text

    def __str__(self) -> str:
        if self._machine is not None:
            self._text, self._machine = _digest(self._machine), None
        return self._text

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, (MachineDigest, str)) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[type[MachineDigest], tuple[None, str]]:
        return type(self), (None, str(self))


def _digest(machine: Machine) -> str:
    try:
        from _blake2 import blake2b  # what hashlib has, without OpenSSL, which takes longer to import than all else
    except ImportError:
        from hashlib import blake2b
    return str(blake2b("\n".join(_lines(machine)).encode(), digest_size=_BYTES).hexdigest())


def _lines(machine: Machine) -> Iterator[str]:
    """A line for each part of the machine, in the order that it has them; sets as hexadecimal masks."""
    yield f"cpus {machine.cpuset.mask:x}"
    yield from (f"package {each.os_index} {each.cpuset.mask:x}" for each in machine.packages)
    for node in machine.numa_nodes:
        masks = f"{node.cpuset.mask:x} {node.near_cpuset.mask:x}"
        yield f"node {node.os_index} {masks} {node.memory} {node.subtype}"
    yield f"distances {machine.distances.nodes} {machine.distances.values}"
    yield from (f"cache {each.level} {each.cpuset.mask:x}" for each in machine.last_level_caches)
    yield from (f"core {each.os_index} {each.cpuset.mask:x}" for each in machine.cores)
    for device in machine.pci_devices:
        kind = f"{device.vendor_id:04x}:{device.device_id:04x} {device.class_id:04x}"
        yield f"pci {device.address} {kind} {device.near_cpuset.mask:x} {device.near_nodeset.mask:x}"
