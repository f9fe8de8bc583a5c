"""The `bound` blocks that are open in this process: nested ones, and those of several threads, undo each other.

Affinities are the process's, and blocks end in any order. At the end of the last block that moved it, each thread has
to be where it was ahead of the first. So a block that ends while a later one holds some of its threads leaves these to
that one (`Applied.hand_over`), and a thread that is in a block of its own is not moved by another thread's.
"""

from __future__ import annotations

import os
from _thread import RLock

from hwnuma.processes.binding import Applied, carry_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.hwloc.topology import Topology


class Blocks:
    """The open blocks, in the order in which they were entered."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget all blocks, and who holds the lock: in a forked child, the threads of these are not there."""
        self._open: list[Applied] = []
        # One that its holder may take again: a signal's handler or a finalizer may end a block in the midst of another.
        self._lock = RLock()

    def enter(self, topology: Topology, block: Applied, *, all_threads: bool = False, migrate: bool = False) -> None:
        """Bind for a block.

        Args:
            topology: this system's.
            block: the block, whose `leave` follows whatever happens here.
            all_threads: move pinned threads too, and those that are in blocks of their own.
            migrate: as for `apply`.

        Raises:
            HwnumaError: it cannot be bound; all is as it was.
        """
        with self._lock:
            inside = {other.leader for other in self._open if other.leader != block.leader}
            self._open.append(block)
            carry_out(
                topology, block, all_threads=all_threads, migrate=migrate, left_alone=() if all_threads else inside
            )

    def leave(self, topology: Topology, block: Applied) -> None:
        """Undo a block, less what a later one holds; does nothing to one that has been undone.

        Args:
            topology: this system's.
            block: the block. Where an interrupt comes out of this, it has to be left once more.
        """
        with self._lock:
            if block in self._open:
                for later in self._open[self._open.index(block) + 1 :]:
                    block.hand_over(later)
            # A thread that was started since may be of any block on these CPUs, so the last of them takes it back.
            others = [other.binding.cpuset for other in self._open if other is not block]
            block.undo(topology, newcomers=block.binding.cpuset not in others)
            if block in self._open:
                self._open.remove(block)


BLOCKS = Blocks()
os.register_at_fork(after_in_child=BLOCKS.renew)
