"""Fuzz all that reads what others wrote, and print what came of it.

Each target is fed by a process of its own, so that one that dies is counted, with the input that killed it, and the
rest goes on. Inputs that go wrong are kept under build/fuzz.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.worker import KINDS, Notes, say_wrong

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
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(_run, target, engine, arguments, _bounds(target, chosen, arguments)) for target in chosen]
        counts = {target.name: run.result() for target, run in zip(chosen, runs, strict=True)}
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


def _bounds(target: Target, chosen: list[Target], arguments: argparse.Namespace) -> tuple[int, float]:
    """The executions and the seconds of a target: its share of the executions, and of the time the same as others."""
    executions = round(arguments.executions * target.share / sum(each.share for each in chosen))
    jobs = min(arguments.jobs, len(chosen))
    return executions, 60 * arguments.minutes * jobs / len(chosen)


def _run(target: Target, engine: str, arguments: argparse.Namespace, bounds: tuple[int, float]) -> dict[str, int]:
    """Run workers for a target until it has had its inputs or its time; one that dies is counted and replaced."""
    executions, seconds = bounds
    path, log = arguments.folder / f"{target.name}.notes", arguments.folder / f"{target.name}.log"
    ends = time.monotonic() + seconds
    while True:
        left = max(ends - time.monotonic(), 0.01) if seconds else 0
        command = [sys.executable, "-m", "tests.fuzz.worker", engine, target.name, str(path), str(arguments.seed)]
        command += [str(executions), str(left)]
        with log.open("ab") as errors:
            worker = subprocess.run(command, stderr=errors, cwd=ROOT, check=False)
        notes = Notes(path)
        if worker.returncode and not notes.unfinished:
            raise SystemExit(f"a worker for {target.name} ended with {worker.returncode}: see {log}")
        if worker.returncode:
            said = f"the process ended with {worker.returncode}"
            say_wrong(target.name, notes.next, "signals", said, notes.unfinished, arguments.folder)
            notes.end("signals")
        if (executions and notes.next >= executions) or (seconds and time.monotonic() >= ends):
            return notes.counts


def _print(counts: dict[str, dict[str, int]], how: str) -> int:
    """Print the figures, and give how many inputs went wrong."""
    total = {kind: sum(each[kind] for each in counts.values()) for kind in KINDS}
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
