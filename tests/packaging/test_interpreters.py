"""The one wheel, on every Python that can be found here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, new_environment, run

_ASK = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
_MINORS = range(10, 20)


def find_interpreters() -> dict[str, Path]:
    """Find CPythons of 3.10 or later: this one, pyenv's, and those on PATH; the first of each version counts."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = [shutil.which(f"python3.{minor}") for minor in _MINORS]
    found: dict[str, Path] = {}
    for candidate in [Path(sys.executable), *sorted(pyenv.glob("*/bin/python3")), *map(Path, filter(None, on_path))]:
        answer = subprocess.run([candidate, "-I", "-c", _ASK], capture_output=True, text=True, check=False)
        version, _, is_free_threaded = answer.stdout.strip().partition(" ")
        if version in {f"3.{minor}" for minor in _MINORS} and is_free_threaded == "False":
            found.setdefault(version, candidate)
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(".")[2])))


INTERPRETERS = find_interpreters()


def test_interpreters_are_found() -> None:
    """At least the Python that the project is developed with, 3.11, is among those that the wheel is tried on."""
    print("the wheel is tried on Python", ", ".join(INTERPRETERS))
    assert "3.11" in INTERPRETERS


@pytest.mark.parametrize("version", INTERPRETERS)
def test_wheel_on_python(version: str, wheel: Path, tmp_path: Path) -> None:
    """The wheel installs, plans, pickles and binds on this Python, with the libhwloc that it carries."""
    python = new_environment(tmp_path / "venv", wheel, python=INTERPRETERS[version])
    topology = ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml"
    said = run([python, "-I", Path(__file__).with_name("smoke.py"), topology, "2.11"], cwd=tmp_path).stdout
    assert said.startswith(f"Python {version}.")
