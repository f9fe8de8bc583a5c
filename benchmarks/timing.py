"""Time things in turn, and say what their ratios are.

Whatever is compared is timed one after another, round after round (A B A B …), and only the two times of one round are
set against each other: a neighbour that takes half of the machine for a second takes it from both.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Timed = Callable[[], float]
"""Does the work once, and returns how long it took in seconds."""

_SHORTEST = 0.002  # seconds; what is shorter is done several times over, so that the clock's own cost does not count


class CommandFailedError(Exception):
    """A command that was to be timed did not succeed."""


@dataclass(frozen=True)
class Figure:
    """The median of the rounds, and between which quartiles half of them lie.

    Attributes:
        median: of all rounds.
        low: the lower quartile.
        high: the upper quartile.
        rounds: how many there were.
    """

    median: float
    low: float
    high: float
    rounds: int = 1

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The figure of the rounds' values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high, len(values))


def in_turn(works: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Time all works in turn, round after round; a first round that fills caches is not counted.

    Args:
        works: what to time, by name.
        rounds: how often.

    Returns:
        The times of each in seconds, by name; those at the same place are of the same round.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            times[name].append(work())
    return {name: measured[1:] for name, measured in times.items()}


def ratio(measured: Sequence[float], base: Sequence[float]) -> Figure:
    """How many times the base's time it took, round by round."""
    return Figure.of([one / other for one, other in zip(measured, base, strict=True)])


def difference(measured: Sequence[float], base: Sequence[float], unit: float = 1e-3) -> Figure:
    """How much longer than the base it took, round by round.

    Args:
        measured: its times in seconds.
        base: the other's.
        unit: of the figure, in seconds; milliseconds unless said otherwise.
    """
    return Figure.of([(one - other) / unit for one, other in zip(measured, base, strict=True)])


def calls(prepare: Callable[[], Callable[[], object]]) -> Timed:
    """Time a call within this process.

    Args:
        prepare: gives what to call; it runs ahead of each call and is not timed, so nothing that an earlier call may
            have kept makes the next one look quick.

    Returns:
        What calls it as often as it takes to fill two milliseconds, without the garbage collector, and gives the time
        of one call.
    """
    _one_call(prepare)
    number = max(1, round(_SHORTEST / _one_call(prepare)))
    return lambda: sum(_one_call(prepare) for _ in range(number)) / number


def _one_call(prepare: Callable[[], Callable[[], object]]) -> float:
    call = prepare()
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def command(arguments: Sequence[str], environment: Mapping[str, str], *, copies: int = 1) -> Timed:
    """Time a command from its start to its end.

    Args:
        arguments: the program's path and its arguments.
        environment: all of its environment.
        copies: how many of it to start at once; it ends when the last one does.
    """

    def work() -> float:
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        start = time.perf_counter()
        pids = [os.posix_spawn(arguments[0], list(arguments), environment, file_actions=quiet) for _ in range(copies)]
        states = [os.waitpid(pid, 0)[1] for pid in pids]
        end = time.perf_counter()
        if any(states):
            status = os.waitstatus_to_exitcode(max(states))
            named = " ".join((Path(arguments[0]).name, *arguments[1:]))
            raise CommandFailedError(f"{named}: ended with status {status}; what it said is on standard error")
        return end - start

    return work
