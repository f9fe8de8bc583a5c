"""Names of files with the host's name in them, so that one command line names another file on each host of a job."""

from __future__ import annotations

import os

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def file_named(pattern: str, host: str | None = None) -> str:
    """Put the host's name into a file's: ``%N`` as Slurm's srun has it, ``%h`` as pdsh has it, ``%%`` for a percent.

    Args:
        pattern: the file's name with its folder.
        host: by default this machine's.

    Raises:
        OptionError: another pattern stands there, or the host has no name that a file could have.
    """
    pieces = pattern.split("%")
    named = [pieces.pop(0)]
    while pieces:
        piece = pieces.pop(0)
        if piece[:1] in ("N", "h"):
            named += _short_name(os.uname().nodename if host is None else host), piece[1:]
        elif not piece and pieces:  # %%
            named += "%", pieces.pop(0)
        else:
            raise OptionError(
                f"{shown('%' + piece[:1])} in the file's name {shown(pattern)} is none of its patterns: %N or %h is "
                "the host's short name, and %% a percent"
            )
    return "".join(named)


def _short_name(host: str) -> str:
    short = host.partition(".")[0]
    if not short or not _NAME_CHARACTERS.issuperset(short):
        raise OptionError(
            f"this host is called {shown(host)}, which cannot stand in a file's name: name the file whole"
        )
    return short
