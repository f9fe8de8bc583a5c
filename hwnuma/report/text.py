"""A machine or a list of GPUs as text for people (a plan's is `str(plan)`). Pure: all is returned as a string."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hwnuma.model.characters import printable_text
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine, NumaNode
from hwnuma.model.table import table_lines
from hwnuma.policy.locality import Locality
from hwnuma.report.data import gpus_as_data


def machine_as_text(machine: Machine, gpus: Sequence[Gpu] = (), localities: Sequence[Locality] = ()) -> str:
    """Draw the machine: packages, their NUMA nodes, caches and the GPUs on each."""
    lines = [
        f"{machine.source}: {len(machine.cpuset)} CPUs, {len(machine.cores)} cores, {len(machine.packages)} packages, "
        f"{len(machine.cpu_nodes)} NUMA nodes with CPUs (libhwloc {machine.hwloc_version})",
    ]
    if machine.allowed_cpuset != machine.cpuset:
        lines.append(f"allowed CPUs: {machine.allowed_cpuset or 'none'}")
    drawn: set[int] = set()
    for package in machine.packages:
        lines.append(f"package {package.os_index}  CPUs {package.cpuset}")
        for node in machine.cpu_nodes:
            if node.os_index not in drawn and not node.cpuset.isdisjoint(package.cpuset):
                drawn.add(node.os_index)
                lines += _node_lines(machine, node, gpus, localities)
    for node in machine.numa_nodes:
        if node.os_index not in drawn:
            lines += _node_lines(machine, node, gpus, localities)
    lines += _homeless(gpus, localities)
    return printable_text(lines)


def _node_lines(machine: Machine, node: NumaNode, gpus: Sequence[Gpu], localities: Sequence[Locality]) -> Iterator[str]:
    memory = f"{node.memory / 2**30:.0f} GiB" if node.memory else "memory unknown"
    kind = f" {node.subtype}" if node.subtype else ""
    if not node.cpuset:
        yield f"  node {node.os_index}  no CPUs, near {node.near_cpuset or 'none'}  {memory}{kind}"
        return
    yield f"  node {node.os_index}  CPUs {node.cpuset}  {memory}{kind}"
    caches = [cache for cache in machine.last_level_caches if not cache.cpuset.isdisjoint(node.cpuset)]
    if caches:
        yield f"    L{caches[0].level}: " + "  ".join(str(cache.cpuset & node.cpuset) for cache in caches)
    for gpu, locality in zip(gpus, localities, strict=True):
        if locality.nodes and locality.nodes[0].os_index == node.os_index:
            yield f"    {_gpu_text(gpu)}  known from {locality.source}"


def _gpu_text(gpu: Gpu) -> str:
    return "  ".join(filter(None, (f"GPU {gpu.index}", gpu.pci_address, gpu.name)))


def _homeless(gpus: Sequence[Gpu], localities: Sequence[Locality]) -> Iterator[str]:
    for gpu, locality in zip(gpus, localities, strict=True):
        if not locality.nodes:
            yield f"{_gpu_text(gpu)}  on no known node: {locality.error}"


def gpus_as_text(gpus: Sequence[Gpu], localities: Sequence[Locality], visible: Sequence[Gpu]) -> str:
    """The same as a table for people."""
    headers = ("GPU", "visible as", "PCI address", "UUID", "name", "node", "node's CPUs", "known from", "driver's CPUs")
    keys = ("index", "visible_as", "pci_address", "uuid", "name", "numa_node", "cpuset", "locality", "driver_cpuset")
    data = gpus_as_data(gpus, localities, visible)
    lines = table_lines(headers, [["-" if row[key] is None else row[key] for key in keys] for row in data])
    lines += [f"GPU {row['index']}: {row['error']}" for row in data if row["error"]]
    return printable_text(lines)
