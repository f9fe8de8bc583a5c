"""argparse, fed from the tables of options. ``hwnuma exec`` does without, but for its help."""

from __future__ import annotations

import argparse
import sys

from hwnuma.cli.output import complain, write
from hwnuma.errors import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from hwnuma.model.option_table import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import SupportsWrite


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
    about = f"{option.about} [{option.variable}]".replace("%", "%%")
    if option.bare:
        parser.add_argument(option.flag, metavar=option.metavar, nargs="?", const=option.bare, help=about)
    elif option.metavar:
        parser.add_argument(option.flag, metavar=option.metavar, help=about)
    else:
        parser.add_argument(option.flag, action="store_const", const="1", help=about)


def format_option(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Add ``--format``; the first one is the default."""
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"default: {formats[0]}")
