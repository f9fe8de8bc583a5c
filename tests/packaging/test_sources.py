"""From the sources: a source distribution, an isolated build, and an editable installation, none of which needs git."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, new_environment, pip, run

TOPOLOGY = ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml"


def test_source_distribution_is_complete(sdist: Path) -> None:
    """It has what a build and the tests need, and nothing that a build made."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "NOTICE",
        "setup.py",
        "pyproject.toml",
        "hwnuma/py.typed",
        "cffi_build/backend.py",
        "cffi_build/declarations.h",
        "cffi_build/shims.h",
        "cffi_build/pciaccess_absent.c",
        "fixtures/topologies/dgx_a100_nps4.xml",
        "tests/conftest.py",
        "tests/packaging/smoke.py",
    } <= names
    tracked = run(["git", "ls-files", "hwnuma", "cffi_build", "fixtures", "tests"], cwd=ROOT).stdout.splitlines()
    assert not [name for name in tracked if (ROOT / name).is_file() and name not in names]
    assert not [name for name in names if ".so" in name or "__pycache__" in name]


def test_install_from_source_distribution(sdist: Path, tmp_path: Path, without_git: Path) -> None:
    """`pip install` of it, isolated as pip does by default, gives a working hwnuma without git."""
    python = new_environment(tmp_path / "venv")
    pip("install", "--quiet", sdist, python=python, PATH=without_git)
    print(run([python, "-I", Path(__file__).with_name("smoke.py"), TOPOLOGY, "2.11"], cwd=tmp_path).stdout, end="")


def test_editable_installation(builder: Path, source: Path, tmp_path: Path, without_git: Path) -> None:
    """`pip install -e .` works, and imports what is in the tree, with the libhwloc that is carried, and by no hook."""
    tree = Path(shutil.copytree(source, tmp_path / "tree"))
    pip("install", "--quiet", "--no-build-isolation", "--editable", tree, python=builder, PATH=without_git)
    try:
        said = run([builder, "-I", Path(__file__).with_name("smoke.py"), TOPOLOGY, "2.11"], cwd=tmp_path).stdout
        assert said.endswith(f"{tree}/hwnuma/__init__.py\n")
        assert "__editable__" not in run([builder, "-I", "-c", "import sys; print(sys.meta_path)"], cwd=tmp_path).stdout
    finally:
        pip("uninstall", "--quiet", "--yes", "hwnuma", python=builder)


@pytest.fixture
def without_git(tmp_path: Path) -> Path:
    """Make a folder for PATH with the compiler and no git."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for program in ("gcc", "cc", "ld", "as"):
        (folder / program).symlink_to(shutil.which(program) or "/usr/bin/false")
    return folder
