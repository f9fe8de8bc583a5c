"""A rank of any launcher: it tells in a file where it runs, and then does what it is told.

::

    python rank.py FOLDER [fail | wait]

``fail``: rank 1 exits with 3, the others with 0. ``wait``: all wait for SIGTERM and leave a file that says it came.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from hwnuma.environment.local_rank import local_rank_of

LIMIT = 60.0  # seconds to wait for SIGTERM


def allowed_cpus() -> str:
    """The line Cpus_allowed_list of this process, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


def tell(folder: Path, name: str, **facts: object) -> None:
    """Write a file that is whole as soon as it is there."""
    unfinished = folder / f"{name}.unfinished"
    unfinished.write_text(json.dumps(facts))
    unfinished.rename(folder / f"{name}.json")


def main() -> int:
    """Do what the arguments say."""
    folder, actions = Path(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    rank = local_rank_of(os.environ)
    tell(folder, f"{rank.rank}-0", cpus=allowed_cpus(), size=rank.size, variable=rank.variable, warnings=rank.warnings)
    if "wait" in actions:
        if signal.sigtimedwait({signal.SIGTERM}, LIMIT) is None:
            print(f"rank {rank.rank}: no SIGTERM within {LIMIT:.0f} s", file=sys.stderr)
            return 1
        tell(folder, f"terminated-{rank.rank}-0")
    return 3 if "fail" in actions and rank.rank == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
