"""The reference page of the options and variables, from their declarations: ``python -m hwnuma.cli.reference``."""

from __future__ import annotations

from collections.abc import Sequence

from hwnuma.cli.options import BIND_OPTIONS, EXEC_OPTIONS, GPU_OPTIONS, OTHER_VARIABLES, PLAN_OPTIONS
from hwnuma.cli.processes import VERIFY_OPTIONS
from hwnuma.model.option_table import Option

_COMMANDS: dict[str, Sequence[Option]] = {
    "plan": PLAN_OPTIONS,
    "exec": EXEC_OPTIONS,
    "bind": BIND_OPTIONS,
    "verify": VERIFY_OPTIONS,
    "show": GPU_OPTIONS,
    "gpus": GPU_OPTIONS,
    "topo": GPU_OPTIONS,
}

_BEGINNING = """# Options and variables

Every option is also an environment variable: the command line precedes it, and an empty variable says nothing. This
page is written from the options' own declarations (`python -m hwnuma.cli.reference`).
"""


def takers() -> dict[Option, list[str]]:
    """Which commands take each option."""
    found: dict[Option, list[str]] = {}
    for command, options in _COMMANDS.items():
        for option in options:
            found.setdefault(option, []).append(command)
    return found


def page() -> str:
    """The page, in Markdown."""
    commands_of = takers()
    parts = [_BEGINNING]
    for group in dict.fromkeys(option.group for option in commands_of):
        parts.append(f"## {group[0].upper()}{group[1:]}\n\n| option | variable | meaning | such as | taken by |")
        parts.append("| --- | --- | --- | --- | --- |")
        parts += [_row(option, commands) for option, commands in commands_of.items() if option.group == group]
        parts.append("")
    parts.append("## Variables that are no options\n\n| variable | meaning |\n| --- | --- |")
    parts += [f"| `{name}` | {about} |" for name, about in OTHER_VARIABLES.items()]
    return "\n".join(parts) + "\n"


def _row(option: Option, commands: Sequence[str]) -> str:
    values = option.metavar.replace("|", "\\|")
    flag = f"`{option.flag}`" + (f" {values}" if values else "")
    return f"| {flag} | `{option.variable}` | {option.about} | `{option.example}` | {', '.join(commands)} |"


if __name__ == "__main__":
    print(page(), end="")
