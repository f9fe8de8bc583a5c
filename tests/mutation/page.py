"""docs/developers/mutation.md, from what `python -m tests.mutation` found and tests/mutation/survivors.toml says."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.mutation.plugin import ELSEWHERE, FOUND

Outcomes = Mapping[str, Mapping[str, str]]
"""Of each module, of each fault by its name, whether it was found, or what else became of it."""

_SURVIVORS = Path(__file__).with_name("survivors.toml")

_COLUMNS = "| module | faults | tried | found | | survive with a reason | without one | not tried |"

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

With `--quick` nothing is tried in a fresh Python, and the faults outside of functions (constants, defaults of arguments) are
counted as not tried. `--json FILE` keeps what came of each; then `--again` tries what is new and what was not found.
`HWNUMA_PROPERTY_MACHINES=100` in the environment keeps the modules of rails (matching, nearness, rails) to minutes; the
figures below were made so.

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


def page(outcomes: Outcomes, which: Mapping[str, str]) -> str:
    """All of it as Markdown.

    Args:
        outcomes: of the modules that it tells of.
        which: of each module, which faults those are: "all", or how many by which seed.
    """
    known = reasons()
    counts = {module: _counts(faults, known.get(module, {})) for module, faults in outcomes.items()}
    groups: dict[str, list[Counter[str]]] = {}
    for module, counted in counts.items():
        groups.setdefault(module.rpartition("/")[0] + "/", []).append(counted)
    lines = [_COLUMNS, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    lines += [_row(f"`{module}`", which.get(module, ""), counted) for module, counted in counts.items()]
    lines += [_row(f"all of `{group}`", "", _sum(each)) for group, each in groups.items() if len(each) > 1]
    lines.append(_row("together", "", _sum(counts.values())))
    lines += ["", "## What survives, and why it may", ""]
    last = ""
    for module, name, reason in survivors(outcomes):
        if reason is None and outcomes[module][name] == ELSEWHERE:
            continue
        if module != last:
            lines += [*([""] if last else []), f"### {module}", "", "| fault | why no test finds it |", "| --- | --- |"]
            last = module
        fault = name.replace("|", "\\|")
        lines.append(f"| `{fault}` | {reason or '**no reason yet**'} |")
    return _HEAD + "\n".join(lines) + "\n"


def _counts(faults: Mapping[str, str], known: Mapping[str, str]) -> Counter[str]:
    """How many faults came to what."""
    counted: Counter[str] = Counter()
    for name, outcome in faults.items():
        if outcome == FOUND:
            counted["found"] += 1
        elif name in known:
            counted["explained"] += 1
        else:
            counted["untried" if outcome == ELSEWHERE else "unexplained"] += 1
    return counted


def _sum(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())


def _row(name: str, which: str, counted: Counter[str]) -> str:
    tried = counted.total() - counted["untried"]
    share = f"{100 * counted['found'] / max(1, tried):.1f} %"
    cells = (
        name,
        which,
        tried,
        counted["found"],
        share,
        counted["explained"],
        counted["unexplained"],
        counted["untried"],
    )
    return f"| {' | '.join(map(str, cells))} |"
