"""Gpu, and the sources that GPUs come from; here the one that needs no driver: the topology's PCI devices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hwnuma.bitmap import CpuSet, NodeSet
from hwnuma.errors import GpuNotFoundError, OptionError
from hwnuma.machine import Machine, PciDevice


@dataclass(frozen=True, slots=True)
class MigInstance:
    """Which part of a GPU a MIG instance is.

    Attributes:
        parent_uuid: the ``GPU-…`` UUID of the whole GPU.
        gpu_instance: the GPU instance's number on that GPU, where known.
        compute_instance: the compute instance's number in that GPU instance, where known.
    """

    parent_uuid: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of a GPU, as a rank uses it.

    Attributes:
        index: its number among all GPUs of its source; ranks drive GPUs in this order, and ties are
            broken by it. Several GPUs can share one PCI address (MIG instances, MI300A partitions).
        pci_address: normalised (`normalize_pci_address`), or None if it has none (a stand-in for planning).
        uuid: ``GPU-…`` or ``MIG-…``, where the source knows it.
        name: the model, where the source knows it.
        numa_node: the OS index of the NUMA node that somebody states the GPU to be on. It is taken as
            it is and precedes all other sources of locality.
        cpu_affinity: the CPUs that the driver calls near; already filtered by the cgroup, maybe empty.
            None if the source does not know.
        memory_affinity: the NUMA nodes whose memory the driver calls near. None if the source does not know.
        device_index: the number that ``nvidia-smi`` and an integer in CUDA_VISIBLE_DEVICES mean, where it is
            not `index`: instances of one GPU share it, and a GPU that cannot be used still has one.
        mig: which part of a GPU this is; None for a whole GPU.
    """

    index: int
    pci_address: str | None = None
    uuid: str | None = None
    name: str | None = None
    numa_node: int | None = None
    cpu_affinity: CpuSet | None = None
    memory_affinity: NodeSet | None = None
    device_index: int | None = None
    mig: MigInstance | None = None

    def __str__(self) -> str:
        return f"GPU {self.index}" + (f" ({self.pci_address})" if self.pci_address else "")


class GpuSource(Protocol):
    """Something that can tell which GPUs there are: NVML, a topology, a test."""

    @property
    def name(self) -> str:
        """What the source is called in messages and in a plan."""
        ...

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs, in index order.

        Raises:
            GpuError: the source does not work here; the message says why.
        """
        ...


_PCI_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


def normalize_pci_address(text: str) -> str:
    """Write a PCI address as sysfs does: ``0000:07:00.0``.

    ``nvidia-smi`` and NVML print eight digits of domain and upper case, ``lspci`` may print no domain.

    Raises:
        OptionError: the text is no PCI address.
    """
    match = _PCI_ADDRESS.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"{text!r} is no PCI address: write domain:bus:device.function, such as 0000:07:00.0")
    domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"


def pci_address_key(address: str) -> tuple[int, ...]:
    """Sort key of a normalised PCI address: by number, since domains have four to eight digits."""
    return tuple(int(part, 16) for part in re.split("[:.]", address))


# Display controller classes (PCI Code and ID Assignment Specification, base class 03): 00 VGA compatible,
# 02 3D controller, 80 other; and base class 12, processing accelerator (AMD MI300).
_VGA, _CONTROLLER_3D, _DISPLAY, _ACCELERATOR = 0x0300, 0x0302, 0x0380, 0x1200

# AMD's vendor id is also ATI's, whose display chips of the years before 2010 sit in servers' management
# controllers: Rage XL, RV100, ES1000 (pci.ids). They are no GPUs to put a rank next to.
_ATI_SERVER_DISPLAYS = frozenset({0x4752, 0x4C59, 0x5159, 0x515E, 0x5960, 0x5969})

# In the order in which `auto` looks for them.
_VENDORS: dict[str, tuple[int, frozenset[int]]] = {
    "nvidia": (0x10DE, frozenset({_VGA, _CONTROLLER_3D})),
    "amd": (0x1002, frozenset({_VGA, _CONTROLLER_3D, _DISPLAY, _ACCELERATOR})),
    # Not 1200: that is an Intel FPGA.
    "intel": (0x8086, frozenset({_VGA, _CONTROLLER_3D, _DISPLAY})),
}
VENDORS = tuple(_VENDORS)


def is_gpu(device: PciDevice, vendor: str) -> bool:
    """Whether a PCI device is a GPU of a vendor (one of `VENDORS`), by vendor id and class."""
    vendor_id, classes = _VENDORS[vendor]
    if device.vendor_id != vendor_id or device.class_id not in classes:
        return False
    return not (vendor == "amd" and device.device_id in _ATI_SERVER_DISPLAYS)


def _gpu_of(index: int, device: PciDevice) -> Gpu:
    return Gpu(index, device.address, name=device.name or None)


@dataclass(frozen=True, slots=True)
class TopologyGpus:
    """The GPUs among a topology's PCI devices, in order of PCI address (as NVML numbers them).

    Attributes:
        machine: the machine to look at.
        vendor: one of `VENDORS`, or "auto": NVIDIA's, or else AMD's, or else Intel's.
    """

    machine: Machine
    vendor: str = "auto"

    @property
    def name(self) -> str:
        """What the source is called in messages."""
        return "topology"

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs of the vendor.

        Raises:
            GpuNotFoundError: there is none.
        """
        for vendor in VENDORS if self.vendor == "auto" else (self.vendor,):
            found = [device for device in self.machine.pci_devices if is_gpu(device, vendor)]
            if found:
                return tuple(_gpu_of(index, device) for index, device in enumerate(found))
        wanted = "NVIDIA, AMD or Intel" if self.vendor == "auto" else self.vendor
        raise GpuNotFoundError(
            f"no {wanted} GPU is among the {len(self.machine.pci_devices)} PCI devices of {self.machine.source}: "
            "name devices by PCI address, or plan without GPUs (--gpus none --ranks N)"
        )


def gpus_at(machine: Machine, addresses: Sequence[str]) -> tuple[Gpu, ...]:
    """The PCI devices at these addresses, whatever their vendor, as GPUs in the order given.

    An address may be repeated: then several ranks each drive a part of one device.

    Raises:
        OptionError: an address cannot be read.
        GpuNotFoundError: the machine has no device there.
    """
    found = []
    for index, text in enumerate(addresses):
        device = machine.pci_device(normalize_pci_address(text))
        if device is None:
            there = ", ".join(each.address for each in machine.pci_devices) or "none"
            raise GpuNotFoundError(f"no PCI device {text} in {machine.source}: it has {there}")
        found.append(_gpu_of(index, device))
    return tuple(found)
