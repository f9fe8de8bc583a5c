"""What measuring may take: memory and time; and whether the machine is quiet enough to measure anything on it."""

from __future__ import annotations

import os
import time

from hwnuma.errors import OptionError
from hwnuma.measure.kernels import HUGE_PAGE
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.characters import shown
from hwnuma.model.numbers import size_text, whole_number
from hwnuma.model.value import Value
from hwnuma.processes import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Never more than this part of what a node has free.
_PART_OF_FREE = 10

# A buffer is to have so many times the size of the caches, as STREAM's rules want of each array
# (cs.virginia.edu/stream/ref.html, "Adjusting the problem size").
_TIMES_CACHES = 4

# And no less than this, where the caches are small or unknown.
_LEAST_WANTED = 64 << 20

# Of one node: three arrays and two rings.
BUFFERS = 5

# From this part of the CPUs' time on that others take, the machine is busy.
_BUSY = 0.10

# How long to look at that. The kernel counts in ticks of 10 ms at most (USER_HZ): a fiftieth of it.
_LOOK = 0.5

_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST_SECONDS = 86_400.0


def seconds_of(text: str) -> float:
    """Read ``--seconds``.

    Raises:
        OptionError: it is no number of seconds from 0.1 to a day.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= _LARGEST_SECONDS:  # noqa: PLR2004 -- the sentence says it too
        raise OptionError(f"--seconds: {shown(text)} is no number of seconds from 0.1 to {_LARGEST_SECONDS:.0f}")
    return seconds


def memory_of(text: str) -> int:
    """Read ``--memory``: bytes, or with K, M, G or T behind (of 1024).

    Raises:
        OptionError: it is no size.
    """
    unit = _SIZES.get(text[-1:].upper(), 0)
    return whole_number(text[:-1] if unit else text, "--memory", 1, 1 << 50) * (unit or 1)


class Room(Value):
    """How large buffers may be.

    Attributes:
        buffer_bytes: of each array and each ring.
        cache_bytes: of the last-level caches over one node's CPUs, the most of all nodes; 0 if it is not known.
        notes: what to know of that, a sentence each.
    """

    buffer_bytes: int
    cache_bytes: int
    notes: tuple[str, ...]


def room_for(free: Mapping[int, int | None], cache_bytes: int, memory: int | None = None) -> Room:
    """Work out how large buffers may be.

    Args:
        free: for each node that is to be measured the bytes that are free there; None where the kernel does not tell.
        cache_bytes: of the last-level caches over one node's CPUs; 0 if it is not known.
        memory: how many bytes may be taken, on all nodes together.

    Raises:
        OptionError: there is not enough.
    """
    tenth = min((size // _PART_OF_FREE for size in free.values() if size is not None), default=_LEAST_WANTED * BUFFERS)
    most = tenth if memory is None else min(tenth, memory // max(1, len(free)))
    wanted = max(_TIMES_CACHES * cache_bytes, _LEAST_WANTED)
    size = min(wanted, most // BUFFERS) // HUGE_PAGE * HUGE_PAGE
    if size < HUGE_PAGE:
        raise OptionError(
            f"a NUMA node may give {size_text(most)} to measure with (a tenth of what is free there, or --memory), and "
            f"{size_text(BUFFERS * HUGE_PAGE)} are needed: free some memory, or say a larger --memory"
        )
    notes = []
    if cache_bytes and size < _TIMES_CACHES * cache_bytes:
        notes.append(
            f"the buffers have {size_text(size)} each, and the last-level caches {size_text(cache_bytes)}: less than "
            f"{_TIMES_CACHES} times as much, so the figures may be of the caches in part; more memory would do "
            f"({size_text(BUFFERS * _TIMES_CACHES * cache_bytes)} a node, of which a tenth is taken at most)"
        )
    elif not cache_bytes:
        notes.append(
            f"the size of the caches is not known: whether buffers of {size_text(size)} are beyond them either"
        )
    return Room(size, cache_bytes, tuple(notes))


def free_bytes(node: int) -> int | None:
    """What is free on a node now; of the machine, where the kernel does not tell of nodes."""
    memory = procfs.node_memory(node)
    if memory is not None:
        return memory.free
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def cache_bytes_over(cpuset: CpuSet, root: str = "/") -> int:
    """How large the last-level caches over some CPUs are together (``cpuN/cache`` of sysfs); 0 if it is not known."""
    found: dict[str, int] = {}
    for cpu in cpuset:
        folder = f"{root.rstrip('/')}/sys/devices/system/cpu/cpu{cpu}/cache"
        levels = [(level, index) for index in range(8) if (level := _text(f"{folder}/index{index}/level"))]
        if levels:
            last = f"{folder}/index{max(levels)[1]}"
            found[_text(f"{last}/shared_cpu_list")] = memory_of(_text(f"{last}/size") or "1")
    return sum(found.values())


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except (OSError, ValueError):
        return ""


# ---- a busy machine ------------------------------------------------------------------------------------------


def see_that_it_is_quiet(cpuset: CpuSet, seconds: float = _LOOK) -> None:
    """Look whether others use these CPUs. This process sleeps meanwhile.

    Args:
        cpuset: the CPUs that are to measure.
        seconds: how long to look.

    Raises:
        OptionError: they do.
    """
    part = busy_part(cpuset, seconds)
    if part >= _BUSY:
        raise OptionError(
            f"CPUs {cpuset} are busy: others take {100 * part:.0f} % of their time, and what is measured beside them "
            "is theirs too; wait until the machine is quiet, or measure all the same with --busy"
        )


def busy_part(cpuset: CpuSet, seconds: float = _LOOK) -> float:
    """Which part of the CPUs' time others take (/proc/stat: all but idle and iowait); 0 if the kernel does not tell."""
    before = _times(cpuset)
    time.sleep(seconds)
    after = _times(cpuset)
    spent = [(now[0] - then[0], now[1] - then[1]) for then, now in zip(before, after, strict=False)]
    total = sum(idle + busy for idle, busy in spent)
    return sum(busy for _, busy in spent) / total if total > 0 else 0.0


def _times(cpuset: Iterable[int]) -> list[tuple[int, int]]:
    """The ticks that each CPU was idle and busy since boot (proc_stat(5))."""
    names = {f"cpu{cpu}" for cpu in cpuset}
    found = []
    for line in _text("/proc/stat").split("\n"):
        words = line.split()
        if words and words[0] in names:
            user, nice, system, idle, waiting, *rest = (
                whole_number(word, "a time of /proc/stat") for word in words[1:9]
            )
            found.append((idle + waiting, user + nice + system + sum(rest)))
    return found
