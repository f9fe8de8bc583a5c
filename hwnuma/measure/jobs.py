"""A user's own job, started in one mode: all its ranks from their start to their end, timed, looked at, and cleared up.

How a mode is handed over depends on the command. A word ``{}`` in it is where ``hwnuma exec --mode MODE --`` goes, for
any launcher; torchrun gets ``PYTHON_EXEC=hwnuma-python``; any other command is started here, once a rank.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from hwnuma.errors import JobError, OptionError
from hwnuma.launch.execute import resolve_command
from hwnuma.measure.job_looks import Found, Looks
from hwnuma.measure.process_tree import ProcessTree
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

    from hwnuma.measure.job_looks import Yardstick

NO_MODE = "none"
"""The mode in which nothing is bound."""

_PLACE_FOR_HWNUMA = "{}"
_TORCHRUN = "torchrun"
_TORCHRUN_MODULES = ("torch.distributed.run", "torch.distributed.launch")

# What hwnuma, if this process was itself started by it, has left in the environment.
_LEFT = ("HWNUMA_BOUND_CPUS", "HWNUMA_BOUND_NODES", "HWNUMA_BOUND_MEMORY", "HWNUMA_CPUS", "HWNUMA_NODES")

# Of what a failed command wrote to standard error, the end says why.
_LAST_LINES, _LAST_BYTES = 20, 1 << 16


class JobCommand(Value):
    """A command to run in several modes.

    Attributes:
        words: the command.
        ranks: how many times it is started at once; None where it is a launcher and starts its ranks itself.
    """

    words: tuple[str, ...]
    ranks: int | None

    @classmethod
    def of(cls, words: Sequence[str], ranks: int | None) -> JobCommand:
        """A command as somebody gave it.

        Raises:
            OptionError: it is none, or it binds by itself, or `ranks` do not go with it.
        """
        if not words:
            raise OptionError("no command is given to compare modes with: hwnuma bench --compare none,node -- COMMAND…")
        command = cls(tuple(words), None)
        if not command.is_launcher:
            return cls(tuple(words), 1 if ranks is None else ranks)
        if ranks is not None:
            raise OptionError(
                f"--ranks {ranks} does not go with {_the_launcher(words)}, which starts the ranks itself: tell it how "
                "many"
            )
        if any("hwnuma" in word for word in words):
            raise OptionError(
                "the command binds its ranks by hwnuma itself, so that no mode can be compared with none: leave that "
                "out, --compare adds it"
            )
        return command

    @property
    def is_launcher(self) -> bool:
        """Whether it starts the ranks itself."""
        return _PLACE_FOR_HWNUMA in self.words or self._is_torchrun

    @property
    def _is_torchrun(self) -> bool:
        pairs = zip(self.words, self.words[1:], strict=False)
        as_module = any(flag == "-m" and module in _TORCHRUN_MODULES for flag, module in pairs)
        return as_module or Path(self.words[0]).name == _TORCHRUN

    def starts(self, mode: str, environment: Mapping[str, str]) -> list[tuple[list[str], dict[str, str]]]:
        """What to start at once to run it in a mode: each with its whole environment.

        Args:
            mode: `NO_MODE`, or an affinity mode's value.
            environment: of whoever asks.
        """
        own = {name: value for name, value in environment.items() if name not in (*_LEFT, "HWNUMA_MODE")}
        words = list(self.words)
        if _PLACE_FOR_HWNUMA in words:
            place = words.index(_PLACE_FOR_HWNUMA)
            words[place : place + 1] = _exec_words(mode)
        elif self._is_torchrun and mode != NO_MODE:
            own |= {"PYTHON_EXEC": _program("hwnuma-python"), "HWNUMA_MODE": mode}
        elif self.ranks is not None:
            bound = [*_exec_words(mode), *words]
            told = _told_to_all(self.ranks)
            return [(bound, {**own, **told, "LOCAL_RANK": str(rank), "RANK": str(rank)}) for rank in range(self.ranks)]
        return [(words, own)]

    def check(self) -> None:
        """See that there is such a program.

        Raises:
            OptionError: there is none, or it cannot be executed.
        """
        try:
            resolve_command(self.words)
        except OSError as error:
            raise OptionError(str(error)) from None


def _the_launcher(words: Sequence[str]) -> str:
    return f"a command with {_PLACE_FOR_HWNUMA}" if _PLACE_FOR_HWNUMA in words else _TORCHRUN


def _exec_words(mode: str) -> list[str]:
    return [] if mode == NO_MODE else [_program("hwnuma"), "exec", "--mode", mode, "--"]


def _program(name: str) -> str:
    """The path of one of hwnuma's programs, as it was installed for this Python.

    Raises:
        OptionError: it was not.
    """
    beside = Path(sysconfig.get_path("scripts"), name)
    here = Path(sys.argv[0]).resolve()
    found = beside if beside.exists() else here.with_name(name)
    if not found.exists():
        raise OptionError(f"the program {name} is not beside this Python ({beside}): install hwnuma with pip")
    return str(found)


def _told_to_all(ranks: int) -> dict[str, str]:
    """What torchrun tells every rank of one machine, with a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    number = str(ranks)
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "GROUP_RANK": "0", **master}


class Run(Value):
    """One run of a job in one mode.

    Attributes:
        mode: "none", or an affinity mode's value.
        seconds: from the start of its first rank to the end of its last one.
        found: what was seen of it meanwhile.
        left: how many processes it had left running, which were ended.
    """

    mode: str
    seconds: float
    found: Found
    left: int = 0


def run_job(command: JobCommand, mode: str, environment: Mapping[str, str], yardstick: Yardstick | None = None) -> Run:
    """Run a job in one mode, and leave nothing of it running, whatever happens.

    Args:
        command: the job's.
        mode: "none", or an affinity mode's value.
        environment: of whoever asks.
        yardstick: what unbound ranks are held against; None: nothing.

    Raises:
        JobError: a rank failed; the others were ended.
        OptionError: the command cannot be started.
    """
    starts = command.starts(mode, environment)
    tree, looks = ProcessTree(), Looks(yardstick if mode == NO_MODE else None)
    ranks: list[_Rank] = []
    changed: SimpleQueue[None] = SimpleQueue()
    try:
        began = time.monotonic()
        for number, (words, variables) in enumerate(starts):
            ranks.append(_Rank(number if command.ranks is not None else None, words, variables, changed))
        _wait(ranks, tree, looks, changed)
        failed = [rank for rank in ranks if rank.status]
        if failed:
            first = min(failed, key=lambda rank: rank.ended)
            raise JobError(f"mode {mode}: {first.failure()}", first.last_lines())
        left = tree.processes()
        return Run(mode, max(rank.ended for rank in ranks) - began, looks.found(), len(left))
    finally:
        _end_all(tree, ranks)


def _end_all(tree: ProcessTree, ranks: Sequence[_Rank]) -> None:
    """End what runs still, to the end of it: an interrupt that comes meanwhile is raised afterwards."""
    interrupt = None
    while True:
        try:
            tree.end(rank.pid for rank in ranks)
            for rank in ranks:
                rank.close()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _wait(ranks: Sequence[_Rank], tree: ProcessTree, looks: Looks, changed: SimpleQueue[None]) -> None:
    """Look until all ranks have ended, or one has failed."""
    while any(rank.status is None for rank in ranks) and not any(rank.status for rank in ranks):
        pause = looks.look(tree.processes())
        # Not an Event: a signal in the midst of its methods, which are Python's, leaves its lock in disorder.
        with suppress(Empty):
            changed.get(timeout=pause)
            while True:  # ranks that have ended together are looked at once
                changed.get_nowait()


class _Rank:
    """A process of the job that was started here; a thread waits for its end, so that the moment is known."""

    def __init__(
        self, number: int | None, words: Sequence[str], environment: Mapping[str, str], changed: SimpleQueue[None]
    ) -> None:
        self._number = number
        self.status: int | None = None
        self.ended = 0.0
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- `close` closes it
        try:
            # A session of its own: Ctrl-C is for this process, which ends the whole job in order.
            self._process = subprocess.Popen(  # noqa: S603 -- to run it is what was asked for
                list(words),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise OptionError(f"{words[0]} cannot be started: {error.strerror}") from None
        self.pid = self._process.pid
        self._waiting = threading.Thread(target=self._wait, args=(changed,), name="hwnuma-waits", daemon=True)
        self._waiting.start()

    def _wait(self, changed: SimpleQueue[None]) -> None:
        status = self._process.wait()
        self.ended = time.monotonic()
        self.status = status
        changed.put(None)

    def failure(self) -> str:
        """Say how it failed, a clause."""
        status = self.status or 0
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        who = "the command" if self._number is None else f"local rank {self._number}"
        return f"{who} failed with {how}"

    def last_lines(self) -> tuple[str, ...]:
        """The end of what it wrote to standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _LAST_BYTES))
        lines = self._errors.read().decode(errors="replace").rstrip().split("\n")
        return tuple(line for line in lines[-_LAST_LINES:] if line)

    def close(self) -> None:
        """Let go of it; it has ended."""
        self._waiting.join()
        self._errors.close()
