"""The row of what `hwnuma bench` measures, beside STREAM's kernels and a chase as lmbench's, on the same CPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.settings import Measured, Settings, Skipped, tool
from benchmarks.timing import Figure
from hwnuma import CpuSet, Topology
from hwnuma.measure.cells import Buffers, Workers
from hwnuma.measure.kernels import NONTEMPORAL
from hwnuma.measure.limits import cache_bytes_over, free_bytes, room_for

_SOURCE = Path(__file__).with_name("peers") / "stream.c"

# How long a kernel of ours runs at a time: about as long as STREAM takes for one pass.
_SECONDS = 0.03

# How often each in a round.
_TIMES = 10


def memory(settings: Settings) -> Measured:
    """Copy, triad and chase: ours / the peer's, round by round, with the same stores, pages and sizes of arrays."""
    with Topology.from_this_system(pci=False) as topology:
        machine = topology.machine().narrowed(CpuSet(os.sched_getaffinity(0)))
        node = machine.nodes_of(machine.allowed_cpuset)[0]
        cores = machine.cores_within(node.cpuset & machine.allowed_cpuset)
        cpus = tuple(core.cpuset.first for core in cores)
        # The peer has four of such arrays, at the same time.
        room = room_for({node.os_index: free_bytes(node.os_index)}, cache_bytes_over(CpuSet(cpus)))
        with (
            _peer(room.buffer_bytes // 8, cpus) as peer,
            Workers(topology, cpus) as workers,
            Buffers(topology, node.os_index, room.buffer_bytes, huge_pages=True) as buffers,
        ):
            ours: dict[str, Callable[[], float]] = {
                "copy": lambda: buffers.stream(workers, cpus, "copy", _SECONDS),
                "triad": lambda: buffers.stream(workers, cpus, "triad", _SECONDS),
                "chase": lambda: buffers.chase(workers, cpus[:1], _SECONDS, huge_pages=True),
            }
            ratios: dict[str, list[float]] = {name: [] for name in ours}
            for number in range(settings.rounds + 1):  # the first one warms up
                for name, work in ours.items():
                    found = _ratio(work, partial(peer, name), min if name == "chase" else max)
                    ratios[name] += [found] if number else []
    return {name: Figure.of(each) for name, each in ratios.items()}


def _ratio(ours: Callable[[], float], others: Callable[[], float], best: Callable[[list[float]], float]) -> float:
    """The best of ours beside the best of the other's, of some times in turn: STREAM itself takes the best of ten."""
    pairs = [(ours(), others()) for _ in range(_TIMES)]
    return best([one for one, _ in pairs]) / best([other for _, other in pairs])


@contextmanager
def _peer(elements: int, cpus: tuple[int, ...]) -> Iterator[Callable[[str], float]]:
    """The peer, compiled with our flags and our kind of stores, on our CPUs, for the length of a with block."""
    with TemporaryDirectory(prefix="hwnuma-stream-") as folder:
        program = str(Path(folder, "stream"))
        stores = ["-DNONTEMPORAL"] if NONTEMPORAL else []
        made = subprocess.run(
            [tool("gcc"), "-O3", "-fopenmp", *stores, "-o", program, str(_SOURCE)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise Skipped(f"gcc does not compile stream.c: {made.stderr.strip().splitlines()[-1]}")
        places = ",".join(f"{{{cpu}}}" for cpu in cpus)
        pinned = {"OMP_PROC_BIND": "true", "OMP_PLACES": places, "OMP_WAIT_POLICY": "passive"}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [program, str(elements), str(len(cpus))], env=pinned, stdin=pipe, stdout=pipe, text=True
        ) as process:
            assert process.stdin is not None  # they are pipes
            assert process.stdout is not None

            def ask(name: str) -> float:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            try:
                yield ask
            finally:
                process.stdin.close()
