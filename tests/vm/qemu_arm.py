"""What QEMU is told to make a guest that is a `Machine` with Arm CPUs. Tried with QEMU 7.2 and its TCG; KVM is not used.

Linux reads ACPI on Arm only from UEFI firmware, and QEMU's device trees have no host bridge with a node (``pxb-pcie``).
So the guest starts with Debian's build of EDK2, which takes kernel and initramfs from QEMU. What QEMU cannot say of nodes
and caches the initramfs has (`acpi.py`): QEMU is told of the nodes with CPUs alone, for the displays' sake.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .machines import Machine
from .qemu import displays

PROGRAM = "qemu-system-aarch64"
FIRMWARE = Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")

# The newest of Arm's server CPUs that QEMU 7.2 has and that is fast there: "max" spends its time on signing pointers.
_CPU = "neoverse-n1"

KERNEL_OPTIONS = (
    "console=ttyAMA0 loglevel=4 panic=-1 "  # with -no-reboot a panic ends QEMU instead of waiting for a person
    "nokaslr mitigations=off nowatchdog audit=0 apparmor=0 rcupdate.rcu_expedited=1 random.trust_cpu=on"
)


def arguments(machine: Machine, *, kernel: Path, initramfs: Path, console: Path) -> Iterator[str]:
    """Yield QEMU's arguments for a machine, but for its file systems.

    Args:
        machine: what the guest is to be.
        kernel: a Linux that starts from UEFI.
        initramfs: its first file system, with the machine's ACPI tables ahead.
        console: a file for the guest's console.
    """
    yield from ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none")
    yield from ("-serial", f"file:{console}", "-bios", str(FIRMWARE))
    yield from ("-kernel", str(kernel), "-initrd", str(initramfs), "-append", KERNEL_OPTIONS)
    # One host thread for all of a guest's CPUs: it is as fast on a machine that others use too.
    yield from ("-accel", "tcg,thread=single", "-cpu", _CPU, "-machine", "virt,gic-version=3")
    cores = machine.dies_per_package * machine.cores_per_die
    yield from ("-smp", f"{machine.cpu_count},sockets={machine.packages},clusters=1,cores={cores},threads=1")
    size = f"{machine.memory * len(machine.memory_nodes)}M"
    yield from ("-m", size, "-object", f"memory-backend-ram,id=memory,size={size}")
    for node, dies in enumerate(machine.node_dies):
        if dies:
            cpus = "".join(f",cpus={cpu}" for cpu in sorted(machine.online_of_dies(dies)))
            yield from ("-numa", f"node,nodeid={node}{cpus}" + (",memdev=memory" if node == 0 else ""))
    yield from displays(machine)
