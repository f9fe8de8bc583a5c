"""What the kernel is set to that changes how fast placed memory and threads are: read, and never written."""

from __future__ import annotations

import os

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.facts import KernelSettings
from hwnuma.model.numbers import whole_number

__all__ = ["KernelSettings", "read_kernel_settings"]

_NUMA_BALANCING = "proc/sys/kernel/numa_balancing"
_ZONE_RECLAIM_MODE = "proc/sys/vm/zone_reclaim_mode"
_HUGE_PAGES = "sys/kernel/mm/transparent_hugepage"
_COMMAND_LINE = "proc/cmdline"
_ISOLATED = "sys/devices/system/cpu/isolated"

# Far more than any of these files has: COMMAND_LINE_SIZE of x86 and arm64 is 2,048, and a list of CPUs has a bound.
_MOST_BYTES = 1 << 16


def read_kernel_settings(root: str | os.PathLike[str] = "/") -> KernelSettings:
    """Read the settings; what is not there, may not be read or makes no sense is None, and no error.

    The files are those of the kernel's documentation: admin-guide/sysctl/kernel.rst and vm.rst, admin-guide/mm/
    transhuge.rst, admin-guide/kernel-parameters.txt, ABI/testing/sysfs-devices-system-cpu.

    Args:
        root: where ``proc`` and ``sys`` are, if not this system's own.
    """
    tree = os.fspath(root).rstrip("/")
    parameters = _text(f"{tree}/{_COMMAND_LINE}")
    return KernelSettings(
        numa_balancing=_number(_text(f"{tree}/{_NUMA_BALANCING}")),
        zone_reclaim_mode=_number(_text(f"{tree}/{_ZONE_RECLAIM_MODE}")),
        huge_pages=_chosen(_text(f"{tree}/{_HUGE_PAGES}/enabled")),
        huge_pages_defrag=_chosen(_text(f"{tree}/{_HUGE_PAGES}/defrag")),
        isolcpus=_parameter(parameters, "isolcpus"),
        nohz_full=_parameter(parameters, "nohz_full"),
        isolated_cpuset=_cpus(_text(f"{tree}/{_ISOLATED}")),
    )


def _text(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _MOST_BYTES).decode(errors="replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else whole_number(text, "a setting")
    except OptionError:
        return None


def _cpus(text: str | None) -> CpuSet | None:
    try:
        return None if text is None else CpuSet(text)
    except OptionError:
        return None


def _chosen(text: str | None) -> str | None:
    """The word in brackets, of a file such as ``always [madvise] never``."""
    words = (text or "").split()
    return next((word[1:-1] for word in words if word.startswith("[") and word.endswith("]")), None)


def _parameter(command_line: str | None, name: str) -> str | None:
    """What the command line says of a parameter, the last time; "" if it does not."""
    if command_line is None:
        return None
    said = [word.partition("=")[2] for word in command_line.split() if word.startswith(f"{name}=")]
    return said[-1].strip('"') if said else ""
