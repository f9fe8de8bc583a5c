"""Where everything of a picture goes: boxes in boxes, in rows that fill a width. Pure.

One arithmetic for every drawing of fixed width. A terminal's unit is a character, and its boxes share their walls; an
SVG's unit is a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from hwnuma.model.value import Value
from hwnuma.report.picture import CacheBox, Cell, Device, Mark, NodeBox, PackageBox, Picture


class Metrics(Value):
    """How large things are, in a drawing's own unit.

    Attributes:
        character, line: the width of a character and the height of a line of text.
        side, top, bottom: of a package and a node: from its edge to what is in it.
        cache_side, cache_top, cache_bottom: the same of a cache.
        cell_width, cell_height: of a core, with what is between it and the next.
        across, down: between boxes beside and below each other.
        cache_across, cache_down: the same of caches.
        device_height, device_padding: of a device with one line, and how much wider than its text it is.
        device_across, device_down: between two.
        least_package: packages stand beside each other if each has at least this width.
    """

    character: int
    line: int
    side: int
    top: int
    bottom: int
    cache_side: int
    cache_top: int
    cache_bottom: int
    cell_width: int
    cell_height: int
    across: int
    down: int
    cache_across: int
    cache_down: int
    device_height: int
    device_padding: int
    device_across: int
    device_down: int
    least_package: int


class Shape(Value):
    """Something that is drawn.

    Attributes:
        kind: "package", "node", "cache" (boxes with a title), "cell", "device", "swatch", or "title", "facts", "text",
            "memory", "note" (text).
        x, y: its left upper corner.
        width, height: its size.
        text: what stands in it.
        mark: whose colour it has.
        cell: the core that it shows.
    """

    kind: str
    x: int
    y: int
    width: int
    height: int
    text: str = ""
    mark: Mark | None = None
    cell: Cell | None = None


Drawn = tuple[list[Shape], int]  # what is drawn, and how high it is


Inside = tuple[str, list[Shape], int]  # of a box: what stands on its edge and in it, and its height


def laid_out(picture: Picture, width: int, metrics: Metrics) -> Drawn:
    """Say where everything of a picture goes.

    Args:
        picture: what to draw.
        width: of the drawing.
        metrics: how large things are.

    Returns:
        The shapes, those that are drawn over others after them, and the drawing's height.
    """
    return _Layout(width, metrics).whole(picture)


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of so many characters: at spaces, and in a longer word after a comma or a slash."""
    lines, line = [], ""
    for word in text.split(" "):
        for piece in _pieces(word, width):
            joined = f"{line}{piece.glue}{piece.text}" if line else piece.text
            if line.strip() and len(joined.rstrip()) > width:
                lines.append(line.rstrip())
                joined = piece.text
            line = joined
    return [*lines, line.rstrip()]


class _Piece(Value):
    glue: str
    text: str


def _pieces(word: str, width: int) -> Iterator[_Piece]:
    """A word, or if it is too long for a line its parts, which go together without a space."""
    if len(word) <= width:
        yield _Piece(" ", word)
        return
    glue, rest = " ", word
    while rest:
        end = max(rest.rfind(",", 0, width), rest.rfind("/", 0, width)) + 1
        cut = len(rest) if len(rest) <= width else end or width
        yield _Piece(glue, rest[:cut])
        glue, rest = "", rest[cut:]


class _Layout:
    def __init__(self, width: int, metrics: Metrics) -> None:
        self._width, self._metrics = width, metrics

    def whole(self, picture: Picture) -> Drawn:
        m, y = self._metrics, 0
        shapes: list[Shape] = []
        for kind, text in (("title", picture.title), ("facts", picture.facts)):
            lines, height = self._lines(kind, [text], 0, y, self._width)
            shapes += lines
            y += height
        if m.line > 1:
            y += m.down
        packages, height = self._boxes(picture.packages, "package", self._package, 0, y, self._width)
        shapes += packages
        y += height + m.down
        legend, height = self._legend(picture, y)
        shapes += legend
        y += height
        notes, height = self._lines("note", picture.notes, 0, y, self._width)
        y += height + (m.down if picture.matrix else 0)
        for line in picture.matrix:
            notes.append(Shape("matrix", 0, y, len(line) * m.character, m.line, line))
            y += m.line
        return [*shapes, *notes], y

    # ---- boxes in rows ---------------------------------------------------------------------------------------

    def _boxes(
        self,
        items: Sequence[PackageBox | NodeBox],
        kind: str,
        draw: Callable[[PackageBox | NodeBox, int, int, int, int], Inside],
        x: int,
        y: int,
        width: int,
    ) -> Drawn:
        """Draw boxes in rows of as many as fit, all of one width, those of a row of one height."""
        m, shapes, start = self._metrics, list[Shape](), y
        least = max((self._least_width(item, width) for item in items), default=width)
        columns = _columns(len(items), least, m.across, width)
        each, spare = divmod(width + m.across, columns)
        each -= m.across
        on_edge = min((self._fit_on_edge(item, each) for item in items), default=0)  # the same on all
        for first in range(0, len(items), columns):
            row: list[tuple[int, int, Inside]] = []
            left = x
            for place, item in enumerate(items[first : first + columns]):
                wide = each + (1 if place < spare else 0)
                row.append((left, wide, draw(item, left, y, wide, on_edge)))
                left += wide + m.across
            height = max(height for *_, (_, _, height) in row)
            for left, wide, (title, inside, _) in row:
                shapes += [Shape(kind, left, y, wide, height, title), *inside]
            y += height + m.down
        return shapes, max(0, y - m.down - start)

    def _least_width(self, item: PackageBox | NodeBox, most: int) -> int:
        m = self._metrics
        if isinstance(item, PackageBox):
            return min(most, m.least_package)
        inside = most - 2 * m.side
        texts = [_title(item, 1)[0], item.memory, *(device.words for device in item.devices)]
        texts_width = max(len(text) for text in texts) * m.character + m.device_padding + 2 * m.side
        return min(most, max(texts_width, self._caches_width(item.caches, inside) + 2 * m.side))

    def _package(self, package: PackageBox | NodeBox, x: int, y: int, width: int, on_edge: int) -> Inside:
        assert isinstance(package, PackageBox)  # noqa: S101 -- for type checkers
        parts = (
            (0, lambda *place: self._boxes(package.nodes, "node", self._node, *place)),
            (self._metrics.down, lambda *place: self._lines("memory", package.memory_nodes, *place)),
        )
        return self._inside(_title(package, on_edge), parts, x, y, width)

    def _node(self, node: PackageBox | NodeBox, x: int, y: int, width: int, on_edge: int) -> Inside:
        assert isinstance(node, NodeBox)  # noqa: S101 -- for type checkers
        parts = (
            (0, lambda *place: self._caches(node.caches, *place)),
            (self._metrics.device_down, lambda *place: self._devices(node.devices, *place)),
        )
        return self._inside(_title(node, on_edge), parts, x, y, width)

    def _inside(
        self,
        title: tuple[str, list[str]],
        parts: Iterable[tuple[int, Callable[..., Drawn]]],
        x: int,
        y: int,
        width: int,
    ) -> Inside:
        """What is in a box: the facts that do not fit on its edge, then its parts, each after so much room."""
        m = self._metrics
        left, within, start = x + m.side, width - 2 * m.side, y
        y += m.top
        shapes, height = self._lines("text", title[1], left, y, within)
        y, above = y + height, 0
        for room, draw in parts:
            place = y + (room if above else 0)
            drawn, above = draw(left, place, within)
            shapes += drawn
            y = place + above if above else y
        return title[0], shapes, y + m.bottom - start

    def _fit_on_edge(self, box: PackageBox | NodeBox, width: int) -> int:
        """How many of a box's facts fit on its edge, beside its name."""
        m = self._metrics
        return max(
            count
            for count in range(len(_facts(box)) + 1)
            if not count or len(_title(box, count)[0]) * m.character + 2 * m.side <= width
        )

    # ---- caches, cores, devices ------------------------------------------------------------------------------

    def _cache_size(self, cache: CacheBox, most: int) -> tuple[int, int, int]:
        """How many cores of a cache go in a row, and the width and height of its box."""
        m = self._metrics
        fit = max(1, (most - 2 * m.cache_side) // m.cell_width)
        rows = -(-len(cache.cells) // fit)
        in_row = -(-len(cache.cells) // max(1, rows))
        height = m.cache_top + rows * m.cell_height + m.cache_bottom
        return in_row, in_row * m.cell_width + 2 * m.cache_side, height

    def _caches_width(self, caches: Sequence[CacheBox], most: int) -> int:
        """The width of all the caches, in one row if they fit."""
        m = self._metrics
        each = max((self._cache_size(cache, most)[1] for cache in caches), default=0)
        columns = _columns(len(caches), each, m.cache_across, most)
        return columns * (each + m.cache_across) - m.cache_across

    def _caches(self, caches: Sequence[CacheBox], x: int, y: int, width: int) -> Drawn:
        m, start = self._metrics, y
        each = max((self._cache_size(cache, width)[1] for cache in caches), default=0)
        columns = _columns(len(caches), each, m.cache_across, width)
        shapes: list[Shape] = []
        for first in range(0, len(caches), columns):
            row = caches[first : first + columns]
            height = max(self._cache_size(cache, width)[2] for cache in row)
            for place, cache in enumerate(row):
                left = x + place * (each + m.cache_across)
                shapes.append(Shape("cache", left, y, each, height, cache.label))
                shapes += self._cells(cache, left + m.cache_side, y + m.cache_top, width)
            y += height + m.cache_down
        return shapes, y - m.cache_down - start if caches else 0

    def _cells(self, cache: CacheBox, x: int, y: int, width: int) -> Iterator[Shape]:
        m = self._metrics
        in_row = max(1, self._cache_size(cache, width)[0])
        for place, cell in enumerate(cache.cells):
            row, column = divmod(place, in_row)
            left, upper = x + column * m.cell_width, y + row * m.cell_height
            text = cell.mark.text if cell.mark else ""
            yield Shape("cell", left, upper, m.cell_width, m.cell_height, text, cell.mark, cell)

    def _devices(self, devices: Sequence[Device], x: int, y: int, width: int) -> Drawn:
        m, start = self._metrics, y
        shapes: list[Shape] = []
        each = max((len(device.words) for device in devices), default=1) * m.character + m.device_padding
        rows: list[Sequence[Device]] = []
        for kind in ("GPU", "NIC"):  # in rows of their own
            alike = [device for device in devices if device.kind == kind]
            columns = _columns(len(alike), each, m.device_across, width)
            rows += [alike[first : first + columns] for first in range(0, len(alike), columns)]
        each = min(each, width)
        for row in rows:
            height = 0
            for place, device in enumerate(row):
                left = x + place * (each + m.device_across)
                lines = wrapped(device.words, max(1, (each - m.device_padding) // m.character))
                high = m.device_height + (len(lines) - 1) * m.line
                shapes.append(Shape("device", left, y, each, high, "\n".join(lines), device.mark))
                height = max(height, high)
            y += height + m.device_down
        return shapes, max(0, y - m.device_down - start)

    # ---- text ------------------------------------------------------------------------------------------------

    def _lines(self, kind: str, texts: Sequence[str], x: int, y: int, width: int) -> Drawn:
        m = self._metrics
        lines = [line for text in texts for line in wrapped(text, max(1, width // m.character))]
        shapes = [
            Shape(kind, x, y + number * m.line, len(line) * m.character, m.line, line)
            for number, line in enumerate(lines)
        ]
        return shapes, len(lines) * m.line

    def _legend(self, picture: Picture, y: int) -> Drawn:
        m, shapes, start = self._metrics, list[Shape](), y
        indent = m.cell_width + 2 * m.character
        for mark, cell, text in legend_rows(picture):
            shapes.append(
                Shape("swatch", m.character, y, m.cell_width, m.cell_height, mark.text if mark else "", mark, cell)
            )
            lines, height = self._lines("legend", [text], m.character + indent, y, self._width - indent - m.character)
            shapes += lines
            y += max(height, m.line)
        return shapes, y - start


def legend_rows(picture: Picture) -> Iterator[tuple[Mark | None, Cell | None, str]]:
    """What each mark, and each kind of core that no rank gets, stands for."""
    for mark in picture.marks:
        shared = "" if len(mark.ranks) == 1 else " shared"
        yield mark, None, f"{mark.about}  {_count(mark.cores, 'core')}{shared}  CPUs {mark.cpuset}"
    for state, cpuset in picture.others.items():
        cores = sum(1 for *_, cell in picture.cells() if cell.mark is None and cell.state == state)
        yield None, Cell(cpuset, state), f"{state}  {_count(cores, 'core')}  CPUs {cpuset}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _cpus(cpuset: object) -> str:
    return f"CPUs {cpuset}" if cpuset else ""


def _facts(box: PackageBox | NodeBox) -> list[str]:
    """What there is to say of a box beside its name."""
    memory = box.memory if isinstance(box, NodeBox) else ""
    return list(filter(None, (_cpus(box.cpuset), memory)))


def _title(box: PackageBox | NodeBox, on_edge: int) -> tuple[str, list[str]]:
    """What stands on the edge of a box, with so many of its facts, and those that go into it."""
    facts = _facts(box)
    return "  ".join((box.title, *facts[:on_edge])), facts[on_edge:]


def _columns(count: int, each: int, between: int, width: int) -> int:
    """How many of some boxes stand beside each other, the rows as equal as can be."""
    fit = max(1, min(count, (width + between) // max(1, each + between)))
    rows = -(-count // fit) or 1
    return max(1, -(-count // rows))
