"""``python -m benchmarks``: measure all rows, and print the table. ``python -m benchmarks counts``: see `counts`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import commands, counts, discovery, fleet, library, machine, memory, results, verifying
from benchmarks.goals import ROWS, lines_of
from benchmarks.results import Result
from benchmarks.settings import QUICK_ROUNDS, Measured, Settings, Skipped
from benchmarks.timing import CommandFailedError

MEASURES: dict[str, Callable[[Settings], Measured]] = {
    "exec": commands.exec_,
    "ranks": commands.ranks,
    "import": commands.import_,
    "plan": library.plan,
    "load": library.load,
    "probe": library.probe,
    "growth": library.growth,
    "rails": library.rails,
    "draw": library.draw,
    "cli": commands.cli,
    "discovery": discovery.discovery,
    "fleet": fleet.fleet,
    "verify": verifying.verify,
    "memory": memory.memory,
}


def measure(row: str, settings: Settings) -> Iterator[Result]:
    """Measure a row: a result for each of its lines; where it cannot be measured, they say why."""
    lines = lines_of(row)
    try:
        found: Measured = MEASURES[row](settings)
    except (Skipped, CommandFailedError) as reason:
        found = dict.fromkeys((line.part for line in lines), Skipped(str(reason)))
    return (Result.of(line, found[line.part]) for line in lines)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what hwnuma costs, beside its peers. `python -m benchmarks counts` counts instructions.",
    )
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds: a first impression")
    parser.add_argument(
        "--rounds", type=_count, metavar="N", default=Settings().rounds, help="how often each (default: %(default)s)"
    )
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="PATH",
        help="an interpreter in which torch or pyhwloc is installed, where this one cannot have them",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the run as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of the documentation")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing: take an earlier run's JSON")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, and write what is asked for; no figure makes it fail."""
    if arguments[:1] == ["counts"]:
        return counts.main(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.from_json:
        found, where = results.from_data(json.loads(options.from_json.read_text(encoding="utf-8")))
    else:
        settings = Settings(QUICK_ROUNDS if options.quick else options.rounds, tuple(options.peer_python))
        try:
            where, found = machine.describe(settings), []
        except Skipped as reason:
            parser.error(str(reason))
        for row in options.only or ROWS:
            print(f"measuring {row} …", file=sys.stderr)
            found += measure(row, settings)
    print(results.header(where), results.table(found), sep="\n\n")
    if options.json:
        options.json.write_text(results.dumps(found, where), encoding="utf-8")
    if options.page:
        options.page.write_text(results.page(found, where), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
