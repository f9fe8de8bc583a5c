"""The GPUs among a topology's PCI devices: the source of GPUs that needs no driver."""

from __future__ import annotations

from hwnuma.errors import GpuNotFoundError
from hwnuma.model.gpu import Gpu, normalize_pci_address, pci_address_key
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwnuma.model.machine import Machine, PciDevice

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


class TopologyGpus(Value):
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
            f"no {wanted} GPU is among the {len(self.machine.pci_devices)} PCI devices of {self.machine.called}: "
            "name devices by PCI address, or plan without GPUs (--gpus none --ranks N)"
        )


def gpus_of_host(machine: Machine, known: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """All GPUs of the machine, whoever sees them: those that are known, and the others of the same vendors.

    A container is often shown some GPUs by the driver, and all of them by the kernel. They are in order of their PCI
    address, which is the same for all who ask, whatever numbers the driver gives them.

    Args:
        machine: where they are.
        known: those that a source tells of.
    """
    addresses = {gpu.pci_address for gpu in known}
    devices = [machine.pci_device(address) for address in addresses if address]
    vendors = {vendor for vendor in VENDORS for device in devices if device is not None and is_gpu(device, vendor)}
    others = [
        device
        for device in machine.pci_devices
        if device.address not in addresses and any(is_gpu(device, vendor) for vendor in vendors)
    ]
    first = max((gpu.index for gpu in known), default=-1) + 1
    everyone = [*known, *(_gpu_of(first + place, device) for place, device in enumerate(others))]
    return tuple(sorted(everyone, key=lambda gpu: (pci_address_key(gpu.pci_address or "ffffffff:0:0.0"), gpu.index)))


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
            raise GpuNotFoundError(f"no PCI device {text} in {machine.called}: it has {there}")
        found.append(_gpu_of(index, device))
    return tuple(found)
