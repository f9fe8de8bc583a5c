"""Pictures as one HTML page that needs nothing else: no other file, no request, and no script to be read. Pure.

With a mouse or with the keyboard (Tab, then the arrow keys) it says of each core and device which CPUs it is, whose,
and why; the ranks' reasons stand in the page, so it says the same on paper. It flows: a telephone shows it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from hwnuma.model.characters import printable, printable_text
from hwnuma.report.layout import legend_rows
from hwnuma.report.palette import THEME, colours
from hwnuma.report.picture import CacheBox, Cell, Device, Mark, NodeBox, PackageBox, Picture
from hwnuma.report.svg import CLASSES, rank_styles

# Nothing may be fetched, whatever a name in a topology says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

_STYLE = """
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 90rem; background: var(--page); color: var(--ink);
  font: 14px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
h1 { font-size: 1.3rem; margin: 0 } h2, h3 { font-size: 1rem; margin: 0 0 .5rem } p { margin: .3rem 0 }
h2 small, h3 small, .facts, footer { color: var(--faint); font-weight: normal; font-size: 1em }
article { margin-bottom: 2.5rem } pre { font: inherit; overflow-x: auto }
.package, .node, .cache { border: 1px solid var(--edge); border-radius: 6px; padding: .6rem }
.package { background: var(--outer); margin: .8rem 0 } .node { background: var(--inner); flex: 1 1 17rem }
.nodes, .caches, .cells, .devices { display: flex; flex-wrap: wrap; gap: .6rem }
.caches { gap: 5px } .cells { gap: 1px } .devices { gap: .4rem; margin-top: .5rem }
.cache { background: var(--outer); padding: 2px 4px 4px } .cache > span { color: var(--faint) }
button { font: inherit; color: inherit; border: 1px solid transparent; padding: 0; cursor: default }
.cell { width: 15px; height: 20px; border-radius: 3px; font-weight: bold; font-size: 13px }
.wide .cell { width: 30px } .memory { white-space: nowrap }
@media (max-width: 40rem) { .cell { width: 22px; height: 26px } }
.device { border-color: var(--edge); border-radius: 4px; padding: .1rem .5rem; background: var(--outer);
  text-align: left }
.core, .unused { background: var(--core) } .reserved { background: var(--reserved) }
.disallowed { background: var(--page); border: 1px dashed var(--edge) }
button:focus-visible, button:hover { outline: 3px solid var(--ink); outline-offset: 1px;
  position: relative; z-index: 1 }
.dim .cell:not(.same), .dim .device:not(.same) { opacity: .35 }
ul { list-style: none; padding: 0; margin: .8rem 0 } li { display: flex; gap: .8rem; margin: .2rem 0 }
li b { flex: none; width: 1.6rem; height: 1.35rem; border-radius: 3px; text-align: center }
li small { display: block; color: var(--faint) }
#details { position: sticky; bottom: 0; display: block; min-height: 3.6rem; max-height: 40vh; overflow: auto;
  padding: .5rem .7rem; background: var(--page); border: 1px solid var(--edge); border-radius: 6px }
@media print {
  body { max-width: none; font-size: 10px; padding: 0 } #details { display: none }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } .node, li { break-inside: avoid }
}
"""

_HOW = "Point at a core or a device, or press Tab and the arrow keys: which CPUs, and why."

_SCRIPT = """
const details = document.getElementById("details"), start = details.textContent;
const parts = [...document.querySelectorAll("button")];
function tell(part) {
  const picture = part.closest("article"), mark = part.dataset.mark;
  const row = mark && document.getElementById(mark);
  details.textContent = part.getAttribute("aria-label");
  for (const why of row ? row.querySelectorAll("small") : [])
    details.append(document.createElement("br"), why.textContent);
  picture.classList.toggle("dim", Boolean(mark));
  for (const other of picture.querySelectorAll("button")) other.classList.toggle("same", other.dataset.mark === mark);
}
function forget() {
  details.textContent = start;
  for (const picture of document.querySelectorAll(".dim")) picture.classList.remove("dim");
}
function go(from, step, whole) {
  const group = parts[from].parentElement;
  let to = from + step;
  while (whole && parts[to] && parts[to].parentElement === group) to += step;
  if (!parts[to]) return;
  parts[from].tabIndex = -1;
  parts[to].tabIndex = 0;
  parts[to].focus();
}
parts.forEach((part, number) => {
  part.addEventListener("mouseenter", () => tell(part));
  part.addEventListener("mouseleave", () => document.activeElement.closest("button")
    ? tell(document.activeElement) : forget());
  part.addEventListener("focus", () => tell(part));
  part.addEventListener("blur", forget);
  part.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") part.blur();
    if (!step) return;
    event.preventDefault();
    go(number, step, event.key === "ArrowDown" || event.key === "ArrowUp");
  });
});
if (parts.length) parts[0].tabIndex = 0;
"""


def pictures_as_html(pictures: Sequence[Picture], command: str = "") -> str:
    """Draw pictures as one page.

    Args:
        pictures: what to draw, below each other.
        command: the command line that made it, to stand below; "" for none.

    Returns:
        The document, with a newline at the end.
    """
    title = pictures[0].title if len(pictures) == 1 else f"{len(pictures)} modes"
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        f"<title>{_text(title)}</title>",
        f"<style>{_style()}</style>",
        "</head>",
        "<body>",
        "<main>",
    ]
    for number, picture in enumerate(pictures):
        lines += _picture(picture, f"p{number}-")
    lines += [
        "</main>",
        f'<output id="details">{_HOW}</output>',
        f"<footer>made by: {_text(command)}</footer>" if command else "",
        f"<script>{_SCRIPT}</script>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(line for line in lines[:-1] if line) + "\n"


def _style() -> str:
    # The ranks' colours come last: they count for a device too.
    light, dark = (
        ":root {" + "".join(f" --{name}: {both[which]};" for name, both in THEME.items()) + " }" for which in (0, 1)
    )
    ranks = "\n".join(rank_styles())
    return f"\n{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}{_STYLE}{ranks}\n"


def _text(text: str) -> str:
    return escape(printable(text))


def _picture(picture: Picture, ids: str) -> Iterator[str]:
    wide = ' class="wide"' if any(len(mark.text) > 1 for mark in picture.marks) else ""
    yield f'<article{wide}><h1>{_text(picture.title)}</h1><p class="facts">{_text(picture.facts)}</p>'
    for package in picture.packages:
        yield from _package(package, ids)
    yield "<ul>"
    for mark, cell, text in legend_rows(picture):
        yield _legend_row(picture, mark, cell, text, ids)
    yield "</ul>"
    yield from (f"<p>{_text(note)}</p>" for note in picture.notes)
    if picture.matrix:
        yield f"<pre>{escape(printable_text(picture.matrix))}</pre>"
    yield "</article>"


def _package(package: PackageBox, ids: str) -> Iterator[str]:
    yield f'<section class="package"><h2>{_title(package.title, str(package.cpuset))}</h2><div class="nodes">'
    for node in package.nodes:
        yield from _node(node, ids)
    yield "</div>"
    yield from (f"<p>{_text(sentence)}</p>" for sentence in package.memory_nodes)
    yield "</section>"


def _node(node: NodeBox, ids: str) -> Iterator[str]:
    yield f'<section class="node"><h3>{_title(node.title, str(node.cpuset), node.memory)}</h3><div class="caches">'
    yield from (_cache(cache, ids) for cache in node.caches)
    yield "</div>"
    for kind in dict.fromkeys(device.kind for device in node.devices):
        alike = (_device(device, ids) for device in node.devices if device.kind == kind)
        yield f'<div class="devices">{"".join(alike)}</div>'
    yield "</section>"


def _title(name: str, cpus: str, memory: str = "") -> str:
    facts = f"CPUs {_text(cpus)} " if cpus else ""
    return f'{_text(name)} <small>{facts}<span class="memory">{_text(memory)}</span></small>'


def _cache(cache: CacheBox, ids: str) -> str:
    label = f"<span>{_text(cache.label)}</span>" if cache.label else ""
    return (
        f'<div class="cache">{label}<div class="cells">{"".join(_cell(cell, ids) for cell in cache.cells)}</div></div>'
    )


def _cell(cell: Cell, ids: str) -> str:
    return _button(f"cell {CLASSES[cell.state]}", cell.mark, cell.about, cell.mark.text if cell.mark else "", ids)


def _device(device: Device, ids: str) -> str:
    return _button("device", device.mark, device.words, device.words, ids)


def _button(kind: str, mark: Mark | None, about: str, text: str, ids: str) -> str:
    whose = ""
    if mark is not None:
        kind = f"{kind.split()[0]} {_painted(mark)}"
        whose = f' data-mark="{ids}{mark.text}"'
    return (
        f'<button type="button" tabindex="-1" class="{kind}"{whose} aria-label="{_text(about)}">{_text(text)}</button>'
    )


def _painted(mark: Mark) -> str:
    number = mark.number % len(colours())
    return f"r{number} t{number}"


def _legend_row(picture: Picture, mark: Mark | None, cell: Cell | None, text: str, ids: str) -> str:
    if mark is None:
        state = CLASSES[cell.state] if cell is not None else ""
        return f'<li><b class="{state}"></b><span>{_text(text)}</span></li>'
    why = "".join(f"<small>{_text(picture.reasons[rank])}</small>" for rank in mark.ranks)
    return f'<li id="{ids}{mark.text}"><b class="{_painted(mark)}">{mark.text}</b><span>{_text(text)}{why}</span></li>'
