"""One process that feeds inputs to one reader, and notes what comes of each where its parent sees it even if it dies."""

from __future__ import annotations

import mmap
import resource
import struct
import sys
import time
from pathlib import Path

# How long a worker goes on, of which the first that is reached counts; 0 for no end.
Bounds = tuple[int, float]  # executions, seconds

# Which inputs of a target are a worker's, where several share them: one of so many, such as (0, 2) for the even ones.
Part = tuple[int, int]

KINDS = ("read", "refused", "signals", "bare exceptions", "over time", "over memory", "broken promises")
_OF_WORD = {"bare exception": "bare exceptions", "broken promise": "broken promises"}

MOST_BYTES = 1 << 30  # of memory that an input may take
_MOST_INPUT = 16 << 20
_COUNTS = struct.Struct(f"={len(KINDS)}QQQ")  # of each kind; the next input's number; the size of the last input


class Notes:
    """What a worker has done, in a file that it shares with its parent: counts, and the input that it has begun."""

    def __init__(self, path: Path) -> None:
        """Make the file, or look into that of a worker."""
        with path.open("a+b") as file:
            file.truncate(_COUNTS.size + _MOST_INPUT)
            self._shared = mmap.mmap(file.fileno(), 0)
        *counts, self.next, _ = _COUNTS.unpack_from(self._shared)
        self.counts = dict(zip(KINDS, counts, strict=True))

    def begin(self, content: bytes) -> None:
        """Note an input ahead of reading it."""
        size = min(len(content), _MOST_INPUT)
        self._shared[_COUNTS.size : _COUNTS.size + size] = content[:size]
        _COUNTS.pack_into(self._shared, 0, *self.counts.values(), self.next, size)

    def end(self, kind: str) -> None:
        """Note what came of it."""
        self.counts[kind] += 1
        self.next += 1
        _COUNTS.pack_into(self._shared, 0, *self.counts.values(), self.next, 0)

    @property
    def unfinished(self) -> bytes:
        """The input that was begun and not ended, or nothing."""
        size = _COUNTS.unpack_from(self._shared)[-1]
        return self._shared[_COUNTS.size : _COUNTS.size + size]


def _largest_memory() -> int:
    """The largest resident memory of this process and of those that it waited for, in bytes."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) * 1024


def _seconds() -> float:
    """The CPU time of this process and of those that it waited for: on a busy machine a clock's says nothing."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def number_of(place: int, part: Part) -> int:
    """The number, among all of a target, of the input at a place among those of a part."""
    first, parts = part
    return first + parts * place


class Worker:
    """Feeds a target, and says a line of each input that goes wrong."""

    def __init__(self, target_name: str, notes: Path, part: Part = (0, 1)) -> None:
        from tests.fuzz.targets import TARGETS  # only now: Atheris is to see hwnuma's imports

        self.target = TARGETS[target_name]
        self.notes = Notes(notes)
        self._part = part
        self._folder = notes.parent

    @property
    def number(self) -> int:
        """That of the next input."""
        return number_of(self.notes.next, self._part)

    def feed(self, content: bytes) -> bool:
        """Let the target read an input; whether this process is still to be used."""
        self.notes.begin(content)
        started = _seconds()
        word = self.target.check(content)
        seconds = _seconds() - started
        kind = _OF_WORD.get(word.partition(":")[0], word) if word in KINDS[:2] else _kind_of(word)
        if seconds > self.target.seconds:
            kind, word = "over time", f"{seconds:.1f} s, then {word}"
        memory = _largest_memory()
        if memory > MOST_BYTES:
            kind, word = "over memory", f"{memory >> 20} MB, then {word}"
        if kind not in KINDS[:2]:
            say_wrong(self.target.name, self.number, kind, word, content, self._folder)
        self.notes.end(kind)
        return kind != "over memory"  # a process's largest never shrinks


def _kind_of(word: str) -> str:
    return next(kind for beginning, kind in _OF_WORD.items() if word.startswith(beginning))


def say_wrong(target: str, number: int, kind: str, word: str, content: bytes, folder: Path) -> None:
    """Keep an input that went wrong, and say where."""
    kept = folder / f"{target}-{number}"
    kept.write_bytes(content)
    print(f"{target} {number}: {kind}: {word[:500]!r}; the input is {kept}", flush=True)


def loop(worker: Worker, seed: int, bounds: Bounds) -> None:
    """Feed the inputs of a seed, by their numbers."""
    last, ends = bounds[0], time.monotonic() + bounds[1]
    while (not last or worker.notes.next < last) and (not bounds[1] or time.monotonic() < ends):
        if not worker.feed(worker.target.input(seed, worker.number)):
            return


def guided(target_name: str, notes: Path, part: Part, seed: int, bounds: Bounds) -> None:
    """Feed what Atheris (libFuzzer) makes of the seeds, led by which lines of hwnuma an input reaches."""
    import random

    import atheris

    with atheris.instrument_imports(include=["hwnuma"]):
        worker = Worker(target_name, notes, part)
    from tests.fuzz.mutations import mutate

    corpus = notes.with_suffix(".seeds")
    corpus.mkdir(exist_ok=True)
    for number, content in enumerate(worker.target.inputs()):
        (corpus / f"seed{number:04}").write_bytes(content)
    last, ends = bounds[0], time.monotonic() + bounds[1]

    def feed(content: bytes) -> None:
        useful = worker.feed(content)
        if not useful or (last and worker.notes.next >= last) or (bounds[1] and time.monotonic() >= ends):
            sys.stdout.flush()
            os_exit(0)

    def mutator(content: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(content, most))
        return mutate(content, worker.target.mutations, chance)[:most]

    options = [
        f"-seed={seed + worker.number}",
        "-max_len=1000000",
        "-timeout=60",
        "-rss_limit_mb=0",
        "-verbosity=0",
    ]
    atheris.Setup(["fuzz", *options, f"-artifact_prefix={notes.parent}/", str(corpus)], feed, custom_mutator=mutator)
    atheris.Fuzz()


def os_exit(status: int) -> None:
    """End without libFuzzer's report, which would take it for a crash."""
    import os

    os._exit(status)


def main() -> None:
    """Be the worker that ``python -m tests.fuzz`` starts."""
    engine, target_name, notes, first, parts, seed, executions, seconds = sys.argv[1:]
    part, bounds = (int(first), int(parts)), (int(executions), float(seconds))
    if engine == "atheris":
        guided(target_name, Path(notes), part, int(seed), bounds)
    else:
        loop(Worker(target_name, Path(notes), part), int(seed), bounds)


if __name__ == "__main__":
    main()
