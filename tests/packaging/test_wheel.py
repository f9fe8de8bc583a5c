"""The self-contained wheel: what is in it, and that its libhwloc keeps apart from any other."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, new_environment, run

TOPOLOGY = ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a new environment and return its Python."""
    return new_environment(tmp_path_factory.mktemp("installed") / "venv", wheel)


def test_tag_is_stable_abi_and_old_manylinux(wheel: Path) -> None:
    """One wheel serves CPython 3.10 and later, with any glibc from 2.17 (2012) on."""
    assert wheel.name.endswith(("-cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "_aarch64.whl"))


def test_holds_libhwloc_and_both_licences(wheel: Path) -> None:
    """The wheel has libhwloc once, with what its licence wants, and neither tests nor build code."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        notice = archive.read(next(name for name in names if name.endswith("licenses/NOTICE"))).decode()
    assert [name for name in names if ".so" in name] == [
        "hwnuma/hwloc/_hwloc.abi3.so",
        "hwnuma/hwloc/libhwloc-hwnuma.so.15",
        "hwnuma/measure/_kernels.abi3.so",
    ]
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {"hwnuma"}
    assert "BSD-3-Clause" in notice
    assert "Inria" in notice


def test_asks_for_the_c_library_only(installed: Path, tmp_path: Path) -> None:
    """Neither file needs a library beside the C library and each other, with every symbol resolved at once."""
    call = (
        "import hwnuma.hwloc.library; print(*{line.split()[-1] for line in open('/proc/self/maps') if '.so' in line})"
    )
    loaded = run([installed, "-I", "-c", call], cwd=tmp_path, LD_BIND_NOW=1).stdout.split()
    names = {re.sub(r"[-.].*", "", Path(library).name) for library in loaded if "python" not in library}
    assert not names & {"libpciaccess", "libudev", "libxml2", "libltdl"}
    assert [Path(library).name for library in loaded if "libhwloc" in library] == ["libhwloc-hwnuma.so.15"]


@pytest.mark.parametrize("how", ["RTLD_GLOBAL", "LD_PRELOAD", "LD_LIBRARY_PATH"])
def test_other_libhwloc_in_the_process_is_not_called(
    how: str, installed: Path, hwloc_2_4: Path, tmp_path: Path
) -> None:
    """An older libhwloc that is loaded first, as Open MPI's may be, does not answer in the place of the carried one."""
    library = hwloc_2_4 / "lib" / "x86_64-linux-gnu" / "libhwloc.so.15"
    first = f"import ctypes; ctypes.CDLL({str(library)!r}, ctypes.RTLD_GLOBAL); " if how == "RTLD_GLOBAL" else ""
    call = f"{first}import hwnuma.hwloc.library as l; print(l.version_text(l.RUNNING_VERSION))"
    variables = {"LD_PRELOAD": library, "LD_LIBRARY_PATH": library.parent}
    environment = {name: value for name, value in variables.items() if name == how}
    assert run([installed, "-I", "-c", call], cwd=tmp_path, **environment).stdout == "2.11\n"


def test_works(installed: Path, tmp_path: Path) -> None:
    """The installed wheel plans, pickles and binds with hwloc 2.11."""
    print(run([installed, "-I", Path(__file__).with_name("smoke.py"), TOPOLOGY, "2.11"], cwd=tmp_path).stdout)
