"""A user's own job in several modes, in turn and over again: wall time, remote memory and threads outside of each.

The modes are run once a round, in another order each time: what changes with time is not taken for a mode.
"""

from __future__ import annotations

import random

from hwnuma.measure.as_data import estimate_as_data
from hwnuma.measure.job_looks import Yardstick
from hwnuma.measure.jobs import NO_MODE, JobCommand, Run, run_job
from hwnuma.measure.statistics import estimate, ratio
from hwnuma.model.numbers import size_text
from hwnuma.model.table import table_lines
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from hwnuma.model.measured import Estimate

SCHEMA = 1

# A part of the wall time that is worth a word.
_NOTICED = 0.02


class ModeResult(Value):
    """All runs in one mode, with at least one."""

    mode: str
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> Estimate:
        """Wall time."""
        return estimate([run.seconds for run in self.runs], most_is_best=False)

    @property
    def _seen(self) -> list[Run]:
        return [run for run in self.runs if run.found.looks]

    def most(self, name: str) -> Estimate | None:
        """The most that was seen in a run of something that `Found` has; None if nothing was seen in any."""
        seen = [float(getattr(run.found, name)) for run in self._seen]
        return estimate(seen, most_is_best=False) if seen else None

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        measured = ("remote_bytes", "own_bytes", "threads_outside", "threads", "processes")
        found = {name: self.most(name) for name in measured}
        return {
            "mode": self.mode,
            "seconds": {**estimate_as_data(self.seconds), "runs": [run.seconds for run in self.runs]},
            **{name: None if told is None else estimate_as_data(told) for name, told in found.items()},
            "looks": sum(run.found.looks for run in self.runs),
        }


class Comparison(Value):
    """What came of it.

    Attributes:
        command: what was run.
        rounds: how many times in each mode.
        modes: the results, in the order in which the modes were named.
        start_seconds: how long hwnuma takes to bind a command and become it, which is part of every run but none's.
    """

    command: JobCommand
    rounds: int
    modes: tuple[ModeResult, ...]
    start_seconds: float = 0.0

    @property
    def baseline(self) -> ModeResult:
        """What the others are set beside: unbound, or else the mode that was named first."""
        return next((each for each in self.modes if each.mode == NO_MODE), self.modes[0])

    @property
    def verdict(self) -> tuple[str, ...]:
        """What each other mode gives, a sentence each."""
        return tuple(_verdict(each, self.baseline) for each in self.modes if each is not self.baseline)

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known of the numbers."""
        notes = [note for each in self.modes for note in _notes(each)]
        if self.start_seconds > _NOTICED * self.baseline.seconds.median:
            notes.append(
                f"note: about {self.start_seconds:.2f} s of each run but none's is the start of hwnuma: compare a "
                "command that runs longer"
            )
        return tuple(notes)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "schema": SCHEMA,
            "command": list(self.command.words),
            "ranks": self.command.ranks,
            "rounds": self.rounds,
            "start_seconds": self.start_seconds,
            "modes": [each.as_dict() for each in self.modes],
            "verdict": list(self.verdict),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        headers = ("mode", "wall time", "remote memory", "threads outside", f"as fast as {self.baseline.mode}")
        rows = [self._row(each) for each in self.modes]
        return "\n".join((*table_lines(headers, rows), "", *self.verdict, *self.notes))

    def _row(self, result: ModeResult) -> tuple[str, ...]:
        seconds, remote, outside = result.seconds, result.most("remote_bytes"), result.most("threads_outside")
        threads = result.most("threads")
        return (
            result.mode,
            f"{seconds.median:.2f} s ({seconds.low:.2f}-{seconds.high:.2f})",
            "not seen" if remote is None else _span(remote, lambda size: size_text(int(size))),
            f"{_span(outside, _whole)} of {_whole(threads.median)}" if outside and threads else "not seen",
            "" if result is self.baseline else f"{_ratio(result, self.baseline)} ×",  # noqa: RUF001 -- means times
        )


def _whole(number: float) -> str:
    return f"{number:.0f}"


def _span(interval: Estimate, text: Callable[[float], str]) -> str:
    """A median, with its interval if there is any."""
    median, low, high = (text(number) for number in (interval.median, interval.low, interval.high))
    return median if low == high else f"{median} ({low}-{high})"


def _ratio(result: ModeResult, baseline: ModeResult) -> str:
    """How many times as fast a mode is, at the least and at the most."""
    found = ratio(baseline.seconds, result.seconds)
    least, most = f"{found.low:.2f}", f"{found.high:.2f}"
    return least if least == most else f"{least}-{most}"


def _verdict(result: ModeResult, baseline: ModeResult) -> str:
    ratio = f"{_ratio(result, baseline)} ×"  # noqa: RUF001 -- means times
    if result.seconds.overlaps(baseline.seconds):
        return f"{result.mode}: no difference from {baseline.mode} ({ratio})"
    return f"{result.mode}: {ratio} as fast as {baseline.mode}"


def _notes(result: ModeResult) -> list[str]:
    notes = []
    told = next((run.found.not_told for run in result.runs if run.found.not_told), "")
    unseen = sum(not run.found.looks for run in result.runs)
    if told:
        notes.append(f"note: {result.mode}: where memory and threads should be is not known of some processes: {told}")
    elif unseen and result.mode == NO_MODE:
        notes.append(
            f"note: none: in {unseen} of {len(result.runs)} runs no rank was seen: it ended at once, or no launcher "
            "told it its local rank"
        )
    elif unseen:
        notes.append(
            f"note: {result.mode}: in {unseen} of {len(result.runs)} runs no process was seen that hwnuma had bound: "
            "it ended at once, or the launcher starts its ranks another way (put {} where hwnuma exec is to go)"
        )
    left = max(run.left for run in result.runs)
    if left:
        notes.append(f"note: {result.mode}: {left} processes were left running by the command, and were ended")
    return notes


def compare(
    command: JobCommand,
    modes: Sequence[str],
    rounds: int,
    environment: Mapping[str, str],
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Run a job in each of some modes, several times.

    Args:
        command: the job's.
        modes: "none", or affinity modes' values.
        rounds: how many times in each.
        environment: of whoever asks.
        progress: called after each run.

    Raises:
        JobError: a run failed; nothing of it is left running.
        OptionError: the command cannot be started.
    """
    command.check()
    shuffled = random.Random(0).sample  # noqa: S311 -- an order, and no secret
    runs: dict[str, list[Run]] = {mode: [] for mode in modes}
    with Yardstick() as yardstick:
        for _ in range(rounds):
            for mode in shuffled(list(modes), len(modes)):
                runs[mode].append(run_job(command, mode, environment, yardstick))
                progress()
    results = tuple(ModeResult(mode, tuple(own)) for mode, own in runs.items())
    return Comparison(command, rounds, results, _start_seconds(command, modes, environment))


def _start_seconds(command: JobCommand, modes: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long hwnuma takes to bind a command that ends at once, less that command itself."""
    mode = next((mode for mode in modes if mode != NO_MODE), NO_MODE)
    nothing = JobCommand(("true",), command.ranks or 1)
    return max(0.0, run_job(nothing, mode, environment).seconds - run_job(nothing, NO_MODE, environment).seconds)
