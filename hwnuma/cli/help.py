"""What help and the manual page say of a command beside its options: usage, examples, exit statuses, its page."""

from __future__ import annotations

import argparse

from hwnuma.cli.terminal import width
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


# Wider, lines are hard to read; and manuals, mails and screenshots are so wide.
_WIDEST = 80

_PLANNED = "0 every rank is placed, 1 some rank is not, 2 nothing could be planned"
_DONE = "0 done, 2 it could not be"

PLAN, LOOK, CHECK = "plan and start", "look", "processes that run already"


class CommandHelp(Value):
    """What is said of a command.

    Attributes:
        group: the heading in the list of commands.
        usage: its words, without "hwnuma".
        statuses: what its exit status says.
        page: of the documentation.
        examples: command lines.
    """

    group: str
    usage: str
    statuses: str
    page: str
    examples: tuple[str, ...]


HELP = {
    "plan": CommandHelp(
        PLAN,
        "plan [options]",
        _PLANNED,
        "docs/explanation/planning.md",
        (
            "hwnuma plan --mode exclusive --draw",
            "hwnuma plan --compare all --topology dgx.xml",
            "hwnuma plan --mode exclusive --output plan.html",
            "hwnuma plan --mode exclusive --ranks 8 --format slurm",
        ),
    ),
    "exec": CommandHelp(
        PLAN,
        "exec [options] [--] COMMAND…",
        "the command's own; or 1 this rank is not placed or bound, 2 nothing could be planned, 126 the command cannot "
        "be run, 127 it is not found",
        "docs/explanation/binding.md",
        (
            "torchrun --nproc-per-node 8 --no-python hwnuma exec -- python -u train.py",
            "srun --cpu-bind=none hwnuma exec --mode exclusive -- python train.py",
        ),
    ),
    "show": CommandHelp(
        LOOK,
        "show [options]",
        _DONE,
        "docs/reference/drawing.md",
        ("hwnuma show", "hwnuma show --topology dgx.xml.gz", "hwnuma show --output machine.svg"),
    ),
    "gpus": CommandHelp(
        LOOK,
        "gpus [options]",
        "0 every GPU's place is known, 1 some is not, 2 there are none",
        "docs/explanation/planning.md",
        ("hwnuma gpus", "hwnuma gpus --format json"),
    ),
    "topo": CommandHelp(
        LOOK,
        "topo [options]",
        _DONE,
        "docs/explanation/rails.md",
        ("hwnuma topo", "hwnuma topo --topology dgx.xml --output topo.svg"),
    ),
    "capture": CommandHelp(
        LOOK,
        "capture [options] FILE.xml",
        _DONE,
        "docs/how-to/captures.md",
        (
            "hwnuma capture dgx.xml",
            "hwnuma capture --anonymize report.xml.gz",
            "srun --ntasks-per-node=1 hwnuma capture DIR/%N.xml",
            "hwnuma capture - | ssh laptop hwnuma show --topology -",
        ),
    ),
    "diff": CommandHelp(
        LOOK,
        "diff [options] A [B]",
        "0 they are alike, 1 they differ, 2 they could not be compared",
        "docs/how-to/fleet.md",
        (
            "hwnuma diff node001.xml node002.xml",
            "hwnuma diff --mode exclusive before.xml.gz",
            "hwnuma diff monday.json tuesday.json",
        ),
    ),
    "fleet": CommandHelp(
        LOOK,
        "fleet [options] FILE|DIR…",
        "0 all are alike, 1 some differ or are broken, 2 none could be compared",
        "docs/how-to/fleet.md",
        ("hwnuma fleet DIR", "hwnuma fleet --format json node*.xml.gz"),
    ),
    "bench": CommandHelp(
        LOOK,
        "bench [options] [--compare MODES -- COMMAND…]",
        "0 measured, 1 the command failed, or a thread or memory could not be bound, 2 nothing could be measured (a "
        "busy machine, too little memory)",
        "docs/how-to/bench.md",
        (
            "hwnuma bench",
            "hwnuma bench --seconds 120 --memory 4G --format json",
            "hwnuma bench --output bench.svg",
            "hwnuma bench --compare none,node,exclusive -- torchrun --nproc-per-node=8 train.py",
            "hwnuma bench --compare none,node --ranks 4 -- ./solver",
            "hwnuma bench --compare all -- mpirun -n 8 {} ./solver",
        ),
    ),
    "schema": CommandHelp(
        LOOK,
        "schema [NAME]",
        _DONE,
        "docs/reference/json.md",
        ("hwnuma schema", "hwnuma schema plan"),
    ),
    "verify": CommandHelp(
        CHECK,
        "verify [options] [PID…]",
        "0 all is where it should be, 1 something is off (with --watch: at any look), 2 nothing could be verified",
        "docs/explanation/binding.md",
        ("hwnuma verify --gpus", "hwnuma verify --cpus 0-15 4711", "hwnuma verify --watch 10 4711"),
    ),
    "bind": CommandHelp(
        CHECK,
        "bind [options] PID…",
        "0 all are bound, 1 one could not be bound or placed, 2 nothing could be planned",
        "docs/explanation/binding.md",
        ("hwnuma bind --mode node 4711", "hwnuma bind --cpus 0-15 --all-threads 4711"),
    ),
}


class _Formatter(argparse.HelpFormatter):
    """What breaks sentences into lines, and leaves lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def formatter(prog: str) -> argparse.HelpFormatter:
    """What lays out ``--help``: as wide as the terminal, and no wider than 80 columns."""
    return _Formatter(prog, max_help_position=26, width=min(_WIDEST, width()))


def after_options(name: str) -> str:
    """What follows the options in a command's help."""
    said = HELP[name]
    parts = ("examples:", *(f"  {example}" for example in said.examples), "")
    return "\n".join((*parts, _wrapped(f"exit status: {said.statuses}"), f"documentation: {said.page}"))


def overview(about: str, commands: Mapping[str, str]) -> str:
    """What ``hwnuma --help`` says.

    Args:
        about: what hwnuma is for.
        commands: what each is for.
    """
    lines = ["usage: hwnuma COMMAND [options]", "", about]
    for group in dict.fromkeys(said.group for said in HELP.values()):
        lines += ["", f"{group}:"]
        lines += [_wrapped(f"  {name:10}{text}", 12) for name, text in commands.items() if HELP[name].group == group]
    lines += [
        "",
        "options:",
        "  -h, --help    what this says; hwnuma help COMMAND tells of a command",
        "  -V, --version the versions of hwnuma and libhwloc",
        "  --print-completion bash|zsh|fish",
        "                a script by which that shell completes hwnuma's command lines",
        "",
        "examples:",
        f"  {HELP['plan'].examples[0]}",
        f"  {HELP['exec'].examples[0]}",
        "",
        _wrapped(f"exit status: {_PLANNED}; of exec the command's own"),
        "documentation: docs/README.md, and the manual page hwnuma(1)",
        "",
    ]
    return "\n".join(lines)


def _wrapped(text: str, indent: int = 2) -> str:
    from textwrap import wrap  # only for help

    return "\n".join(wrap(text, min(_WIDEST, width()), subsequent_indent=" " * indent))
