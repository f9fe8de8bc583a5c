"""Root file systems of other Debians and other processors, with hwnuma's source and what builds and tests it.

mmdebstrap unpacks the packages without installing them: nothing of another processor has to run for that, and a root is
there in half a minute. Commands run in namespaces of their own, so that nothing has to be unmounted, whatever happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.packaging.test_interpreters import find_interpreters
from tests.packaging.tools import ROOT, debian_mirror, pip, run
from tests.require import require

# Debian's own Python with its cffi, pytest and hypothesis, the compiler, hwloc; and what tests start.
_PACKAGES = (
    "python3", "python3-dev", "python3-cffi", "python3-setuptools", "python3-tabulate", "python3-pytest",
    "python3-hypothesis", "gcc", "libc6-dev", "libhwloc-dev", "pkg-config", "coreutils", "dash", "grep", "libc-bin", "util-linux",
)  # fmt: skip
# What Debian does not have, or not in main: Python alone, for any processor.
_PURE = ("nvidia-ml-py", "shtab", "prometheus-client", "pip", "wheel")
# As installed packages have it; unpacked ones have usr alone.
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/bin/sh": "dash"}

_SOURCE = "hwnuma"
# The variables that commands inside have, whatever else.
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
_ENTER = (
    'mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" && mount --rbind /dev "$0/dev" && '
    'exec chroot "$0" "$@"'
)
_BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Root:
    """A root file system.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @property
    def packages(self) -> Path:
        """Where its Python looks for packages that are not Debian's."""
        [library] = self.folder.glob("usr/lib/python3.*/os.py")
        return self.folder / "usr/local/lib" / library.parent.name / "dist-packages"

    @property
    def source(self) -> Path:
        """Hwnuma's source in it."""
        return self.folder / _SOURCE

    def run(self, *command: str, timeout: float = 1500, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the source's folder inside, with no variables but these and a few plain ones."""
        variables = [f"{name}={value}" for name, value in {**PLAIN, **environment}.items()]
        inside = ["/usr/bin/env", "-i", f"--chdir=/{_SOURCE}", *variables, *command]
        enter = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--", "sh", "-c", _ENTER]
        return subprocess.run(
            [*enter, str(self.folder), *inside], capture_output=True, text=True, check=False, timeout=timeout
        )

    def output(self, *command: str, **environment: str) -> str:
        """Run a command that has to succeed, and return what it prints."""
        done = self.run(*command, **environment)
        assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def tests(self, *arguments: str, **environment: str) -> str:
        """Run tests, print how that ended, and return it; some have to be there, and none may fail."""
        command = ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
        done = self.run(*command, **environment)
        last = done.stdout.strip().rpartition("\n")[2]
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        print(last)
        return last


def make_root(folder: Path, suite: str, architecture: str = "amd64", more: Iterable[str] = ()) -> Root:
    """Make a root file system of a Debian, with hwnuma's source in it.

    Args:
        folder: where to.
        suite: "trixie", "sid" …
        architecture: Debian's word for the processor.
        more: packages beside those that every root has.
    """
    require(os.geteuid() == 0, "only root can make and enter a root file system")
    require(shutil.which("mmdebstrap"), "mmdebstrap is not installed (tests/platforms/setup)")
    mirror, _ = debian_mirror()
    run(
        [
            "mmdebstrap", "--quiet", "--variant=extract", f"--architectures={architecture}",
            # A mirror can be a snapshot, which is not renewed.
            '--aptopt=Acquire::Check-Valid-Until "false"', f"--include={','.join((*_PACKAGES, *more))}",
            suite, folder, f"deb {mirror} {suite} main",
        ]
    )  # fmt: skip
    for link, target in _LINKS.items():
        if (folder / link).parent.joinpath(target).exists() and not (folder / link).exists():
            (folder / link).symlink_to(target)
    for name in ("proc", "sys", "dev", "tmp", "run"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    root = Root(folder)
    pip("install", "--quiet", "--no-deps", "--target", root.packages, *_PURE)
    _copy_source(root.source)
    return root


def _copy_source(folder: Path) -> None:
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def compile_all(root: Root) -> None:
    """Compile all Python there by one of the same version that runs here: an emulated one takes minutes for it."""
    [library] = root.folder.glob("usr/lib/python3.*/os.py")
    python = find_interpreters().get(library.parent.name.removeprefix("python"))
    if python is None:
        return  # then it takes those minutes
    for part in (library.parent, root.folder / "usr/lib/python3", root.folder / "usr/local/lib", root.source):
        run([python, "-m", "compileall", "-q", "-j", "2", "-s", root.folder, "-p", "/", part])


@contextmanager
def emulated(architecture: str) -> Iterator[None]:
    """Have the kernel start programs of another processor by QEMU's user emulation; what is mounted for that is unmounted."""
    interpreter = f"qemu-{architecture}"
    require(shutil.which(f"{interpreter}-static"), f"{interpreter}-static is not installed (tests/platforms/setup)")
    mounts = not (_BINFMT / "register").exists()
    if mounts:
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT])
    try:
        run(["update-binfmts", "--enable", interpreter])
        require((_BINFMT / interpreter).exists(), "the kernel has no binfmt_misc, which starts what is emulated")
        yield
    finally:
        if mounts:
            run(["umount", _BINFMT])
