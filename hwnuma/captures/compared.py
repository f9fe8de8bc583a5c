"""What differs between two machines, in words: a sentence for each cause, and none for what follows from it. Pure.

SMT that is off changes every set of CPUs, and another NPS setting every GPU's node: so cores are counted and not their
CPUs where SMT differs, and places are compared only where both machines have the same ones.
"""

from __future__ import annotations

from collections import Counter

from hwnuma.captures.fingerprint import without_what_is_one_machines
from hwnuma.captures.hosts import folded
from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import GpuError
from hwnuma.model.characters import excerpt
from hwnuma.model.nic import OPENFABRICS_KIND, natural_key
from hwnuma.model.numbers import size_text
from hwnuma.model.value import Value, cached_property

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hwnuma.model.bitmap import Bitmap
    from hwnuma.model.facts import Facts
    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine
    from hwnuma.model.nic import Nic, NicPort

# Of two sizes of memory, the part in which they may differ: what kernels and firmware keep for themselves is less than
# one per cent, and one of 32 memory modules more than three.
TOLERANCE = 0.02

_ARROW = " \N{RIGHTWARDS ARROW} "

_ABOUT = {
    "DMIProductName": "the model",
    "DMIBIOSVersion": "the firmware (BIOS)",
    "CPUModel": "the processor",
    "OSRelease": "the kernel",
}
_SETTINGS = {
    "numa_balancing": ("kernel.numa_balancing", {"0": "off", "1": "on", "2": "on, for tiers of memory"}),
    "zone_reclaim_mode": ("vm.zone_reclaim_mode", {"0": "off"}),
    "huge_pages": ("transparent huge pages", {}),
    "huge_pages_defrag": ("the defragmentation of transparent huge pages", {}),
    "isolcpus": ("isolcpus= of the kernel's command line", {"": "not there"}),
    "nohz_full": ("nohz_full= of the kernel's command line", {"": "not there"}),
    "isolated_cpuset": ("isolated CPUs", {"": "none"}),
}


class Look(Value):
    """A machine as it is compared.

    Attributes:
        machine: with its PCI devices and network cards.
        about: info attributes of `hwnuma.captures.fingerprint.ABOUT`, which a Machine does not have.
    """

    machine: Machine
    about: tuple[tuple[str, str], ...] = ()

    @cached_property
    def facts(self) -> Facts | None:
        """Those of every machine that is like this one, with stand-ins for UUIDs."""
        return None if self.machine.facts is None else without_what_is_one_machines(self.machine.facts)

    @cached_property
    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs, in index order."""
        told = () if self.facts is None else self.facts.gpus or self.facts.amd_gpus
        return told or self.topology_gpus

    @cached_property
    def topology_gpus(self) -> tuple[Gpu, ...]:
        """Those among the topology's PCI devices, which a driver may not tell."""
        try:
            return TopologyGpus(self.machine).gpus()
        except GpuError:
            return ()

    @cached_property
    def threads(self) -> int:
        """The most CPUs that a core has."""
        return max((len(core.cpuset) for core in self.machine.cores), default=0)

    @cached_property
    def core_numbers(self) -> dict[int, int]:
        """The core of each CPU, by its place among the cores."""
        return {cpu: place for place, core in enumerate(self.machine.cores) for cpu in core.cpuset}

    def cores_in(self, cpus: Iterable[int]) -> tuple[int, ...]:
        """The cores that these CPUs are of."""
        return tuple(sorted({self.core_numbers.get(cpu, -1) for cpu in cpus}))

    def node_of(self, address: str | None) -> str:
        """Which NUMA nodes a PCI device is near, in list form; "" if that is not known."""
        device = self.machine.pci_device(address) if address is not None else None
        if device is None or device.is_near_root:
            return ""
        return ",".join(str(node.os_index) for node in self.machine.nodes_of(device.near_cpuset))

    def bridges_above(self, address: str | None) -> int:
        """How many bridges are above a PCI device."""
        device = self.machine.pci_device(address) if address is not None else None
        return 0 if device is None else len(device.bridges)


def same_memory(one: int, other: int) -> bool:
    """Whether two sizes are the same within the tolerance, or one of them is not known."""
    return not (one and other) or abs(one - other) <= TOLERANCE * max(one, other)


def differences(before: Look, after: Look) -> list[str]:
    """Say what differs, a clause each: what the first has, an arrow, and what the second has.

    Args:
        before: the machine that is gone by, such as the norm of a fleet.
        after: the other.
    """
    places = list(_places(before, after))
    sentences = [*_about(before, after), *places, *_allowed(before, after), *_memory(before, after)]
    sentences += [*_gpus(before, after, same_places=not places), *_nics(before, after, same_places=not places)]
    return [*sentences, *_other_devices(before, after), *_facts(before, after, same_places=not places)]


def _changed(what: str, one: object, other: object) -> Iterator[str]:
    if one != other:
        yield f"{what}: {one} \N{RIGHTWARDS ARROW} {other}"


def _count(one: int, other: int, what: str, why: str = "") -> Iterator[str]:
    if one != other:
        yield f"{one} \N{RIGHTWARDS ARROW} {other} {what}{why}"


def _about(before: Look, after: Look) -> Iterator[str]:
    others = dict(after.about)
    for name, value in before.about:
        if others.get(name, "") and name in _ABOUT:
            yield from _changed(_ABOUT[name], excerpt(value), excerpt(others[name]))


# ---- packages, nodes, caches, cores --------------------------------------------------------------------------


def _places(before: Look, after: Look) -> Iterator[str]:
    one, other = before.machine, after.machine
    yield from _count(len(one.packages), len(other.packages), "packages")
    yield from _count(len(one.cores), len(other.cores), "cores")
    counted = len(one.packages) == len(other.packages) and len(one.cores) == len(other.cores)
    yield from _threads(before, after, same_cores=counted)
    setting = " (another NPS or SNC setting)" if counted else ""
    yield from _count(len(one.cpu_nodes), len(other.cpu_nodes), "NUMA nodes", setting)
    yield from _count(len(one.memory_nodes), len(other.memory_nodes), "NUMA nodes of memory alone")
    caches = [[(cache.level, look.cores_in(cache.cpuset)) for cache in look.machine.last_level_caches]
              for look in (before, after)]  # fmt: skip
    if counted:
        same_nodes = len(one.cpu_nodes) == len(other.cpu_nodes)
        if same_nodes and _nodes(before) != _nodes(after):
            yield "the NUMA nodes have other cores, or other numbers"
        elif same_nodes and one.distances != other.distances:
            yield f"NUMA distances: {_distances(one)} \N{RIGHTWARDS ARROW} {_distances(other)}"
        if len(caches[0]) != len(caches[1]):
            yield f"{len(caches[0])} \N{RIGHTWARDS ARROW} {len(caches[1])} last-level caches"
        elif caches[0] != caches[1] and same_nodes:
            yield "the last-level caches are over other cores, or of another level"
    yield from _speeds(before, after)


def _threads(before: Look, after: Look, *, same_cores: bool) -> Iterator[str]:
    one, other = before.threads, after.threads
    if one != other and min(one, other) == 1:
        said = "SMT off" if other == 1 else "SMT on"
        yield f"{said}: {one} \N{RIGHTWARDS ARROW} {other} threads a core"
    elif one != other:
        yield f"SMT: {one} \N{RIGHTWARDS ARROW} {other} threads a core"
    elif before.machine.cpuset != after.machine.cpuset and _same_processor(before, after):
        gone, new = before.machine.cpuset - after.machine.cpuset, after.machine.cpuset - before.machine.cpuset
        words = [f"{word} {cpus}" for word, cpus in (("without CPUs", gone), ("with CPUs", new)) if cpus]
        yield f"CPUs online: {' and '.join(words)}"
    elif same_cores and before.machine.cpuset == after.machine.cpuset and _core_sets(before) != _core_sets(after):
        yield "CPUs are numbered in another way: other CPUs are of one core"


def _same_processor(before: Look, after: Look) -> bool:
    """Whether both have the same model, as far as is known: of two models, the numbers of CPUs say nothing."""
    models = {value for look in (before, after) for name, value in look.about if name == "CPUModel"}
    return len(models) <= 1


def _core_sets(look: Look) -> list[Bitmap]:
    return [core.cpuset for core in look.machine.cores]


def _nodes(look: Look) -> list[tuple[int, tuple[int, ...], str]]:
    return [(node.os_index, look.cores_in(node.cpuset), node.subtype) for node in look.machine.numa_nodes]


def _distances(machine: Machine) -> str:
    return ",".join(map(str, sorted({value for row in machine.distances.values for value in row}))) or "not told"


def _speeds(before: Look, after: Look) -> Iterator[str]:
    """Kinds of cores, where both tell of some: which sets of them are faster."""
    for what, one, other in (
        ("kinds of cores", before.machine.cpu_kinds, after.machine.cpu_kinds),
        ("speeds of cores, as the firmware tells them", before.machine.core_speeds, after.machine.core_speeds),
    ):
        if len(one) != len(other):
            yield f"{len(one) or 1} \N{RIGHTWARDS ARROW} {len(other) or 1} {what}"
        elif [before.cores_in(cpus) for cpus in one] != [after.cores_in(cpus) for cpus in other]:
            yield f"the {what} are others'"


# ---- what is allowed -----------------------------------------------------------------------------------------


def _allowed(before: Look, after: Look) -> Iterator[str]:
    """What a cgroup, a scheduler or an affinity leaves, of what both machines have."""
    one, other = before.machine, after.machine
    yield from _left("CPUs are allowed", (one.cpuset, one.allowed_cpuset), (other.cpuset, other.allowed_cpuset))
    nodes = [type(each.allowed_nodeset)(node.os_index for node in each.numa_nodes) for each in (one, other)]
    if nodes[0] == nodes[1]:
        allowed = (one.allowed_nodeset & nodes[0], other.allowed_nodeset & nodes[1])
        yield from _left("NUMA nodes are allowed", (nodes[0], allowed[0]), (nodes[1], allowed[1]))
    affinities = [each.facts.affinity if each.facts is not None else None for each in (before, after)]
    if affinities[0] is not None and affinities[1] is not None:
        sets = [(each.allowed_cpuset, affinity & each.allowed_cpuset) for each, affinity in
                zip((one, other), affinities, strict=True)]  # fmt: skip
        yield from _left("allowed CPUs are in the capturing process's affinity", *sets)


def _left(what: str, one: tuple[Bitmap, Bitmap], other: tuple[Bitmap, Bitmap]) -> Iterator[str]:
    """Compare what is left of all; where all is left on both sides, that is the same."""
    (all_one, left_one), (all_other, left_other) = one, other
    if (all_one == left_one and all_other == left_other) or left_one & all_other == left_other & all_one:
        return
    numbers = (f"{len(left)} of {len(whole)}" for whole, left in (one, other))
    sets = f"{left_one or 'none'} \N{RIGHTWARDS ARROW} {left_other or 'none'}"
    yield f"{_ARROW.join(numbers)} {what}: {sets}"


# ---- memory --------------------------------------------------------------------------------------------------


def _memory(before: Look, after: Look) -> Iterator[str]:
    sizes = [{node.os_index: node.memory for node in look.machine.numa_nodes} for look in (before, after)]
    totals = [sum(each.values()) for each in sizes]
    if sizes[0].keys() == sizes[1].keys():
        nodes = [node for node, size in sizes[0].items() if not same_memory(size, sizes[1][node])]
        # A shift between nodes is one, though the sum is the same.
        if not nodes:
            return
        if len(nodes) < len(sizes[0]):
            for node in nodes:
                yield from _changed(f"memory of NUMA node {node}", size_text(sizes[0][node]), size_text(sizes[1][node]))
            return
    if not same_memory(*totals):
        yield from _changed("memory", size_text(totals[0]), size_text(totals[1]))


# ---- devices -------------------------------------------------------------------------------------------------


def _gpus(before: Look, after: Look, *, same_places: bool) -> Iterator[str]:
    yield from _driver(before, after)
    one, other = _by_device(before.gpus), _by_device(after.gpus)
    if len(one) != len(other):
        yield from _lost(before, after, list(one), list(other))
    elif Counter(_names(before)) != Counter(_names(after)):
        yield from _changed("models of the GPUs", _listed(_names(before)), _listed(_names(after)))
    else:
        yield from _each_gpu(before, after, same_places=same_places)


def _driver(before: Look, after: Look) -> Iterator[str]:
    """Whether the driver answered where both captures asked it."""
    if before.facts is None or after.facts is None:
        return
    told = [bool(look.facts.gpus) for look in (before, after)]  # type: ignore[union-attr]
    if told == [True, False]:
        yield f"NVIDIA's driver tells no GPUs: {excerpt(after.facts.nvml_error, 300)}"
    elif told == [False, True]:
        yield f"NVIDIA's driver tells its GPUs, and did not: {excerpt(before.facts.nvml_error, 300)}"


def _by_device(gpus: Sequence[Gpu]) -> dict[str, list[Gpu]]:
    """The GPUs of each PCI device: MIG instances are of one; in the order of their first."""
    found: dict[str, list[Gpu]] = {}
    for gpu in gpus:
        found.setdefault(gpu.pci_address or f"no PCI address {gpu.index}", []).append(gpu)
    return found


def _names(look: Look) -> list[str]:
    return [_model(look, gpus[0]) for gpus in _by_device(look.gpus).values()]


def _model(look: Look, gpu: Gpu) -> str:
    device = look.machine.pci_device(gpu.pci_address) if gpu.pci_address is not None else None
    return gpu.name or (f"{device.vendor_id:04x}:{device.device_id:04x}" if device is not None else "unknown")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {excerpt(name)}" for name, number in sorted(Counter(names).items())) or "none"


def _lost(before: Look, after: Look, one: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    """Name the GPUs that are missing or more: by address, or where buses have shifted, by what they are near."""
    more, fewer = (other, one) if len(other) > len(one) else (one, other)
    look, word = (after, "added") if more is other else (before, "missing")
    numbers = {address: gpus[0].index for address, gpus in _by_device(look.gpus).items()}
    extra = [address for address in more if address not in set(fewer)]
    named: list[str] = []
    if len(extra) == len(more) - len(fewer):
        named = [f"GPU {numbers[address]} ({address})" for address in extra]
    elif fewer and len(before.machine.numa_nodes) == len(after.machine.numa_nodes):  # the buses have shifted
        rest = Counter(map((before if look is after else after).node_of, fewer))
        lost = Counter(map(look.node_of, more)) - rest
        named = [f"{number} near NUMA node {node}" for node, number in sorted(lost.items()) if node]
    verb = "is" if len(more) - len(fewer) == 1 else "are"
    said = f": {', '.join(named)} {verb} {word}" if named and fewer else ""
    yield f"{len(one)} \N{RIGHTWARDS ARROW} {len(other)} GPUs{said}"


def _each_gpu(before: Look, after: Look, *, same_places: bool) -> Iterator[str]:
    """What differs of GPUs that stand at the same place in the order."""
    sides = [list(_by_device(look.gpus).values()) for look in (before, after)]
    orders = [_order(each[0] for each in side) for side in sides]
    if orders[0] != orders[1]:
        yield "the GPUs are numbered in another order"
    for one, other in zip(*sides, strict=True):
        which = f"GPU {one[0].index}"
        yield from _changed(f"MIG of {which}", _mig(one), _mig(other))
        yield from _partitions(which, one, other)
        if orders[0] == orders[1] and same_places:
            yield from _near(which, before, after, one[0].pci_address, other[0].pci_address)
            if before.machine.allowed_cpuset == after.machine.allowed_cpuset:
                yield from _affinities(which, one[0], other[0])


def _order(gpus: Iterable[Gpu]) -> list[int]:
    from hwnuma.model.gpu import pci_address_key

    addresses = [gpu.pci_address for gpu in gpus if gpu.pci_address is not None]
    places = {address: place for place, address in enumerate(sorted(addresses, key=pci_address_key))}
    return [places[address] for address in addresses]


def _mig(gpus: Sequence[Gpu]) -> str:
    parts = [gpu.mig for gpu in gpus if gpu.mig is not None]
    if not parts:
        return "off"
    known = [f"{part.gpu_instance}/{part.compute_instance}" for part in parts if part.gpu_instance is not None]
    return f"{len(parts)} instances{f' ({chr(44).join(known)})' if known else ''}"


def _partitions(which: str, one: Sequence[Gpu], other: Sequence[Gpu]) -> Iterator[str]:
    """How AMD's driver has partitioned a GPU, where both captures tell."""
    if not any(gpu.mig for gpu in (*one, *other)):
        modes = {gpus[0].compute_partition for gpus in (one, other)}
        if len(one) != len(other) or None not in modes:
            yield from _changed(which, *(_mode(gpus) for gpus in (one, other)))


def _mode(gpus: Sequence[Gpu]) -> str:
    devices = f"{len(gpus)} device{'s' * (len(gpus) > 1)}"
    mode = gpus[0].compute_partition
    return devices if mode is None else f"{excerpt(mode)} ({devices})" if len(gpus) > 1 else excerpt(mode)


def _near(what: str, before: Look, after: Look, one: str | None, other: str | None) -> Iterator[str]:
    nodes = (before.node_of(one) or "not told", after.node_of(other) or "not told")
    yield from _changed(f"NUMA node of {what}", *nodes)
    if nodes[0] == nodes[1]:
        yield from _changed(f"bridges above {what}", before.bridges_above(one), after.bridges_above(other))


def _affinities(which: str, one: Gpu, other: Gpu) -> Iterator[str]:
    """What the driver calls near, where both know."""
    for what, first, second in (
        ("CPUs", one.cpu_affinity, other.cpu_affinity),
        ("NUMA nodes", one.memory_affinity, other.memory_affinity),
    ):
        if first is not None and second is not None:
            said = f"{what} that the driver calls near {which}"
            yield from _changed(said, str(first) or "none", str(second) or "none")


def _nics(before: Look, after: Look, *, same_places: bool) -> Iterator[str]:
    one, other = _nics_by_key(before.machine.nics), _nics_by_key(after.machine.nics)
    lost = [one[key].name for key in one if key not in other]
    new = [other[key].name for key in other if key not in one]
    if lost or new:
        named = [f"{folded(names)} {'is' if len(names) == 1 else 'are'} {word}" for names, word in
                 ((lost, "missing"), (new, "added")) if names]  # fmt: skip
        yield f"{len(one)} \N{RIGHTWARDS ARROW} {len(other)} NICs: {' and '.join(named)}"
    for key in (key for key in one if key in other):
        yield from _nic(before, after, one[key], other[key], same_places=same_places)


def _nics_by_key(nics: Sequence[Nic]) -> dict[tuple[str, str], Nic]:
    """OpenFabrics devices by name; of others, whose names tell the bus, by their place among those of the kind."""
    found: dict[tuple[str, str], Nic] = {}
    places: Counter[str] = Counter()
    for nic in sorted(nics, key=lambda nic: natural_key(nic.name)):
        places[nic.kind] += 1
        found[nic.kind, nic.name if nic.kind == OPENFABRICS_KIND else str(places[nic.kind])] = nic
    return found


def _nic(before: Look, after: Look, one: Nic, other: Nic, *, same_places: bool) -> Iterator[str]:
    which = f"NIC {one.name}"
    if len(one.ports) != len(other.ports):
        yield from _changed(f"ports of {which}", len(one.ports), len(other.ports))
    else:
        for port, its in zip(one.ports, other.ports, strict=True):
            yield from _port(which if len(one.ports) == 1 else f"{which}, port {port.number}", port, its)
    yield from _changed(f"the bond of {which}", one.bond or "none", other.bond or "none")
    yield from _changed(f"access to {which}", one.access or "free", other.access or "free")
    if one.is_virtual_function != other.is_virtual_function:
        yield f"{which} is {'no ' if one.is_virtual_function else 'a '}virtual function"
    if same_places:
        yield from _near(which, before, after, one.pci_address, other.pci_address)


def _port(which: str, one: NicPort, other: NicPort) -> Iterator[str]:
    """What differs of a port; the rate of one that is down says nothing."""
    yield from _changed(which, one.state or "state not told", other.state or "state not told")
    yield from _changed(f"link layer of {which}", one.link_layer or "not told", other.link_layer or "not told")
    if not (one.is_down or other.is_down):
        yield from _changed(f"rate of {which}", f"{one.rate:g} Gb/s", f"{other.rate:g} Gb/s")


def _other_devices(before: Look, after: Look) -> Iterator[str]:
    """PCI devices that are neither GPUs nor network cards, by model."""
    one, other = _models(before), _models(after)
    for model in sorted(one.keys() | other.keys()):
        yield from _count(one[model], other[model], f"PCI devices {model[0]} of class {model[1]}")


def _models(look: Look) -> Counter[tuple[str, str]]:
    known = {gpu.pci_address for gpu in (*look.gpus, *look.topology_gpus)} | {
        nic.pci_address for nic in look.machine.nics
    }
    return Counter(
        (f"{device.vendor_id:04x}:{device.device_id:04x}", f"{device.class_id:04x}")
        for device in look.machine.pci_devices
        if device.address not in known
    )


# ---- facts ---------------------------------------------------------------------------------------------------


def _facts(before: Look, after: Look, *, same_places: bool) -> Iterator[str]:
    one, other = before.facts, after.facts
    if one is None or other is None:
        if (one is None) != (other is None):
            yield (
                f"the {'first' if one is None else 'second'} is a topology alone, without what hwnuma capture saves "
                "beside it: settings, versions and the driver's GPUs are not compared"
            )
        return
    for name, (called, words) in _SETTINGS.items():
        values = [getattr(facts.kernel_settings, name) for facts in (one, other)]
        if None not in values and (same_places or name != "isolated_cpuset"):
            yield from _changed(called, *(_setting(str(value), words) for value in values))
    if one.versions.kernel and other.versions.kernel and "OSRelease" not in dict(before.about):
        yield from _changed("the kernel", excerpt(one.versions.kernel), excerpt(other.versions.kernel))
    if one.versions.driver and other.versions.driver:
        yield from _changed("NVIDIA's driver", excerpt(one.versions.driver), excerpt(other.versions.driver))
    yield from _variables(dict(one.variables), dict(other.variables))
    if same_places and len(before.gpus) == len(after.gpus):
        yield from _links(before, after)


def _setting(value: str, words: Mapping[str, str]) -> str:
    word = words.get(value)
    return excerpt(value) if word is None else f"{value} ({word})" if value else word


def _variables(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*one, *other)):
        values = [excerpt(each[name]) or '""' if name in each else "not set" for each in (one, other)]
        yield from _changed(name, *values)


def _links(before: Look, after: Look) -> Iterator[str]:
    totals = []
    for look in (before, after):
        places = {gpu.pci_address: place for place, gpu in enumerate(look.gpus)}
        links = look.facts.nvlinks if look.facts is not None else ()
        totals.append(Counter({(places.get(link.source), places.get(link.target)): link.links for link in links}))
    if totals[0] != totals[1]:
        yield from _changed("NVLinks between the GPUs", totals[0].total() // 2, totals[1].total() // 2)
    both = [look.facts for look in (before, after) if look.facts is not None]
    if len({tuple(sorted(node for _, node in facts.nccl_nodes)) for facts in both}) > 1:
        yield "the file of NCCL_TOPO_FILE tells other nodes"
    if len({tuple(sorted(node for _, node in facts.device_nodes)) for facts in both}) > 1:
        yield "the kernel has devices on other nodes of memory alone"
