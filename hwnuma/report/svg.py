"""A picture as SVG: a file for slides, documentation and browsers. Pure, and nothing but the standard library.

Text stays text. Colours follow the reader's choice of light or dark where the program that shows it knows one; what
turns an SVG into PNG or PDF does not, and draws it light. The font is one of fixed width, so that what is measured here
is what is drawn there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from hwnuma.model.characters import printable
from hwnuma.report.layout import Metrics, Shape, laid_out, wrapped
from hwnuma.report.palette import THEME, colours
from hwnuma.report.picture import CORE, DISALLOWED, RESERVED, UNUSED, Picture

WIDTH = 1440

# Pixels. Fonts of fixed width have characters of 0.60 to 0.62 of their size: a 13-pixel one, of at most 8.
_FONT = 13
_METRICS = Metrics(
    character=8, line=19, side=12, top=30, bottom=12, cache_side=4, cache_top=20, cache_bottom=4, cell_width=16,
    cell_height=18, across=12, down=12, cache_across=6, cache_down=6, device_height=24, device_padding=16,
    device_across=8, device_down=6, least_package=1200,
)  # fmt: skip
_MARGIN = 24

# How many characters a line of text has.
COLUMNS = (WIDTH - 2 * _MARGIN) // _METRICS.character

CLASSES = {CORE: "core", UNUSED: "unused", RESERVED: "reserved", DISALLOWED: "disallowed"}

# What is coloured how: a class, which of its properties, and a name in THEME.
_PAINT = (
    (".page, .disallowed", "fill", "page"),
    (".text", "fill", "ink"),
    (".faint", "fill", "faint"),
    (".package, .cache, .device", "fill", "outer"),
    (".node", "fill", "inner"),
    (".package, .node, .cache, .device, .disallowed", "stroke", "edge"),
    (".core, .unused", "fill", "core"),
    (".reserved", "fill", "reserved"),
)


def pictures_as_svg(pictures: Sequence[Picture], command: str = "") -> str:
    """Draw pictures below each other as one SVG document.

    Args:
        pictures: what to draw.
        command: the command line that made it, to stand below; "" for none.

    Returns:
        The document, with a newline at the end.
    """
    width, height, groups = WIDTH - 2 * _MARGIN, _MARGIN, list[str]()
    for picture in pictures:
        shapes, high = laid_out(picture, width, _METRICS)
        groups += _group(shapes, height)
        height += high + _MARGIN
    lines = wrapped(f"made by: {command}", width // _METRICS.character) if command else []
    made_by = [Shape("made by", 0, number * _METRICS.line, width, 0, line) for number, line in enumerate(lines)]
    groups += _group(made_by, height)
    height += len(lines) * _METRICS.line + (_MARGIN if lines else 0)
    title = "; ".join(f"{picture.title}: {picture.facts}" for picture in pictures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f'<title id="title">{_text(title)}</title>',
        f"<style>\n{_style()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        *groups,
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _group(shapes: Sequence[Shape], y: int) -> list[str]:
    inside = [line for shape in shapes for line in _drawn(shape)]
    # Runs of spaces stand between what a line says: not every program knows CSS's white-space.
    return [f'<g transform="translate({_MARGIN} {y})" xml:space="preserve">', *inside, "</g>"]


def rank_styles() -> Iterator[str]:
    """The style rules of the ranks' colours, which are the same in light and in dark."""
    for number, colour in enumerate(colours()):
        yield f".r{number} {{ fill: {colour.red_green_blue}; background: {colour.red_green_blue} }}"
        yield f".t{number} {{ fill: {colour.text}; color: {colour.text} }}"


def _style() -> str:
    lines = [
        f"text {{ font: {_FONT}px monospace }}",
        ".title { font-size: 20px; font-weight: bold }",
        ".edge { font-weight: bold }",
        ".mark { font-weight: bold; text-anchor: middle }",
        ".disallowed { stroke-dasharray: 2 2 }",
        *(f"{selector} {{ {what}: {THEME[name][0]} }}" for selector, what, name in _PAINT),
        *rank_styles(),
        "@media (prefers-color-scheme: dark) {",
        *(f"{selector} {{ {what}: {THEME[name][1]} }}" for selector, what, name in _PAINT),
        *rank_styles(),
        "}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _text(text: str) -> str:
    """Text from outside as an XML document may have it (`printable` has made escapes of what it may not)."""
    return escape(printable(text))


def _words(kind: str, x: int, y: int, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{_text(text)}</text>'


def _box(kind: str, shape: Shape, radius: int) -> str:
    place = f'x="{shape.x}" y="{shape.y}" width="{shape.width}" height="{shape.height}"'
    return f'<rect class="{kind}" {place} rx="{radius}"/>'


def _drawn(shape: Shape) -> Iterator[str]:
    if shape.kind in ("package", "node"):
        yield _box(shape.kind, shape, 6)
        yield _words("text edge", shape.x + _METRICS.side, shape.y + 20, shape.text)
    elif shape.kind == "cache":
        yield _box("cache", shape, 3)
        fits = len(shape.text) * _METRICS.character <= shape.width - 2 * _METRICS.cache_side
        label = shape.text if fits else shape.text.partition(" ")[0]
        yield _words("faint", shape.x + _METRICS.cache_side + 1, shape.y + 14, label)
    elif shape.kind in ("cell", "swatch"):
        yield from _cell(shape)
    elif shape.kind == "device":
        yield from _device(shape)
    elif shape.kind == "title":
        yield _words("text title", shape.x, shape.y + 16, shape.text)
    else:
        yield _words("faint" if shape.kind in ("facts", "made by") else "text", shape.x, shape.y + 14, shape.text)


def _cell(shape: Shape) -> Iterator[str]:
    """A core, which says in a browser whose it is when the mouse is over it."""
    state = CLASSES[shape.cell.state] if shape.cell is not None else ""
    kind = f"r{shape.mark.number % len(colours())}" if shape.mark is not None else state
    about = f"<title>{_text(shape.cell.about)}</title>" if shape.cell is not None and shape.kind == "cell" else ""
    place = f'x="{shape.x}" y="{shape.y}" width="{shape.width - 1}" height="{shape.height - 1}"'
    yield f'<rect class="{kind}" {place} rx="2">{about}</rect>' if about else f'<rect class="{kind}" {place} rx="2"/>'
    if shape.mark is not None:
        middle = shape.x + shape.width // 2
        yield _words(f"mark t{shape.mark.number % len(colours())}", middle, shape.y + 13, shape.text)


def _device(shape: Shape) -> Iterator[str]:
    kind, ink = "device", "text"
    if shape.mark is not None:
        kind, ink = (f"{letter}{shape.mark.number % len(colours())}" for letter in "rt")
    yield _box(kind, shape, 4)
    for number, line in enumerate(shape.text.split("\n")):
        yield _words(ink, shape.x + 8, shape.y + 16 + number * _METRICS.line, line)
