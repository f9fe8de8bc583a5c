"""Rows that time whole processes."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.settings import BARE_PYTHON, DGX, Measured, Settings, Skipped, console_script, environment, tool
from benchmarks.timing import Figure, Timed, command, difference, in_turn, ratio

_PYTHON = (sys.executable, "-I", "-c")
_RANKS = 8
# What to do without GPUs, and what hwnuma has to find out by itself.
PLANNED = ("exec", "--gpus", "none", "--ranks", "2", "--local-rank", "0", "--mode", "exclusive", "--", "true")
HANDED = ("exec", "--", "true")


def first_cpu() -> str:
    """The first CPU that this process may run on, for commands that are told where."""
    return str(min(os.sched_getaffinity(0)))


def _against_bare(commands: dict[str, Timed | Skipped], rounds: int) -> Measured:
    """Each command's ratio to a bare Python of the same round."""
    there = {name: work for name, work in commands.items() if not isinstance(work, Skipped)}
    times = in_turn({"bare": command(BARE_PYTHON, environment()), **there}, rounds)
    missing = {name: work for name, work in commands.items() if isinstance(work, Skipped)}
    return {**{name: ratio(times[name], times["bare"]) for name in there}, **missing}


def _tool_or_reason(name: str, *arguments: str, **variables: str) -> Timed | Skipped:
    try:
        return command((tool(name), *arguments), environment(**variables))
    except Skipped as reason:
        return reason


def exec_(settings: Settings) -> Measured:
    """A command that is started bound."""
    hwnuma, cpu = console_script(), first_cpu()
    if len(os.sched_getaffinity(0)) == 1:
        raise Skipped("two ranks in mode exclusive need two cores")
    handed = environment(HWNUMA_CPUS=cpu)
    commands: dict[str, Timed | Skipped] = {
        "planned": command((hwnuma, *PLANNED), environment()),
        "handed": command((hwnuma, *HANDED), handed),
        "memory": command((hwnuma, *HANDED), {**handed, "HWNUMA_MEMORY": "preferred"}),
        "taskset": _tool_or_reason("taskset", "-c", cpu, "true"),
        "numactl": _tool_or_reason("numactl", f"--physcpubind={cpu}", "true"),
        "hwloc": _tool_or_reason("hwloc-bind", "--physical", f"pu:{cpu}", "--", "true"),
    }
    return _against_bare(commands, settings.rounds)


def ranks(settings: Settings) -> Measured:
    """A machine's ranks, all started at once."""
    bound = command((console_script(), *HANDED), environment(HWNUMA_CPUS=first_cpu()), copies=_RANKS)
    times = in_turn({"bare": command(BARE_PYTHON, environment(), copies=_RANKS), "bound": bound}, settings.rounds)
    return {"handed": ratio(times["bound"], times["bare"])}


def import_(settings: Settings) -> Measured:
    """The import of the package, which alone loads nothing, and of what a worker uses of it."""
    statements = {"": "import hwnuma", "bind ": "from hwnuma import bind"}
    works = {name: command((*_PYTHON, statement), environment()) for name, statement in statements.items()}
    times = in_turn({"bare": command(BARE_PYTHON, environment()), **works}, settings.rounds)
    found: Measured = {}
    for name, statement in statements.items():
        found[f"{name}time"] = difference(times[name], times["bare"])
        found[f"{name}modules"] = Figure.of([_modules(statement)])
    return found


def _modules(statement: str) -> int:
    """How many modules a statement loads."""
    code = f"import sys; bare = set(sys.modules); {statement}; print(len(sys.modules.keys() - bare))"
    told = subprocess.run((*_PYTHON, code), env=environment(), check=True, capture_output=True, text=True)
    return int(told.stdout)


def cli(settings: Settings) -> Measured:
    """A plan for another machine, on the command line."""
    plan = command((console_script(), "plan", "--topology", str(DGX), "--format", "json"), environment())
    return _against_bare({"plan": plan}, settings.rounds)
