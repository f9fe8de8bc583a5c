"""Commands in Linux namespaces of their own, as containers and sandboxes have them."""

from __future__ import annotations

import os
import subprocess
from functools import cache

# Who is not root gets to be it in a user namespace, where the kernel lets everybody make one.
_UNSHARE = ("unshare",) if os.geteuid() == 0 else ("unshare", "--map-root-user")


def without_proc(*command: str) -> list[str]:
    """Run a command where an empty folder is mounted over /proc."""
    return [*_UNSHARE, "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh", *command]


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
