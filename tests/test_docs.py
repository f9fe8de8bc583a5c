"""The documentation is true: its commands are run, and what it shows is what they print."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.forked import hwnuma

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# A console block shows "$ hwnuma …" and its output; "…" alone on a line stands for lines left out.
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _examples() -> list[tuple[str, str, list[str]]]:
    found = []
    for page in PAGES:
        for block in _BLOCK.findall(page.read_text()):
            for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *output = example.rstrip("\n").split("\n")
                if command.startswith("hwnuma ") and "fixtures/" in command:
                    found.append((str(page.relative_to(ROOT)), command, output))
    return found


@pytest.mark.parametrize(
    ("page", "command", "shown"), _examples(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_command_prints_what_the_page_shows(page: str, command: str, shown: list[str]) -> None:  # noqa: ARG001
    """Every line that is shown comes out, in order, and no other where nothing is left out."""
    words = shlex.split(command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HWNUMA_")}
    done = hwnuma(words[1:], environment, cwd=ROOT)
    printed = [line.rstrip() for line in (done.stdout + done.stderr).rstrip("\n").split("\n")]
    pieces, piece = [], []
    for line in [*(line.rstrip() for line in shown), "…"]:
        if line == "…":
            pieces.append(piece)
            piece = []
        else:
            piece.append(line)
    start = 0
    for number, wanted in enumerate(pieces):
        places = [at for at in range(start, len(printed) - len(wanted) + 1) if printed[at : at + len(wanted)] == wanted]
        assert places, f"not printed: {wanted}\nbut: {printed[start:]}"
        assert number > 0 or places[0] == 0 or not wanted
        start = places[0] + len(wanted)
    assert shown[-1] == "…" or start == len(printed), printed[start:]


def test_the_documentation_has_examples() -> None:
    """The pattern that finds them still finds some."""
    assert len(_examples()) >= 8


def test_the_manifests_of_the_kubernetes_page_are_the_examples() -> None:
    """Each file once, as it is, and nothing else."""
    page = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
    files = {path.name: path.read_text() for path in (ROOT / "examples" / "kubernetes").glob("*.yaml")}
    shown = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert sorted(shown) == sorted(files.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
