"""A launcher in miniature: plan, start, recover."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import hwnuma


def launch(command: Sequence[str], *, mode: str = "exclusive", ranks: int | None = None, restarts: int = 2) -> bool:
    """Run a command once a rank, each at its place, until all have ended.

    Args:
        command: what each worker runs.
        mode: how hwnuma places the ranks.
        ranks: how many; by default one a GPU.
        restarts: how often a worker that fails is started again.

    Returns:
        Whether every rank succeeded in the end.
    """
    plan = hwnuma.plan_here(mode, ranks=ranks)
    with ThreadPoolExecutor(len(plan)) as pool:
        return all(pool.map(lambda place: _keep_running(place, len(plan), command, restarts), plan))


def _keep_running(place: hwnuma.Binding, ranks: int, command: Sequence[str], restarts: int) -> bool:
    """Run one rank, and start it again at the same place where it fails."""
    rank = place.local_rank
    if place.error is not None:
        print(f"minilauncher: rank {rank} has no place and runs where it may: {place.error}", file=sys.stderr)
    for attempt in range(1 + restarts):
        if attempt:
            print(f"minilauncher: rank {rank} failed and is started again ({attempt} of {restarts})", file=sys.stderr)
        variables = {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks)}
        if subprocess.run([*_prefix(place), *command], env=os.environ | variables, check=False).returncode == 0:
            return True
    return False


def _prefix(place: hwnuma.Binding) -> list[str]:
    """What binds a worker ahead of its first instruction; nothing for a rank without a place."""
    if place.error is not None:
        return []
    return [sys.executable, "-m", "hwnuma", "exec", "--cpus", str(place.cpuset), "--"]
