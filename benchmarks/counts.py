"""How many instructions the ways into hwnuma take: unlike times, the same again on a busy machine.

``python -m benchmarks counts`` runs each under valgrind's callgrind and prints its instructions (the user's side; the
kernel's are not counted), and how many times those of a bare Python that is. ``--check`` compares these ratios with
``ceilings.toml``, and fails where one is higher: then something has got slower, or the ceiling was set for another
Python. ``--update`` writes the ceilings anew, a little above what was counted; look at the difference.

What makes the numbers come again: hashes without their random seed, an environment of a few variables, and for what
discovers a topology a small machine of two cores as sysfs files. A first run without valgrind leaves the ``.pyc``
files. A command that becomes another one is counted up to its execve.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import HANDED, PLANNED
from benchmarks.settings import DGX, Skipped, console_script, has_import_hook, tool
from benchmarks.timing import CommandFailedError
from benchmarks.trees import SYSFS_VARIABLES, two_cores, written

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CEILINGS = Path(__file__).with_name("ceilings.toml")
BARE = "bare Python"
_ROOM = 1.03  # what a ceiling is set to, times what was counted
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)

# With "-I" Python would not listen to PYTHONHASHSEED; the user's own site-packages are left out by "-s".
_PYTHON = (sys.executable, "-s")
_FIXED = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
# CPU 0 is in the made-up machine, and is bound to on this one.
_HANDED = {"HWNUMA_CPUS": "0"}
_WITH_MEMORY = ("--cpus", "0", "--memory", "preferred")


@dataclass(frozen=True)
class Counted:
    """A command whose instructions are counted.

    Attributes:
        name: as in the ceilings.
        arguments: of Python; "hwnuma" as the first one stands for the console script.
        variables: more of its environment.
        discovers: whether it looks at this system's topology, in place of which it gets the small machine.
    """

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    discovers: bool = False


COUNTED = (
    Counted(BARE, ("-c", "pass")),
    Counted("import hwnuma", ("-c", "import hwnuma")),
    Counted("import of bind", ("-c", "from hwnuma import bind")),
    Counted("exec, planned", ("hwnuma", *PLANNED), discovers=True),
    Counted("exec, handed over", ("hwnuma", *HANDED), _HANDED),
    Counted("exec, CPUs and memory", ("hwnuma", "exec", *_WITH_MEMORY, "--", "true"), discovers=True),
    Counted("plan of a DGX as JSON", ("hwnuma", "plan", "--topology", str(DGX), "--format", "json")),
)  # fmt: skip


def count(counted: Counted, scratch: Path) -> int:
    """Count the instructions of a command.

    Args:
        counted: what to run.
        scratch: a folder with the small machine; counts are written there.

    Raises:
        CommandFailedError: it failed.
    """
    variables = {**_FIXED, **counted.variables}
    if counted.discovers:
        # Marked as this system, so that hwnuma binds there.
        variables |= {**SYSFS_VARIABLES, "HWLOC_FSROOT": str(scratch / "machine"), "HWLOC_THISSYSTEM": "1"}
    first, *rest = counted.arguments
    command = (*_PYTHON, console_script() if first == "hwnuma" else first, *rest)
    _run(command, variables, scratch)
    for old in scratch.glob("counted.*"):
        old.unlink()
    # At an execve valgrind gives way to the new program and would write nothing.
    callgrind = (tool("valgrind"), "-q", "--tool=callgrind", "--dump-before=execve", "--callgrind-out-file=counted.out")
    _run((*callgrind, *command), variables, scratch)
    return totals(part.read_text(encoding="utf-8") for part in scratch.glob("counted.*"))


def totals(parts: Iterable[str]) -> int:
    """Add up what callgrind wrote: a part for each execve, and one for the end if there was one."""
    return sum(int(total) for part in parts for total in _TOTALS.findall(part))


def _run(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> None:
    done = subprocess.run(command, env=variables, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        named = " ".join((Path(command[0]).name, *command[1:]))
        raise CommandFailedError(f"{named}: ended with status {done.returncode}: {done.stderr.strip()[-500:]}")


def count_all() -> dict[str, int]:
    """Count all, by name."""
    with TemporaryDirectory(prefix="hwnuma-counts-") as folder:
        written(two_cores(), Path(folder) / "machine")
        return {counted.name: count(counted, Path(folder)) for counted in COUNTED}


def ratios(counts: Mapping[str, int]) -> dict[str, float]:
    """How many times a bare Python's instructions each takes, by name."""
    return {name: number / counts[BARE] for name, number in counts.items() if name != BARE}


def read_ceilings() -> dict[str, float]:
    """The highest ratio that each may have, by name."""
    ceilings: dict[str, float] = tomllib.loads(CEILINGS.read_text(encoding="utf-8"))["ceilings"]
    return ceilings


def exceeded(found: Mapping[str, float], ceilings: Mapping[str, float]) -> list[str]:
    """A line for each ratio that is above its ceiling, or that has none."""
    lines = []
    for name, value in found.items():
        if name not in ceilings:
            lines.append(f"{name}: no ceiling in {CEILINGS.name}: python -m benchmarks counts --update")
        elif value > ceilings[name]:
            lines.append(f"{name}: {value:.2f} x bare Python, above its ceiling of {ceilings[name]:g} x")
    return lines


def ceilings_text(found: Mapping[str, float]) -> str:
    """The content of ceilings.toml for these ratios."""
    lines = [
        "# Instructions, as multiples of a bare Python's (python -m benchmarks counts). CI fails above them.",
        f"# Written by --update: {_ROOM - 1:.0%} above what was counted with Python {platform.python_version()}.",
        "[ceilings]",
        *(f'"{name}" = {value * _ROOM:.2f}' for name, value in found.items()),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Count, print, and check or update the ceilings.

    Returns:
        1 if a ceiling is exceeded, else 0.

    Raises:
        SystemExit: with 2, if nothing can be counted, or nothing that is to be held against a ceiling.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks counts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if one is above its ceiling")
    parser.add_argument("--update", action="store_true", help="write the ceilings anew")
    options = parser.parse_args(arguments)
    if (options.check or options.update) and has_import_hook():
        parser.error(
            "hwnuma is installed editable with an import hook, which every Python here runs, the bare one too: no "
            "ratio is right; pip install . or pip install -e . anew"
        )
    try:
        counts = count_all()
    except (Skipped, CommandFailedError) as reason:
        parser.error(str(reason))
    found = ratios(counts)
    for name, number in counts.items():
        print(f"{number / 1e6:8.1f} M  {number / counts[BARE]:6.2f} x  {name}")
    if options.update:
        CEILINGS.write_text(ceilings_text(found), encoding="utf-8")
    failed = exceeded(found, read_ceilings()) if options.check else []
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0
