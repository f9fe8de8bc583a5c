"""Faults in Pythons of their own, where all that tests start has them, too, and where a module is loaded with its fault."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.mutation.mutants import mutants_of
from tests.mutation.plugin import FOUND, SURVIVED
from tests.mutation.targets import TARGETS

_FOR_CHILDREN = Path(__file__).resolve().parent / "for_children"
_LONGEST_WAIT = 600  # seconds


def try_in_fresh_pythons(module: Path, outcomes: dict[str, str], explained: Collection[str]) -> None:
    """Try once more what was not found, with all tests of the module.

    Args:
        module: the file.
        outcomes: of its faults; those that were not found get another one.
        explained: the faults that are known to survive, which are left out.

    Raises:
        SystemExit: the tests fail without a fault, or the module was not loaded with its fault.
    """
    tree = ast.parse(module.read_text())
    tests = TARGETS[str(module)]
    is_sound = False
    for mutant in mutants_of(tree):
        if outcomes.get(mutant.name, FOUND) == FOUND or mutant.name in explained:
            continue
        if not is_sound and not pass_with(module.read_text(), module, tests):
            raise SystemExit(f"the tests of {module} do not pass in a fresh Python without a fault")
        is_sound = True
        outcomes[mutant.name] = SURVIVED if pass_with(ast.unparse(tree), module, tests) else FOUND
        if outcomes[mutant.name] != FOUND:
            print(f"  {outcomes[mutant.name]}: {module}: {mutant.name}", flush=True)


def pass_with(source: str, module: Path, tests: Collection[str]) -> bool:
    """Whether tests pass in a fresh Python where a module has this source.

    Args:
        source: the module's, with a fault or without.
        module: the file, from the root of the working tree, which is the current folder.
        tests: the files of tests.

    Raises:
        SystemExit: they did not load it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, module.name)
        path.write_text(source)
        name = ".".join(module.with_suffix("").parts)
        environment = {**os.environ, "FAULT_IN_HWNUMA": f"{name}={path}", "PYTHONPATH": str(_FOR_CHILDREN)}
        # Without --assert=plain pytest itself loads the modules of a package that has a plugin of pytest, as ours has.
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--assert=plain", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=_LONGEST_WAIT, check=False)
        except subprocess.TimeoutExpired:
            return False
        if not path.with_suffix(".loaded").exists():
            raise SystemExit(f"{module} was not loaded with its fault: {done.stderr.decode(errors='replace')}")
        return done.returncode == 0
