"""What QEMU is told to make a guest that is a `Machine` with x86 CPUs. Tried with QEMU 7.2 and its TCG; KVM is not used.

Three things are not obvious:

- An emulated CPU of QEMU leaves out the one bit (topoext) by which an AMD CPU tells which CPUs share a core and
  a cache, and the kernel then sees neither SMT nor caches that fit the nodes; ``x-force-features`` puts it in.
  An AMD CPU it has to be: QEMU gives each thread of an emulated Intel core an L1 cache of its own.
- QEMU numbers the threads of a core one after the other. Real firmware mostly does not, and a mix-up of libhwloc's
  numbers with the kernel's shows only where the two differ. The kernel numbers CPUs in the order of the ACPI
  MADT, so the guest gets one more MADT, and a kernel option that says to use that.
- A PCI device takes its NUMA node from its host bridge, and ``pxb-pcie`` is a host bridge with a node.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from .machines import Machine, first_bus

PROGRAM = "qemu-system-x86_64"

_CPU = "max,vendor=AuthenticAMD,family=25,model=1,xlevel=0x8000001e,topoext=on,x-force-features=on"

KERNEL_OPTIONS = (
    "console=ttyS0 loglevel=4 "
    "panic=-1 "  # with -no-reboot a panic ends QEMU instead of waiting for a person
    "acpi_apic_instance=2 "  # the second MADT, ours
    # An AMD guest measures the clock on each CPU by itself, for up to minutes; it need not.
    "tsc=reliable lpj=10000000 "
    # Where the host is busy, the timer's interrupt comes too late for the kernel's test of it, which then panics.
    "no_timer_check "
    "nokaslr mitigations=off nowatchdog audit=0 apparmor=0 rcupdate.rcu_expedited=1 random.trust_cpu=on"
)


def arguments(machine: Machine, *, kernel: Path, initramfs: Path, madt: Path, console: Path) -> Iterator[str]:
    """Yield QEMU's arguments for a machine, but for its file systems.

    Args:
        machine: what the guest is to be.
        kernel: an uncompressed Linux.
        initramfs: its first file system.
        madt: a file to write the guest's interrupt controller table (CPU numbers) to.
        console: a file for the guest's console.
    """
    madt.write_bytes(_madt(machine))
    yield from ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none")
    yield from ("-serial", f"file:{console}")
    yield from ("-kernel", str(kernel), "-initrd", str(initramfs), "-append", KERNEL_OPTIONS)
    # One host thread for all of a guest's CPUs: it boots faster so on two cores than with a thread each.
    yield from ("-accel", "tcg,thread=single", "-cpu", _CPU)
    yield from ("-machine", f"q35,hmat={'on' if machine.initiators else 'off'}")
    yield from ("-acpitable", f"sig=APIC,rev=1,data={madt}")
    yield from _processors(machine)
    yield from _memory(machine)
    yield from displays(machine)


def shared_folder(tag: str, folder: Path, *, readonly: bool) -> tuple[str, ...]:
    """Return QEMU's arguments for a folder of this machine that the guest can mount by 9p under a tag."""
    share = f"local,id={tag},path={folder},security_model=none,multidevs=remap"
    return (
        *("-fsdev", share + (",readonly=on" if readonly else "")),
        # On pcie.0 by name: left to QEMU, it may come to be on the host bridge of some NUMA node.
        *("-device", f"virtio-9p-pci,bus=pcie.0,fsdev={tag},mount_tag={tag}"),
    )


def _processors(machine: Machine) -> Iterator[str]:
    yield "-smp"
    yield (
        f"{machine.cpu_count},sockets={machine.packages},dies={machine.dies_per_package},"
        f"cores={machine.cores_per_die},threads={machine.threads_per_core}"
    )


def _memory(machine: Machine) -> Iterator[str]:
    yield from ("-m", f"{machine.memory * max(1, len(machine.node_dies))}M")
    for node, dies in enumerate(machine.node_dies):
        yield from ("-object", f"memory-backend-ram,id=mem{node},size={machine.memory}M")
        initiator = f",initiator={machine.initiators[node]}" if machine.initiators else ""
        yield from ("-numa", f"node,nodeid={node},memdev=mem{node}{initiator}")
        for die in dies:
            package, die_of_package = divmod(die, machine.dies_per_package)
            # QEMU refuses a die number where packages have one die.
            die_id = f",die-id={die_of_package}" if machine.dies_per_package > 1 else ""
            yield from ("-numa", f"cpu,node-id={node},socket-id={package}{die_id}")
    for node, row in enumerate(machine.distances):
        for other, distance in enumerate(row):
            yield from ("-numa", f"dist,src={node},dst={other},val={distance}")
    yield from _hmat(machine)


def _hmat(machine: Machine) -> Iterator[str]:
    for target, nearest in enumerate(machine.initiators):
        for initiator in sorted(set(machine.initiators)):
            latency, bandwidth = (100, "50G") if initiator == nearest else (200, "20G")
            entry = f"hmat-lb,initiator={initiator},target={target},hierarchy=memory"
            yield from ("-numa", f"{entry},data-type=access-latency,latency={latency}")
            yield from ("-numa", f"{entry},data-type=access-bandwidth,bandwidth={bandwidth}")


def displays(machine: Machine) -> Iterator[str]:
    """Yield QEMU's arguments for a machine's displays, each behind a root port on a host bridge of its node."""
    for node in sorted(set(machine.displays) - {-1}):
        bridge = f"pxb-pcie,id=bridge{node},bus=pcie.0,bus_nr={first_bus(node)},numa_node={node}"
        yield from ("-device", bridge)
    for number, node in enumerate(machine.displays, 1):
        bus = "pcie.0" if node == -1 else f"bridge{node}"
        yield from ("-device", f"pcie-root-port,id=port{number},bus={bus},chassis={number},slot={number}")
        yield from ("-device", f"bochs-display,bus=port{number}")


def _apic_ids(machine: Machine) -> list[int]:
    """Return the APIC id of each CPU by its kernel number: package, die, core and thread, in whole bits each."""

    def bits(count: int) -> int:
        return (count - 1).bit_length()

    apic_ids = []
    for thread in range(machine.threads_per_core):
        for core in range(machine.core_count):
            die, core_of_die = divmod(core, machine.cores_per_die)
            package, die_of_package = divmod(die, machine.dies_per_package)
            apic_id = package << bits(machine.dies_per_package) | die_of_package
            apic_id = apic_id << bits(machine.cores_per_die) | core_of_die
            apic_ids.append(apic_id << bits(machine.threads_per_core) | thread)
    return apic_ids


def _madt(machine: Machine) -> bytes:
    """Return the body of an ACPI MADT that differs from QEMU's own only in the order of the CPUs.

    The layouts are those of the ACPI specification, section "Multiple APIC Description Table (MADT)".
    """
    apic_ids = _apic_ids(machine)
    uid_of = {apic_id: uid for uid, apic_id in enumerate(sorted(apic_ids))}
    body = struct.pack("<II", 0xFEE00000, 1)  # the local APICs' address; there is an 8259 too
    for apic_id in apic_ids:
        body += struct.pack("<BBBBI", 0, 8, uid_of[apic_id], apic_id, 1)  # a CPU, enabled
    body += struct.pack("<BBBBII", 1, 12, 0, 0, 0xFEC00000, 0)  # the I/O APIC
    body += struct.pack("<BBBBIH", 2, 10, 0, 0, 2, 0)  # interrupt 0, the timer, comes in at pin 2
    for interrupt in (5, 9, 10, 11):  # PCI's interrupts: active high, level-triggered
        body += struct.pack("<BBBBIH", 2, 10, 0, interrupt, interrupt, 0x0D)
    return body + struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)  # all CPUs' NMI is on LINT1
