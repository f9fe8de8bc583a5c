"""Gpu, what a source of GPUs is, and PCI addresses in one form."""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.bitmap import CpuSet, NodeSet
    from hwnuma.model.contract import GpuDict


class MigInstance(Value):
    """Which part of a GPU a MIG instance is.

    Attributes:
        parent_uuid: the ``GPU-…`` UUID of the whole GPU.
        gpu_instance: the GPU instance's number on that GPU, where known.
        compute_instance: the compute instance's number in that GPU instance, where known.
    """

    parent_uuid: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None


class Gpu(Value):
    """One GPU, or one MIG instance of a GPU, as a rank uses it.

    Attributes:
        index: its number among all GPUs of its source; ranks drive GPUs in this order, and ties are
            broken by it. Several GPUs can share one PCI address (MIG instances, partitions of AMD's).
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
        compute_partition: how AMD's driver has partitioned the GPU that this is one of, or a part of: "SPX" (not),
            "DPX", "TPX", "QPX" or "CPX", where the source knows it.
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
    compute_partition: str | None = None

    def as_dict(self) -> GpuDict:
        """Give what names the GPU as plain values, as it stands in `Plan.as_dict`."""
        return {"index": self.index, "pci_address": self.pci_address, "uuid": self.uuid, "name": self.name}

    def __str__(self) -> str:
        return f"GPU {self.index}" + (f" ({self.pci_address})" if self.pci_address else "")


class FoundGpus(Value):
    """The GPUs of a machine.

    Attributes:
        visible: those that the job sees, in the order that its ranks drive them.
        all: all of the machine, in index order.
        source: who told: "nvml", "topology", "addresses" or "none".
        warnings: what is doubtful about the order or the visible ones.
    """

    visible: tuple[Gpu, ...]
    all: tuple[Gpu, ...]
    source: str
    warnings: tuple[str, ...] = ()


_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")

# How many hexadecimal digits domain, bus and device may have.
_PCI_DIGITS = (8, 2, 2)


def normalize_pci_address(text: str) -> str:
    """Write a PCI address as sysfs does: ``0000:07:00.0``.

    ``nvidia-smi`` and NVML print eight digits of domain and upper case, ``lspci`` may print no domain.

    Raises:
        OptionError: the text is no PCI address.
    """
    numbers = _pci_numbers(text.strip())
    if numbers is None:
        raise OptionError(f"{shown(text)} is no PCI address: write domain:bus:device.function, such as 0000:07:00.0")
    domain, bus, device, function = numbers
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"


def _pci_numbers(text: str) -> tuple[int, int, int, int] | None:
    """Domain, bus, device and function of a PCI address in any of its forms; None if it is none."""
    path, _, function = text.rpartition(".")
    parts = path.split(":")
    if len(parts) == len(_PCI_DIGITS) - 1:
        parts = ["0", *parts]
    if len(parts) != len(_PCI_DIGITS) or function not in {*"01234567"}:
        return None
    if not all(
        0 < len(part) <= most and _HEXADECIMAL.issuperset(part) for part, most in zip(parts, _PCI_DIGITS, strict=True)
    ):
        return None
    domain, bus, device = (int(part, 16) for part in parts)
    return domain, bus, device, int(function)


def pci_address_key(address: str) -> tuple[int, ...]:
    """Sort key of a normalised PCI address: by number, since domains have four to eight digits."""
    return tuple(int(part, 16) for part in address.replace(".", ":").split(":"))
