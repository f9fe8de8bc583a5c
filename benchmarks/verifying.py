"""The row of what it costs to verify a running process, thread by thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import hwnuma
from benchmarks.commands import first_cpu
from benchmarks.settings import Measured, Settings, Skipped, console_script, environment
from benchmarks.timing import Timed, calls, difference, in_turn

_THREADS = 64
_GIB = 2**30

# What is verified: it fills its heap with blocks that malloc takes from there (and not from a mapping of their own),
# starts its threads, says so, and waits for the end of its input.
_PROCESS = """
import sys, threading
size, threads = map(int, sys.argv[1:])
heap = [b"x" * 2**15 for _ in range(size // 2**15)]
end = threading.Event()
for _ in range(threads):
    threading.Thread(target=end.wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def verify(settings: Settings) -> Measured:
    """Verify processes that differ in their heap, and for each heap in their threads: what 64 threads more cost.

    Where the processes' pages are is not asked: it takes the same time for one thread and for many.
    """
    heaps = {"empty": 0, "heap": _GIB}
    if _free_memory() < 4 * _GIB:
        raise Skipped("less than 4 GiB of memory is free for the processes that are verified")
    with ExitStack() as running:
        works: dict[str, Timed] = {}
        for name, size in heaps.items():
            for threads in (0, _THREADS):
                pid = running.enter_context(_running(size, threads))
                works[f"{name} {threads}"] = calls(_verification(pid))
        times = in_turn(works, settings.rounds)
    one = 1e-6 * _THREADS  # a thread's microseconds
    return {name: difference(times[f"{name} {_THREADS}"], times[f"{name} 0"], one) for name in heaps}


def _verification(pid: int) -> Callable[[], Callable[[], object]]:
    expected = hwnuma.Binding(0, cpuset=hwnuma.CpuSet(first_cpu()), memory=hwnuma.MemoryPolicy.PREFERRED)
    return lambda: lambda: hwnuma.verify(expected, pid)


@contextmanager
def _running(size: int, threads: int) -> Iterator[int]:
    """A process that hwnuma has started with a memory policy, for the length of a with block."""
    bound = (console_script(), "exec", "--cpus", first_cpu(), "--memory", "preferred", "--")
    command = (*bound, sys.executable, "-I", "-c", _PROCESS, str(size), str(threads))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None  # they are pipes
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise Skipped("the process to be verified did not start; what it said is on standard error")
            yield process.pid  # hwnuma became it
        finally:
            process.stdin.close()


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
