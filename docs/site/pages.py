"""What the site is made of: the pages of docs/, as they are on GitHub, laid out for Sphinx.

The list of pages is docs/README.md: its headings are the groups of the menu, its links the pages, those outside
of docs/ too (CONTRIBUTING.md). A link works on GitHub as it stands; here it is made to work on the site:

- to a page: the page, wherever it is laid;
- to a JSON Schema: the whole one, which needs no other file;
- to a picture: two of them, one for each theme, since a picture itself knows only what the system prefers;
- to any other file of the repository: that file at the repository's own address.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from hwnuma.report.json_schema import PRINTED_BY, json_schema

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
SCHEMAS = ROOT / "hwnuma" / "report" / "schemas"

# A fence to its end; inline code; or a link or picture: its mark, text, target and anchor.
_PIECE = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[ \t]*$"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
    r"|(?P<link>!?\[(?:`[^`]*`|[^\]`])*\])\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)
_DARK = "@media (prefers-color-scheme: dark)"


class PageError(Exception):
    """A page cannot be laid out: what it links to is not there, or it is in no list."""


def lay_out(folder: Path, repository: str) -> None:
    """Write what Sphinx reads: pages, pictures, downloads and schemas.

    Args:
        folder: where, an empty one.
        repository: the address of the repository, for links to files that are no pages.

    Raises:
        PageError: a page links to what is not there, or is not in docs/README.md.
    """
    layout = _Layout(folder, repository)
    for page in layout.pages:
        layout.lay_page(page)
    for name in PRINTED_BY:
        layout.write(f"files/schemas/{name}.schema.json", json.dumps(json_schema(name), indent=2) + "\n")


class _Layout:
    """The laying out of all pages, which knows where each goes."""

    def __init__(self, folder: Path, repository: str) -> None:
        self._folder, self._repository = folder, repository
        self.pages = {INDEX: "index.md"} | {page: _place(page) for page in _listed()}
        missing = [page for page in DOCS.rglob("*.md") if page not in self.pages]
        if missing:
            names = ", ".join(str(page.relative_to(ROOT)) for page in sorted(missing))
            raise PageError(f"docs/README.md is the list of pages, and does not link to {names}")

    def lay_page(self, page: Path) -> None:
        """Write a page with its links as the site needs them; the index with the menu, too."""
        text = _PIECE.sub(lambda piece: self._piece(page, piece), page.read_text())
        self.write(self.pages[page], text + (self._menu() if page == INDEX else ""))

    def write(self, place: str, content: str) -> None:
        """Write a file."""
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def _piece(self, page: Path, piece: re.Match[str]) -> str:
        link, target, anchor = piece["link"], piece["target"], piece["anchor"] or ""
        if not target or ":" in target:  # code, this same page, or another's address
            return piece[0]
        path = Path(os.path.normpath(page.parent / target))
        if not path.exists():
            raise PageError(f"{page.relative_to(ROOT)} links to {target}, which is not there")
        if link.startswith("!"):
            return self._picture(page, path, link[2:-1])
        return f"{link}({self._address(page, path)}{anchor})"

    def _address(self, page: Path, path: Path) -> str:
        if path in self.pages:
            return self._from(page, self.pages[path])
        if path.parent == SCHEMAS:
            return self._from(page, f"files/schemas/{path.name}")
        if path.is_relative_to(DOCS) and path.is_file():
            self.write(_place(path), path.read_text())
            return self._from(page, _place(path))
        return f"{self._repository}/{'tree' if path.is_dir() else 'blob'}/main/{path.relative_to(ROOT)}"

    def _picture(self, page: Path, path: Path, text: str) -> str:
        picture, place = path.read_text(), _place(path)
        if _DARK not in picture:
            self.write(place, picture)
            return f"![{text}]({self._from(page, place)})"
        shown = []
        for theme, when in (("light", "@media not all"), ("dark", "@media all")):
            themed = f"{place.removesuffix(path.suffix)}.{theme}{path.suffix}"
            self.write(themed, picture.replace(_DARK, when))
            shown.append(f"![{text}]({self._from(page, themed)}){{.only-{theme}}}")
        return "".join(shown)

    def _from(self, page: Path, place: str) -> str:
        return os.path.relpath(place, Path(self.pages[page]).parent)

    def _menu(self) -> str:
        parts = []
        for caption, links in _groups():
            entries = [f"{text} <{self.pages[page].removesuffix('.md')}>" for text, page in links]
            said = [f":caption: {caption}"] if caption else []
            parts += ["", "```{toctree}", ":hidden:", *said, "", *entries, "```", ""]
        return "\n".join(parts)


def _place(path: Path) -> str:
    """Where a file goes: what is in docs/ to the site's root, other files of the repository where they are in that."""
    return str(path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT))


def _listed() -> list[Path]:
    return list(dict.fromkeys(page for _, links in _groups() for _, page in links))


def _groups() -> Iterator[tuple[str, list[tuple[str, Path]]]]:
    """The menu: what docs/README.md has under each of its headings, as texts and pages; "" ahead of the first one."""
    section = ""
    for part in re.split(r"^(?=##)", INDEX.read_text(), flags=re.MULTILINE):
        heading = re.match(r"(#{2,3}) (.*)", part)
        if heading and heading[1] == "##":
            section = caption = heading[2]
        elif heading:
            caption = f"{section}: {heading[2][0].lower()}{heading[2][1:]}"
        else:
            caption = ""
        found = re.findall(r"\[([^\]]+)\]\(([^)#:]+\.md)\)", part)
        links = [(text.replace("`", ""), Path(os.path.normpath(INDEX.parent / target))) for text, target in found]
        if links:
            yield caption, links
