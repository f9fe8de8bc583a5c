"""How to measure, and with which programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from benchmarks.timing import Figure

REPOSITORY = Path(__file__).resolve().parent.parent
TOPOLOGIES = REPOSITORY / "fixtures" / "topologies"
DGX_NAME = "dgx_a100_nps4"
DGX = TOPOLOGIES / f"{DGX_NAME}.xml"

BARE_PYTHON = (sys.executable, "-I", "-c", "pass")


class Skipped(Exception):  # noqa: N818 -- it is no error: the row says so instead of a figure
    """A row, or one line of it, cannot be measured here; the message says why."""


Measured = dict[str, Figure | Skipped]
"""What a row finds: for each of its lines a figure, or why there is none."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        rounds: how often each command or call is timed.
        peer_pythons: other interpreters, in which a peer may be installed that cannot be in this one.
    """

    rounds: int = 30
    peer_pythons: tuple[str, ...] = ()


QUICK_ROUNDS = 7


def environment(**more: str) -> dict[str, str]:
    """The environment of a command that is timed: what any needs, and nothing that a launcher may have set."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **more}


def console_script(name: str = "hwnuma") -> str:
    """The path of a console script of this environment, as a user starts it.

    Raises:
        Skipped: it is not there.
    """
    script = Path(sysconfig.get_path("scripts")) / name
    if not script.is_file():
        raise Skipped(f"{name} is not installed beside {sys.executable}: pip install .")
    return str(script)


def installed() -> Distribution:
    """What this Python has installed as hwnuma, whatever lies in the current folder.

    Raises:
        Skipped: nothing.
    """
    for found in distributions(name="hwnuma", path=[sysconfig.get_path("platlib")]):
        return found
    raise Skipped(f"hwnuma is not installed for {sys.executable}: pip install .")


def has_import_hook() -> bool:
    """Whether hwnuma is installed editable with an import hook, which slows every start of this Python."""
    show = (sys.executable, "-I", "-c", "import sys; print(sys.meta_path)")
    return "__editable__" in subprocess.run(show, capture_output=True, text=True, check=True).stdout


def tool(name: str) -> str:
    """The path of a program.

    Raises:
        Skipped: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found
