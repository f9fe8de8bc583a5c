"""One cell of the matrix: threads bound to cores, memory placed on a node, both by hwnuma's own binding.

No thread of the program that measures is bound: the workers are threads that this starts, each is bound once through
`hwnuma.processes.binding.apply`, which reads back what the kernel did, and they end with the measuring. Memory is
touched by threads that have the policy `bind` to its node, and the kernel is asked again and again where its pages are.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue

from hwnuma.errors import BindingError
from hwnuma.measure.kernels import Memory, Team
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.measured import Placement
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.plan import Binding
from hwnuma.model.value import Value, replace
from hwnuma.processes import procfs
from hwnuma.processes.binding import apply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, TypeVar

    from hwnuma.hwloc.topology import Topology
    from hwnuma.measure.kernels import Done

    _ResultT = TypeVar("_ResultT")


class Place(Value):
    """Where a cell is: some CPUs, one of each core, and memory.

    Attributes:
        cpu_node: what the CPUs' node is called.
        memory_node: what the memory's node is called.
        cpus: in order.
        buffers: which of the buffers; None for those that are called as the memory's node is.
    """

    cpu_node: int
    memory_node: int
    cpus: tuple[int, ...]
    buffers: int | None = None


class Worker:
    """A thread on one CPU that does what it is asked to, one thing after the other."""

    def __init__(self, topology: Topology, binding: Binding) -> None:
        """Start it.

        Args:
            topology: this system's.
            binding: where it is to be.
        """
        self._asked: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"bench CPU {binding.cpuset}", daemon=True)
        self._thread.start()
        self.ask(lambda: apply(topology, binding, will_exec=True))  # which is: bind this thread alone

    def ask(self, work: Callable[[], Any]) -> None:
        """Let it do something."""
        self._asked.put(work)

    def answer(self) -> Any:
        """What the thing that was asked for longest ago gave.

        Raises:
            BaseException: what it raised.
        """
        given, error = self._answers.get()
        if error is not None:
            raise error
        return given

    def end(self) -> None:
        """End it, when it has done what it was asked to."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._asked.get()) is not None:
            try:
                self._answers.put((work(), None))
            except BaseException as error:  # noqa: BLE001 -- it is raised where it is asked for
                self._answers.put((None, error))


class Workers:
    """A bound thread for each of some CPUs, for the length of a with block."""

    def __init__(self, topology: Topology, cpus: Sequence[int]) -> None:
        """Say which CPUs.

        Args:
            topology: this system's.
            cpus: the kernel's numbers.
        """
        self._topology, self._cpus = topology, cpus
        self._workers: dict[int, Worker] = {}
        self._team: Team | None = None

    def __enter__(self) -> Workers:
        try:
            for cpu in self._cpus:
                self._workers[cpu] = Worker(self._topology, Binding(0, cpuset=CpuSet([cpu])))
            for worker in self._workers.values():
                worker.answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._team is not None:
            self._team.stop()
        for worker in self._workers.values():
            worker.end()

    def together(self, team: Team, works: Mapping[int, Callable[[], _ResultT]]) -> list[_ResultT]:
        """Let some do something at once.

        Args:
            team: theirs, which is stopped if somebody interrupts.
            works: what each does, by its CPU.
        """
        self._team = team
        for cpu, work in works.items():
            self._workers[cpu].ask(work)
        return [self._workers[cpu].answer() for cpu in works]


class Buffers:
    """Three arrays and two rings on one node, for the length of a with block.

    Attributes:
        arrays: for the bandwidth.
        rings: for the latency, by whether huge pages were asked for.
    """

    def __init__(self, topology: Topology, node: int, size: int, *, huge_pages: bool) -> None:
        """Say where, and how large.

        Args:
            topology: this system's.
            node: the NUMA node.
            size: of each array and each ring, a multiple of `HUGE_PAGE`.
            huge_pages: ask for huge pages for the arrays.
        """
        self._topology, self._node, self._size, self._huge_pages = topology, node, size, huge_pages
        self._all: list[Memory] = []
        self._placement: Placement | None = None
        self._wrong: Placement | None = None
        self._looks = 0
        self._streamed: dict[int, int] = {}
        self.warnings: tuple[str, ...] = ()

    def __enter__(self) -> Buffers:
        try:
            arrays = [self._memory(huge_pages=self._huge_pages) for _ in range(3)]
            self.arrays: tuple[Memory, Memory, Memory] = (arrays[0], arrays[1], arrays[2])
            self.rings: dict[bool, Memory] = {huge: self._memory(huge_pages=huge) for huge in (True, False)}
            self.warnings = self._place()
            self.look()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for memory in self._all:
            memory.free()

    def look(self) -> Placement:
        """Ask the kernel where all pages are."""
        self._looks += 1
        found = placement_of(self._node, self._all)
        if self._wrong is None and found.bytes_by_node is not None and not found.is_proven:
            self._wrong = found
        self._placement = found
        return found

    @property
    def placement(self) -> Placement:
        """Where the pages were found at the last look; or at that one at which some were elsewhere."""
        found = self._wrong or self._placement
        assert found is not None  # noqa: S101 -- entering the block has looked
        return Placement(found.memory_node, found.bytes_by_node, found.huge_bytes, found.total, self._looks)

    def stream(self, workers: Workers, cpus: Sequence[int], kind: str, seconds: float, factor: float = 1.0) -> float:
        """Stream with some CPUs at once, and give the bytes a second of all."""
        team = Team(len(cpus), _factor=factor)
        place = self._streamed.get(len(cpus), 0)
        works = {cpu: self._streaming(team, kind, member, place, seconds) for member, cpu in enumerate(cpus)}
        done = workers.together(team, works)
        # Where it ended, the next one goes on: what the caches still hold is behind.
        self._streamed[len(cpus)] = place + int(max(each.count for each in done)) // 8
        return sum(each.count for each in done) / (max(each.end for each in done) - min(each.start for each in done))

    def chase(
        self, workers: Workers, cpus: Sequence[int], seconds: float, *, huge_pages: bool, factor: float = 1.0
    ) -> float:
        """Chase with the first CPU while the others read, and give the seconds of a load."""
        team = Team(len(cpus), _factor=factor)
        ring = self.rings[huge_pages]
        works: dict[int, Callable[[], Done]] = {cpus[0]: lambda: team.chase(ring, seconds)}
        for member, cpu in enumerate(cpus[1:], 1):
            works[cpu] = self._streaming(team, "read", member, 0, float("inf"))
        done = workers.together(team, works)[0]
        return (done.end - done.start) / done.count

    def _streaming(self, team: Team, kind: str, member: int, place: int, seconds: float) -> Callable[[], Done]:
        return lambda: team.stream(kind, self.arrays, member, place, seconds)

    def _memory(self, *, huge_pages: bool) -> Memory:
        made = Memory(self._size, huge_pages=huge_pages)
        self._all.append(made)
        return made

    def _place(self) -> tuple[str, ...]:
        """Let a thread that has the policy touch all memory; give what somebody should know of that."""
        binding = Binding(
            0,
            cpuset=self._topology.get_thread_cpubind(),  # where this one may be, so may that one
            nodeset=NodeSet([self._node]),
            memory=MemoryPolicy.BIND,
        )
        try:
            worker = Worker(self._topology, binding)
            warnings: tuple[str, ...] = worker.answer().warnings
        except BindingError as error:
            worker.end()
            if len(procfs.nodes_with_memory()) > 1:
                raise
            # Where a sandbox denies the policy and there is one node, there is no other that it could keep out.
            binding = replace(binding, memory=MemoryPolicy.NONE)
            worker = Worker(self._topology, binding)
            worker.answer()
            warnings = (f"memory was touched without a policy, on the only node that there is: {error.strerror}",)
        try:
            worker.ask(lambda: self._fill(binding.memory))
            worker.answer()
        finally:
            worker.end()
        return warnings

    def _fill(self, policy: MemoryPolicy) -> None:
        for memory in self._all:
            # A thread's policy says where pages come from, and NUMA balancing may move them; an area's holds them too.
            if policy is MemoryPolicy.BIND:
                memory.keep_on(self._topology, self._node)
            memory.touch(0, 1)
        for ring in self.rings.values():
            ring.make_ring(self._node + 1)


def placement_of(node: int, memories: Sequence[Memory]) -> Placement:
    """Where the kernel says that the pages of some mappings are (numa_maps, and smaps for huge pages)."""
    total = sum(memory.size for memory in memories)
    starts = {f"{memory.address:x}" for memory in memories}
    try:
        with open("/proc/self/numa_maps", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            own = [line for line in lines if line.partition(" ")[0] in starts]
        found = procfs.count_pages(own).own if len(own) == len(starts) else None
    except OSError:
        found = None
    huge = sum(_huge_bytes(starts)) if found is not None else None
    return Placement(node, None if found is None else tuple(sorted(found.items())), huge, total, 1)


def _huge_bytes(starts: set[str]) -> Iterator[int]:
    """How many bytes of these mappings are huge pages."""
    try:
        with open("/proc/self/smaps", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            inside = False
            for line in lines:
                head = line.partition(" ")[0]
                if not head.endswith(":"):
                    inside = head.partition("-")[0] in starts
                elif inside and head == "AnonHugePages:":
                    yield int(line.split()[1]) * 1024
    except OSError:
        return
