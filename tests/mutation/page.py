"""docs/developers/mutation.md, from what `python -m tests.mutation` found and tests/mutation/survivors.toml says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.mutation.plugin import FOUND

Outcomes = Mapping[str, Mapping[str, str]]
"""Of each module, of each fault by its name, whether it was found, or what else became of it."""

_SURVIVORS = Path(__file__).with_name("survivors.toml")

_HEAD = """# Faults that the tests find

A test that passes whatever the code does is worth nothing. So in the modules where a fault would be worst, those that
decide and those that bind, each small thing is changed in turn (`<` to `<=`, a statement left out, a number one more:
tests/mutation/mutants.py has all of them), and some test has to fail. This page is written by

```text
python -m tests.mutation --page docs/developers/mutation.md
```

which takes long, and so is no part of CI; `python -m tests.mutation --sample 5 --seed 1 MODULE` tries one of twenty faults
in one module. Tests are collected once; each fault gets a fork of that process, which puts it into the loaded module and runs
the tests that reach its line. What no test finds so, or lies outside of functions, is tried once more in a fresh Python,
where what the tests start (`hwnuma exec`, workers) has the fault, too.

mutmut and cosmic-ray did not fit. mutmut (3.8) puts an import of itself and a call into every function, which tests that
start a bare or walled-in Python do not bear, and leaves properties out. cosmic-ray (8.7) changes the file in the working tree
and starts pytest anew for each fault, and removes no statements.

"""


def reasons() -> dict[str, dict[str, str]]:
    """Of each module, why each fault that is known to survive may."""
    return tomllib.loads(_SURVIVORS.read_text())


def survivors(outcomes: Outcomes) -> Iterator[tuple[str, str, str | None]]:
    """Module and name of each fault that was not found, and why that may be; None if nobody said."""
    known = reasons()
    for module, faults in outcomes.items():
        for name, outcome in faults.items():
            if outcome != FOUND:
                yield module, name, known.get(module, {}).get(name)


def page(outcomes: Outcomes) -> str:
    """All of it as Markdown."""
    rows = [(f"`{module}`", *_figures(faults.values())) for module, faults in outcomes.items()]
    rows.append(("together", *_figures([outcome for faults in outcomes.values() for outcome in faults.values()])))
    lines = ["| module | faults | found | |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "## What survives, and why it may", ""]
    last = ""
    for module, name, reason in survivors(outcomes):
        if module != last:
            lines += [f"### {module}", "", "| fault | why no test finds it |", "| --- | --- |"]
            last = module
        fault = name.replace("|", "\\|")
        lines.append(f"| `{fault}` | {reason or '**no reason yet**'} |")
    return _HEAD + "\n".join(lines) + "\n"


def _figures(outcomes: object) -> tuple[str, str, str]:
    each = list(outcomes)  # type: ignore[call-overload]
    found = sum(outcome == FOUND for outcome in each)
    return str(len(each)), str(found), f"{100 * found / max(1, len(each)):.1f} %"
