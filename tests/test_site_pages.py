"""What the documentation's site is made of, without Sphinx: every page has its place and working links, and what is broken is found."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

REPOSITORY = "https://example.org/hwnuma"


def module(name: str) -> ModuleType:
    """Load a module of docs/site, which is no package."""
    found = importlib.util.spec_from_file_location(f"docs_site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out all pages, as they are."""
    folder = tmp_path_factory.mktemp("pages")
    module("pages").lay_out(folder, REPOSITORY)
    return folder


def test_every_page_is_laid_out_and_in_the_menu(laid: Path) -> None:
    """All of docs/, and what docs/README.md links to beyond it."""
    menu = set(re.findall(r"^.+ <(\S+)>$", (laid / "index.md").read_text(), re.MULTILINE))
    pages = {str(page.relative_to(laid).with_suffix("")) for page in laid.rglob("*.md")}
    assert pages == {*menu, "index"}
    assert {"README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "fixtures/README", "how-to/launchers/slurm"} <= menu


def test_links_within_the_layout_lead_somewhere(laid: Path) -> None:
    """Every relative one; and what is no page is at the repository's address."""
    absolute = set()
    for page in laid.rglob("*.md"):
        for target in re.findall(
            r"\]\(([^)#\s]+)", re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        ):
            if ":" in target:
                absolute.add(target)
            else:
                assert (page.parent / target).is_file(), f"{page.relative_to(laid)}: {target}"
    assert {f"{REPOSITORY}/blob/main/NOTICE", f"{REPOSITORY}/tree/main/examples/minilauncher"} <= absolute


def test_schemas_are_served_whole(laid: Path) -> None:
    """No reference leads out of the file."""
    schema = json.loads((laid / "files" / "schemas" / "plan.schema.json").read_text())
    assert "urn:hwnuma:schema:1:common" in {each.get("$id") for each in schema["$defs"].values()}


@pytest.mark.parametrize(("theme", "other"), [("light", "dark"), ("dark", "light")])
def test_a_picture_has_a_file_for_each_theme(laid: Path, theme: str, other: str) -> None:
    """Neither asks for what the system prefers."""
    page = (laid / "explanation" / "which-mode.md").read_text()
    assert f"![DGX A100, node](../pictures/dgx_a100_node.{theme}.svg){{.only-{theme}}}" in page
    pictures = {each: (laid / "pictures" / f"dgx_a100_node.{each}.svg").read_text() for each in (theme, other)}
    assert "prefers-color-scheme" not in pictures[theme]
    assert pictures[theme] != pictures[other]


@pytest.mark.parametrize(
    ("index", "said"),
    [("[a](gone.md)", "docs/README.md links to gone.md, which is not there"), ("", "does not link to docs/lonely.md")],
)
def test_what_cannot_be_laid_out_is_said(
    index: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to nothing, and a page in no list."""
    pages = module("pages")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text(f"# it\n\n{index}\n")
    if not index:
        (docs / "lonely.md").write_text("# lonely\n")
    for name, path in {"ROOT": tmp_path, "DOCS": docs, "INDEX": docs / "README.md"}.items():
        monkeypatch.setattr(pages, name, path)
    with pytest.raises(pages.PageError, match=re.escape(said)):
        pages.lay_out(tmp_path / "laid", REPOSITORY)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    """A file that is not there, one beyond the site, an anchor that is not there; and not those that lead somewhere."""
    (tmp_path / "site").mkdir()
    (tmp_path / "beyond.html").write_text("<p>")
    (tmp_path / "site" / "b.html").write_text('<h2 id="here">b</h2>')
    (tmp_path / "site" / "a.html").write_text(
        '<a href="b.html#here"></a><a href="b.html#there"></a><img src="gone.svg"><a href="../beyond.html"></a>'
        '<a href="#own"></a><p id="own"></p><a href="https://example.org/gone"></a>'
    )
    assert module("links").broken_links(tmp_path / "site") == (
        5,
        [
            "a.html: b.html#there: there is no such anchor",
            "a.html: gone.svg: there is no such file",
            "a.html: ../beyond.html: there is no such file",
        ],
    )
