"""What a run found: as data, as a table, and as a page of the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from benchmarks.goals import LINES, Goal, Line
from benchmarks.settings import Skipped
from benchmarks.timing import Figure

SCHEMA = 1
"""Of the JSON; it grows when a key changes its meaning or goes."""

_HEADINGS = ("what", "median", "half of the rounds", "goal", "met")


@dataclass(frozen=True)
class Result:
    """What was found for a line: a figure, or the reason why there is none."""

    line: Line
    figure: Figure | None
    skipped: str = ""

    @classmethod
    def of(cls, line: Line, found: Figure | Skipped) -> Result:
        """The result of what a row found for one of its lines."""
        return cls(line, None, str(found)) if isinstance(found, Skipped) else cls(line, found)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal or no figure."""
        if self.line.goal is None or self.figure is None:
            return None
        return self.line.goal.met(self.figure.median)

    def cells(self) -> tuple[str, ...]:
        """The cells of its row of the table."""
        unit, figure = self.line.unit, self.figure
        goal = "" if self.line.goal is None else f"{self.line.goal} {_sign(unit)}"
        if figure is None:
            return (self.line.what, "-", f"skipped: {self.skipped}", goal, "")
        spread = "" if figure.rounds == 1 else f"{number(figure.low)} to {number(figure.high)}"
        met = {None: "", True: "met", False: "not met"}[self.met]
        return (self.line.what, f"{number(figure.median)} {_sign(unit)}", spread, goal, met)


def number(value: float) -> str:
    """A figure with three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"  # noqa: PLR2004 -- digits


def _sign(unit: str) -> str:
    return "\N{MULTIPLICATION SIGN}" if unit == "x" else unit


def table(results: Iterable[Result], style: str = "simple") -> str:
    """The table, a row a line.

    Args:
        results: in the order of the rows.
        style: one of tabulate's: "simple" for a terminal, "github" for a page.
    """
    return tabulate([result.cells() for result in results], headers=_HEADINGS, tablefmt=style, disable_numparse=True)


def as_data(results: Sequence[Result], machine: Mapping[str, str]) -> dict[str, Any]:
    """A run as data that JSON can hold."""
    rows = []
    for result in results:
        goal = result.line.goal
        rows.append(
            {
                "row": result.line.key,
                "what": result.line.what,
                "unit": result.line.unit,
                "goal": None if goal is None else asdict(goal),
                "met": result.met,
                "figure": None if result.figure is None else asdict(result.figure),
                "skipped": result.skipped,
            }
        )
    return {"schema": SCHEMA, "machine": dict(machine), "rows": rows}


def from_data(data: Mapping[str, Any]) -> tuple[list[Result], dict[str, str]]:
    """Read back what `as_data` made: the results and the machine.

    Raises:
        ValueError: it is of another schema.
    """
    if data.get("schema") != SCHEMA:
        raise ValueError(f"the benchmarks' JSON has schema {data.get('schema')!r}, and {SCHEMA} is known")
    known = {line.key: line for line in LINES}
    results = []
    for row in data["rows"]:
        goal = None if row["goal"] is None else Goal(**row["goal"])
        line = known.get(row["row"]) or Line(row["row"], row["what"], row["unit"], goal)
        figure = None if row["figure"] is None else Figure(**row["figure"])
        results.append(Result(line, figure, row["skipped"]))
    return results, data["machine"]


def header(machine: Mapping[str, str]) -> str:
    """Where it was measured and with what, a line each."""
    width = max(map(len, machine))
    return "\n".join(f"{name:{width}}  {value}" for name, value in machine.items())


def page(results: Iterable[Result], machine: Mapping[str, str]) -> str:
    """The page of the documentation."""
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return f"""# What hwnuma costs

Written by `python -m benchmarks --page docs/explanation/benchmarks.md`; edit `benchmarks/`, not this page.

Whatever is compared was run in turn, round after round, in one run on one machine; a figure is the median of the
rounds' ratios, and half of the rounds lie between the two figures beside it. A bare Python is `python -I -c pass`. A
ratio "torch's time / ours" is how many times faster hwnuma is.

{table(results, "github")}

Where it was measured:

{facts}

Times on another machine differ, ratios less so. What does not differ are the instructions of these commands, which
`python -m benchmarks counts` counts and CI holds below the ceilings of `benchmarks/ceilings.toml`.
"""


def dumps(results: Sequence[Result], machine: Mapping[str, str]) -> str:
    """The run as JSON text."""
    return json.dumps(as_data(results, machine), indent=1, ensure_ascii=False) + "\n"
