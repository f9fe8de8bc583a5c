"""Write docs/reference/commands.md from what the command line declares: ``python docs/reference/commands_page.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hwnuma.cli.commands import COMMANDS
from hwnuma.cli.help import HELP
from hwnuma.cli.manual import own_actions
from hwnuma.cli.reference import takers

PAGE = Path(__file__).parent / "commands.md"
_ROOT = PAGE.parents[2]

_HEAD = """\
# Commands

What each command takes and what its exit status says, from its own declarations: this page is made by `python
docs/reference/commands_page.py`, and `hwnuma COMMAND --help` says the same. What an option means, and its
variable, is in [Options and variables](options.md); which error gives which status, in [Errors](errors.md).

## Exit status

| command | exit status |
| --- | --- |
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD.rstrip()]
    lines += [f"| [`hwnuma {name}`](#{_anchor(name)}) | {said.statuses} |" for name, said in HELP.items()]
    for name in HELP:
        lines += ["", *_section(name)]
    return "\n".join(lines) + "\n"


def _section(name: str) -> Iterator[str]:
    said = HELP[name]
    about = os.path.relpath(_ROOT / said.page, PAGE.parent)
    yield f"## hwnuma {name}"
    yield ""
    yield f"{COMMANDS[name].about}. More in [{Path(about).name}]({about})."
    yield ""
    yield from ("```text", f"hwnuma {said.usage}", "```")
    yield ""
    yield from ("```text", *said.examples, "```")
    shared = _shared(name)
    if shared:
        yield ""
        yield from ("| options of several commands | |", "| --- | --- |", *shared)
    own = [_row(names, about) for names, about in _own(name)]
    if own:
        yield ""
        yield from ("| its own | |", "| --- | --- |", *own)


def _shared(name: str) -> list[str]:
    """A row for each group of the options that several commands take."""
    flags: dict[str, list[str]] = {}
    for option, commands in takers().items():
        if name in commands:
            flags.setdefault(option.group, []).append(f"`{option.flag}`")
    return [f"| {group} | {', '.join(of)} |" for group, of in flags.items()]


def _own(name: str) -> Iterator[tuple[str, str]]:
    """What it takes beside those: its names with what follows them, and what it means."""
    for action in own_actions(name):
        words = ", ".join(action.option_strings) or str(action.metavar)
        choices = "|".join(map(str, action.choices)) if action.choices else ""
        value = action.metavar or choices if action.nargs != 0 else ""
        with_value = f"{words} {value}" if action.option_strings and value else words
        yield with_value, (action.help or "").replace("%%", "%")


def _row(names: str, about: str) -> str:
    first, second = (text.replace("|", "\\|") for text in (f"`{names}`", about))
    return f"| {first} | {second} |"


def _anchor(name: str) -> str:
    return f"hwnuma-{name}"


if __name__ == "__main__":
    PAGE.write_text(page())
