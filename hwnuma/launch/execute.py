"""Become the command: find the program, and replace this process by it, with all else as it was inherited."""

from __future__ import annotations

import _signal  # what `signal` is made of: that makes enumerations first, in half a millisecond of each worker's start
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

# What an interpreter ignores from its start on (CPython, Python/pylifecycle.c). Whether they were ignored before that
# cannot be known afterwards. A parent does not tell either: a launcher that is written in Python ignores them itself
# and starts its workers without. So they get back their default actions, as they do in subprocess (restore_signals).
_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)

# What it sets LC_CTYPE to in its own environment where it is started in the C locale (PEP 538).
_COERCED_LOCALES = ("C.UTF-8", "C.utf8", "UTF-8")


def resolve_command(command: Sequence[str]) -> str:
    """Find the program that a command names, as the shell does.

    Raises:
        FileNotFoundError: there is none (a shell's 127).
        PermissionError: it cannot be executed (a shell's 126).
    """
    name = command[0]
    # shutil.which does the same and imports compression for archives; os.get_exec_path imports warnings.
    folders = [""] if os.sep in name else os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [os.path.join(folder, name) for folder in folders]  # noqa: PTH118 -- pathlib costs more than the search
    for path in paths:
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112
            return path
    if any(map(os.path.exists, paths)):
        raise PermissionError(f"{name} is not an executable file: check its permissions")
    raise FileNotFoundError(f"{name}: command not found")


def become(program: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by the command, from the main thread.

    The process id, the CPU affinity and the memory policy stay, and so does all else that a process inherits (signals,
    mask, limits, descriptors, …), but for what the interpreter has changed: that is put back.

    Raises:
        OSError: the kernel cannot run the program.
    """
    inherited = _without_coerced_locale(os.environ if environment is None else environment)
    ignored = [number for number in _IGNORED_BY_PYTHON if _signal.getsignal(number) == _signal.SIG_IGN]
    for number in ignored:
        _signal.signal(number, _signal.SIG_DFL)
    try:
        # To become the command, with no shell between, is the purpose.
        os.execve(program, list(command), inherited)  # noqa: S606
    finally:  # it failed, and this is a Python process still
        for number in ignored:
            _signal.signal(number, _signal.SIG_IGN)


def _without_coerced_locale(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the LC_CTYPE that the interpreter has put in, which the command would not have had."""
    kept = dict(environment)
    if kept.get("LC_CTYPE") in _COERCED_LOCALES and not _was_started_with("LC_CTYPE"):
        del kept["LC_CTYPE"]
    return kept


def _was_started_with(name: str) -> bool:
    try:
        with open("/proc/self/environ", "rb") as initial:  # noqa: PTH123 -- pathlib costs more than the reading
            return f"\0{name}=".encode() in b"\0" + initial.read()
    except OSError:
        return True
