"""The machine and the versions that a run was made with: a figure without them says little."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.peer import python_with
from benchmarks.settings import REPOSITORY, Settings, Skipped, console_script, environment, has_import_hook, installed

_VERSION = re.compile(r"\d+(?:\.\d+)+")


def describe(settings: Settings) -> dict[str, str]:
    """What there is to know, by name; no path of this machine, since the page is published."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} CPUs to use; load {load}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "hwnuma": f"{installed().version}{_commit()}; {_way_in()}",
        "libhwloc": _first_version([console_script(), "--version"], r"libhwloc\D*"),
        "torch": _peer_version("torch", settings),
        "pyhwloc": _peer_version("pyhwloc", settings),
        "numactl": "there, of no version that it tells" if shutil.which("numactl") else "not installed",
        "hwloc-bind": _first_version(["hwloc-bind", "--version"]),
        "rounds": str(settings.rounds),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _commit() -> str:
    git = ("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=8")
    told = subprocess.run(git, capture_output=True, text=True, check=False) if shutil.which("git") else None
    return f" ({told.stdout.strip()})" if told and told.returncode == 0 else ""


def _peer_version(package: str, settings: Settings) -> str:
    try:
        python = python_with(package, settings)
    except Skipped:
        return "not installed"
    code = f"import platform, importlib.metadata as m; print(m.version({package!r}), platform.python_version())"
    return " on Python ".join(_told([python, "-I", "-c", code]).split())


def _way_in() -> str:
    """What of the environment makes a start slower and is not hwnuma's."""
    if has_import_hook():
        return "installed editable with an import hook, which slows every Python here, bare ones too"
    return "nothing of the installation slows a start"


def _told(command: list[str]) -> str:
    try:
        told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return told.stdout + told.stderr


def _first_version(command: list[str], before: str = "") -> str:
    found = re.search(before + f"({_VERSION.pattern})", _told(command))
    return found[1] if found else "not installed"
