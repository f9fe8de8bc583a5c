"""What was measured, as frozen values: bytes a second and seconds, each with the interval in which its median lies."""

from __future__ import annotations

from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.bitmap import CpuSet

# The kernels of bandwidth, as STREAM counts their bytes: sum of a; a = 1; c = a; a = b + 3 c.
READ, WRITE, COPY, TRIAD = KINDS = ("read", "write", "copy", "triad")


class Estimate(Value):
    """What some samples say of a quantity.

    Attributes:
        median: of the samples.
        low: the lower end of the interval in which the quantity's own median lies.
        high: its upper end.
        best: the best of the samples: the most bytes a second, or the fewest seconds.
        samples: how many there are.
        confidence: that the interval holds the median, if the samples are of one distribution and independent.
    """

    median: float
    low: float
    high: float
    best: float
    samples: int
    confidence: float

    def overlaps(self, other: Estimate) -> bool:
        """Whether both may have the same median."""
        return self.low <= other.high and other.low <= self.high


class Ratio(Value):
    """How many times another quantity a quantity is, and the interval of that."""

    median: float
    low: float
    high: float


class Bandwidth(Value):
    """The bandwidth from the CPUs of a node to the memory of a node.

    Attributes:
        cpu_node: whose CPUs.
        memory_node: whose memory.
        kind: one of `KINDS`.
        threads: how many cores took part, one thread each.
        bytes_per_second: of all threads together.
    """

    cpu_node: int
    memory_node: int
    kind: str
    threads: int
    bytes_per_second: Estimate


class Latency(Value):
    """How long one load takes that waits for the one before.

    Attributes:
        cpu_node: of which a core loads.
        memory_node: whose memory.
        loaded: whether the node's other cores read the same memory as fast as they can meanwhile.
        huge_pages: whether huge pages were asked for.
        seconds: of a load.
    """

    cpu_node: int
    memory_node: int
    loaded: bool
    huge_pages: bool
    seconds: Estimate


class Placement(Value):
    """Where the kernel says that a node's buffers are, page by page (numa_maps).

    Attributes:
        memory_node: the node that they were asked for from.
        bytes_by_node: how many bytes are where; None if the kernel does not tell.
        huge_bytes: how many of them are in huge pages; None if the kernel does not tell.
        total: how many bytes there are.
        looks: how often it was looked at, each time with the same answer, or with one that `is_proven` is not true of.
    """

    memory_node: int
    bytes_by_node: tuple[tuple[int, int], ...] | None
    huge_bytes: int | None
    total: int
    looks: int

    @property
    def is_proven(self) -> bool:
        """Whether every page is on the node, and on no other."""
        return self.bytes_by_node == ((self.memory_node, self.total),)


class Firmware(Value):
    """What is said of the memory of a node, as the CPUs of a node see it; None of what is not told.

    Attributes:
        cpu_node: whose CPUs.
        memory_node: whose memory.
        bytes_per_second: from the HMAT, as libhwloc has it.
        seconds: likewise.
        distance: of the SLIT; 10 is local.
    """

    cpu_node: int
    memory_node: int
    bytes_per_second: float | None
    seconds: float | None
    distance: int | None


class Measured(Value):
    """All that a run has found.

    Attributes:
        source: which machine.
        bandwidth: a row for each CPU node, memory node, kind and number of threads.
        latency: a row for each CPU node and memory node, idle and loaded, with small and with huge pages.
        placements: where the buffers of each memory node were.
        firmware: what the firmware says of the same nodes.
        buffer_bytes: of each array and each ring.
        cache_bytes: of the last-level caches over the CPUs of one node, the most of all nodes; 0 if it is not known.
        cpus: the CPUs that measured, by their node.
        nontemporal: whether writes went past the caches.
        huge_pages: whether huge pages were asked for, for the bandwidth.
        rounds: how often each cell was measured.
        seconds: how long it took.
        notes: what to know of these figures, a sentence each.
        gpus: the copies to and from GPUs, in the form that JSON has.
        verdict: what it means, a sentence each.
        interrupted: whether somebody ended it early.
    """

    source: str
    bandwidth: tuple[Bandwidth, ...]
    latency: tuple[Latency, ...]
    placements: tuple[Placement, ...]
    firmware: tuple[Firmware, ...]
    buffer_bytes: int
    cache_bytes: int
    cpus: tuple[tuple[int, CpuSet], ...]
    nontemporal: bool
    huge_pages: bool
    rounds: int
    seconds: float
    notes: tuple[str, ...] = ()
    gpus: tuple[dict[str, object], ...] = ()
    verdict: tuple[str, ...] = ()
    interrupted: bool = False

    def latency_of(self, *, loaded: bool) -> dict[tuple[int, int], Estimate]:
        """The latency with huge pages, idle or under load, by CPU and memory node."""
        rows = [row for row in self.latency if row.huge_pages and row.loaded is loaded]
        return {(row.cpu_node, row.memory_node): row.seconds for row in rows}
