"""A table for people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Draw a table whose columns are as wide as what is in them: a set of CPUs is never cut."""
    from tabulate import tabulate  # only to draw one

    text = [["" if cell is None else str(cell) for cell in row] for row in rows]
    return tabulate(text, headers=headers, tablefmt="simple", disable_numparse=True)
