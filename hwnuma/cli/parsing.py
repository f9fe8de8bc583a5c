"""argparse, fed from the tables of options. ``hwnuma exec`` does without, but for its help."""

from __future__ import annotations

import argparse
import sys

from hwnuma.cli.output import complain, write
from hwnuma.errors import OptionError
from hwnuma.model.options import AffinityMode

# The heading of what a command writes.
OUTPUT = "what is written"

# More of them are no metavar, but a sentence.
_MOST_WORDS = 3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from _typeshed import SupportsWrite

    from hwnuma.model.option_table import Option


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Write the help as all else is written, so that a full disk is told."""
        if file is sys.stderr:
            for line in message.rstrip("\n").split("\n"):
                complain(line)
        else:
            write(message)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise OptionError(f"{message} (see {self.prog} --help)")


def add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Add options to a parser, each under its heading; it only collects texts, which the library converts."""
    for group in dict.fromkeys(option.group for option in options):
        heading = parser.add_argument_group(group)
        for option in options:
            if option.group == group:
                _add_option(heading, option)


def _add_option(parser: argparse._ArgumentGroup, option: Option) -> None:
    metavar, values = _short_metavar(option)
    about = f"{option.about}{values} [{option.variable}]".replace("%", "%%")
    choices = _one_word_of(option)
    if option.bare:
        added = parser.add_argument(option.flag, metavar=metavar, nargs="?", const=option.bare, help=about)
    elif option.metavar:
        added = parser.add_argument(option.flag, metavar=metavar, help=about)
    else:
        added = parser.add_argument(option.flag, action="store_const", const="1", help=about)
    added.words = choices  # type: ignore[attr-defined]  # for shells that complete them


def _short_metavar(option: Option) -> tuple[str, str]:
    """What stands for the value, and which values there are where that would be too long for it."""
    words = option.metavar.replace("|", ",").split(",")
    if len(words) <= _MOST_WORDS:
        return option.metavar, ""
    return option.name.rpartition("_")[2].upper(), f": {', '.join(words[:-1])} or {words[-1]}"


def _one_word_of(option: Option) -> tuple[str, ...]:
    """The words of which the value is one; none if it may be another."""
    words = tuple(option.metavar.split("|"))
    return words if len(words) > 1 and option.metavar.islower() else ()


def format_option(parser: argparse._ActionsContainer, formats: Sequence[str]) -> None:
    """Add ``--format``; the first one is the default, and stands for saying nothing."""
    about = f"{', '.join(formats[:-1])} or {formats[-1]} (default: {formats[0]})"
    parser.add_argument("--format", choices=formats, metavar="FORMAT", help=about)


def output_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--output``."""
    about = (
        "draw to a file: .svg, .html (one page that needs nothing else), .png or .pdf, or .xml (the topology, for "
        "lstopo FILE.xml)"
    )
    parser.add_argument("--output", metavar="FILE", help=about)


def modes_of(text: str) -> list[AffinityMode]:
    """Read ``--compare``: modes with commas between them, or ``all``."""
    names = [mode.value for mode in AffinityMode] if text == "all" else text.split(",")
    return [AffinityMode(name.strip()) for name in dict.fromkeys(names)]
