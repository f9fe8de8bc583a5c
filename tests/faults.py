"""The page of every fault that a test provokes: ``python -m tests.faults`` writes docs/developers/faults.md.

A test says it in its mark: ``@pytest.mark.fault(kind, what fails, what it gives)``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "developers" / "faults.md"

KINDS = {
    "driver": "The driver (NVML)",
    "library": "libhwloc",
    "sysfs": "sysfs",
    "proc": "/proc",
    "seccomp": "Denied system calls and missing capabilities (real seccomp filters)",
    "cgroup": "Cgroups and CPUs that are not to be had",
    "memory": "Memory",
    "disk": "Disks and files",
    "pipe": "Pipes",
    "signal": "Signals",
    "fork": "fork",
    "threads": "Threads",
}

_HEAD = """# Faults: what was made to fail, and what it gave

Written by `python -m tests.faults` from the marks of the tests; a test checks that it is current. Each fault is provoked
for real: by a driver's library that is made to fail, a seccomp filter, a mount namespace, a full device, a signal. Nothing
is mocked. Tests below `tests/vm` provoke theirs in a kernel of their own.
"""

Row = tuple[str, str, str, str, str]  # kind, what, gives, file, test


def collected() -> list[Row]:
    """The faults of all tests, read off their source: nothing has to be installed for that."""
    found: list[Row] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    kind, what, gives = map(ast.literal_eval, mark.args)
                    found.append((kind, what, gives, str(path.relative_to(ROOT / "tests")), node.name))
    return found


def page(rows: Sequence[Row]) -> str:
    """The page, a table for each kind; a test of several cases stands in it once."""
    text = _HEAD
    for kind, title in KINDS.items():
        own = sorted({row for row in rows if row[0] == kind}, key=lambda row: (row[3], row[1]))
        if own:
            text += f"\n## {title}\n\n| what fails | what it gives | the test |\n| --- | --- | --- |\n"
            text += "".join(
                f"| {what} | {gives.removeprefix('gives ')} | `{file}`: {test} |\n"
                for _, what, gives, file, test in own
            )
    unknown = {row[0] for row in rows} - set(KINDS)
    assert not unknown, f"marks of unknown kinds: {unknown}"
    return text + f"\n{len({row[4] for row in rows})} tests.\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(collected()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
