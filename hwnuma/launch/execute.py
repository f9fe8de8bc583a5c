"""Become the command: find the program, and replace this process by it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn


def resolve_command(command: Sequence[str]) -> str:
    """Find the program that a command names, as the shell does.

    Raises:
        FileNotFoundError: there is none (a shell's 127).
        PermissionError: it cannot be executed (a shell's 126).
    """
    name = command[0]
    found = shutil.which(name)
    if found is not None:
        return found
    there = [Path(name)] if os.sep in name else [Path(folder, name) for folder in os.get_exec_path()]
    if any(path.exists() for path in there):
        raise PermissionError(f"{name} is not an executable file: check its permissions")
    raise FileNotFoundError(f"{name}: command not found")


def become(program: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by the command; the process id, the CPU affinity and the memory policy stay."""
    # To become the command, with no shell between, is the purpose.
    os.execve(program, list(command), dict(os.environ if environment is None else environment))  # noqa: S606
