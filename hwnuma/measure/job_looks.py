"""Where the memory and the threads of a running job are, looked at again and again from outside, as `verify` does.

Nothing stops the job's processes (no ptrace). So what counts is what was seen at a look: the first ones follow each
other at once, later ones every quarter of a second, or less often where a look takes long. What a process does between
its last look and its end is not seen; memory stays where it was touched, so that little can be missed of it.
"""

from __future__ import annotations

import time

from hwnuma.errors import BindingError, HwnumaError
from hwnuma.launch.job import Job
from hwnuma.launch.place import place
from hwnuma.launch.system import load_this_system
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value, replace
from hwnuma.processes.trust import environment_of
from hwnuma.processes.verification import Expected, recorded_in, verify_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwnuma.processes.verification import Verification

# In seconds. The shortest command that is worth to be compared takes longer than the first looks.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
# The kernel holds a process's memory map while it counts pages: at most this part of the time goes into looks.
_PAUSE_PER_LOOK = 20
# But a look that takes long is not to be the last one: in seconds, and as a part of the time since the first look.
_SURELY_AGAIN, _SURELY_AGAIN_PART = 1.0, 0.1


class Found(Value):
    """The most that was seen of a job.

    Attributes:
        remote_bytes: private memory on other nodes than expected, of all processes together at one look.
        own_bytes: all their private memory at that look.
        threads_outside: threads that might run outside of the expected CPUs, at one look.
        threads: the most threads that there were.
        processes: how many processes were seen of which something says where they should be.
        looks: how often it was looked at with something to see.
        not_told: why some process counts for nothing, a clause; "" if all count.
    """

    remote_bytes: int = 0
    own_bytes: int = 0
    threads_outside: int = 0
    threads: int = 0
    processes: int = 0
    looks: int = 0
    not_told: str = ""


class Looks:
    """Looks at a job's processes, and keeps the most that was seen.

    Args:
        yardstick: where a rank that nothing has bound should have been, or None if only records count.
    """

    def __init__(self, yardstick: Yardstick | None) -> None:
        self._yardstick = yardstick
        self._seen: set[int] = set()
        self._most = Found()
        self._pause = _FIRST_PAUSE
        self._first: float | None = None

    def look(self, pids: Sequence[int]) -> float:
        """Look once, and say how many seconds to wait before the next time."""
        began = time.monotonic()
        self._first = began if self._first is None else self._first
        verified = [found for found in map(self._verified, pids) if found is not None]
        self._count(verified)
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        now = time.monotonic()
        at_most = max(_SURELY_AGAIN, _SURELY_AGAIN_PART * (now - self._first))
        return min(max(pause, _PAUSE_PER_LOOK * (now - began)), at_most)

    def found(self) -> Found:
        """The most that was seen."""
        return self._most

    def _verified(self, pid: int) -> Verification | None:
        try:
            environment = environment_of(pid)
            expected = recorded_in(environment)
            if expected is None and self._yardstick is not None:
                expected = self._yardstick.of(environment.variables)
            return None if expected is None else verify_process(pid, expected)
        except BindingError:  # it has ended meanwhile, or is another user's
            return None
        except HwnumaError as error:
            self._most = replace(self._most, not_told=str(error))
            return None

    def _count(self, verified: Sequence[Verification]) -> None:
        # A process that ends has threads for a moment longer than memory; one that becomes another program, none yet.
        whole = [each for each in verified if each.pages is None or each.pages.own_total]
        if not whole:
            return
        self._seen.update(each.pid for each in whole)
        most = self._most
        remote = sum(each.remote_bytes for each in whole)
        own = sum(each.pages.own_total for each in whole if each.pages is not None)
        self._most = Found(
            *max((remote, own), (most.remote_bytes, most.own_bytes)),
            max(most.threads_outside, sum(len(each.outside) for each in whole)),
            max(most.threads, sum(len(each.threads) for each in whole)),
            len(self._seen),
            most.looks + 1,
            most.not_told,
        )


class Yardstick:
    """Where a rank would have been bound to, for ranks that are not: the node that mode ``node`` plans for it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Expected | None] = {}
        self._topology = load_this_system()

    def of(self, environment: Mapping[str, str]) -> Expected | None:
        """Where a process with this environment should be, or None if it is no rank: its launcher, say.

        Raises:
            HwnumaError: it is one, and cannot be placed.
        """
        told = tuple(environment.get(name, "") for name in _PLACE_VARIABLES)
        if not any(told):
            return None
        if told not in self._known:
            job = Job.asked({"mode": "node"}, environment)
            job = replace(job, options=replace(job.options.without_nics(), memory=MemoryPolicy.NONE))
            self._known[told] = Expected.of(place(self._topology, job, None))
        return self._known[told]

    def __enter__(self) -> Yardstick:
        return self

    def __exit__(self, *_error: object) -> None:
        self._topology.close()


# What tells a process its rank on this machine, of those launchers that `--compare` knows or is.
_PLACE_VARIABLES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
