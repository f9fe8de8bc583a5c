"""A worker: it tells where it runs, in a file of its own and on standard output, and then does what it is told.

::

    python worker.py FOLDER [all-reduce] [fail | wait]

``fail``: rank 1 exits with 3 once rank 0 has told; the others wait for SIGTERM. ``wait``: all wait for SIGTERM. Whoever
gets it leaves a file that says so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

LIMIT = 120.0  # seconds to wait for anything
RANK = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
ATTEMPT = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def allowed_cpus() -> str:
    """The line Cpus_allowed_list of this process, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


def tell(folder: Path, name: str, **facts: object) -> None:
    """Write a file that is whole as soon as it is there."""
    unfinished = folder / f"{name}.unfinished"
    unfinished.write_text(json.dumps(facts))
    unfinished.rename(folder / f"{name}.json")


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + LIMIT
    while not path.exists():
        if time.monotonic() > end:
            sys.exit(f"rank {RANK}: {path} did not come within {LIMIT:.0f} s")
        time.sleep(0.02)


def wait_for_sigterm(folder: Path) -> None:
    """Wait for SIGTERM, which is blocked until then, and leave a file that says that it came."""
    if signal.sigtimedwait({signal.SIGTERM}, LIMIT) is None:
        sys.exit(f"rank {RANK}: no SIGTERM within {LIMIT:.0f} s")
    tell(folder, f"terminated-{RANK}-{ATTEMPT}")


def all_reduce() -> float:
    """Add up the ranks, through gloo."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(total)
    dist.destroy_process_group()
    return float(total)


def main() -> None:
    """Do what the arguments say."""
    folder, actions = Path(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    names = ("LOCAL_RANK", "HWNUMA_CPUS", "HWNUMA_NODES", "HWNUMA_MEMORY", "CUDA_VISIBLE_DEVICES")
    names += ("OMP_NUM_THREADS", "OMP_PLACES")
    facts = {
        "cpus": allowed_cpus(),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "prefix": sys.prefix,
        "arguments": sys.argv[1:],
        "unbuffered": sys.stdout.write_through,
        "environment": {name: os.environ.get(name) for name in names},
    }
    # In one piece: with -u, print writes the end of its line by itself, and another rank's line may come between.
    sys.stdout.write(f"rank {RANK} attempt {ATTEMPT}: Cpus_allowed_list {facts['cpus']}\n")
    if "all-reduce" in actions:
        facts["sum"] = all_reduce()
    tell(folder, f"{RANK}-{ATTEMPT}", **facts)
    if "fail" in actions and RANK == 1:
        wait_for(folder / f"0-{ATTEMPT}.json")
        sys.exit(3)
    if "fail" in actions or "wait" in actions:
        wait_for_sigterm(folder)


if __name__ == "__main__":
    main()
