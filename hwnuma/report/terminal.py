"""A picture as text: boxes of lines, a character a core, in colour where that is wanted. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hwnuma.report.layout import Metrics, Shape, laid_out
from hwnuma.report.palette import colour
from hwnuma.report.picture import CORE, DISALLOWED, RESERVED, UNUSED, Mark, Picture

# Narrower, nothing is readable.
_LEAST_WIDTH = 40

_STATES = {CORE: "■", UNUSED: "·", RESERVED: "▒", DISALLOWED: "╳"}  # noqa: RUF001 -- a cross is meant

# What stands for each character that ASCII lacks.
ASCII = {
    **dict.fromkeys("╭╮╰╯├┤┬┴┼", "+"),
    **dict.fromkeys("─", "-"),
    **dict.fromkeys("│", "|"),
    "■": "#",
    "·": ".",
    "▒": "%",
    "╳": "/",  # noqa: RUF001 -- likewise
}

# From the edges that meet in a character (up, down, left, right as 8, 4, 2, 1) to it.
_UP, _DOWN, _LEFT, _RIGHT = 8, 4, 2, 1
_LINES = {
    0b0011: "─", 0b0010: "─", 0b0001: "─", 0b1100: "│", 0b1000: "│", 0b0100: "│",
    0b0101: "╭", 0b0110: "╮", 0b1001: "╰", 0b1010: "╯",
    0b1101: "├", 0b1110: "┤", 0b0111: "┬", 0b1011: "┴", 0b1111: "┼",
}  # fmt: skip


def picture_as_text(picture: Picture, width: int = 80, *, colours: bool = False) -> str:
    """Draw a picture for a terminal or a log.

    Args:
        picture: what to draw.
        width: columns; nothing is wider, if they are at least 40.
        colours: colour the cores of each rank, by escape codes of 256 colours.

    Returns:
        The lines, without a newline at the end. Each rank's cores carry its number, whether in colour or not.
    """
    width = max(width, _LEAST_WIDTH)
    mark = max((len(mark.text) for mark in picture.marks), default=1)
    metrics = Metrics(
        character=1, line=1, side=2, top=1, bottom=1, cache_side=1, cache_top=1, cache_bottom=1, cell_width=mark,
        cell_height=1, across=1, down=0, cache_across=-1, cache_down=-1, device_height=1,
        device_padding=0, device_across=4, device_down=0, least_package=76,
    )  # fmt: skip
    shapes, height = laid_out(picture, width, metrics)
    canvas = _Canvas(height)
    for shape in shapes:
        canvas.draw(shape)
    return "\n".join(canvas.lines(colours=colours))


class _Canvas:
    """Characters in rows, with the lines of boxes that meet in them and the marks whose colours they have."""

    def __init__(self, height: int) -> None:
        self._characters: list[dict[int, str]] = [{} for _ in range(height)]
        self._edges: list[dict[int, int]] = [{} for _ in range(height)]
        self._marks: list[dict[int, Mark]] = [{} for _ in range(height)]

    def draw(self, shape: Shape) -> None:
        if shape.kind in ("package", "node", "cache"):
            self._box(shape)
        elif shape.kind in ("cell", "swatch"):
            state = _STATES[shape.cell.state] if shape.cell and not shape.mark else ""
            self._write(shape.x, shape.y, (shape.text or state).rjust(shape.width), shape.mark)
        else:
            for number, line in enumerate(shape.text.split("\n")):
                self._write(shape.x, shape.y + number, line)
        if shape.kind == "device" and shape.mark is not None:
            self._write(shape.x, shape.y, shape.text.partition("  ")[0], shape.mark)

    def _write(self, x: int, y: int, text: str, mark: Mark | None = None) -> None:
        for place, character in enumerate(text, x):
            self._characters[y][place] = character
            if mark is not None:
                self._marks[y][place] = mark

    def _box(self, shape: Shape) -> None:
        left, right, upper, lower = shape.x, shape.x + shape.width - 1, shape.y, shape.y + shape.height - 1
        for x in range(left, right):
            for y in (upper, lower):
                self._edge(x, y, _RIGHT)
                self._edge(x + 1, y, _LEFT)
        for y in range(upper, lower):
            for x in (left, right):
                self._edge(x, y, _DOWN)
                self._edge(x, y + 1, _UP)
        room = shape.width - 2
        if shape.kind != "cache":
            self._write(left + 1, upper, f" {shape.text} "[:room])
            return
        titles = (shape.text, shape.text.partition(" ")[0])
        self._write(left + 1, upper, next((title for title in titles if len(title) <= room), ""))

    def _edge(self, x: int, y: int, direction: int) -> None:
        self._edges[y][x] = self._edges[y].get(x, 0) | direction

    def lines(self, *, colours: bool) -> list[str]:
        rows = zip(self._edges, self._characters, self._marks, strict=True)
        return [_line({**_glyphs(edges), **characters}, marks if colours else {}) for edges, characters, marks in rows]


def _glyphs(edges: Mapping[int, int]) -> dict[int, str]:
    return {x: _LINES[directions] for x, directions in edges.items()}


def _line(characters: Mapping[int, str], marks: Mapping[int, Mark]) -> str:
    """One row, with an escape code where the colour changes."""
    written, last = [], None
    for x in range(max(characters, default=-1) + 1):
        mark = marks.get(x)
        if mark is not last:
            written.append(_escape(mark))
            last = mark
        written.append(characters.get(x, " "))
    return "".join(written).rstrip() + ("" if last is None else _escape(None))


def _escape(mark: Mark | None) -> str:
    if mark is None:
        return "\x1b[0m"
    paint = colour(mark.number)
    return f"\x1b[38;5;{paint.terminal_text};48;5;{paint.terminal}m"
