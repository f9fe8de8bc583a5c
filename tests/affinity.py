"""The CPUs that this process might run on as the tests began, and those that it, or a thread, may run on now."""

from __future__ import annotations

import os

from hwnuma import CpuSet

BEFORE = CpuSet(os.sched_getaffinity(0))
FIRST, LAST = CpuSet([BEFORE.first]), CpuSet([BEFORE.last])


def affinity(thread: int = 0) -> CpuSet:
    """What the kernel says, past hwnuma and libhwloc."""
    return CpuSet(os.sched_getaffinity(thread))
