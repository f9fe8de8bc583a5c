"""Start ranks by a real Slurm on a machine of two sockets, and print where they and `hwnuma exec` are. It runs in a guest.

    python -m tests.vm.slurm_ranks GPUS

For each way to call srun: what each of four ranks is given, what the command has that `hwnuma exec` starts there, and
what hwnuma says; and which variables of Slurm tell the distribution.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.launchers import slurm

_RANKS = 4
# Each rank gets a quarter of the cores, so that together they fill the machine. Slurm counts threads here: 4 are 2 cores.
_SRUN = ("srun", "-n4", "-c4", "--exclusive", "--label")
WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "cyclic": ("-m", "block:cyclic"),
    "block:block": ("--distribution=block:block",),
    "none": ("--cpu-bind=none",),
}
_TELL = "echo distribution=$SLURM_DISTRIBUTION; grep ^Cpus_allowed_list: /proc/self/status"


def ranks(gpus: Sequence[str]) -> dict[str, object]:
    """Return what ranks have, by the way that srun is called."""
    # slurmd wants a cgroup that it can write, and a system that runs no systemd has only what is mounted here.
    for command in (
        "hostname localhost",
        "ip address add 10.0.0.1/32 dev lo",  # libc looks up no address where there is none but the loopback's
        "umount /sys/fs/cgroup",
        "mount -t tmpfs cgroups /sys/fs/cgroup",
        "mkdir /sys/fs/cgroup/freezer",
        "mount -t cgroup -o freezer freezer /sys/fs/cgroup/freezer",
    ):
        subprocess.run(command.split(), check=True)
    with tempfile.TemporaryDirectory() as folder:
        made = slurm.OneNodeSlurm(
            Path(folder), hardware="Sockets=2 CoresPerSocket=4 ThreadsPerCore=2", cgroup="CgroupPlugin=cgroup/v1\n"
        )
        try:
            made.start()
            environment = {**made.environment(os.environ), "HWNUMA_GPUS": ",".join(gpus)}
            return {way: _of(options, environment) for way, options in WAYS.items()}
        finally:
            made.stop()


def _of(options: Sequence[str], environment: dict[str, str]) -> dict[str, object]:
    """What the ranks have without hwnuma, with it, and with it going on where it is."""
    hwnuma = [sys.executable, "-m", "hwnuma", "exec"]
    return {
        "given": _srun(options, [], environment),
        "exec": _srun(options, [*hwnuma, "--"], environment),
        "nearest": _srun(options, [*hwnuma, "--fallback", "nearest", "--"], environment),
    }


def _srun(options: Sequence[str], wrapper: Sequence[str], environment: dict[str, str]) -> dict[str, object]:
    command = [*_SRUN, *options, *wrapper, "sh", "-c", _TELL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return {
        "status": done.returncode,
        "cpus": [_said(done.stdout, rank, "Cpus_allowed_list:\t") for rank in range(_RANKS)],
        "distribution": sorted({_said(done.stdout, rank, "distribution=") for rank in range(_RANKS)} - {None}),
        "said": [_lines(done.stderr, rank) for rank in range(_RANKS)],
    }


def _lines(text: str, rank: int) -> list[str]:
    """What one rank wrote: srun puts its number before each line."""
    return [line.partition(": ")[2] for line in text.splitlines() if line.startswith(f"{rank}: ")]


def _said(text: str, rank: int, name: str) -> str | None:
    """What one rank wrote after a name; None if it wrote nothing."""
    found = [line.removeprefix(name) for line in _lines(text, rank) if line.startswith(name)]
    return found[0] if found else None


if __name__ == "__main__":
    print(json.dumps(ranks(sys.argv[1].split(","))))
