"""The row of thousands of captures: beside what unpacking and parsing them takes that does nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.parsers import expat

from benchmarks.settings import Measured, Settings, console_script, environment
from benchmarks.timing import CommandFailedError, Figure, Timed, in_turn, ratio
from fixtures import fleet as made

_FEW, _MANY = 1_000, 10_000
# Each round reads 11,000 files three times over.
_MOST_ROUNDS = 3
_PARCEL = 16
_MIB = 2**20

# Runs a command, and then prints how much memory it and its children had at once, at the most, in bytes: of them all
# together, since each is looked at where it is, every hundredth of a second.
_WATCHER = """
import os, subprocess, sys, time
def resident(pid):
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total = sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                total += sum(map(resident, map(int, file.read().split())))
    except OSError:
        pass
    return total
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
most = 0
while process.poll() is None:
    most = max(most, resident(process.pid))
    time.sleep(0.01)
print(most)
"""


def fleet(settings: Settings) -> Measured:
    """`hwnuma fleet` of DGX-size captures, beside a bare parse of the same files in as many processes."""
    command = console_script()
    rounds = min(settings.rounds, _MOST_ROUNDS)
    with TemporaryDirectory(prefix="hwnuma-fleet-") as name:
        folders = {number: Path(name) / str(number) for number in (_FEW, _MANY)}
        folders[_MANY].mkdir()
        made.write(folders[_MANY], _MANY)
        folders[_FEW].mkdir()
        for file in sorted(folders[_MANY].iterdir())[:_FEW]:
            (folders[_FEW] / file.name).hardlink_to(file)
        works: dict[str, Timed] = {
            "few": _timed(command, folders[_FEW]),
            "many": _timed(command, folders[_MANY]),
            "bare": lambda: _bare(folders[_MANY]),
        }
        times = in_turn(works, rounds)
        watched = (sys.executable, "-I", "-c", _WATCHER, command, "fleet", str(folders[_MANY]))
        most = subprocess.run(watched, env=environment(), capture_output=True, text=True, check=True)
    return {
        "bare": ratio(times["many"], times["bare"]),
        "growth": ratio(times["many"], times["few"]),
        "memory": Figure.of([int(most.stdout) / _MIB]),
    }


def _timed(command: str, folder: Path) -> Timed:
    def run() -> float:
        start = os.times().elapsed
        done = subprocess.run([command, "fleet", str(folder)], env=environment(), capture_output=True, check=False)
        if done.returncode != 1:  # seven differ, of the few at least one
            raise CommandFailedError(f"hwnuma fleet ended with {done.returncode}: {done.stderr.decode()}")
        return os.times().elapsed - start

    return run


def _bare(folder: Path) -> float:
    """Unpack and parse every file in as many processes as there are CPUs, and do nothing with them."""
    start = os.times().elapsed
    files = sorted(map(str, folder.iterdir()))
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_parse, [files[at : at + _PARCEL] for at in range(0, len(files), _PARCEL)]))
    return os.times().elapsed - start


def _parse(files: Sequence[str]) -> None:
    for file in files:
        document = zlib.decompress(Path(file).read_bytes(), wbits=31)
        expat.ParserCreate().Parse(document, True)
