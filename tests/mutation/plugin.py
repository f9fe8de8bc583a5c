"""Runs tests against faults: they are collected once, and each fault gets a fork of that process.

The first fork runs all tests without a fault, and notes which lines of the module each reaches and how long it takes.
Each further one puts its fault into the functions of the loaded module, and runs the tests that reach its lines, the
quickest first, until one fails. It is killed (and its fault found) where it takes many times as long as it should.
"""

from __future__ import annotations

import ast
import contextlib
import math
import os
import pickle
import random
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import Mutant, mutants_of

FOUND, SURVIVED, UNREACHED, ELSEWHERE = "found", "survived", "reached by no test", "for a fresh Python only"

_MOST_MEMORY = 8 << 30  # bytes
_LONGEST_WAIT = 120  # seconds


class Broken(str):
    """The traceback of a child that came to no answer."""


Reached = dict[str, tuple[float, set[tuple[str, int]]]]
"""Of each test, how long it takes, and which lines of which files it reaches."""


class Faults:
    """A plugin of pytest that runs the collected tests against the faults of some modules.

    Attributes:
        outcomes: of each module, of each of its faults, FOUND or what else.
    """

    def __init__(
        self,
        modules: Sequence[str],
        sample: int | None = None,
        seed: int = 0,
        known: Mapping[str, Mapping[str, str]] | None = None,
        explained: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Choose.

        Args:
            modules: the files.
            sample: so many of a hundred faults; None for all.
            seed: which ones.
            known: outcomes of an earlier run: those that were not found are tried once more, and what it has not.
            explained: of those, the faults that are known to survive, which are not.
        """
        self.modules = modules
        self.sample, self.seed = sample, seed
        self.known, self.explained = known or {}, explained or {}
        self.outcomes: dict[str, dict[str, str]] = {}

    def pytest_sessionstart(self) -> None:
        """Have the same made-up cases for each fault, and no time spent to make a failing one small."""
        import hypothesis  # only now: pytest wants to be the first to import it

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "faults", derandomize=True, database=None, deadline=None, phases=phases, print_blob=False
        )
        hypothesis.settings.load_profile("faults")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all, instead of each test once."""
        files = {str(Path(module).resolve()) for module in self.modules}
        reached = _in_child(lambda: _reached_lines(session.items, files))
        if not isinstance(reached, dict):
            raise pytest.UsageError(f"the tests of {', '.join(self.modules)} do not pass without a fault: {reached}")
        for module in self.modules:
            self._try_all(session, Path(module), reached)
        return True

    def _try_all(self, session: pytest.Session, path: Path, reached: Reached) -> None:
        tree = ast.parse(path.read_text())
        outcomes = self.outcomes[str(path)] = {}
        known = self.known.get(str(path), {})
        for mutant in _some(mutants_of(tree), self.sample, self.seed):
            before = known.get(mutant.name)
            if before is not None and (before == FOUND or mutant.name in self.explained.get(str(path), {})):
                outcomes[mutant.name] = before
                continue
            outcome = outcomes[mutant.name] = self._outcome(session, mutant, tree, path, reached)
            if outcome != FOUND:
                print(f"  {outcome}: {path}: {mutant.name}", flush=True)
        found = sum(outcome == FOUND for outcome in outcomes.values())
        print(f"{path}: {found} of {len(outcomes)} found", flush=True)

    def _outcome(self, session: pytest.Session, mutant: Mutant, tree: ast.Module, path: Path, reached: Reached) -> str:
        if not mutant.in_function:
            return ELSEWHERE
        lines = {(str(path.resolve()), line) for line in mutant.lines}
        items = [item for item in session.items if not reached[item.nodeid][1].isdisjoint(lines)]
        if not items:
            return UNREACHED
        items.sort(key=lambda item: reached[item.nodeid][0])
        expected = sum(reached[item.nodeid][0] for item in items)
        loaded = _loaded(path)

        def check() -> str:
            try:
                put_into(loaded, compile(tree, str(path), "exec"))
            except ValueError:  # without its `super()`, a function has other free variables
                return ELSEWHERE
            return FOUND if _first_failure(items) else SURVIVED

        answer = _in_child(check, seconds=2 + 3 * expected)  # tracing made it longer already
        if isinstance(answer, Broken):
            raise pytest.UsageError(f"{mutant.name} could not be tried: {answer}")
        return answer or FOUND


def _some(mutants: Iterator[Mutant], sample: int | None, seed: int) -> Iterator[Mutant]:
    chance = random.Random(seed)
    return (mutant for mutant in mutants if sample is None or chance.randrange(100) < sample)


def _loaded(path: Path) -> ModuleType:
    return sys.modules[".".join(path.with_suffix("").parts)]


def _reached_lines(items: list[pytest.Item], files: set[str]) -> Reached | str:
    """What each test reaches of these files; or the one that fails, and how."""
    measured: Reached = {}
    for place, item in enumerate(items):
        lines: set[tuple[str, int]] = set()

        def trace(frame: FrameType, _event: str, _argument: object, lines: set[tuple[str, int]] = lines) -> Any:
            if frame.f_code.co_filename not in files:
                return None
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            return trace

        start = time.process_time()
        threading.settrace(trace)
        sys.settrace(trace)
        failed = _fails(item, items[place + 1] if place + 1 < len(items) else None)
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        if failed:
            return f"{item.nodeid}: {failed}"
        measured[item.nodeid] = time.process_time() - start, lines
    return measured


def _first_failure(items: list[pytest.Item]) -> str:
    for place, item in enumerate(items):
        if _fails(item, items[place + 1] if place + 1 < len(items) else None):
            return item.nodeid
    return ""


def _fails(item: pytest.Item, following: pytest.Item | None) -> str:
    reports = runtestprotocol(item, nextitem=following, log=False)
    return next((str(report.longrepr) for report in reports if report.failed), "")


def _in_child(action: Callable[[], Any], seconds: float | None = None) -> Any:
    """What an action answers in a fork of this process; None if that ended in another way.

    Args:
        action: what to do.
        seconds: of the processor's time, after which the kernel ends it. One that waits is ended after some minutes.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
        try:
            with os.fdopen(writing, "wb") as pipe:
                try:
                    answer = action()
                except BaseException:  # noqa: BLE001 -- it is told in the parent
                    answer = Broken(traceback.format_exc())
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    answer = _answer(reading, child, None if seconds is None else _LONGEST_WAIT + 5 * seconds)
    os.waitpid(child, 0)
    return answer


def _answer(reading: int, child: int, seconds: float | None) -> Any:
    def end(*_: object) -> None:
        _end_group(child)

    before = signal.signal(signal.SIGALRM, end)
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with os.fdopen(reading, "rb") as pipe:
            return pickle.load(pipe)
    except EOFError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _end_group(child)


def _end_group(child: int) -> None:
    """End a child that is not waited for yet, and what it started and left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


# ---- putting a fault into a module that is loaded ----------------------------------------------------------------


def put_into(module: ModuleType, code: CodeType) -> None:
    """Give every function of a loaded module the body that it has in this other code of it."""
    bodies = dict(_bodies(code, ""))
    for function in _functions(module, module.__dict__):
        function.__code__ = bodies[function.__qualname__]


def _bodies(code: CodeType, prefix: str) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and not constant.co_name.startswith("<"):
            yield prefix + constant.co_name, constant
            yield from _bodies(constant, f"{prefix}{constant.co_name}.")


def _functions(module: ModuleType, names: dict[str, Any]) -> Iterator[FunctionType]:
    for value in list(names.values()):
        inner = getattr(value, "__func__", value)
        inner = getattr(inner, "fget", inner)
        if isinstance(inner, type) and inner.__module__ == module.__name__:
            yield from _functions(module, dict(inner.__dict__))
        elif (
            isinstance(inner, FunctionType)
            and inner.__code__.co_filename == module.__file__
            and "<" not in inner.__qualname__
        ):
            yield inner
