"""The wheel in a bare root file system: Debian's minimal system and Python, no hwloc, no libpciaccess, no compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.tools import ROOT, debian_mirror, pip, run
from tests.require import require

# In namespaces of its own, so that nothing has to be unmounted, whatever happens.
_ENTER = 'mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" && exec chroot "$0" "$@"'
_ABSENT = ("*hwloc*", "*pciaccess*", "gcc", "cc", "ld", "Python.h")


class BareRoot:
    """A root file system to run commands in, and the transcript of what they said."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that holds it."""
        self.folder = folder

    def run(self, command: str) -> str:
        """Run a command line without a shell, print it with its output, and return the output."""
        enter = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--", "sh", "-c", _ENTER]
        clean = ["/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]
        output = run([*enter, self.folder, *clean, *shlex.split(command)]).stdout
        print(f"# {command}\n{output}", end="")
        return output


@pytest.fixture(scope="module")
def bare_root(wheel: Path) -> Iterator[BareRoot]:
    """Unpack a bare root file system, made by mmdebstrap and kept in build/, and install the wheel in it.

    pip runs inside, from its own wheel and without a network, so that it is the bare system that judges the wheel's
    tag; only hwnuma's wheel and those that it depends on are put there.
    """
    require(os.geteuid() == 0, "only root can make and enter a root file system")
    archive = _bare_root_archive()
    # /dev/shm where there is one: thousands of small files are cheap there.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="hwnuma-bare-root-", dir=memory) as folder:
        root = BareRoot(Path(folder))
        run(["tar", "-xf", archive, "-C", folder, "--exclude=./dev/*"])
        found = [path for pattern in _ABSENT for path in root.folder.glob(f"usr/**/{pattern}")]
        assert not [path for path in found if path.is_file()]
        version = root.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
        wheels = root.folder / "wheels"
        platforms = [f"--platform=manylinux_2_{minor}_{os.uname().machine}" for minor in (17, 28)]
        pip(
            "download",
            "--quiet",
            "--only-binary=:all:",
            *platforms,
            f"--python-version={version}",
            "--dest",
            wheels,
            wheel,
        )
        pip("download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", wheels, "pip")
        [pip_wheel] = wheels.glob("pip-*.whl")
        options = "--quiet --no-index --find-links /wheels --break-system-packages --root-user-action ignore"
        root.run(f"python3 /wheels/{pip_wheel.name}/pip install {options} hwnuma")
        yield root


def _bare_root_archive() -> Path:
    mirror, codename = debian_mirror()
    archive = ROOT / "build" / f"bare-root-{codename}.tar"
    if not archive.is_file():
        require(shutil.which("mmdebstrap"), "mmdebstrap is not installed (apt-get install mmdebstrap)")
        archive.parent.mkdir(exist_ok=True)
        unfinished = archive.with_suffix(".unfinished.tar")
        run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", codename, unfinished, mirror])
        unfinished.rename(archive)
    return archive


def test_plan_in_bare_root(bare_root: BareRoot) -> None:
    """A saved DGX A100 is planned where there is no hwloc, with the same answer as everywhere."""
    shutil.copy2(ROOT / "fixtures" / "topologies" / "dgx_a100_nps4.xml", bare_root.folder / "dgx_a100.xml")
    table = bare_root.run("hwnuma plan --topology /dgx_a100.xml --mode exclusive")
    assert [line.split()[5] for line in table.splitlines()[2:10]] == [
        "48-55,176-183",
        "56-63,184-191",
        "16-23,144-151",
        "24-31,152-159",
        "112-119,240-247",
        "120-127,248-255",
        "80-87,208-215",
        "88-95,216-223",
    ]


def test_exec_in_bare_root(bare_root: BareRoot) -> None:
    """A real command is bound there, and each of two ranks gets CPUs of its own."""
    require(len(os.sched_getaffinity(0)) > 1, "two ranks with CPUs of their own need two CPUs")
    cpus = [
        bare_root.run(
            f"hwnuma exec --gpus none --ranks 2 --local-rank {rank} --mode exclusive -- "
            "grep Cpus_allowed_list /proc/self/status"
        ).split()[1]
        for rank in (0, 1)
    ]
    assert cpus[0] != cpus[1]


def test_libhwloc_is_the_carried_one(bare_root: BareRoot) -> None:
    """The only libhwloc in that system is the wheel's, and every library that it needs is found."""
    listed = bare_root.run("find / -xdev -name '*hwloc*so*' -not -path '/proc/*' -not -path '/sys/*'").split()
    assert [Path(path).name for path in sorted(listed)] == ["_hwloc.abi3.so", "libhwloc-hwnuma.so.15"]
    [extension] = [path for path in listed if path.endswith("_hwloc.abi3.so")]
    assert "not found" not in bare_root.run(f"ldd {extension}")
