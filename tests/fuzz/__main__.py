"""Fuzz all that reads what others wrote, and print what came of it.

Each target is fed by a process of its own, or by several where there are more jobs than targets, so that one that dies
is counted, with the input that killed it, and the rest goes on. Inputs that go wrong are kept under build/fuzz.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.worker import KINDS, Bounds, Notes, Part, number_of, say_wrong

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Run; the exit status says whether any input went wrong."""
    arguments = _arguments()
    folder = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = [TARGETS[name] for name in arguments.target or TARGETS]
    engine = arguments.engine or ("atheris" if importlib.util.find_spec("atheris") else "loop")
    started = time.monotonic()
    parts = max(1, arguments.jobs // len(chosen))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = {
            target.name: [
                pool.submit(_run, target, engine, arguments, (part, parts), _bounds(target, chosen, arguments))
                for part in range(parts)
            ]
            for target in chosen
        }
        counts = {name: sum((run.result() for run in each), Counter[str]()) for name, each in runs.items()}
    wrong = _print(counts, f"seed {arguments.seed}, {engine}, {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="how long, over all targets")
    parser.add_argument(
        "--executions", type=int, default=0, help="how many inputs, over all targets (10,000 if neither)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only this one; may be given again")
    parser.add_argument("--engine", choices=("atheris", "loop"), help="atheris where it is installed, else the loop")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes at a time")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "fuzz", help="where inputs that go wrong are kept"
    )
    arguments = parser.parse_args()
    if not arguments.minutes and not arguments.executions:
        arguments.executions = 10_000
    return arguments


def _bounds(target: Target, chosen: list[Target], arguments: argparse.Namespace) -> Bounds:
    """The executions and the seconds of a target: its share of the executions, and of the time the same as others."""
    executions = round(arguments.executions * target.share / sum(each.share for each in chosen))
    jobs = min(arguments.jobs, len(chosen))
    return executions, 60 * arguments.minutes * jobs / len(chosen)


def _run(target: Target, engine: str, arguments: argparse.Namespace, part: Part, bounds: Bounds) -> Counter[str]:
    """Run workers for a part of a target until it has had its inputs or its time; one that dies is counted and replaced."""
    first, parts = part
    executions, seconds = len(range(first, bounds[0], parts)), bounds[1]
    if arguments.executions and not executions:
        return Counter()  # its share of a few; none would mean no end
    path, log = (arguments.folder / f"{target.name}-{first}.{ending}" for ending in ("notes", "log"))
    ends = time.monotonic() + seconds
    while True:
        left = max(ends - time.monotonic(), 0.01) if seconds else 0
        command = [sys.executable, "-m", "tests.fuzz.worker", engine, target.name, str(path)]
        command += map(str, (*part, arguments.seed, executions, left))
        with log.open("ab") as errors:
            worker = subprocess.run(command, stderr=errors, cwd=ROOT, check=False)
        notes = Notes(path)
        if worker.returncode and not notes.unfinished:
            raise SystemExit(f"a worker for {target.name} ended with {worker.returncode}: see {log}")
        if worker.returncode:
            said = f"the process ended with {worker.returncode}"
            say_wrong(target.name, number_of(notes.next, part), "signals", said, notes.unfinished, arguments.folder)
            notes.end("signals")
        if (executions and notes.next >= executions) or (seconds and time.monotonic() >= ends):
            return Counter(notes.counts)


def _print(counts: Mapping[str, Counter[str]], how: str) -> int:
    """Print the figures, and give how many inputs went wrong."""
    total = sum(counts.values(), Counter[str]())
    rows = [("target", "executions", *KINDS)]
    for name, each in [*counts.items(), ("total", total)]:
        rows.append((name, f"{sum(each.values()):,}", *(f"{each[kind]:,}" for kind in KINDS)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(
                [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
            )
        )
    wrong = sum(total[kind] for kind in KINDS[2:])
    print(f"{sum(total.values()):,} executions ({how}); {wrong} went wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
