"""``python -m tests.mutation``: faults in the modules of tests/mutation/targets.py, and whether tests find them."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from tests.mutation.fresh import try_in_fresh_pythons
from tests.mutation.page import Outcomes, page, reasons, survivors
from tests.mutation.plugin import ELSEWHERE, Faults
from tests.mutation.targets import TARGETS

_ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="files, by default all of tests/mutation/targets.py"
    )
    parser.add_argument("--sample", type=int, metavar="PERCENT", help="only so many of the faults")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--quick", action="store_true", help="leave out what takes a fresh Python for each fault")
    parser.add_argument("--json", type=Path, help="a file that all outcomes are kept in, those of earlier runs too")
    parser.add_argument(
        "--again", action="store_true", help="only what it has not, or has as not found without a reason"
    )
    parser.add_argument("--page", type=Path, help="a page to write of all outcomes")
    parser.add_argument("--only-page", action="store_true", help="of those in the file, without trying any")
    arguments = parser.parse_args()
    os.chdir(_ROOT)
    everything: dict[str, dict[str, str]] = {}
    which: dict[str, str] = {}
    if arguments.json and arguments.json.exists():
        everything, which = json.loads(arguments.json.read_text())
    modules = arguments.modules or ([] if arguments.only_page else [*TARGETS])
    which |= dict.fromkeys(modules, f"{arguments.sample} %, seed {arguments.seed}" if arguments.sample else "all")
    for tests in dict.fromkeys(TARGETS[module] for module in modules):
        everything |= _tried([module for module in modules if TARGETS[module] == tests], tests, arguments, everything)
        if arguments.json:
            arguments.json.write_text(json.dumps([everything, which], indent=1, ensure_ascii=False))
    if arguments.page:
        arguments.page.write_text(
            page({module: everything[module] for module in TARGETS if module in everything}, which)
        )
    if arguments.quick:
        everything = {
            module: {name: what for name, what in each.items() if what != ELSEWHERE}
            for module, each in everything.items()
        }
    unexplained = [f"{module}: {name}" for module, name, reason in survivors(everything) if reason is None]
    if unexplained:
        raise SystemExit("\n".join(["no test finds, and tests/mutation/survivors.toml gives no reason:", *unexplained]))


def _tried(
    modules: list[str], tests: tuple[str, ...], arguments: argparse.Namespace, known: Outcomes
) -> dict[str, dict[str, str]]:
    """What becomes of the faults of modules that have the same tests."""
    begun = time.monotonic()
    outcomes = _in_fork_server(modules, tests, arguments, known if arguments.again else {})
    if not arguments.quick:
        for module in modules:
            try_in_fresh_pythons(Path(module), outcomes[module], reasons().get(module, {}))
    print(f"in {time.monotonic() - begun:.0f} s", flush=True)
    return outcomes


def _in_fork_server(
    modules: list[str], tests: tuple[str, ...], arguments: argparse.Namespace, known: Outcomes
) -> dict[str, dict[str, str]]:
    """Try the faults in a process of its own, since pytest is started once in a process."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as answer:
        child = os.fork()
        if child == 0:
            try:
                plugin = Faults(modules, arguments.sample, arguments.seed, known, reasons())
                # Of `tests`, which this is a module of, pytest says that it was imported ahead of it.
                quiet = ["-q", "-s", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
                if pytest.main([*quiet, *tests], plugins=[plugin]) != pytest.ExitCode.USAGE_ERROR:
                    Path(answer.name).write_text(json.dumps(plugin.outcomes))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        outcomes: dict[str, dict[str, str]] = json.loads(answer.read() or "{}")
        if not outcomes:
            raise SystemExit(f"the faults of {', '.join(modules)} could not be tried")
        return outcomes


if __name__ == "__main__":
    main()
