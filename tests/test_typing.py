"""The public API as type checkers read it: mypy and pyright, on user code that is right and that is wrong."""

from __future__ import annotations

import enum
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from hwnuma.model import forms, options
from tests.conftest import ROOT
from tests.typing import accepted

USER_CODE = ROOT / "tests" / "typing"
MYPY = ("mypy", "--config-file", str(USER_CODE / "mypy.ini"))
PYRIGHT = ("basedpyright", "--outputjson", "--project")


def checker(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a type checker of this environment, which finds hwnuma in the source tree."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def pyright(project: Path) -> list[tuple[str, int]]:
    """The errors that pyright finds, as file and line."""
    found = json.loads(checker(*PYRIGHT, project).stdout)
    assert found["summary"]["filesAnalyzed"] > 0
    return [
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in found["generalDiagnostics"]
        if each["severity"] == "error"
    ]


@pytest.fixture
def unmarked(tmp_path: Path) -> tuple[Path, list[int]]:
    """The wrong user code without the marks that say that it is, and the lines that they were on."""
    shutil.copy(USER_CODE / "pyrightconfig.json", tmp_path)
    lines = (USER_CODE / "refused.py").read_text().splitlines()
    (tmp_path / "refused.py").write_text("\n".join(line.partition("  # type: ignore")[0] for line in lines) + "\n")
    marked = [number for number, line in enumerate(lines, 1) if "  # type: ignore" in line]
    assert len(marked) > 20
    return tmp_path, marked


@pytest.mark.types
def test_mypy_accepts_right_user_code_and_refuses_wrong() -> None:
    """Each wrong line carries a mark of the error that it is, and a mark that is not needed would be an error."""
    done = checker(*MYPY, USER_CODE)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 3 source files\n"), done.stderr


@pytest.mark.types
def test_mypy_refuses_every_wrong_line(unmarked: tuple[Path, list[int]]) -> None:
    """Without the marks, just these lines are errors."""
    folder, marked = unmarked
    done = checker(*MYPY, "refused.py", folder=folder)
    assert sorted(map(int, re.findall(r"^refused\.py:(\d+): error: ", done.stdout, re.MULTILINE))) == marked


@pytest.mark.types
def test_pyright_accepts_right_user_code_and_refuses_wrong() -> None:
    """In its strict mode, with marks of its own; a mark that is not needed would be an error."""
    assert pyright(USER_CODE) == []


@pytest.mark.types
def test_pyright_refuses_every_wrong_line(unmarked: tuple[Path, list[int]]) -> None:
    """Without the marks, just these lines are errors."""
    folder, marked = unmarked
    assert sorted({line for _, line in pyright(folder)}) == marked


@pytest.mark.types
def test_the_types_of_the_public_interface_are_known() -> None:
    """Of all symbols that can be imported, at least 99 % have a type that every checker reads alike."""
    arguments = ("--verifytypes", "hwnuma", "--ignoreexternal", "--outputjson", "--pythonpath", sys.executable)
    report = json.loads(checker("basedpyright", *arguments).stdout)["typeCompleteness"]
    worst = [symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert report["exportedSymbolCounts"]["withKnownType"] > 500
    assert report["completenessScore"] >= 0.99, worst


def test_the_user_code_that_checkers_accept_runs() -> None:
    """What is declared there is so."""
    accepted.main()


@pytest.mark.parametrize("name", [name for name in vars(forms) if name.endswith("Name")])
def test_the_names_that_checkers_know_are_those_of_the_members(name: str) -> None:
    """Each Literal lists its enumeration's values, in their order."""
    members: type[enum.Enum] = getattr(options, name.removesuffix("Name"))
    assert typing.get_args(getattr(forms, name)) == tuple(member.value for member in members)
