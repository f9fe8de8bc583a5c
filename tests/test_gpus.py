"""GPUs from a topology's PCI devices: which devices count, in what order, under which addresses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnuma import CpuSet, GpuNotFoundError, Machine, NodeSet, OptionError, TopologyGpus, gpus_at
from hwnuma.devices.pci import VENDORS, is_gpu
from hwnuma.model.gpu import normalize_pci_address, pci_address_key
from hwnuma.model.machine import PciDevice


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:07:00.0", "0000:07:00.0"),
        ("00000000:07:00.0", "0000:07:00.0"),
        ("00000000:0F:00.0", "0000:0f:00.0"),
        ("07:00.0", "0000:07:00.0"),
        ("0:7:0.1", "0000:07:00.1"),
        ("FB49:00:00.0", "fb49:00:00.0"),
        ("10000:00:00.0", "10000:00:00.0"),
        (" 0008:01:00.0\n", "0008:01:00.0"),
    ],
)
def test_addresses_are_written_as_sysfs_does(text: str, expected: str) -> None:
    """nvidia-smi's eight digits, lspci's missing domain, upper case and domains above 16 bits."""
    assert normalize_pci_address(text) == expected


@pytest.mark.parametrize("text", ["", "gpu0", "07:00", "0000:07:00.8", "123456789:07:00.0", "0000:107:00.0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """The text is repeated, with an example."""
    with pytest.raises(OptionError, match="0000:07:00.0"):
        normalize_pci_address(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7))
def test_normalising_keeps_the_numbers(domain: int, bus: int, device: int, function: int) -> None:
    """The four numbers survive, and normalising again changes nothing."""
    address = normalize_pci_address(f"{domain:08X}:{bus:02X}:{device:02X}.{function}")
    assert pci_address_key(address) == (domain, bus, device, function)
    assert normalize_pci_address(address) == address


def _device(vendor: int, device: int, class_id: int) -> PciDevice:
    return PciDevice("0000:01:00.0", vendor, device, class_id, "Machine", CpuSet(), NodeSet())


@pytest.mark.parametrize(
    ("what", "vendor", "device", "class_id", "expected"),
    [
        ("H100", 0x10DE, 0x2330, 0x0302, "nvidia"),
        ("GeForce", 0x10DE, 0x2684, 0x0300, "nvidia"),
        ("NVSwitch", 0x10DE, 0x22A3, 0x0680, None),
        ("NVIDIA audio", 0x10DE, 0x22BA, 0x0403, None),
        ("MI250X", 0x1002, 0x7408, 0x0380, "amd"),
        ("MI300X", 0x1002, 0x74A1, 0x1200, "amd"),
        ("MI50", 0x1002, 0x66A1, 0x0300, "amd"),
        ("ATI ES1000 of a BMC", 0x1002, 0x515E, 0x0300, None),
        ("Data Center GPU Max", 0x8086, 0x0BD5, 0x0380, "intel"),
        ("Intel FPGA", 0x8086, 0x0B2B, 0x1200, None),
        ("ASPEED BMC", 0x1A03, 0x2000, 0x0300, None),
        ("Matrox BMC", 0x102B, 0x0538, 0x0300, None),
        ("Amazon display", 0x1D0F, 0x1111, 0x0300, None),
        ("QEMU display", 0x1234, 0x1111, 0x0380, None),
        ("ConnectX-7", 0x15B3, 0x1021, 0x0207, None),
    ],
)
def test_vendor_and_class_tell_a_gpu(what: str, vendor: int, device: int, class_id: int, expected: str | None) -> None:
    """GPUs are told from switches, sound, FPGAs and management controllers' displays."""
    found = [name for name in VENDORS if is_gpu(_device(vendor, device, class_id), name)]
    assert found == ([expected] if expected else []), what


def test_order_is_that_of_addresses(machine_of: Callable[[str], Machine]) -> None:
    """The index follows the PCI address, whatever the order of objects in the file, and BMC displays are left out."""
    gpus = TopologyGpus(machine_of("dgx_a100_nps4")).gpus()
    assert [gpu.pci_address[5:7] for gpu in gpus] == ["07", "0f", "47", "4e", "87", "90", "b7", "bd"]
    assert [gpu.index for gpu in gpus] == list(range(8))


def test_domains_tell_gpus_apart(machine_of: Callable[[str], Machine]) -> None:
    """On Azure all GPUs are bus 00 device 00, and only the domain differs."""
    addresses = [gpu.pci_address for gpu in TopologyGpus(machine_of("azure_nd96asr_a100_v4")).gpus()]
    assert len(set(addresses)) == 8
    assert {address.split(":", 1)[1] for address in addresses} == {"00:00.0"}


def test_auto_takes_the_vendor_that_is_there(machine_of: Callable[[str], Machine]) -> None:
    """Without NVIDIA GPUs, AMD's are found; asked for another vendor, the error says what to do."""
    machine = machine_of("mi300x_8_xeon8480")
    assert TopologyGpus(machine).gpus() == TopologyGpus(machine, "amd").gpus()
    for vendor in ("nvidia", "intel"):
        with pytest.raises(GpuNotFoundError, match=f"no {vendor} GPU"):
            TopologyGpus(machine, vendor).gpus()


def test_devices_by_address_keep_the_order_given(machine_of: Callable[[str], Machine]) -> None:
    """Any PCI device can stand for a GPU; the ranks follow the order of the addresses."""
    gpus = gpus_at(machine_of("dgx_a100_nps4"), ["00000000:BD:00.0", "07:00.0"])
    assert [(gpu.index, gpu.pci_address) for gpu in gpus] == [(0, "0000:bd:00.0"), (1, "0000:07:00.0")]
    with pytest.raises(GpuNotFoundError, match="0000:07:00.0"):
        gpus_at(machine_of("dgx_a100_nps4"), ["0000:08:00.0"])
