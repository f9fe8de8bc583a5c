"""A plan, a machine or a list of GPUs as text for people. Pure: everything is returned as a string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hwnuma.model.bitmap import CpuSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine, NumaNode
from hwnuma.model.plan import Plan
from hwnuma.policy.locality import Locality
from hwnuma.report.data import gpus_as_data


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Draw a table whose columns are as wide as what is in them: a set of CPUs is never cut."""
    from tabulate import tabulate  # only to draw one

    text = [["" if cell is None else str(cell) for cell in row] for row in rows]
    return tabulate(text, headers=headers, tablefmt="simple", disable_numparse=True)


def plan_as_text(plan: Plan) -> str:
    """The plan as a table for people, with what it leaves unused, what it shares, and what to know."""
    rows = [
        (
            binding.local_rank,
            ",".join(str(gpu.index) for gpu in binding.gpus) or "-",
            ",".join(gpu.pci_address or "-" for gpu in binding.gpus) or "-",
            binding.nodeset or "-",
            binding.cores or "-",
            binding.cpuset or "-",
            binding.locality if binding.error is None else type(binding.error).__name__,
        )
        for binding in plan.bindings
    ]
    lines = [table(("rank", "GPU", "PCI address", "node", "cores", "CPUs", "known from"), rows), ""]
    lines += [f"mode {plan.mode} on {plan.source}; allowed CPUs {plan.allowed_cpuset or 'none'}"]
    lines += [f"unused CPUs: {plan.unused_cpuset or 'none'}"]
    lines += [_sharing(plan)]
    lines += [f"rank {b.local_rank} is not placed: {b.error}" for b in plan.bindings if b.error is not None]
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def _sharing(plan: Plan) -> str:
    groups: dict[CpuSet, list[int]] = {}
    for one, other, cpus in plan.overlaps():
        members = groups.setdefault(cpus, [])
        members += [rank for rank in (one, other) if rank not in members]
    if not groups:
        return "no CPU is given to two ranks"
    shared = (f"ranks {', '.join(map(str, sorted(ranks)))} share CPUs {cpus}" for cpus, ranks in groups.items())
    return "; ".join(shared)


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
    return "\n".join(lines)


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
    lines = [table(headers, [["-" if row[key] is None else row[key] for key in keys] for row in data])]
    lines += [f"GPU {row['index']}: {row['error']}" for row in data if row["error"]]
    return "\n".join(lines)
