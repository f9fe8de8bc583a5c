"""The distributions under test, each built once: a source distribution, and from that the self-contained wheel."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, new_environment, run, unpack_debian
from tests.require import require


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as `packaging`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.packaging)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the Python of an environment that has all that a build without isolation needs, and the wheel's command."""
    from cffi_build.backend import CARRIED_REQUIREMENTS

    return new_environment(
        tmp_path_factory.mktemp("builder") / "venv",
        "setuptools>=77",
        "cffi>=1.17",
        "pip",
        "auditwheel",
        *CARRIED_REQUIREMENTS,
    )


@pytest.fixture(scope="session")
def sdist(builder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, as the backend does it, from a copy of the tree that has no .git."""
    require((ROOT / ".git").exists() and shutil.which("git"), "the list of the tree's files comes from git")
    folder = tmp_path_factory.mktemp("sdist")
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "tree" / name)
    call = f"from cffi_build.backend import build_sdist; print(build_sdist({str(folder)!r}))"
    run([builder, "-c", call], cwd=folder / "tree")
    [archive] = folder.glob("hwnuma-*.tar.gz")
    return archive


@pytest.fixture(scope="session")
def source(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the source distribution: what all wheels here are built from."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [tree] = folder.iterdir()
    return tree


@pytest.fixture(scope="session")
def wheel(builder: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the self-contained wheel with its one command."""
    output = tmp_path_factory.mktemp("wheelhouse")
    print(run([builder, "-m", "cffi_build.wheel", "--no-build-isolation", "--output", output], cwd=source).stdout)
    [wheel] = output.iterdir()
    return wheel


@pytest.fixture(scope="session")
def hwloc_2_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a prefix with hwloc 2.4.1, the oldest that hwnuma supports, of Debian 11."""
    return unpack_debian(
        tmp_path_factory.mktemp("hwloc-2.4"),
        {
            "h/hwloc/libhwloc-dev_2.4.1+dfsg-1_amd64.deb": (
                "27f4fc6f9e62db46457862a1121624576f74adef0b093d31046b402833afb6b4"
            ),
            "h/hwloc/libhwloc15_2.4.1+dfsg-1_amd64.deb": (
                "fb753002175bd18d07de53a64fdd0e2ece092dacebfca66f1a8a5e59fda421f4"
            ),
        },
    )


@pytest.fixture(scope="session")
def hwloc_2_9(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a prefix with hwloc 2.9.0, of Debian 12."""
    return unpack_debian(
        tmp_path_factory.mktemp("hwloc-2.9"),
        {
            "h/hwloc/libhwloc-dev_2.9.0-1_amd64.deb": (
                "0b12593b41cd3c270548509c680192059c7b124261536db2630252559c865fad"
            ),
            "h/hwloc/libhwloc15_2.9.0-1_amd64.deb": (
                "4e7194b5d9adbb1a7d11a9501a4be4a4fa22876b69c73b7998056f552962c0e4"
            ),
        },
    )
