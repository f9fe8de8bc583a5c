"""Commands in Linux namespaces of their own, as containers and sandboxes have them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from functools import cache

# Who is not root gets to be it in a user namespace, where the kernel lets everybody make one.
_UNSHARE = ("unshare",) if os.geteuid() == 0 else ("unshare", "--map-root-user")


def without_proc(*command: str) -> list[str]:
    """Run a command where an empty folder is mounted over /proc."""
    return _without("/proc", command)


def without_sysfs(*command: str) -> list[str]:
    """The same of /sys."""
    return _without("/sys", command)


def _without(folder: str, command: Iterable[str]) -> list[str]:
    return [*_UNSHARE, "--mount", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh", *command]


def with_anothers_proc(*command: str) -> list[str]:
    """Run a command in a PID namespace of its own that still sees the /proc of the outer one."""
    return [*_UNSHARE, "--pid", "--fork", *command]


@cache
def can_unshare() -> bool:
    """Whether this machine lets this user do both."""
    return all(
        subprocess.run(wrap("true"), capture_output=True, check=False).returncode == 0
        for wrap in (without_proc, with_anothers_proc)
    )


def in_mounts(contents: Iterable[tuple[str, str]], *command: str) -> list[str]:
    """Run a command where other contents are mounted over files: each a text, and the file that has it then."""
    script, words = "mount -t tmpfs none /mnt || exit 125; ", []
    for number, (content, path) in enumerate(contents):
        script += f'printf %s "$1" >/mnt/{number} && mount --bind /mnt/{number} "$2" && shift 2 || exit 125; '
        words += [content, path]
    return [*_UNSHARE, "--mount", "sh", "-c", script + 'exec "$@"', "sh", *words, *command]
