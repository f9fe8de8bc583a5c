"""What there is to draw of a machine, and of a plan on it, whatever draws it. Pure.

A picture is packages with their NUMA nodes, these with their last-level caches and devices, and each cache with its
cores; a core carries the mark of the rank, or of the set of ranks, that gets it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.characters import printable
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Cache, Core, Machine, NumaNode
from hwnuma.model.nic import Nic
from hwnuma.model.plan import Binding, Plan
from hwnuma.model.value import Value
from hwnuma.policy.locality import Locality, locate
from hwnuma.policy.ranks import usable_cpus
from hwnuma.report.topo import shown_nics

# What a core is that no rank gets. Without a plan, one that may be used is just a core.
CORE, UNUSED, RESERVED, DISALLOWED = "core", "unused", "reserved", "not allowed"

_Ranks = tuple[int, ...]
_DeviceT = TypeVar("_DeviceT", bound=Hashable)

_DIGITS, _LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Mark(Value):
    """What stands in the cores of a rank, or of a set of ranks that share them.

    Attributes:
        text: the rank's number (``a`` is 10), or a capital letter for several ranks.
        ranks: which.
        number: of its colour.
        cpuset: the CPUs that carry it.
        cores: how many cores these are.
        about: whose it is, for people.
    """

    text: str
    ranks: tuple[int, ...]
    number: int
    cpuset: CpuSet
    cores: int
    about: str

    @property
    def name(self) -> str:
        """The ranks, in words."""
        return _plural("rank", self.ranks)


class Cell(Value):
    """A core.

    Attributes:
        cpuset: its CPUs.
        state: one of this module's states of cores.
        mark: of who gets it, or None.
        given: of its CPUs those that the mark's ranks get; some, with ``--threads-per-core``.
    """

    cpuset: CpuSet
    state: str
    mark: Mark | None = None
    given: CpuSet = CpuSet()

    @property
    def about(self) -> str:
        """Which CPUs it is, and whose, in a line."""
        said = f"{_cpus(self.cpuset)}: "
        if self.mark is None:
            return said + {CORE: "may be used"}.get(self.state, self.state)
        only = f", of these {_cpus(self.given)}" if self.given != self.cpuset else ""
        return f"{said}{self.mark.name}{only}"


class CacheBox(Value):
    """A last-level cache, or cores without one.

    Attributes:
        label: ``L3``, or ``L3 GPU 4`` where it is a GPU's own; "" for none.
        cpuset: the CPUs under it that the node has.
        cells: its cores.
    """

    label: str
    cpuset: CpuSet
    cells: tuple[Cell, ...]


class Device(Value):
    """A GPU or a network card.

    Attributes:
        kind: "GPU" or "NIC".
        name: ``GPU 0``, ``mlx5_0``.
        address: its PCI address, or "".
        facts: what else there is to say, each a few words.
        mark: of the ranks that drive it, or None.
    """

    kind: str
    name: str
    address: str
    facts: tuple[str, ...] = ()
    mark: Mark | None = None

    @property
    def words(self) -> str:
        """All of it, in a line."""
        return "  ".join(filter(None, (self.name, self.address, *self.facts)))


class NodeBox(Value):
    """A NUMA node that has CPUs, or the part of it that is in one package; or cores of no node."""

    title: str
    cpuset: CpuSet
    memory: str
    caches: tuple[CacheBox, ...]
    devices: tuple[Device, ...]


class PackageBox(Value):
    """A package, and a sentence for each kind of memory alone that is near it."""

    title: str
    cpuset: CpuSet
    nodes: tuple[NodeBox, ...]
    memory_nodes: tuple[str, ...] = ()


class Picture(Value):
    """All there is to draw.

    Attributes:
        title: of which machine, and which mode.
        facts: how much there is, and of what.
        packages: the machine.
        notes: sentences to know, such as what has no place in the picture.
        matrix: lines of a table that stand below the picture as they are, no wider than a terminal.
        marks: of the ranks; empty without a plan.
        others: the CPUs of each state of the cores that no rank gets.
        reasons: for each rank that gets something, why.
    """

    title: str
    facts: str
    packages: tuple[PackageBox, ...]
    notes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    others: Mapping[str, CpuSet] = {}
    reasons: Mapping[int, str] = {}
    matrix: tuple[str, ...] = ()

    def cells(self) -> Iterator[tuple[NodeBox, CacheBox, Cell]]:
        """Every core, with where it is."""
        for package in self.packages:
            for node in package.nodes:
                for cache in node.caches:
                    for cell in cache.cells:
                        yield node, cache, cell


def picture_of(
    machine: Machine,
    gpus: Sequence[Gpu] = (),
    localities: Sequence[Locality] = (),
    plan: Plan | None = None,
) -> Picture:
    """Say what there is to draw.

    Args:
        machine: what to draw.
        gpus: its GPUs.
        localities: where each of them is.
        plan: which rank gets what; None to draw the machine alone.
    """
    marks = _marks(machine, plan) if plan is not None else {}
    drawn = _Machine(machine, plan, marks)
    devices = _Devices(machine, gpus, localities, plan, tuple(marks.values()))
    packages = tuple(_packages(machine, drawn, devices))
    states: dict[str, CpuSet] = {}
    for cell in drawn.cells:
        if cell.mark is None:
            states[cell.state] = states.get(cell.state, CpuSet()) | cell.cpuset
    source = printable(machine.source)
    return Picture(
        f"mode {plan.mode} on {source}" if plan is not None else source,
        _facts(machine),
        packages,
        tuple(map(printable, (*devices.notes(), *(_plan_notes(plan) if plan is not None else ())))),
        tuple(marks.values()),
        states,
        {binding.local_rank: binding.sentence for binding in plan or () if binding.error is None},
    )


def _facts(machine: Machine) -> str:
    counts = ((machine.packages, "package"), (machine.cpu_nodes, "NUMA node"), (machine.cores, "core"))
    said = [f"{len(those)} {word}{'' if len(those) == 1 else 's'}" for those, word in counts]
    said[1] += " with CPUs" if len(machine.cpu_nodes) < len(machine.numa_nodes) else ""
    said.append(f"{len(machine.cpuset)} CPUs")
    if machine.allowed_cpuset != machine.cpuset:
        said.append(f"allowed CPUs {machine.allowed_cpuset or 'none'}")
    return ", ".join(said)


def _plan_notes(plan: Plan) -> Iterator[str]:
    unplaced = [binding for binding in plan if binding.error is not None]
    yield from _alike("rank", [(b.gpus, f"is not placed: {b.error}", b.local_rank) for b in unplaced])
    for warning in plan.warnings:
        yield f"warning: {warning}"


def _alike(word: str, said: Iterable[tuple[Sequence[Gpu], str, int]]) -> Iterator[str]:
    """Sentences on some numbered things: of those that differ in the GPUs' names only, the first, and which others."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for gpus, sentence, number in said:
        without = sentence
        for gpu in gpus:
            without = without.replace(str(gpu), "").replace(gpu.pci_address or str(gpu), "")
        alike.setdefault(without, []).append((number, sentence))
    for rows in alike.values():
        others = f" ({_plural(word, [number for number, _ in rows[1:]])} likewise)" if rows[1:] else ""
        yield f"{word} {rows[0][0]} {rows[0][1]}{others}"


# ---- marks ---------------------------------------------------------------------------------------------------


def _marks(machine: Machine, plan: Plan) -> dict[tuple[int, ...], Mark]:
    """A mark for each set of ranks that has a core, by these ranks, in their order."""
    takers = _takers(plan)
    found: dict[tuple[int, ...], list[CpuSet]] = {}
    for core in machine.cores:
        ranks = _ranks_of(core, takers)
        if ranks:
            given = CpuSet(cpu for cpu in core.cpuset if cpu in takers)
            found.setdefault(ranks, []).append(given)
    alone = [ranks for ranks in sorted(found) if len(ranks) == 1]
    shared = [ranks for ranks in sorted(found) if len(ranks) > 1]
    texts = [*(_rank_text(ranks[0], len(plan)) for ranks in alone), *_shared_texts(len(shared))]
    numbers = [*(ranks[0] for ranks in alone), *range(len(alone), len(found))]
    return {
        ranks: Mark(text, ranks, number, union(found[ranks]), len(found[ranks]), _about(plan, ranks))
        for ranks, text, number in zip([*alone, *shared], texts, numbers, strict=True)
    }


def _takers(plan: Plan) -> dict[int, tuple[int, ...]]:
    """Which ranks get each CPU."""
    alike: dict[CpuSet, list[int]] = {}  # ranks with the same CPUs are one set of ranks
    for binding in plan:
        alike.setdefault(binding.cpuset, []).append(binding.local_rank)
    takers: dict[int, tuple[int, ...]] = {}
    for cpuset, ranks in alike.items():
        for cpu in cpuset:
            takers[cpu] = (*takers.get(cpu, ()), *ranks)
    return takers


def _ranks_of(core: Core, takers: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    sets = {takers[cpu] for cpu in core.cpuset if cpu in takers}
    return tuple(sorted({rank for ranks in sets for rank in ranks}))


def _rank_text(rank: int, ranks: int) -> str:
    return _DIGITS[rank] if ranks <= len(_DIGITS) else str(rank)


def _shared_texts(count: int) -> list[str]:
    if count <= len(_LETTERS):
        return list(_LETTERS[:count])
    return [f"{_LETTERS[number % 26]}{number // 26}" for number in range(count)]


def _about(plan: Plan, ranks: tuple[int, ...]) -> str:
    gpus = [gpu.index for rank in ranks for gpu in plan[rank].gpus]
    said = _plural("rank", ranks)
    return f"{said}  {_plural('GPU', sorted(set(gpus)))}" if gpus else said


def _plural(word: str, numbers: Sequence[int]) -> str:
    return f"{word}{'' if len(numbers) == 1 else 's'} {CpuSet(numbers)}"


def _cpus(cpuset: CpuSet) -> str:
    return f"CPU{'' if len(cpuset) == 1 else 's'} {cpuset or 'none'}"


# ---- the machine ---------------------------------------------------------------------------------------------


class _Machine:
    """A machine's cores as they are drawn, found by CPU."""

    def __init__(self, machine: Machine, plan: Plan | None, marks: Mapping[tuple[int, ...], Mark]) -> None:
        usable = machine.allowed_cpuset if plan is None else usable_cpus(machine, plan.options)
        takers = _takers(plan) if plan is not None else {}
        idle = CORE if plan is None else UNUSED
        self.cells: list[Cell] = []
        self._by_cpu: dict[int, Cell] = {}
        for core in machine.cores:
            mark = marks.get(_ranks_of(core, takers))
            state = DISALLOWED if core.cpuset.isdisjoint(machine.allowed_cpuset) else idle
            if state == UNUSED and core.cpuset.isdisjoint(usable):
                state = RESERVED
            given = core.cpuset & mark.cpuset if mark is not None else CpuSet()
            cell = Cell(core.cpuset, state, mark, given)
            self.cells.append(cell)
            for cpu in core.cpuset:
                self._by_cpu[cpu] = cell

    def cells_within(self, cpuset: CpuSet) -> tuple[Cell, ...]:
        """The cores with a CPU in the set, each once, by their lowest CPU there."""
        return tuple({id(cell): cell for cell in (self._by_cpu[cpu] for cpu in cpuset if cpu in self._by_cpu)}.values())


def _packages(machine: Machine, drawn: _Machine, devices: _Devices) -> Iterator[PackageBox]:
    memories = _memory_sentences(machine)
    in_packages = union(package.cpuset for package in machine.packages)
    places = [(f"package {package.os_index}", package.cpuset) for package in machine.packages]
    if not machine.cpuset <= in_packages:
        places.append(("no package" if places else "machine", machine.cpuset - in_packages))
    for title, cpuset in places:
        nodes = tuple(_nodes(machine, cpuset, drawn, devices))
        near = tuple(sentence for sentence, place in memories if place == _place_of(cpuset, places))
        yield PackageBox(title, cpuset, nodes, near)
    elsewhere = tuple(sentence for sentence, place in memories if place == -1)
    if elsewhere:
        yield PackageBox("memory that is near no one package", CpuSet(), (), elsewhere)


def _place_of(cpuset: CpuSet, places: Sequence[tuple[str, CpuSet]]) -> int:
    """The number of the one place that all these CPUs are in; -1 if there is none."""
    return next((number for number, (_, around) in enumerate(places) if cpuset and cpuset <= around), -1)


def _nodes(machine: Machine, within: CpuSet, drawn: _Machine, devices: _Devices) -> Iterator[NodeBox]:
    rest = within
    for node in machine.cpu_nodes:
        cpuset = node.cpuset & within
        if cpuset:
            rest -= cpuset
            title = f"node {node.os_index}" if cpuset == node.cpuset else f"a part of node {node.os_index}"
            caches = tuple(_caches(machine, cpuset, drawn, devices))
            yield NodeBox(title, cpuset, _memory_text(node), caches, devices.take(node.os_index))
    if rest:
        yield NodeBox("no node", rest, "", tuple(_caches(machine, rest, drawn, devices)), ())


def _caches(machine: Machine, within: CpuSet, drawn: _Machine, devices: _Devices) -> Iterator[CacheBox]:
    rest = within
    for cache in machine.last_level_caches:
        cpuset = cache.cpuset & within
        if cpuset:
            rest -= cpuset
            label = f"L{cache.level} {devices.owner_of(cache)}".rstrip()
            yield CacheBox(label, cpuset, drawn.cells_within(cpuset))
    if rest:
        yield CacheBox("", rest, drawn.cells_within(rest))


def _memory_text(node: NumaNode) -> str:
    memory = f"{node.memory / 2**30:.0f} GiB" if node.memory else "memory unknown"
    return f"{memory} {printable(node.subtype)}".rstrip()


def _memory_sentences(machine: Machine) -> list[tuple[str, int]]:
    """The nodes of memory alone, those that are alike in one sentence, each with the number of its package."""
    places = [("", package.cpuset) for package in machine.packages]
    alike: dict[tuple[CpuSet, str], list[int]] = {}
    for node in machine.numa_nodes:
        if not node.cpuset:
            alike.setdefault((node.near_cpuset, _memory_text(node)), []).append(node.os_index)
    return [
        (
            f"node{'' if len(nodes) == 1 else 's'} {NodeSet(nodes)}  no CPUs, near {near or 'none'}  {memory}"
            + (" each" if len(nodes) > 1 and "unknown" not in memory else ""),
            _place_of(near, places),
        )
        for (near, memory), nodes in alike.items()
    ]


# ---- devices -------------------------------------------------------------------------------------------------


class _Devices:
    """The machine's devices, which the nodes take one after the other."""

    def __init__(
        self,
        machine: Machine,
        gpus: Sequence[Gpu],
        localities: Sequence[Locality],
        plan: Plan | None,
        marks: Sequence[Mark],
    ) -> None:
        self._drivers = _ranks_by_device(plan, lambda binding: binding.gpus)
        self._unplaced = {binding.local_rank for binding in plan or () if binding.error is not None}
        self._marks = _marks_by_rank(marks)
        sources = Counter(locality.source for locality in localities if locality.nodes)
        self._common = next(iter(sources)) if len(sources) == 1 else ""
        self._homeless = [(gpu, locality) for gpu, locality in zip(gpus, localities, strict=True) if not locality.nodes]
        self._owners = _owners(machine, gpus)
        self._at: dict[int, list[Device]] = {}
        for gpu, locality in zip(gpus, localities, strict=True):
            if locality.nodes:
                self._at.setdefault(locality.nodes[0].os_index, []).append(self._gpu(gpu, locality.source))
        self._senders = _ranks_by_device(plan, lambda binding: (rail.nic for rail in binding.nics or ()))
        self._homeless_nics = list(self._place_nics(machine))

    def _gpu(self, gpu: Gpu, source: str) -> Device:
        ranks = self._drivers.get(gpu, ())
        facts = [_plural("rank", ranks)] if ranks else []
        facts += ["not placed"] if ranks and all(rank in self._unplaced for rank in ranks) else []
        facts += [printable(gpu.name)] if gpu.name else []
        facts += [f"known from {source}"] if source != self._common else []
        mark = self._marks.get(ranks[0]) if ranks else None
        return Device("GPU", f"GPU {gpu.index}", gpu.pci_address or "", tuple(facts), mark)

    def _place_nics(self, machine: Machine) -> Iterator[Nic]:
        """Put each NIC at the one node that it is near; give those that are near none, or several."""
        nics = shown_nics(machine)
        found = locate(machine, [Gpu(number, nic.pci_address) for number, nic in enumerate(nics)])
        for nic, locality in zip(nics, found, strict=True):
            if locality.nodes and locality.source in ("hwloc", "single-node"):
                self._at.setdefault(locality.nodes[0].os_index, []).append(self._nic(nic))
            else:
                yield nic

    def _nic(self, nic: Nic) -> Device:
        ranks = self._senders.get(nic, ())
        marks = {self._marks.get(rank) for rank in ranks}
        facts = [_plural("rank", ranks)] if ranks else []
        facts += [printable(nic.port.state)] if nic.port.is_down else []
        return Device(
            "NIC", printable(nic.name), nic.pci_address, tuple(facts), marks.pop() if len(marks) == 1 else None
        )

    def take(self, node: int) -> tuple[Device, ...]:
        """The devices at a node; a node in two packages has them in the first."""
        return tuple(self._at.pop(node, ()))

    def owner_of(self, cache: Cache) -> str:
        """The GPU that has this cache for its own, as on Frontier; "" if none has."""
        return self._owners.get(cache.cpuset, "")

    def notes(self) -> Iterator[str]:
        """Sentences on where the GPUs are."""
        if self._common:
            yield f"which node each GPU is on is known from {self._common}"
        if self._homeless_nics:
            names = ", ".join(nic.name for nic in self._homeless_nics)
            yield f"not near one node alone, as far as is known: {names}"
        said = [((gpu,), f"on no known node: {locality.error}", gpu.index) for gpu, locality in self._homeless]
        yield from _alike("GPU", said)


def _owners(machine: Machine, gpus: Iterable[Gpu]) -> dict[CpuSet, str]:
    """The GPUs that hang at one last-level cache of a node that has several."""
    several = {
        cache.cpuset
        for cache in machine.last_level_caches
        if not any(node.cpuset <= cache.cpuset for node in machine.cpu_nodes)
    }
    found: dict[CpuSet, list[int]] = {}
    for gpu in gpus:
        device = machine.pci_device(gpu.pci_address or "")
        if device is not None and device.near_cpuset in several:
            found.setdefault(device.near_cpuset, []).append(gpu.index)
    return {cpuset: _plural("GPU", indexes) for cpuset, indexes in found.items()}


def _ranks_by_device(plan: Plan | None, devices: Callable[[Binding], Iterable[_DeviceT]]) -> dict[_DeviceT, _Ranks]:
    """Which ranks use each device of a kind."""
    users: dict[_DeviceT, _Ranks] = {}
    for binding in plan or ():
        for device in devices(binding):
            users[device] = (*users.get(device, ()), binding.local_rank)
    return users


def _marks_by_rank(marks: Sequence[Mark]) -> dict[int, Mark]:
    """The mark that most of a rank's cores carry."""
    found: dict[int, Mark] = {}
    for mark in sorted(marks, key=lambda mark: -mark.cores):
        for rank in mark.ranks:
            found.setdefault(rank, mark)
    return found
