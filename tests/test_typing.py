"""The public API as type checkers read it: mypy and pyright, on user code that is right and that is wrong."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from hwnuma.model import forms, options
from tests.conftest import ROOT
from tests.typing import accepted

USER_CODE = Path("tests", "typing")


def checker(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a type checker of this environment in the source tree."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.types
def test_mypy_accepts_right_user_code_and_refuses_wrong() -> None:
    """Each wrong line carries an ignore of the error that it is, and one that is not needed would be an error."""
    done = checker("mypy", "--strict", str(USER_CODE))
    assert (done.returncode, done.stdout.splitlines()[-1][:8]) == (0, "Success:"), done.stdout + done.stderr


@pytest.mark.types
def test_pyright_accepts_right_user_code_and_refuses_wrong() -> None:
    """In its strict mode, with ignores of its own, and one that is not needed is an error."""
    done = checker("basedpyright", "--project", str(USER_CODE))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 errors, 0 warnings, 0 notes"), done.stdout


@pytest.mark.types
def test_the_types_of_the_public_interface_are_known() -> None:
    """Of all symbols that can be imported, at least 99 % have a type that every checker reads alike."""
    arguments = ("--verifytypes", "hwnuma", "--ignoreexternal", "--outputjson", "--pythonpath", sys.executable)
    report = json.loads(checker("basedpyright", *arguments, PYTHONPATH=str(ROOT)).stdout)["typeCompleteness"]
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
