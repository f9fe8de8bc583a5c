"""README.md as the package index shows it: a link to a file of the source tree leads to where hwnuma lives."""

from __future__ import annotations

import re
from collections.abc import Callable

# [text](target) and ![text](target), and the same as tags of HTML; a target with a scheme or within the page stays.
_LINK = re.compile(r"""(?P<ahead>\]\(|\b(?:href|src|srcset)=["'])(?P<target>(?![a-z][a-z0-9+.-]*:|[#/])[^)"'\s]+)""")
_PICTURES = (".svg", ".png", ".jpg", ".gif", ".webp")


def with_absolute_links(text: str, source: str, revision: str) -> str:
    """Make relative links absolute.

    Args:
        text: Markdown.
        source: the address of the repository.
        revision: the tag or branch whose files are meant.

    Returns:
        The same, with links that hold anywhere.
    """
    return _LINK.sub(_absolute(source, revision), text)


def _absolute(source: str, revision: str) -> Callable[[re.Match[str]], str]:
    def replace(link: re.Match[str]) -> str:
        target = link["target"].removeprefix("./")
        # A picture is wanted itself, and anything else as the page that shows it.
        kind = "raw" if target.partition("#")[0].endswith(_PICTURES) else "blob"
        return f"{link['ahead']}{source}/{kind}/{revision}/{target}"

    return replace
