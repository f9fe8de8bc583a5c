"""Draw the wings and the imports between them: ``python docs/developers/draw_architecture.py`` writes architecture.svg.

The floors are those of import-linter's contract in pyproject.toml, the arrows are the imports that grimp finds in the
code, and the rooms are the modules. An arrow that others imply (a to b to c, and a to c) is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PICTURE = Path(__file__).parent / "architecture.svg"

WIDTH, MARGIN, GAP, FLOOR_GAP, HEAD, LINE = 960, 24, 24, 46, 30, 17
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1b1f24 }
  .room { font-size: 12.5px; fill: #57606a }
  .wing { font-weight: 600 }
  rect { fill: #f6f8fa; stroke: #57606a; rx: 6px }
  path { fill: none; stroke: #0969da; stroke-width: 1.4; marker-end: url(#tip) }
  #tip path { fill: #0969da; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .room { fill: #9198a1 } rect { fill: #161b22; stroke: #9198a1 }
    path { stroke: #58a6ff } #tip path { fill: #58a6ff }
  }
"""


def floors() -> list[list[str]]:
    """The wings, floor by floor from above, as the contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[wing.strip().removeprefix("hwnuma.") for wing in layer.split("|")] for layer in layers]


def rooms_of(wing: str) -> list[str]:
    """The modules of a wing."""
    return sorted(path.stem for path in (ROOT / "hwnuma" / wing).glob("*.py") if path.stem != "__init__")


def arrows(wings: list[str]) -> set[tuple[str, str]]:
    """The imports between wings, less those that others imply."""
    graph = grimp.build_graph("hwnuma", cache_dir=None)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = tuple([*name.split("."), ""][1] for name in (module, imported))
            if pair[0] != pair[1] and set(pair) <= set(wings):
                found.add(pair)
    reachable = set(found)
    for through in wings:
        reachable |= {(a, c) for a, b in reachable if b == through for b2, c in reachable if b2 == through}
    return {(a, c) for a, c in found if not any((a, b) in found and (b, c) in reachable for b in wings)}


def picture() -> str:
    """The drawing, as SVG."""
    plan = floors()
    boxes: dict[str, tuple[float, float, float, float]] = {}
    y = float(MARGIN)
    for floor in plan:
        width = (WIDTH - 2 * MARGIN - GAP * (len(floor) - 1)) / len(floor)
        columns = max(1, int(width // 130))
        height = max(HEAD + LINE * -(-len(rooms_of(wing)) // columns) for wing in floor)
        for place, wing in enumerate(floor):
            boxes[wing] = (MARGIN + place * (width + GAP), y, width, height + (8 if height > HEAD else 0))
        y += height + 8 + FLOOR_GAP
    wings = [wing for floor in plan for wing in floor]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - FLOOR_GAP + MARGIN:g}" role="img">',
        "<title>The wings of hwnuma: an import goes down only</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        *(_arrow(boxes, plan, above, below) for above, below in sorted(arrows(wings))),
        *(line for wing in wings for line in _box(wing, boxes[wing])),
        "</svg>\n",
    ]
    return "\n".join(lines)


def _box(wing: str, box: tuple[float, float, float, float]) -> Iterator[str]:
    x, y, width, height = box
    rooms = rooms_of(wing)
    yield f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
    yield f'<text class="wing" x="{x + 10:g}" y="{y + 20:g}">{escape(wing)}{"/" if rooms else ""}</text>'
    columns = max(1, int(width // 130))
    for number, room in enumerate(rooms):
        column, row = number % columns, number // columns
        left, top = x + 10 + column * (width - 10) / columns, y + HEAD + 8 + LINE * row
        yield f'<text class="room" x="{left:g}" y="{top:g}">{escape(room)}</text>'


def _arrow(boxes: dict[str, tuple[float, float, float, float]], plan: list[list[str]], above: str, below: str) -> str:
    """A curve from the upper box to the lower one; past a floor it goes through a gap between that floor's boxes."""
    x1, y1, w1, h1 = boxes[above]
    x2, y2, w2, _ = boxes[below]
    start, end = x1 + w1 / 2, x2 + w2 / 2
    if w1 > w2:  # leave a wide box above the narrow one
        start = min(max(end, x1 + 20), x1 + w1 - 20)
    else:
        end = min(max(start, x2 + 20), x2 + w2 - 20)
    levels = {wing: level for level, floor in enumerate(plan) for wing in floor}
    points = [(start, y1 + h1)]
    for level in range(levels[above] + 1, levels[below]):
        gap = min(_gaps(boxes, plan[level]), key=lambda x: abs(x - end))
        top, bottom = boxes[plan[level][0]][1], boxes[plan[level][0]][1] + boxes[plan[level][0]][3]
        points += [(gap, top - 4), (gap, bottom + 4)]
    points.append((end, y2 - 2))
    curve = "".join(
        f" C{ax:g} {(ay + by) / 2:g} {bx:g} {(ay + by) / 2:g} {bx:g} {by:g}" for (ax, ay), (bx, by) in pairwise(points)
    )
    return f'<path d="M{points[0][0]:g} {points[0][1]:g}{curve}"/>'


def _gaps(boxes: dict[str, tuple[float, float, float, float]], floor: list[str]) -> list[float]:
    """The middles of the gaps between a floor's boxes, and of the margins beside them."""
    inner = [boxes[wing][0] - GAP / 2 for wing in floor[1:]]
    return [MARGIN / 2, *inner, WIDTH - MARGIN / 2]


if __name__ == "__main__":
    PICTURE.write_text(picture())
