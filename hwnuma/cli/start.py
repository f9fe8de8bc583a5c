"""Where the programs ``hwnuma`` and ``python -m hwnuma`` begin: the quick ways first.

``hwnuma exec`` runs once a worker, so nothing is imported here that it does not need.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; by default those of this process.

    Returns:
        The exit status; `exec` returns 126 or 127 for a command that cannot be run, and otherwise becomes it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["exec"]:
        from hwnuma.cli import exec as exec_command

        return exec_command.main(words[1:])
    from hwnuma.cli.main import main as whole

    return whole(words)
