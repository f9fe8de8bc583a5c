"""The whole matrix: which cells there are, and measuring them in shuffled order, round after round, until time is over.

What disturbs a machine for a second disturbs all cells of a round alike, and no cell is always measured after the same
other one. The first round warms up and does not count.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack

from hwnuma.errors import OptionError
from hwnuma.measure import limits, statistics
from hwnuma.measure.cells import Buffers, Place, Workers
from hwnuma.measure.firmware import firmware_of
from hwnuma.measure.kernels import NONTEMPORAL
from hwnuma.measure.verdict import verdict_of
from hwnuma.model.bitmap import CpuSet, union
from hwnuma.model.measured import KINDS, Bandwidth, Latency, Measured
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.machine import Machine

# How often each cell is to be measured at least, if the time allows: then intervals are of the confidence that they are
# to have, and leave out the least and the greatest.
_ROUNDS = 15

# How long a cell is measured at a time. Shorter, its beginning and its end would count; longer, nothing is gained.
_SHORTEST, _LONGEST = 0.002, 0.1

# Of the time: what goes to the cells, the rest to making buffers and to all between.
_FOR_CELLS = 0.85

# Cells that are always measured, even if that takes longer than was said: fewer give no interval.
_LEAST_ROUNDS = 3


class Asked(Value):
    """How to measure.

    Attributes:
        seconds: how long all of it may take.
        memory: how many bytes may be taken; None for a tenth of what is free on each node.
        huge_pages: ask for huge pages, for the bandwidth.
        busy: measure on a busy machine too.
    """

    seconds: float = 30.0
    memory: int | None = None
    huge_pages: bool = True
    busy: bool = False


class Cell(Value):
    """What is measured at a place.

    Attributes:
        place: where.
        kind: a kind of bandwidth; "" for latency.
        threads: of all cores, how many take part; for latency, 1 of which is the one that waits.
        huge_pages: of the ring, for latency.
    """

    place: Place
    kind: str
    threads: int
    huge_pages: bool = True


def places_of(machine: Machine) -> tuple[Place, ...]:
    """Each node with CPUs and each node with memory, as far as this process may use them; a CPU of each core."""
    memory_nodes = [
        node.os_index
        for node in machine.numa_nodes
        if node.memory and node.os_index in machine.allowed_nodeset and node.subtype != "GPUMemory"
    ]
    places = []
    for node in machine.cpu_nodes:
        cpus = tuple(core.cpuset.first for core in machine.cores_within(node.cpuset & machine.allowed_cpuset))
        places += [Place(node.os_index, memory, cpus) for memory in memory_nodes if cpus]
    return tuple(places)


def cells_of(place: Place) -> tuple[Cell, ...]:
    """What is measured at a place: bandwidth of all cores and of one, latency idle and under load."""
    every = len(place.cpus)
    numbers = dict.fromkeys((every, 1))
    bandwidth = [Cell(place, kind, threads) for kind in KINDS for threads in numbers]
    latency = [Cell(place, "", 1, huge) for huge in (True, False)]
    return (*bandwidth, *latency, *([Cell(place, "", every)] if every > 1 else ()))


def measure(
    topology: Topology,
    machine: Machine,
    asked: Asked = Asked(),  # noqa: B008 -- a frozen value
    *,
    places: Sequence[Place] | None = None,
    progress: Callable[[float], None] = lambda _part: None,
    _factors: Mapping[tuple[int, int], float] | None = None,
    _rounds: int | None = None,
) -> Measured:
    """Measure the matrix of this machine.

    The process is left as it was: threads of its own do the measuring, and they end with it. After an interrupt
    (KeyboardInterrupt) what was measured until then is given, if each cell was measured once; else it is raised.

    Args:
        topology: this system's.
        machine: what was copied out of it, narrowed to the CPUs that this process may use.
        asked: how to measure.
        places: where; by default all of `places_of`.
        progress: is told again and again which part of the time is over.
        _factors: for tests: by CPU and memory node, how many times as long the kernels take there.
        _rounds: for tests: how many rounds there are, however long they take.

    Raises:
        OptionError: the machine is busy, or has too little free memory, or no place to measure.
        BindingError: a thread could not be bound or memory not be placed.
    """
    began = time.monotonic()
    places = places_of(machine) if places is None else places
    if not places:
        raise OptionError("there is nothing to measure: no NUMA node has both CPUs that may be used and memory")
    cpus = {place.cpu_node: CpuSet(place.cpus) for place in places}
    every_cpu = union(cpus.values())
    if not asked.busy:
        limits.see_that_it_is_quiet(every_cpu)
    real = {_buffers(place) for place in places}
    caches = max(limits.cache_bytes_over(cpuset) for cpuset in cpus.values())
    room = limits.room_for({node: limits.free_bytes(node) for node in real}, caches, asked.memory)
    notes = list(room.notes)
    with ExitStack() as stack:
        buffers = {
            node: stack.enter_context(Buffers(topology, node, room.buffer_bytes, huge_pages=asked.huge_pages))
            for node in sorted(real)
        }
        # Entered last, so that after an interrupt the threads have ended when the memory that they read is given back.
        workers = stack.enter_context(Workers(topology, list(every_cpu)))
        run = _Run(workers, buffers, [cell for place in places for cell in cells_of(place)], _factors or {})
        run.until(began, asked.seconds, progress, _rounds)
        placements = tuple(each.placement for each in buffers.values())
        notes += [warning for each in buffers.values() for warning in each.warnings]
    pairs = [(place.cpu_node, place.memory_node) for place in places]
    found = Measured(
        source=machine.called,
        bandwidth=tuple(run.bandwidth()),
        latency=tuple(run.latency()),
        placements=placements,
        firmware=firmware_of(topology, machine, pairs),
        buffer_bytes=room.buffer_bytes,
        cache_bytes=room.cache_bytes,
        cpus=tuple(cpus.items()),
        nontemporal=NONTEMPORAL,
        huge_pages=asked.huge_pages,
        rounds=run.rounds,
        seconds=time.monotonic() - began,
        notes=(*notes, *run.notes()),
        interrupted=run.interrupted,
    )
    return replace(found, verdict=verdict_of(found))


def _buffers(place: Place) -> int:
    return place.memory_node if place.buffers is None else place.buffers


class _Run:
    """The rounds, and what they found."""

    def __init__(
        self,
        workers: Workers,
        buffers: Mapping[int, Buffers],
        cells: Sequence[Cell],
        factors: Mapping[tuple[int, int], float],
    ) -> None:
        self._workers, self._buffers, self._cells, self._factors = workers, buffers, cells, factors
        self._samples: dict[Cell, list[float]] = {cell: [] for cell in cells}
        self.rounds, self.interrupted = 0, False

    def until(self, began: float, seconds: float, progress: Callable[[float], None], rounds: int | None) -> None:
        """Measure until so many seconds have passed since it began, or so many rounds are done."""

        def goes_on() -> bool:
            if rounds is not None:
                return self.rounds < rounds
            return self.rounds < _LEAST_ROUNDS or time.monotonic() + longest < began + seconds

        left = began + seconds - time.monotonic()
        each = min(_LONGEST, max(_SHORTEST, _FOR_CELLS * left / (len(self._cells) * (_ROUNDS + 1))))
        order = list(self._cells)
        chance = random.Random(0)  # noqa: S311 -- an order, and no secret
        longest = 0.0
        try:
            while goes_on():
                chance.shuffle(order)
                started = time.monotonic()
                found: dict[Cell, float] = {}
                for cell in order:
                    found[cell] = self._measure(cell, each)
                    progress(min(1.0, (time.monotonic() - began) / seconds))
                if longest:  # else it is the first round, which warms up
                    self._keep(found)
                longest = max(longest, time.monotonic() - started)
        except KeyboardInterrupt:
            if not self.rounds:
                raise
            self.interrupted = True

    def _keep(self, found: Mapping[Cell, float]) -> None:
        for cell, sample in found.items():
            self._samples[cell].append(sample)
        for each in self._buffers.values():
            each.look()
        self.rounds += 1

    def _measure(self, cell: Cell, seconds: float) -> float:
        place = cell.place
        buffers = self._buffers[_buffers(place)]
        factor = self._factors.get((place.cpu_node, place.memory_node), 1.0)
        cpus = place.cpus[: cell.threads]
        if cell.kind:
            return buffers.stream(self._workers, cpus, cell.kind, seconds, factor)
        return buffers.chase(self._workers, cpus, seconds, huge_pages=cell.huge_pages, factor=factor)

    def bandwidth(self) -> list[Bandwidth]:
        """A row for each cell of bandwidth."""
        return [
            Bandwidth(
                cell.place.cpu_node, cell.place.memory_node, cell.kind, cell.threads,
                statistics.estimate(samples, most_is_best=True),
            )
            for cell, samples in self._samples.items() if cell.kind
        ]  # fmt: skip

    def latency(self) -> list[Latency]:
        """A row for each cell of latency."""
        return [
            Latency(
                cell.place.cpu_node, cell.place.memory_node, cell.threads > 1, cell.huge_pages,
                statistics.estimate(samples, most_is_best=False),
            )
            for cell, samples in self._samples.items() if not cell.kind
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """What to know of the rounds, a sentence each."""
        said = []
        if self.interrupted:
            said.append(f"interrupted: these are the first {self.rounds} rounds")
        if self.rounds < statistics.ENOUGH:
            said.append(
                f"{self.rounds} rounds are too few for intervals of {100 * statistics.CONFIDENCE:g} %: they are from "
                "the least to the greatest of the samples; say more --seconds"
            )
        return said
