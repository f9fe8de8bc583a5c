"""Check the links of the built site, as a browser follows them from a disk: each file and anchor has to be there.

The standard library's parser reads each page once. LinkChecker 10.6, which was tried first, parses a page anew for each
anchor in it: a quarter of an hour here. Other sites are not asked.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LINKS = {"a": "href", "area": "href", "iframe": "src", "img": "src", "link": "href", "script": "src", "source": "src"}


class _Page(HTMLParser):
    """A page's anchors and links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.links = set[str](), list[str]()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if _LINKS.get(tag) in given:
            self.links.append(given[_LINKS[tag]])


def broken_links(site: Path) -> tuple[int, list[str]]:
    """Follow every link of every page.

    Args:
        site: the folder of the site.

    Returns:
        How many links lead to somewhere within the site, and those that lead nowhere, a sentence each.
    """
    pages = {path: _Page(path) for path in sorted(site.resolve().rglob("*.html"))}
    followed, broken = 0, []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not to.is_relative_to(site.resolve()) or not to.is_file():
                broken.append(f"{path.relative_to(site.resolve())}: {link}: there is no such file")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors:
                broken.append(f"{path.relative_to(site.resolve())}: {link}: there is no such anchor")
    return followed, broken
