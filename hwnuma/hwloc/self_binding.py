"""Bind the calling thread to a place that was planned elsewhere, with nothing loaded but the extension module.

A launcher starts every rank through this, and importing the rest of hwnuma costs many times what the binding costs.
So this module imports nothing else of it, and does no more than succeed or leave all as it was.
"""

from __future__ import annotations

from hwnuma.hwloc._hwloc import lib

# hwloc's policy and flag of each memory policy (`hwnuma.model.options.MemoryPolicy`, by its value). Without STRICT,
# hwloc's BIND is MPOL_PREFERRED_MANY, or MPOL_PREFERRED before Linux 5.15; with it, MPOL_BIND.
MEMBIND: dict[str, tuple[int, int]] = {
    "none": (lib.HWLOC_MEMBIND_DEFAULT, 0),
    "preferred": (lib.HWLOC_MEMBIND_BIND, 0),
    "bind": (lib.HWLOC_MEMBIND_BIND, lib.HWLOC_MEMBIND_STRICT),
    "interleave": (lib.HWLOC_MEMBIND_INTERLEAVE, 0),
}


def bind_self(cpus: str, nodes: str = "", memory: str = "none") -> bool:
    """Bind the calling thread to CPUs, and its memory to NUMA nodes, and read both back (hwnuma.h, hwnuma_bind_self).

    Args:
        cpus: as ``str(CpuSet)`` writes it; in any other form it is not taken, so that the text can be the record.
        nodes: as ``str(NodeSet)`` writes it; may be empty with the memory policy "none".
        memory: the value of a `hwnuma.model.options.MemoryPolicy`. With "none" the thread's policy stays as it is.

    Returns:
        Whether the kernel did just that. Otherwise CPUs and memory policy are as they were, and the way that says what
        is wrong (`hwnuma.launch.bind_job`) has to be gone.
    """
    if memory not in MEMBIND:
        return False
    policy, flags = MEMBIND[memory]
    try:
        return bool(lib.hwnuma_bind_self(cpus.encode("ascii"), nodes.encode("ascii"), policy, flags) == 0)
    except ValueError:  # characters that no list has
        return False
