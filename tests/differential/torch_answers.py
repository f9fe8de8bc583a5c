"""Lay machines out as sysfs trees, and have torch_process answer for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fixtures import sysfs
from tests.differential.machines import REPOSITORY, Compared

# Ways to a mount namespace of one's own, the one that needs no privilege first.
_NAMESPACES = (
    ["unshare", "--user", "--map-root-user", "--mount"],
    ["unshare", "--mount"],
)


def memory_folder() -> str | None:
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def way_to_mount(holder: Path) -> list[str] | None:
    """The command that makes a mount namespace in which /sys can be covered; None if there is none."""
    for namespace in _NAMESPACES:
        try:
            tried = subprocess.run(
                [*namespace, "mount", "--bind", str(holder), "/sys"], capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if tried.returncode == 0:
            return namespace
    return None


def ask_torch(machines: Sequence[Compared], *, mount: bool = True, python: str = sys.executable) -> dict[str, Any]:
    """What torch answers for each machine, cut, mode and GPU.

    Args:
        machines: what to ask about.
        mount: put the trees in place of /sys in a mount namespace, if one can be had; otherwise, and where none can,
            intercept the process's own file access.
        python: the interpreter whose torch is asked.

    Returns:
        ``torch``: its version; ``way``: how it was made to see the trees; ``answers``: by name, CPU list and mode.
    """
    with tempfile.TemporaryDirectory(prefix="hwnuma-torch-", dir=memory_folder()) as folder:
        base = Path(folder)
        holder = base / "sys"
        holder.mkdir()
        request = []
        roots: dict[int, Path] = {}
        for compared in machines:
            # Two that differ in their visible GPUs only are one tree.
            root = roots.setdefault(id(compared.sysfs), base / f"machine{len(roots)}")
            if not root.exists():
                root.mkdir()
                sysfs.write(compared.sysfs, root)
            cuts = sorted({str(cut) for cut in compared.cuts().values()})
            request.append({"name": compared.name, "root": str(root), "gpus": list(compared.addresses), "cuts": cuts})
        tools = base / "tools"
        tools.mkdir()
        (tools / "numactl").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
        (tools / "numactl").chmod(0o755)
        namespace = way_to_mount(holder) if mount else None
        done = subprocess.run(
            [
                *(namespace or []), python, "-m", "tests.differential.torch_process",
                "intercept" if namespace is None else "mount", str(holder),
            ],
            input=json.dumps(request), capture_output=True, text=True, check=False, cwd=REPOSITORY,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"torch's process failed with status {done.returncode}: {done.stderr[-2000:]}")
    return {"way": "intercepted files" if namespace is None else "mount namespace", **json.loads(done.stdout)}
