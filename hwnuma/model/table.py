"""A table for people."""

from __future__ import annotations

from hwnuma.model.characters import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table_lines(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Draw a table whose columns are as wide as what is in them: a set of CPUs is never cut. Each row is one line."""
    from tabulate import tabulate  # only to draw one

    text = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    return tabulate(text, headers=headers, tablefmt="simple", disable_numparse=True).split("\n")
