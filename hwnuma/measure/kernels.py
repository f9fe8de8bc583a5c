"""The only door to the kernels in C: memory, and the loops whose time is taken. Nothing else imports the extension."""

from __future__ import annotations

import os

from hwnuma.errors import BindingError
from hwnuma.measure._kernels import ffi, lib
from hwnuma.model.bitmap import NodeSet
from hwnuma.model.measured import COPY, READ, TRIAD, WRITE
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hwnuma.hwloc.topology import Topology

__all__ = ["HUGE_PAGE", "LINE", "NONTEMPORAL", "Done", "Memory", "Team"]

# How far apart the lines of a ring are: a cache line of x86 and of most Arm servers.
LINE = 64

# What buffers are a multiple of.
HUGE_PAGE = 2 << 20

# Whether what the kernels write goes past the caches.
NONTEMPORAL = bool(lib.hwnuma_is_nontemporal())

_KINDS = {READ: lib.KIND_READ, WRITE: lib.KIND_WRITE, COPY: lib.KIND_COPY, TRIAD: lib.KIND_TRIAD}
_DOUBLE = 8


class Memory:
    """A mapping of its own, whose pages have no memory until somebody touches them.

    Attributes:
        size: in bytes.
    """

    def __init__(self, size: int, *, huge_pages: bool) -> None:
        """Map it.

        Args:
            size: a multiple of `HUGE_PAGE`.
            huge_pages: ask for huge pages (MADV_HUGEPAGE), or for none.

        Raises:
            BindingError: the kernel refused.
        """
        self.size = size
        self._base: Any = lib.hwnuma_map(size, huge_pages)
        if self._base == ffi.NULL:
            raise BindingError(
                ffi.errno, f"{size} bytes of address space cannot be had to measure with: {os.strerror(ffi.errno)}"
            )
        self._place = 0  # where a chase goes on

    @property
    def address(self) -> int:
        """Where it begins: the first number of its line in numa_maps."""
        return int(ffi.cast("uintptr_t", self._base))

    def keep_on(self, topology: Topology, node: int) -> None:
        """Let its pages come from a node, and stay there whatever the kernel's NUMA balancing sees.

        Args:
            topology: this system's.
            node: the node.

        Raises:
            HwlocError: the kernel refused.
        """
        topology.set_area_membind(self.address, self.size, NodeSet([node]), MemoryPolicy.BIND)

    def touch(self, part: int, parts: int) -> None:
        """Let one of so many parts have memory, from where the calling thread's policy says."""
        start, end = _slice(self.size // HUGE_PAGE, part, parts)
        lib.hwnuma_touch(self._at(start * HUGE_PAGE), (end - start) * HUGE_PAGE)

    def make_ring(self, seed: int) -> None:
        """Make one ring of all lines, in random order, for `Team.chase`."""
        lib.hwnuma_make_ring(self._base, self.size, LINE, seed)

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        base, self._base = self._base, ffi.NULL
        if base != ffi.NULL:
            lib.hwnuma_unmap(base, self.size)

    def _at(self, offset: int) -> Any:
        return ffi.cast("char *", self._base) + offset


class Done(Value):
    """What a thread has done: when, by CLOCK_MONOTONIC in seconds, and how many bytes or loads."""

    start: float
    end: float
    count: float


class Team:
    """Threads that begin at once: each calls one of the methods, which return when the time is over."""

    def __init__(self, threads: int, *, _factor: float = 1.0) -> None:
        """Say how many threads come.

        Args:
            threads: how many.
            _factor: all takes so many times as long, for tests of what is made of the times.
        """
        self._team = ffi.new("struct hwnuma_team *", {"threads": threads, "factor": _factor})
        self._threads = threads

    def stream(self, kind: str, arrays: tuple[Memory, Memory, Memory], member: int, place: int, seconds: float) -> Done:
        """Stream through this thread's part of three arrays, from a place on and around.

        Args:
            kind: one of `hwnuma.model.measured.KINDS`.
            arrays: of one size.
            member: which part, of as many as there are threads.
            place: the element of the part to begin with.
            seconds: how long; infinity ends with the team.
        """
        start, end = _slice(arrays[0].size // LINE, member, self._threads)
        each = [ffi.cast("double *", array._at(start * LINE)) for array in arrays]
        elements = (end - start) * (LINE // _DOUBLE)
        done = ffi.new("struct hwnuma_done *", {"place": place % max(1, elements) // 8 * 8})
        lib.hwnuma_stream(self._team, _KINDS[kind], *each, elements, seconds, done)
        return Done(done.start, done.end, done.count)

    def chase(self, ring: Memory, seconds: float) -> Done:
        """Load the lines of a ring one after the other, from where the last chase ended; then stop the team."""
        done = ffi.new("struct hwnuma_done *", {"place": ring._place})
        lib.hwnuma_chase(self._team, ring._base, seconds, done)
        ring._place = done.place
        return Done(done.start, done.end, done.count)

    def stop(self) -> None:
        """Let all threads end as soon as they can, those that wait for the others too."""
        self._team.stop = 1


def _slice(pieces: int, part: int, parts: int) -> tuple[int, int]:
    """The first piece of a part, and that after its last."""
    return pieces * part // parts, pieces * (part + 1) // parts
