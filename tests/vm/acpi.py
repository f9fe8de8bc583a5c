"""ACPI tables that tell a guest's kernel of NUMA nodes and caches what QEMU's own tables cannot.

QEMU 7.2 has no node without memory, no generic initiator, and no caches on Arm. The kernel takes tables from the start
of its initramfs in place of the firmware's, if they have the same names and a higher revision (Linux,
admin-guide/acpi/initrd_table_override.rst). The layouts are those of the ACPI specification, 6.4: "System Resource
Affinity Table (SRAT)", "System Locality Information Table (SLIT)", "Processor Properties Topology Table (PPTT)". That a
Grace has a generic initiator for each node of a GPU's is told in QEMU's commit "qom: new object to associate device to
NUMA node".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from .machines import Machine

# As QEMU's tables have them, but for the revision, which is 1 there.
_OEM, _OEM_TABLE, _OEM_REVISION = b"BOCHS ", b"BXPC    ", 2
_CREATOR, _CREATOR_REVISION = b"HNUM", 1
_HEADER = "<4sIBB6s8sI4sI"
_HEADER_SIZE = struct.calcsize(_HEADER)

_MIB = 1 << 20
# Where the memory of QEMU's machine "virt" is, and its second flash chip, which the firmware counts as memory too. Where
# no node has that, the kernel takes the whole table for wrong.
_RAM_START = 0x4000_0000
_FLASH_START, _FLASH_SIZE = 0x400_0000, 64 * _MIB

# Size, sets and ways of a Grace's caches, whose lines are 64 bytes (fixtures/machines/gb200_nvl72_tray.toml; the ways are
# made up).
_L1, _L2, _L3 = (64 << 10, 256, 4), (1 << 20, 2048, 8), (114 << 20, 155648, 12)
_DATA, _INSTRUCTIONS, _UNIFIED = 0 << 2, 1 << 2, 2 << 2


def tables(machine: Machine) -> dict[str, bytes]:
    """Return a machine's tables by the names of their files in an initramfs.

    Args:
        machine: one of QEMU's machine "virt", with one thread a core.
    """
    contents = {"SRAT": (3, _srat(machine)), "SLIT": (1, _slit(machine)), "PPTT": (2, _pptt(machine))}
    return {
        f"kernel/firmware/acpi/{name}.aml": _with_header(name.encode(), revision, body)
        for name, (revision, body) in contents.items()
    }


def _with_header(signature: bytes, revision: int, body: bytes) -> bytes:
    size = _HEADER_SIZE + len(body)

    def table(checksum: int) -> bytes:
        ids = (_OEM, _OEM_TABLE, _OEM_REVISION, _CREATOR, _CREATOR_REVISION)
        return struct.pack(_HEADER, signature, size, revision, checksum, *ids) + body

    return table(-sum(table(0)) % 256)


def _srat(machine: Machine) -> bytes:
    """Say which node each CPU, each node without CPUs, and each piece of memory is.

    The kernel numbers nodes in the order in which it comes across them: those of CPUs, then those of generic initiators.
    """
    body = struct.pack("<IQ", 1, 0)
    for node, dies in enumerate(machine.node_dies):
        for cpu in sorted(machine.online_of_dies(dies)):
            body += struct.pack("<BBIIII", 3, 18, node, cpu, 1, 0)  # a GICC, enabled
    for node, dies in enumerate(machine.node_dies):
        if not dies:
            # A PCI device; the kernel does not look which.
            body += struct.pack("<BBBBI16sII", 5, 32, 0, 1, node, bytes(16), 1, 0)
    pieces = [(0, _FLASH_START, _FLASH_SIZE)]
    size = machine.memory * _MIB
    # Those with CPUs last, where firmware and kernel put what is theirs: a GPU's memory has none of that.
    by_start = sorted(machine.memory_nodes, key=lambda node: (bool(machine.node_dies[node]), node))
    pieces += [(node, _RAM_START + place * size, size) for place, node in enumerate(by_start)]
    for node, start, length in pieces:
        body += struct.pack("<BBIHQQIIQ", 1, 40, node, 0, start, length, 0, 1, 0)  # memory, enabled
    return body


def _slit(machine: Machine) -> bytes:
    return struct.pack("<Q", len(machine.distances)) + bytes(value for row in machine.distances for value in row)


def _pptt(machine: Machine) -> bytes:
    """Say which core has which caches of its own, and which cores share a package and its last one."""
    body = b""

    def add(entry: bytes) -> int:
        nonlocal body
        body += entry
        return _HEADER_SIZE + len(body) - len(entry)

    for package in range(machine.packages):
        last = add(_cache(_L3, _UNIFIED))
        parent = add(_processor(0b00011, 0, package, [last]))  # a physical package, whose number is valid
        for core in range(machine.dies_per_package * machine.cores_per_die):
            second = add(_cache(_L2, _UNIFIED))
            first = [add(_cache(_L1, kind, second)) for kind in (_DATA, _INSTRUCTIONS)]
            number = package * machine.dies_per_package * machine.cores_per_die + core
            add(_processor(0b01010, parent, number, first))  # a leaf
    return body


def _cache(shape: tuple[int, int, int], kind: int, next_level: int = 0) -> bytes:
    size, sets, ways = shape
    return struct.pack("<BBHIIIIBBH", 1, 24, 0, 0b111_1111, next_level, size, sets, ways, kind, 64)


def _processor(flags: int, parent: int, number: int, caches: Iterable[int]) -> bytes:
    caches = list(caches)
    entry = struct.pack("<BBHIIII", 0, 20 + 4 * len(caches), 0, flags, parent, number, len(caches))
    return entry + struct.pack(f"<{len(caches)}I", *caches)
