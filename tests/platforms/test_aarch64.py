"""hwnuma on Arm (GH200, GB200, Vera): the wheel, and real tests in a Debian for arm64 whose programs QEMU emulates.

What is emulated is programs, on this machine's kernel and its CPUs. QEMU's user emulation has no mbind, set_mempolicy and
get_mempolicy; what binds memory is tested in a whole emulated machine (tests/vm).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cffi_build.backend import CARRIED_REQUIREMENTS
from tests.packaging.tools import pip
from tests.platforms.roots import Root, compile_all, emulated, make_root

TESTS = ("tests/test_topology.py", "tests/test_bitmap.py")
# What it may cost at most, in CPU time, holds for no emulation.
TIMED = ("tests/test_bitmap.py::test_what_a_list_can_cost_is_bounded_by_its_length",)

_PLATFORMS = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 28)]


@pytest.fixture(scope="module")
def arm(root_folder: Path) -> Iterator[Root]:
    """A root file system of Debian for arm64."""
    root = make_root(root_folder / "arm64", "trixie", "arm64")
    options = ["--upgrade", "--only-binary=:all:", *_PLATFORMS, "--python-version=3.13", "--target", root.packages]
    pip("install", "--quiet", *options, "auditwheel", *CARRIED_REQUIREMENTS)
    compile_all(root)
    with emulated("aarch64"):
        yield root


@pytest.fixture(scope="module")
def wheel(arm: Root) -> Path:
    """The self-contained wheel, built there by its one command, and unpacked over the source that the tests run in."""
    path = f"/{(arm.packages / 'bin').relative_to(arm.folder)}:/usr/bin"
    command = ("python3", "-m", "cffi_build.wheel", "--no-build-isolation", "--output", "/tmp/wheel")
    arm.output(*command, PATH=path)
    [wheel] = arm.folder.glob("tmp/wheel/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(arm.source)
    compile_all(arm)
    return wheel


def test_wheel(wheel: Path) -> None:
    """It is tagged for any Python from 3.10 on, and for aarch64."""
    print(f"\n{wheel.name}")
    assert wheel.name.startswith("hwnuma-")
    _, python, abi, platform = wheel.stem.rsplit("-", 3)
    assert (python, abi) == ("cp310", "abi3")
    assert platform.endswith("_aarch64")


def test_quick_tests(arm: Root, wheel: Path) -> None:  # noqa: ARG001
    """Real tests pass with the wheel's extension and libhwloc."""
    machine = arm.output("uname", "-m").strip()
    print(f"\nuname -m: {machine}: ", end="")
    assert machine == "aarch64"
    arm.tests("-p", "tests.platforms.emulated", *(f"--deselect={name}" for name in TIMED), *TESTS)
