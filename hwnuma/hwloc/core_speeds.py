"""How fast each core is by the firmware's word, where libhwloc ranks no kinds of cores. Read only where somebody asks.

libhwloc goes by the kind of core, its capacity, and cpufreq's base and maximal frequency (hwloc_cpukinds_get_info).
What it does not read is ACPI's Collaborative Processor Performance Control.
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.numbers import whole_number

_CPUS = "/sys/devices/system/cpu"

# Linux, Documentation/admin-guide/acpi/cppc_sysfs.rst: on an abstract scale that all CPUs have in common. The first:
# the most that a CPU gives if all is well for it; the second: what it can sustain.
_MEASURES = ("highest_perf", "nominal_perf")


def read_core_speeds(cpuset: CpuSet, root: str = "") -> tuple[CpuSet, ...]:
    """Sort CPUs by how fast the firmware says that they are.

    Args:
        cpuset: those that are online.
        root: what is ahead of ``/sys``; "" for this system.

    Returns:
        Sets of CPUs that are alike, from the slowest to the fastest; empty if all are, or the firmware does not tell.
    """
    for measure in _MEASURES:
        kinds = _kinds(cpuset, root, measure)
        if len(kinds) > 1:
            return tuple(CpuSet(cpus) for _, cpus in sorted(kinds.items()))
    return ()


def _kinds(cpuset: CpuSet, root: str, measure: str) -> dict[int, list[int]]:
    kinds: dict[int, list[int]] = {}
    for cpu in cpuset:
        try:
            with open(f"{root}{_CPUS}/cpu{cpu}/acpi_cppc/{measure}", encoding="ascii") as file:  # noqa: PTH123 -- light
                kinds.setdefault(whole_number(file.read(), measure), []).append(cpu)
        except (OSError, OptionError):
            return {}  # of some only: nothing can be said of the others
    return kinds
