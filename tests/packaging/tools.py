"""What the packaging tests share: programs that are run, environments, and Debian's packages of libhwloc."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from tests.require import require

ROOT = Path(__file__).resolve().parents[2]
_UNSET = ("HWNUMA_HWLOC_PREFIX", "HWNUMA_USE_SYSTEM_HWLOC", "LD_LIBRARY_PATH", "PYTHONPATH", "PKG_CONFIG_PATH")


def run(
    command: Iterable[object], *, cwd: Path | None = None, fails: bool = False, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Run a command, with its output as text, and insist that it succeeds, or that it fails.

    Args:
        command: the program and its arguments.
        cwd: where to run it; not the project's folder, so that no file of it is imported by accident.
        fails: whether a failure is what is wanted.
        environment: variables beside this process's own.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _UNSET}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd or Path("/"),
        env={**inherited, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert (done.returncode != 0) == fails, f"{done.args}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def pip(*arguments: object, python: object = sys.executable, fails: bool = False, **environment: object) -> str:
    """Run pip for an environment, whatever pip that environment has, and return all that it says."""
    done = run([sys.executable, "-m", "pip", "--python", python, *arguments], fails=fails, **environment)
    return done.stdout + done.stderr


def new_environment(folder: Path, *packages: object, python: object = sys.executable) -> Path:
    """Make a virtual environment without pip, install packages there from outside, and return its Python."""
    run([python, "-m", "venv", "--without-pip", folder])
    inside = folder / "bin" / "python"
    if packages:
        pip("install", "--quiet", *packages, python=inside)
    return inside


@cache
def debian_mirror() -> tuple[str, str]:
    """Find the mirror and the release that apt is configured for."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    codename = release.get("VERSION_CODENAME", "")
    is_debian = release.get("ID") == "debian" and platform.machine() == "x86_64"
    require(is_debian, "this test takes packages of Debian for amd64, and this is another system")
    targets = run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]).stdout
    mirrors = [line.split()[1] for line in targets.splitlines() if line.split()[:1] == [codename]]
    require(mirrors, f"apt has no mirror of Debian's {codename} (run apt-get update)")
    return mirrors[0], codename


def unpack_debian(folder: Path, packages: Mapping[str, str]) -> Path:
    """Unpack packages of the mirror's pool into a folder, without installing them.

    Args:
        folder: where to put them.
        packages: paths in the pool, each with its SHA-256 checksum.

    Returns:
        The folder usr in it.
    """
    mirror, _ = debian_mirror()
    for path, checksum in packages.items():
        local = folder / path.rpartition("/")[2]
        try:
            with urllib.request.urlopen(f"{mirror.rstrip('/')}/pool/main/{path}", timeout=60) as answer:
                content = answer.read()
        except urllib.error.URLError as error:
            require(condition=False, reason=f"Debian's mirror does not give {path}: {error}")
        assert hashlib.sha256(content).hexdigest() == checksum, path
        local.write_bytes(content)
        run(["dpkg-deb", "-x", local, folder])
    return folder / "usr"
