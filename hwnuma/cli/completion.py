"""How bash, zsh and fish complete hwnuma's command lines: ``--print-completion``, by shtab when it is asked for."""

from __future__ import annotations

import argparse

from hwnuma.errors import OptionError

SHELLS = ("bash", "zsh", "fish")

# The metavars that stand for files.
_FILES = ("FILE", "FILE.xml")


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script by which a shell completes hwnuma's command lines.

    Args:
        parser: with every command and its options.
        shell: one of `SHELLS`.

    Raises:
        OptionError: there is no such shell, or shtab is not installed.
    """
    if shell not in SHELLS:
        raise OptionError(f"--print-completion: {shell!r} is neither {' nor '.join(SHELLS)}")
    try:
        import shtab  # only now: nobody else needs it
    except ImportError:
        raise OptionError(
            "--print-completion is made by shtab, which is not installed: pip install 'hwnuma[completion]'"
        ) from None
    _tell_of_values(parser, shtab.FILE)
    return str(shtab.complete(parser, shell=shell))


def _tell_of_values(parser: argparse.ArgumentParser, files: object) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                _tell_of_values(command, files)
        elif action.metavar in _FILES:
            action.complete = files  # type: ignore[attr-defined]  # where shtab looks for it
        else:
            action.choices = getattr(action, "words", None) or action.choices  # the words of hwnuma.cli.parsing
