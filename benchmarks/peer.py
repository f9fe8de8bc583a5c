"""The near end of `benchmarks.peers`: start a peer, and let it take its turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from benchmarks.settings import REPOSITORY, Settings, Skipped, environment
from benchmarks.timing import CommandFailedError, Timed


class Peer:
    """A running peer."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        """Wait until it says what it is."""
        self._process = process
        self._name = name
        about = json.loads(self._line())
        self.version: str = about["version"]
        self._works: list[str] = about["works"]

    def work(self, name: str) -> Timed:
        """One of the peer's works, to be timed like any other."""
        if name not in self._works:
            raise Skipped(f"{self._name} {self.version} has no {name}")
        return lambda: self._ask(name)

    def _ask(self, name: str) -> float:
        assert self._process.stdin is not None  # a pipe, as it was started
        with suppress(BrokenPipeError):  # it has ended, which its missing answer tells
            os.write(self._process.stdin.fileno(), f"{name}\n".encode())
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None  # likewise
        line = self._process.stdout.readline()
        if not line:
            raise CommandFailedError(f"{self._name} has ended with status {self._process.wait()}, see above")
        return line


@contextmanager
def peer(
    package: str, module: str, arguments: Sequence[str], settings: Settings, way: Sequence[str] = ()
) -> Iterator[Peer]:
    """A peer for the length of a with block.

    Args:
        package: what it measures, which an interpreter has to have.
        module: of `benchmarks.peers`.
        arguments: its own.
        settings: which interpreters there are.
        way: a command to start it under.

    Raises:
        Skipped: no interpreter has the package.
    """
    command = [*way, python_with(package, settings), "-m", f"benchmarks.peers.{module}", *arguments]
    quiet = environment(PYTHONWARNINGS="ignore")
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=quiet, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Peer(process, package)
        finally:
            if process.stdin is not None:
                process.stdin.close()  # the end of its work


def python_with(package: str, settings: Settings) -> str:
    """The first interpreter that has a package: this one, or one of the settings'.

    Raises:
        Skipped: none has it.
    """
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    pythons = (sys.executable, *settings.peer_pythons)
    for python in pythons:
        if subprocess.run([python, "-I", "-c", look], check=False).returncode == 0:
            return python
    others = len(settings.peer_pythons)
    raise Skipped(f"{package} is installed neither for this Python nor for {others} named with --peer-python")
