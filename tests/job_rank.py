"""What the tests of `hwnuma bench --compare` have run: a rank that writes down how it was started, and then does a thing.

python -S tests/job_rank.py FOLDER [wait | fail]
"""

import json
import os
import sys
import time
from pathlib import Path

TOLD = (
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "HWNUMA_BOUND_CPUS",
    "HWNUMA_MODE",
)


def main(folder: str, action: str = "") -> None:
    """Leave a file named by the moment, so that all of them in order say in which order runs were."""
    told = {name: os.environ[name] for name in TOLD if name in os.environ}
    told |= {"pid": os.getpid(), "cpus": sorted(os.sched_getaffinity(0))}
    path = f"{folder}/{time.monotonic_ns():020}-{os.getpid()}"
    part = Path(f"{path}.part")
    part.write_text(json.dumps(told))
    part.rename(f"{path}.json")
    if action == "wait":
        time.sleep(1000)
    if action == "fail" and os.environ.get("LOCAL_RANK") == "1":
        while len(list(Path(folder).glob("*.json"))) < int(told["LOCAL_WORLD_SIZE"]):
            time.sleep(0.01)
        sys.exit("there is no such thing")
    if action == "fail":
        time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
