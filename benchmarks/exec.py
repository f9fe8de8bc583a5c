"""What it costs to start a worker bound: hwnuma exec, side by side with what a user would take instead.

Usage: python benchmarks/exec.py [--repeat N]

All candidates run in turn, round after round, so that a noisy machine is noisy for each; the figure is the median of
the rounds' ratios to the plain command. Nothing here is a test: times on a shared machine prove nothing by themselves.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

COMMAND = (sys.executable, "-c", "pass")
HWNUMA = (sys.executable, "-m", "hwnuma", "exec")
CANDIDATES: dict[str, tuple[str, ...]] = {
    "the command alone": (),
    "taskset -c 0": ("taskset", "-c", "0"),
    "numactl --physcpubind=0": ("numactl", "--physcpubind=0"),
    "hwloc-bind pu:0": ("hwloc-bind", "pu:0", "--"),
    "hwnuma exec --cpus 0 (as planned by a launcher)": (*HWNUMA, "--cpus", "0", "--"),
    "hwnuma exec --gpus none (plans by itself)": (
        *HWNUMA, "--gpus", "none", "--ranks", "1", "--local-rank", "0", "--",
    ),
}  # fmt: skip


def seconds(prefix: Sequence[str]) -> float:
    """How long the command takes behind a prefix, in seconds."""
    start = time.perf_counter()
    subprocess.run([*prefix, *COMMAND], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print a line a candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20, help="rounds (default: 20)")
    rounds = parser.parse_args().repeat
    there = {name: prefix for name, prefix in CANDIDATES.items() if not prefix or shutil.which(prefix[0])}
    times: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(rounds):
        for name, prefix in there.items():
            times[name].append(seconds(prefix))
    alone = times["the command alone"]
    for name, measured in times.items():
        ratio = statistics.median(one / base for one, base in zip(measured, alone, strict=True))
        extra = statistics.median(one - base for one, base in zip(measured, alone, strict=True))
        print(f"{ratio:6.2f} x  {extra * 1000:+7.1f} ms  {name}")
    for name in CANDIDATES.keys() - there.keys():
        print(f"not installed: {name}")


if __name__ == "__main__":
    main()
