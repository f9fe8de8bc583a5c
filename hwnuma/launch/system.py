"""The running system's topology, with what is asked for of its devices."""

from __future__ import annotations

import os

from hwnuma.hwloc.topology import Topology

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def load_this_system(
    *,
    pci: bool = True,
    network: bool = False,
    first_caches: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Topology:
    """Load the topology of the running system, and note in it what the kernel tells of its network cards.

    Args:
        pci: look at PCI devices, without which no GPU is known.
        network: look at network cards too.
        first_caches: look at first-level caches too, where the CPUs have others.
        environment: for libhwloc's HWLOC_FSROOT and HWLOC_XMLFILE; by default this process's.

    Raises:
        HwlocError: libhwloc failed.
    """
    topology = Topology.from_this_system(pci=pci, network=network, first_caches=first_caches)
    if network:
        variables = os.environ if environment is None else environment
        root = variables.get("HWLOC_FSROOT") or "/"
        # A saved file has its notes in it; its devices are looked at here only if it is said to be this system's.
        if not variables.get("HWLOC_XMLFILE") or topology.is_this_system:
            from hwnuma.devices.nics import read_notes  # only here: most processes have no use for NICs

            topology.annotate(read_notes(root))
    return topology
