"""Machines made up from chance, as tidy and as odd as real ones: for the property tests.

`make` takes anything that has random.Random's methods, so the same maker serves a seeded loop and hypothesis, which
shrinks what it finds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from random import Random

from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Cache, Core, Distances, Machine, NumaNode, Package, PciDevice

# On how many machines a property is tried: some hundreds in the quick tests, and far more in CI.
PROPERTY_MACHINES = int(os.environ.get("HWNUMA_PROPERTY_MACHINES", "100"))

_NVIDIA, _CONTROLLER_3D = 0x10DE, 0x0302


@dataclass(frozen=True)
class Made:
    """A machine and its GPUs."""

    machine: Machine
    gpus: tuple[Gpu, ...]


@dataclass
class _Layout:
    """Cores by node and nodes by package, before anything has a number."""

    threads: list[list[int]]  # of each node, how many threads each core has
    package_of: list[int]  # of each node


def make(random: Random) -> Made:
    """Make a machine of up to four packages, each of up to four nodes with up to six cores, and up to eight GPUs."""
    layout = _layout(random)
    cpus = _numbered(random, layout)
    nodes = _nodes(random, cpus)
    machine = _machine(random, layout, cpus, nodes)
    machine = replace(machine, allowed_cpuset=_allowed(random, machine))
    return _with_gpus(random, machine)


def _layout(random: Random) -> _Layout:
    packages, nodes_each = random.randint(1, 4), random.choice((1, 1, 2, 4))
    threads, package_of = [], []
    for package in range(packages):
        for _ in range(nodes_each):
            most = random.choice((1, 1, 2, 2, 4))
            cores = [most] * random.randint(1, 6)
            if random.random() < 0.2:  # offline threads, hybrid cores
                cores = [random.randint(1, most) for _ in cores]
            threads.append(cores)
            package_of.append(package)
    return _Layout(threads, package_of)


def _numbered(random: Random, layout: _Layout) -> list[list[CpuSet]]:
    """Number the threads as some kernel does: of each node, the CPUs of each core."""
    slots = [
        (node, core, thread)
        for node, cores in enumerate(layout.threads)
        for core, threads in enumerate(cores)
        for thread in range(threads)
    ]
    scheme = random.choice(("siblings adjacent", "siblings far", "round-robin", "any"))
    if scheme == "siblings far":  # k and k + N
        slots.sort(key=lambda slot: (slot[2], slot[0], slot[1]))
    elif scheme == "round-robin":  # over the nodes
        slots.sort(key=lambda slot: (slot[2], slot[1], slot[0]))
    elif scheme == "any":
        random.shuffle(slots)
    number, step = random.choice((0, 0, 8)), random.choice((1, 1, 2))
    numbers: list[list[list[int]]] = [[[] for _ in cores] for cores in layout.threads]
    for node, core, _ in slots:
        numbers[node][core].append(number)
        number += step if random.random() < 0.95 else random.randint(1, 20)
    return [[CpuSet(core) for core in cores] for cores in numbers]


def _nodes(random: Random, cpus: list[list[CpuSet]]) -> list[NumaNode]:
    """The nodes with CPUs, and some of memory alone; numbers may have gaps."""
    of_nodes = [union(cores) for cores in cpus]
    if len(of_nodes) > 1 and random.random() < 0.05:  # the CPUs of one node belong to none (no memory there)
        of_nodes[random.randrange(len(of_nodes))] = CpuSet()
    index, nodes = random.choice((0, 0, 0, 1)), []
    for cpuset in of_nodes:
        if cpuset:
            nodes.append(NumaNode(index, cpuset, cpuset, memory=1 << 30))
            index += random.choice((1, 1, 1, 8))
    for _ in range(random.choice((0, 0, 0, 1, 3))):
        near = random.choice(nodes).cpuset if random.random() < 0.8 else CpuSet()
        nodes.append(NumaNode(index, CpuSet(), near, memory=1 << 30, subtype="GPUMemory"))
        index += random.choice((1, 1, 200))
    return nodes


def _caches(random: Random, cpus: list[list[CpuSet]], packages: list[CpuSet]) -> list[Cache]:
    """Last-level caches: none, one a core, some of each node's cores, a node's, a package's, or mixed levels."""
    kind = random.choice(("none", "core", "some", "some", "node", "package", "mixed"))
    if kind == "none":
        return []
    if kind == "package":
        return [Cache(3, cpuset) for cpuset in packages]
    caches = []
    for cores in cpus:
        width = {"core": 1, "node": len(cores)}.get(kind) or random.randint(1, len(cores))
        groups = [union(cores[start : start + width]) for start in range(0, len(cores), width)]
        level = random.choice((2, 3)) if kind == "mixed" else 3
        # In a mixed machine, some cores have none that is told.
        caches += [Cache(level, group) for group in groups if kind != "mixed" or random.random() < 0.7]
    return caches


def _machine(random: Random, layout: _Layout, cpus: list[list[CpuSet]], nodes: list[NumaNode]) -> Machine:
    package_cpus = [
        union(cpuset for node, cores in enumerate(cpus) if layout.package_of[node] == package for cpuset in cores)
        for package in range(max(layout.package_of) + 1)
    ]
    if len(package_cpus) > 1 and random.random() < 0.05:  # a node that crosses packages, as some virtual machines have
        moved = CpuSet([package_cpus[0].last])
        package_cpus[0], package_cpus[1] = package_cpus[0] - moved, package_cpus[1] | moved
    step = random.choice((1, 1, 36))
    every = [core for cores in cpus for core in cores]
    cores = sorted(every, key=lambda core: core.first)
    indexes = [node.os_index for node in nodes]
    distances = Distances()
    if random.random() < 0.7:
        values = [[10 if one == other else random.choice((12, 20, 32)) for other in indexes] for one in indexes]
        distances = Distances(tuple(indexes), tuple(tuple(row) for row in values))
    return Machine(
        source="made up",
        is_this_system=False,
        cpuset=union(every),
        allowed_cpuset=union(every),
        allowed_nodeset=NodeSet(indexes),
        packages=tuple(Package(number * step, cpuset) for number, cpuset in enumerate(package_cpus) if cpuset),
        numa_nodes=tuple(nodes),
        last_level_caches=tuple(sorted(_caches(random, cpus, package_cpus), key=lambda cache: cache.cpuset.first)),
        cores=tuple(Core(number, core) for number, core in enumerate(cores)),
        distances=distances,
    )


def _allowed(random: Random, machine: Machine) -> CpuSet:
    """What a cgroup leaves: all, a node, a package, a few, a half, or a single CPU."""
    kind = random.choice(("all", "all", "all", "node", "package", "some", "most", "one"))
    if kind == "all":
        return machine.cpuset
    if kind == "node":
        return random.choice(machine.cpu_nodes).cpuset
    if kind == "package":
        return random.choice(machine.packages).cpuset
    if kind == "one":
        return CpuSet([random.choice(list(machine.cpuset))])
    share = 0.3 if kind == "some" else 0.8
    return CpuSet(cpu for cpu in machine.cpuset if random.random() < share)


def _with_gpus(random: Random, machine: Machine) -> Made:
    devices, gpus = [], []
    style = random.choice(("nodes", "nodes", "nodes", "any", "unknown"))
    for index in range(random.choice((0, 1, 2, 3, 4, 8, 8))):
        if devices and random.random() < 0.05:  # several GPUs at one address: MIG instances, partitions
            gpus.append(Gpu(index, devices[-1].address))
            continue
        near = _near(random, machine, style)
        address = f"{random.choice((0, 0, 0x35)):04x}:{len(devices) + 1:02x}:00.0"
        nodes = NodeSet(node.os_index for node in machine.numa_nodes if near and not node.near_cpuset.isdisjoint(near))
        devices.append(
            PciDevice(
                address, _NVIDIA, 0x2330, _CONTROLLER_3D, "Group", near, nodes, is_near_root=near == machine.cpuset
            )
        )
        given = random.choice(machine.cpu_nodes).os_index if random.random() < 0.05 else None
        gpus.append(Gpu(index, address, numa_node=given))
    random.shuffle(devices)
    return Made(replace(machine, pci_devices=tuple(devices)), tuple(gpus))


def _near(random: Random, machine: Machine, style: str) -> CpuSet:  # noqa: PLR0911 -- one for each kind
    """The CPUs of the object that a GPU hangs below."""
    if style == "unknown":
        return machine.cpuset
    node = random.choice(machine.cpu_nodes)
    kind = "node" if style == "nodes" else random.choice(("node", "cache", "package", "machine", "nothing", "core"))
    if kind == "cache" and machine.last_level_caches:
        return random.choice(machine.last_level_caches).cpuset
    if kind == "package":
        return random.choice(machine.packages).cpuset
    if kind == "machine":
        return machine.cpuset
    if kind == "nothing":
        return CpuSet()
    if kind == "core":
        return random.choice(machine.cores).cpuset
    return node.cpuset
