"""The matrix of ``hwnuma bench`` as a heat map: SVG, or a page that holds it. Pure.

A cell's colour says how near the best it is, and its number stands in it: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from hwnuma.model.characters import printable
from hwnuma.model.measured import KINDS, Estimate, Measured
from hwnuma.model.value import Value
from hwnuma.report.bench import around
from hwnuma.report.layout import wrapped
from hwnuma.report.palette import BLACK, THEME, WHITE

_MARGIN, _CELL_WIDTH, _CELL_HEIGHT, _HEAD, _LINE, _CHARACTER = 24, 112, 44, 88, 19, 8
_LEAST_WIDTH = 960

# The palette's blue, of which white has none and the best cell all.
_DEEPEST = (0x00, 0x72, 0xB2)

# From so much of the blue on, white text has more contrast than black (WCAG 2.1: relative luminance below 0.18).
_TURN = 0.8


class Map(Value):
    """One matrix.

    Attributes:
        title: what it shows, with its unit.
        cells: the estimates, by CPU and memory node.
        unit: what they are multiplied with.
        most_is_best: whether the greatest is the best.
    """

    title: str
    cells: Mapping[tuple[int, int], Estimate]
    unit: float
    most_is_best: bool


def maps_of(found: Measured) -> list[Map]:
    """The matrices: each kind of bandwidth with all cores, and the latency idle and under load."""
    most = {node: len(cpus) for node, cpus in found.cpus}
    made = []
    for kind in KINDS:
        rows = [row for row in found.bandwidth if row.kind == kind and row.threads == most[row.cpu_node]]
        cells = {(row.cpu_node, row.memory_node): row.bytes_per_second for row in rows}
        made.append(Map(f"{kind}, all cores, GB/s", cells, 1e-9, most_is_best=True))
    for title, loaded in (("latency, idle, ns", False), ("latency, others read, ns", True)):
        cells = found.latency_of(loaded=loaded)
        made += [Map(title, cells, 1e9, most_is_best=False)] if cells else []
    return made


def heat_map_as_svg(found: Measured, command: str = "") -> str:
    """Draw the matrices as one SVG document.

    Args:
        found: what was measured.
        command: the command line that made it, to stand below; "" for none.
    """
    maps = maps_of(found)
    rows, columns = (sorted({pair[place] for each in maps for pair in each.cells}) for place in (0, 1))
    wide = _HEAD + len(columns) * _CELL_WIDTH + _MARGIN
    high = 3 * _LINE + len(rows) * _CELL_HEIGHT + _MARGIN
    across = max(1, (_LEAST_WIDTH - _MARGIN) // wide)
    width = max(_LEAST_WIDTH, _MARGIN + wide)
    drawn: list[str] = []
    for number, each in enumerate(maps):
        left, top = _MARGIN + number % across * wide, _MARGIN + 2 * _LINE + number // across * high
        drawn += [f'<g transform="translate({left} {top})">', *_map(each, rows, columns), "</g>"]
    height = _MARGIN + 2 * _LINE + -(-len(maps) // across) * high
    for sentence in (*found.verdict, "darker is better", f"made by: {command}" if command else ""):
        for line in wrapped(sentence, (width - 2 * _MARGIN) // _CHARACTER) if sentence else ():
            drawn.append(_words("text", _MARGIN, height, line))
            height += _LINE
    title = f"memory by NUMA node of {found.source}"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + _MARGIN}" width="{width}" '
            f'height="{height + _MARGIN}" role="img" aria-labelledby="title">',
            f'<title id="title">{_text(title)}</title>',
            f"<style>\n{_style()}</style>",
            f'<rect class="page" width="{width}" height="{height + _MARGIN}"/>',
            _words("text title", _MARGIN, _MARGIN + 16, title),
            *drawn,
            "</svg>",
            "",
        )
    )


def heat_map_as_html(found: Measured, command: str = "") -> str:
    """The same as a page that needs nothing else."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
    )
    title = _text(f"memory by NUMA node of {found.source}")
    return f"{head}<title>{title}</title>\n</head>\n<body>\n{heat_map_as_svg(found, command)}</body>\n</html>\n"


def _map(drawn: Map, rows: Sequence[int], columns: Sequence[int]) -> Iterator[str]:
    yield _words("text edge", 0, 14, drawn.title)
    for column, node in enumerate(columns):
        yield _words("faint", _HEAD + column * _CELL_WIDTH, 14 + _LINE, f"memory {node}")
    for row, node in enumerate(rows):
        top = 14 + int(1.5 * _LINE) + row * _CELL_HEIGHT
        yield _words("faint", 0, top + 26, f"CPUs {node}")
        for column, memory in enumerate(columns):
            cell = drawn.cells.get((node, memory))
            if cell is not None:
                yield from _cell(drawn, cell, _HEAD + column * _CELL_WIDTH, top)


def _cell(drawn: Map, cell: Estimate, left: int, top: int) -> Iterator[str]:
    medians = [each.median for each in drawn.cells.values()]
    part = cell.median / max(medians) if drawn.most_is_best else min(medians) / cell.median
    red, green, blue = (round(255 + part * (deepest - 255)) for deepest in _DEEPEST)
    about = f"{cell.low * drawn.unit:.3g} to {cell.high * drawn.unit:.3g}, best {cell.best * drawn.unit:.3g}"
    yield (
        f'<rect x="{left}" y="{top}" width="{_CELL_WIDTH - 4}" height="{_CELL_HEIGHT - 4}" rx="4" '
        f'fill="#{red:02x}{green:02x}{blue:02x}"><title>{_text(about)}</title></rect>'
    )
    ink = WHITE if part > _TURN else BLACK
    text = _text(around(cell, drawn.unit))
    yield f'<text x="{left + 6}" y="{top + 26}" fill="{ink}" style="fill: {ink}">{text}</text>'


def _style() -> str:
    paint = ((".page", "page"), (".text", "ink"), (".faint", "faint"))
    light, dark = ([f"{selector} {{ fill: {THEME[name][which]} }}" for selector, name in paint] for which in (0, 1))
    own = [
        "text { font: 13px monospace }",
        ".title { font-size: 20px; font-weight: bold }",
        ".edge { font-weight: bold }",
    ]
    return "\n".join((*own, *light, "@media (prefers-color-scheme: dark) {", *dark, "}", ""))


def _words(kind: str, x: int, y: int, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{_text(text)}</text>'


def _text(text: str) -> str:
    return escape(printable(text))
