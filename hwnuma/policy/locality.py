"""Where a GPU is: from its place in the topology, and other sources, to one NUMA node that has CPUs.

The PCI device's first ancestor that is no I/O object is not "the node": it can be part of one (MI250X: an L3), one,
several (a Package of SNC nodes), all (numa_node is -1) or none (a restricted cpuset). In this order:

1. ``given``: somebody states the node (`Gpu.numa_node`, ``--gpu-node``).
2. ``hwloc``: the ancestor lies within one node that has CPUs.
3. Among the nodes that the ancestor covers, a better source knows one: ``nvml`` (the driver's CPU affinity) or
   ``nccl`` (an NCCL topology file) or, where libhwloc has no place, ``sysfs`` (the kernel's ``numa_node``, which may be
   a node of memory alone: then the nodes of the CPUs near that).
4. ``hwloc-spread``: the ancestor covers some nodes, but not the whole machine, and nothing tells them apart: the GPUs
   that are equally near to them are dealt out to them by index.
5. ``single-node``: only one node in the machine has CPUs.
6. ``single-package``: in ``socket`` the node does not matter if the machine has one package (`hwnuma.policy.planning`).
7. Unknown: an error that names the remedies; ``node0``, as torch does it, on request only.
"""

from __future__ import annotations

from hwnuma.errors import NoAllowedCpusError, PlanError, UnknownLocalityError
from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.options import UnknownLocality
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    _Turns = dict[tuple[int, ...], int]

    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine, NumaNode, PciDevice

# How many GPUs had their turn, by the numbers of the nodes that are equally near to them.


class Locality(Value):
    """The nodes that a GPU may be on, and which source said so; `nodes` is empty if there is an error."""

    nodes: tuple[NumaNode, ...] = ()
    source: str = ""
    error: PlanError | None = None


def locate(
    machine: Machine,
    gpus: Sequence[Gpu],
    *,
    nccl_nodes: Mapping[str, int] | None = None,
    unknown: UnknownLocality = UnknownLocality.ERROR,
) -> list[Locality]:
    """Find for each GPU the one CPU-bearing NUMA node that it is on.

    Args:
        machine: where the GPUs are.
        gpus: in the order in which equally near nodes are dealt out.
        nccl_nodes: node by PCI address, from an NCCL topology file.
        unknown: what to do with a GPU of which nothing says where it is.

    Returns:
        For each GPU a Locality with one node, or with an error.
    """
    found = [_candidates(machine, gpu, nccl_nodes or {}, unknown) for gpu in gpus]
    turns: _Turns = {}
    spare_turns: _Turns = {}
    for place, locality in enumerate(found):
        if len(locality.nodes) > 1:
            found[place] = _deal(machine, locality, turns, spare_turns)
    return found


def _deal(machine: Machine, locality: Locality, turns: _Turns, spare_turns: _Turns) -> Locality:
    """Pick the next of several equally near nodes; one with nothing to use gives way to the next that has.

    The turns go round all of the nodes, so a GPU whose node has CPUs to use keeps it whatever other nodes lose.
    """
    nodes = locality.nodes
    key = tuple([node.os_index for node in nodes])
    picked = nodes[_turn(turns, key) % len(nodes)]
    if picked.cpuset.isdisjoint(machine.allowed_cpuset):
        usable = [node for node in nodes if not node.cpuset.isdisjoint(machine.allowed_cpuset)]
        if usable:
            picked = usable[_turn(spare_turns, key) % len(usable)]
    return Locality((picked,), locality.source)


def _turn(turns: _Turns, key: tuple[int, ...]) -> int:
    """How often it was the turn of these nodes, this time not counted."""
    turns[key] = turns.get(key, 0) + 1
    return turns[key] - 1


def _candidates(  # noqa: PLR0911 -- the order of sources reads as one list
    machine: Machine, gpu: Gpu, nccl_nodes: Mapping[str, int], unknown: UnknownLocality
) -> Locality:
    if gpu.numa_node is not None:
        return _given(machine, gpu, gpu.numa_node)
    device = machine.pci_device(gpu.pci_address) if gpu.pci_address else None
    near = _nodes_near(machine, device) if device else ()
    if device is not None and not near and _is_absent(machine, device):
        return Locality(error=_absent(machine, gpu, device))
    if len(near) == 1:
        return Locality(near, "hwloc")
    for source, better in (
        ("nvml", _by_nvml(machine, gpu)),
        ("nccl", _by_nccl(machine, gpu, nccl_nodes)),
        ("sysfs", _by_sysfs(machine, gpu)),
    ):
        narrowed = tuple(node for node in better if not near or node in near)
        if narrowed:
            return Locality(narrowed, source)
    if near and not _is_everything(machine, near):
        return Locality(near, "hwloc-spread")
    if len(machine.cpu_nodes) == 1:
        return Locality(machine.cpu_nodes, "single-node")
    return _unknown(machine, gpu, device, unknown)


def _nodes_near(machine: Machine, device: PciDevice) -> tuple[NumaNode, ...]:
    """The CPU-bearing nodes that the device's ancestor touches; none if it hangs below the whole machine."""
    if device.is_near_root:
        return ()
    if not device.near_cpuset:
        # No CPU at all is near: a node of memory alone, of which the CPUs near it are known.
        by_number = (node for node in machine.numa_nodes if node.os_index in device.near_nodeset)
        return machine.nodes_of(union(node.near_cpuset for node in by_number))
    # CPUs can belong to no node that is known (Threadripper 2990WX: two of the four dies have no memory).
    return machine.nodes_of(device.near_cpuset) or _nodes_of_packages(machine, device.near_cpuset)


def _is_absent(machine: Machine, device: PciDevice) -> bool:
    """Whether there are CPUs near a device, and this machine has none of them."""
    return bool(device.near_cpuset) and not device.is_near_root and device.near_cpuset.isdisjoint(machine.cpuset)


def _nodes_of_packages(machine: Machine, cpuset: CpuSet) -> tuple[NumaNode, ...]:
    """The CPU-bearing nodes of the packages that hold these CPUs."""
    around = union(package.cpuset for package in machine.packages if not package.cpuset.isdisjoint(cpuset))
    return machine.nodes_of(around)


def _is_everything(machine: Machine, nodes: Sequence[NumaNode]) -> bool:
    """Whether these are all the nodes there are, which says nothing of where a device is."""
    return len(nodes) == len(machine.cpu_nodes)


def _by_nvml(machine: Machine, gpu: Gpu) -> tuple[NumaNode, ...]:
    """The nodes of the driver's CPU affinity, unless it names every CPU that may be used."""
    affinity = gpu.cpu_affinity
    # The driver's mask is already cut to the cgroup: empty says nothing, and all of the allowed says nothing.
    if not affinity or machine.allowed_cpuset <= affinity:
        return ()
    nodes = machine.nodes_of(affinity)
    return () if _is_everything(machine, nodes) else nodes


def _by_nccl(machine: Machine, gpu: Gpu, nccl_nodes: Mapping[str, int]) -> tuple[NumaNode, ...]:
    node = machine.numa_node(nccl_nodes.get(gpu.pci_address or "", -1))
    return (node,) if node is not None and node.cpuset else ()


def _by_sysfs(machine: Machine, gpu: Gpu) -> tuple[NumaNode, ...]:
    """The nodes of the CPUs near the node that the kernel names, unless these are all of them."""
    if not machine.device_nodes:
        return ()
    node = machine.numa_node(dict(machine.device_nodes).get(gpu.pci_address or "", -1))
    if node is None:
        return ()
    # libhwloc has a GPU's memory where it has the GPU: then nothing is near either, but the kernel has distances.
    nodes = machine.nodes_of(node.near_cpuset) or _nearest_by_distance(machine, node.os_index)
    return () if _is_everything(machine, nodes) else nodes


def near_cpus(machine: Machine, node: NumaNode) -> CpuSet:
    """The CPUs that libhwloc names as near a node, or, where it names none, those of the nearest nodes that have any.

    It names none for a GPU's memory where an empty node of the same GPU (one for MIG) is the nearest of all, and the
    driver's files, which tell better, are not to be seen: in a container without the GPU, in a virtual machine.
    """
    return node.near_cpuset or union(near.cpuset for near in _nearest_by_distance(machine, node.os_index))


def _nearest_by_distance(machine: Machine, number: int) -> tuple[NumaNode, ...]:
    """The nodes with CPUs at the least distance from a node; none if the kernel does not tell."""
    told = [(machine.distances.between(number, node.os_index), node) for node in machine.cpu_nodes]
    known = [(distance, node) for distance, node in told if distance is not None]
    least = min((distance for distance, _ in known), default=0)
    return tuple([node for distance, node in known if distance == least])


def disagreements(
    machine: Machine,
    gpus: Sequence[Gpu],
    localities: Sequence[Locality],
    nccl_nodes: Mapping[str, int] | None = None,
) -> list[str]:
    """Say which other sources place a GPU elsewhere than the one that was believed, a sentence each.

    Args:
        machine: where the GPUs are.
        gpus: as given to `locate`.
        localities: what `locate` answered.
        nccl_nodes: as given to `locate`.
    """
    said = []
    for gpu, locality in zip(gpus, localities, strict=True):
        for node in locality.nodes:
            other = _other_opinion(machine, gpu, node, nccl_nodes or {})
            if other:
                said.append(
                    f"{gpu} is taken to be on NUMA node {node.os_index} (known from {locality.source}), but {other}"
                )
    return said


def _other_opinion(machine: Machine, gpu: Gpu, node: NumaNode, nccl_nodes: Mapping[str, int]) -> str:
    told = _by_nvml(machine, gpu)
    if told and node not in told:
        return f"NVML says that CPUs {gpu.cpu_affinity} are near it"
    if gpu.memory_affinity and not told:
        # A GPU's own memory node (GB200) says nothing of where its CPUs are.
        with_cpus = NodeSet(owner.os_index for owner in machine.cpu_nodes) & gpu.memory_affinity
        if with_cpus and node.os_index not in with_cpus:
            return f"NVML says that the memory of NUMA nodes {with_cpus} is near it"
    number = nccl_nodes.get(gpu.pci_address or "", node.os_index)
    return f"the NCCL topology file says node {number}" if number != node.os_index else ""


def _cpu_nodes_text(machine: Machine) -> str:
    return ", ".join(str(node.os_index) for node in machine.cpu_nodes) or "none"


def _given(machine: Machine, gpu: Gpu, number: int) -> Locality:
    node = machine.numa_node(number)
    if node is not None and node.cpuset:
        return Locality((node,), "given")
    what = "does not exist" if node is None else "has no CPUs"
    return Locality(
        error=UnknownLocalityError(
            f"{gpu} is stated to be on NUMA node {number}, which {what} in {machine.called}: nodes with CPUs are "
            f"{_cpu_nodes_text(machine)}"
        )
    )


def _absent(machine: Machine, gpu: Gpu, device: PciDevice) -> NoAllowedCpusError:
    return NoAllowedCpusError(
        f"{gpu} is near CPUs {device.near_cpuset}, and none of them is online or allowed in {machine.called}, which "
        f"has CPUs {machine.allowed_cpuset}: ask the scheduler for CPUs near the GPU, or use --fallback nearest"
    )


def _unknown(machine: Machine, gpu: Gpu, device: PciDevice | None, unknown: UnknownLocality) -> Locality:
    if unknown is UnknownLocality.NODE_ZERO and machine.cpu_nodes:
        return Locality(machine.cpu_nodes[:1], "node0")
    if device is None:
        seen = "it is not among the topology's PCI devices" if gpu.pci_address else "it has no PCI address"
    elif device not in machine.pci_devices:  # but what several of one address are taken for
        places = [each.near_cpuset for each in machine.pci_devices if each.address == device.address]
        one, other, *_ = dict.fromkeys(places)
        seen = f"two PCI devices have its address, one near CPUs {one or 'none'} and one near CPUs {other or 'none'}"
    else:
        # libhwloc goes by the device's local CPUs: a node without CPUs leaves it as much below the whole machine as -1.
        seen = "the topology attaches it to the whole machine (numa_node is -1, or a node that no CPUs are near)"
    return Locality(
        error=UnknownLocalityError(
            f"which NUMA node {gpu} is on is not known: {seen}, and neither NVML nor an NCCL topology file tells; "
            f"state it with --gpu-node {gpu.pci_address or gpu.index}=N (nodes with CPUs: {_cpu_nodes_text(machine)}), "
            "name a file with --nccl-topo, or take the first node as torch does with --unknown-locality node0"
        )
    )
