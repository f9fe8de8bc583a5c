"""Machines as sysfs files, for what discovers a topology."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.settings import DGX_NAME
from fixtures import facts, sysfs
from hwnuma import CpuSet

# With HWLOC_FSROOT: libhwloc reads that tree alone, and asks this machine's processor nothing.
SYSFS_VARIABLES = {"HWLOC_COMPONENTS": "linux,stop", "HWLOC_THISSYSTEM": "0"}

_KIB = 1024


def two_cores() -> sysfs.SysfsMachine:
    """One node, two cores, three levels of caches and a GPU."""
    cpus = [CpuSet("0"), CpuSet("1")]
    own = [sysfs.Cache(1, "Data", cpu, 32 * _KIB) for cpu in cpus]
    own += [sysfs.Cache(2, "Unified", cpu, 512 * _KIB) for cpu in cpus]
    return sysfs.SysfsMachine(
        cores=tuple(sysfs.Core(index, 0, cpu) for index, cpu in enumerate(cpus)),
        caches=(*own, sysfs.Cache(3, "Unified", CpuSet("0-1"), 16384 * _KIB)),
        nodes=(sysfs.Node(0, CpuSet("0-1"), 4 * _KIB**3),),
        pci_devices=(sysfs.PciFunction("0000:07:00.0", 0x10DE, 0x20B0, 0x0302, numa_node=0),),
        processor=sysfs.Processor("AuthenticAMD", "AMD EPYC 7742 64-Core Processor", 23, 49),
    )


def dgx() -> sysfs.SysfsMachine:
    """A DGX A100 in NPS4: 256 CPUs, 8 nodes, 8 GPUs."""
    return facts.describe(facts.load(DGX_NAME))


def dgx_addresses() -> list[str]:
    """The PCI addresses of its GPUs, in the order of their index."""
    return [gpu["address"] for gpu in facts.load(DGX_NAME)["gpus"]]


def written(machine: sysfs.SysfsMachine, folder: Path) -> Path:
    """Write a machine's files into a new folder."""
    folder.mkdir()
    sysfs.write(machine, folder)
    return folder


@contextmanager
def dgx_files() -> Iterator[Path]:
    """The files of a DGX, for as long as they are needed; in memory where that can be had, as sysfs itself is."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="hwnuma-sysfs-", dir=memory if memory.is_dir() else None) as folder:
        yield written(dgx(), Path(folder) / "dgx")
