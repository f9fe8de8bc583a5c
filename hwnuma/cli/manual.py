"""The manual page hwnuma(1) in roff, from the declarations of the options: ``python -m hwnuma.cli.manual``."""

from __future__ import annotations

import argparse

from hwnuma.cli.commands import COMMANDS
from hwnuma.cli.help import HELP
from hwnuma.cli.main import ABOUT, whole_parser
from hwnuma.cli.options import OTHER_VARIABLES
from hwnuma.cli.reference import takers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hwnuma.model.option_table import Option


# Each of them is told of once, under its heading, with the commands that take it.
_OF_ALL = ("-h",)


def page() -> str:
    """The page."""
    lines = [
        '.TH HWNUMA 1 "" "hwnuma" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        "hwnuma \\- put every worker process on the CPUs and memory next to its GPU",
        ".SH SYNOPSIS",
        *(line for said in HELP.values() for line in (f".B hwnuma {_roff(said.usage)}", ".br")),
        ".SH DESCRIPTION",
        _roff(f"{ABOUT} It plans which rank gets which CPUs, binds processes, and reads back what the kernel did."),
        ".SH COMMANDS",
    ]
    lines += [line for name in COMMANDS for line in _command(name)]
    lines.append(".SH OPTIONS")
    lines += _options_of_commands()
    lines += [".SH ENVIRONMENT", "Every option is also a variable, as named beside it. Others are:"]
    for name, about in OTHER_VARIABLES.items():
        lines += [".TP", f".B {name}", _roff(about)]
    lines += [
        ".SH SEE ALSO",
        ".BR lstopo (1),",
        ".BR hwloc (7),",
        ".BR numactl (8),",
        ".BR sched_setaffinity (2),",
        ".BR set_mempolicy (2)",
    ]
    return "\n".join(lines) + "\n"


def _command(name: str) -> Iterator[str]:
    said = HELP[name]
    yield f".SS {name}"
    yield _roff(f"{COMMANDS[name].about}. Exit status: {said.statuses}. Documentation: {said.page}.")
    yield ".PP"
    yield ".nf"
    yield from (f"    {_roff(example)}" for example in said.examples)
    yield ".fi"
    for action in own_actions(name):
        names = ", ".join(action.option_strings) or str(action.metavar)
        value = f" {action.metavar}" if action.option_strings and action.metavar else ""
        yield from (".TP", f".B {_roff(names + value)}", _roff((action.help or "").replace("%%", "%")))


def own_actions(name: str) -> Iterator[argparse.Action]:
    """What a command takes beside the options of the tables."""
    parser = whole_parser()
    [commands] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    flags = {option.flag for option, by in takers().items() if name in by}
    for action in commands.choices[name]._actions:
        if not flags & {*action.option_strings} and not {*_OF_ALL} & {*action.option_strings}:
            yield action


def _options_of_commands() -> Iterator[str]:
    by = takers()
    for group in dict.fromkeys(option.group for option in by):
        yield f".SS {group[0].upper()}{group[1:]}"
        for option, commands in by.items():
            if option.group == group:
                yield from _option(option, commands)


def _option(option: Option, commands: list[str]) -> Iterator[str]:
    yield ".TP"
    yield f".B {_roff(' '.join(filter(None, (option.flag, option.metavar))))}"
    yield _roff(f"{option.about} (of {', '.join(commands)}; {option.variable})")


def _roff(text: str) -> str:
    """Text as roff has it: a hyphen of an option is one, and no line begins a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\&...").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    print(page(), end="")
