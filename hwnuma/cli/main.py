"""The command line: ``hwnuma plan``, ``exec``, ``show`` and the others, from words to one of the `commands`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hwnuma.cli.commands import COMMANDS, TAKES_A_COMMAND
from hwnuma.cli.exit_status import DONE, NOTHING_PLANNED, fail, status_of
from hwnuma.cli.help import HELP, after_options, formatter, overview
from hwnuma.cli.options import check_variables, meant
from hwnuma.cli.output import say, write
from hwnuma.cli.parsing import Parser
from hwnuma.cli.terminal import write_what_it_can
from hwnuma.errors import HwnumaError, OptionError, show_messages, warn
from hwnuma.model.characters import printable

ABOUT = "Put every worker process on the CPUs and memory next to its GPU."


class _Overview(Parser):
    """The parser of all, whose help is the list of commands."""

    def format_help(self) -> str:
        """What ``hwnuma --help`` says."""
        return overview(ABOUT, {name: command.about for name, command in COMMANDS.items()})


class _CommandParser(Parser):
    """The parser of a command, whose help ends with examples."""

    def format_help(self) -> str:
        """What ``hwnuma COMMAND --help`` says."""
        self.epilog = after_options(self.prog.rpartition(" ")[2])
        return super().format_help()


def _parser(*names: str) -> tuple[Parser, list[str]]:
    """The parser, with the options of the commands that are to be parsed: others' would cost time for nothing.

    Returns:
        The parser, and the flags of these commands.
    """
    parser = _Overview(prog="hwnuma", allow_abbrev=False, formatter_class=formatter)
    parser.add_argument("-V", "--version", action="store_true", help="print the versions of hwnuma and libhwloc")
    parser.add_argument("--print-completion", metavar="SHELL", help="print a script that completes command lines")
    # With prog given, argparse does not make a formatter to find it out.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="hwnuma", parser_class=_CommandParser)
    flags: list[str] = []
    for each, command in COMMANDS.items():
        made = commands.add_parser(
            each, help=command.about, description=f"{command.about}.", allow_abbrev=False, formatter_class=formatter,
            usage=f"hwnuma {HELP[each].usage}",
        )  # fmt: skip
        if each in names:
            command.arguments(made)
            flags += made._option_string_actions
    return parser, flags


def whole_parser() -> Parser:
    """The parser with every command's options, for who tells of them all: shells that complete, and the manual page."""
    return _parser(*COMMANDS)[0]


def _parse(words: Sequence[str]) -> argparse.Namespace:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    name = next((word for word in words if not word.startswith("-")), "")
    if name not in COMMANDS and words[:1] == [name]:
        raise OptionError(
            f"invalid choice: there is no command {name!r}{meant(name, COMMANDS)} (choose from {', '.join(COMMANDS)})"
        )
    parser, flags = _parser(name)
    own, job = _apart(words) if name in TAKES_A_COMMAND else (words, None)
    parsed, unknown = parser.parse_known_args(own)
    parsed.job_words = job
    if unknown:
        help_of = f"see {parser.prog} {name} --help"
        raise OptionError(f"unrecognized arguments: {' '.join(unknown)}{meant(unknown[0], flags)} ({help_of})")
    return parsed


def _apart(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """The words ahead of the first ``--``, and those after it, of which argparse would take out another ``--``."""
    if "--" not in words:
        return words, None
    place = list(words).index("--")
    return words[:place], words[place + 1 :]


def main(words: Sequence[str]) -> int:
    """Run the command line.

    Args:
        words: its arguments, without the program's name.

    Returns:
        The exit status: 0 when all is done, 1 when some rank is not placed, 2 when nothing could be planned.
    """
    show_messages("hwnuma: ", printable)
    write_what_it_can()
    where = "hwnuma"
    try:
        parsed = _parse(words)
        parsed.words = words
        if parsed.print_completion is not None:
            return _print_completion(parsed.print_completion)
        if parsed.version or parsed.command is None:
            return _version() if parsed.version else _usage()
        where = f"hwnuma {parsed.command}"
        _refuse_two_forms(parsed)
        for sentence in check_variables(os.environ):
            warn(sentence)
        return COMMANDS[parsed.command].run(parsed, os.environ)
    except HwnumaError as error:
        return fail(where, error, status_of(error))
    except BrokenPipeError:  # whoever read the output has had enough
        return DONE


def _refuse_two_forms(parsed: argparse.Namespace) -> None:
    """Refuse a `--format` that a drawing would leave without effect.

    Raises:
        OptionError: both are asked for; `plan` alone writes a file and prints its text beside it.
    """
    said = vars(parsed)
    drawn = ("draw", "compare") if parsed.command == "plan" else ("output",)
    flags = [f"--{name}" for name in drawn if said.get(name)]
    if flags and said.get("format") is not None:
        raise OptionError(
            f"--format {said['format']} and {flags[0]} do not go together: one of them says what is written"
        )


def _print_completion(shell: str) -> int:
    from hwnuma.cli.completion import completion  # only for this

    write(completion(whole_parser(), shell))
    return DONE


def _usage() -> int:
    _parser()[0].print_help(sys.stderr)
    return NOTHING_PLANNED


def _version() -> int:
    from importlib.metadata import version

    from hwnuma.hwloc.library import RUNNING_VERSION, version_text

    say(f"hwnuma {version('hwnuma')}, libhwloc {version_text(RUNNING_VERSION)}")
    return DONE
