"""The row of what this system's discovery costs, on the files of a DGX in place of this system's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.settings import BARE_PYTHON, Measured, Settings, Skipped, console_script, environment, tool
from benchmarks.timing import Figure, command, in_turn, ratio
from benchmarks.trees import SYSFS_VARIABLES, dgx_files

# The ranks get what is allowed here, though their GPUs are elsewhere.
_PLAN = ("plan", "--ranks", "8", "--fallback", "nearest", "--format", "json")
_WITHOUT_GPUS = (*_PLAN, "--gpus", "none")
_WITH_GPUS = (*_PLAN, "--gpus", "nvidia")

_PCI = "/bus/pci/devices/"
# libhwloc looks for each of a CPU's caches; the size it reads only of those that its filters keep. Number 0 is the
# first level's data cache here.
_FIRST_LEVEL = "/cache/index0/size"


def discovery(settings: Settings) -> Measured:
    """What `hwnuma plan` asks of the kernel, with and without a word of GPUs, beside hwloc's own lstopo."""
    hwnuma = console_script()
    with dgx_files() as tree:
        variables = environment(HWLOC_FSROOT=str(tree), **SYSFS_VARIABLES)
        works = {
            "bare": command(BARE_PYTHON, environment()),
            "none": command((hwnuma, *_WITHOUT_GPUS), variables),
            "wanted": command((hwnuma, *_WITH_GPUS), variables),
        }
        found: Measured = {}
        try:
            lstopo = (tool("lstopo-no-graphics"), "--no-io", "--of", "console")
            works["lstopo"] = command(lstopo, variables)
        except Skipped as reason:
            found["lstopo"] = reason
        times = in_turn(works, settings.rounds)
        found |= {name: ratio(times[name], times["bare"]) for name in works if name != "bare"}
        try:
            opened = _opened((hwnuma, *_WITHOUT_GPUS), variables)
        except Skipped as reason:
            return {**found, "pci": reason, "caches": reason}
    found["pci"] = Figure.of([sum(_PCI in path for path in opened)])
    found["caches"] = Figure.of([sum(path.endswith(_FIRST_LEVEL) for path in opened)])
    return found


def _opened(arguments: tuple[str, ...], variables: dict[str, str]) -> list[str]:
    """The files that a command opens or tries to."""
    with TemporaryDirectory(prefix="hwnuma-strace-") as folder:
        log = Path(folder) / "log"
        strace = (tool("strace"), "-f", "-qq", "-e", "trace=open,openat", "-e", "signal=none", "-o", str(log))
        done = subprocess.run((*strace, *arguments), env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skipped(f"under strace: {done.stderr.strip() or done.returncode}")
        return [line.split('"')[1] for line in log.read_text(encoding="utf-8").splitlines() if '"' in line]
