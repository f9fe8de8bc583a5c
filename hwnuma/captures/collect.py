"""Collect the facts of this system that a capture keeps beside its topology."""

from __future__ import annotations

import os

from hwnuma.captures.variables import kept
from hwnuma.devices.kfd import read_amd_gpus
from hwnuma.devices.nccl import read_nccl_topology
from hwnuma.devices.nvml import Inventory, NvmlGpus
from hwnuma.errors import GpuError
from hwnuma.hwloc.core_speeds import read_core_speeds
from hwnuma.model.facts import Facts, NvLink, Versions
from hwnuma.model.value import replace
from hwnuma.processes.binding import current_affinity
from hwnuma.processes.kernel_settings import read_kernel_settings
from hwnuma.processes.procfs import allowed_nodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.machine import Machine


def facts_of(topology: Topology, environment: Mapping[str, str], *, serials: bool = False) -> Facts | None:
    """Collect the facts of a topology's machine.

    Args:
        topology: this system's. Of one that is not, the facts that it has are all that can be known.
        environment: this process's.
        serials: ask for the GPUs' serial numbers too.

    Returns:
        The facts, or None for another machine that has none.

    Raises:
        BindingError: a sandbox denies sched_getaffinity.
        TopologyFileError: the file of ``NCCL_TOPO_FILE`` cannot be read, or is none.
    """
    machine = topology.machine()
    if not machine.is_this_system:
        return machine.facts
    inventory, error = _inventory(serials=serials)
    root = environment.get("HWLOC_FSROOT", "")
    settings = read_kernel_settings(root or "/")
    amd = read_amd_gpus(machine, root)
    nccl_file = environment.get("NCCL_TOPO_FILE", "")
    return Facts(
        gpus=inventory.gpus,
        nvml_error=error,
        amd_gpus=amd.gpus,
        amd_doubt=amd.doubt,
        nvlinks=tuple(NvLink(*ends, links) for ends, links in inventory.nvlinks.items()),
        serials=tuple(inventory.serials.items()),
        variables=kept(environment),
        nccl_nodes=tuple(read_nccl_topology(nccl_file).items()) if nccl_file else (),
        affinity=current_affinity(topology),
        memory_nodes=allowed_nodes(),
        core_speeds=() if machine.cpu_kinds else read_core_speeds(machine.cpuset),
        device_nodes=machine.device_nodes,
        # What is planned here goes by the machine's own.
        kernel_settings=replace(settings, isolated_cpuset=machine.isolated_cpuset),
        versions=_versions(machine, inventory),
        host=os.uname().nodename,
    )


def _inventory(*, serials: bool) -> tuple[Inventory, str]:
    """What NVML tells, or why it does not: in the words that a plan has here."""
    try:
        return NvmlGpus().inventory(serials=serials), ""
    except GpuError as error:
        return Inventory(), str(error)


def _versions(machine: Machine, inventory: Inventory) -> Versions:
    from importlib.metadata import version  # only now: it reads the installation's files

    return Versions(version("hwnuma"), machine.hwloc_version, os.uname().release, inventory.driver)
