"""What is said in more than one place about a release is the same: its version, where hwnuma lives, what is new."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, version
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.blocks import typed_by
from tests.require import require

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", CHANGELOG, re.MULTILINE)


def written_version() -> str:
    """The version in pyproject.toml, which is where it is set."""
    return re.findall(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]


def test_the_installed_version_is_the_written_one() -> None:
    """The metadata are those of this tree."""
    assert version("hwnuma") == written_version(), "the version was raised since: pip install -e ."


def test_the_newest_release_of_the_changelog_is_this_version() -> None:
    """It was cut with the version, and each release is newer than the one below."""
    assert RELEASES[0][0] == written_version()
    numbers = [[int(part) for part in number.split(".")] for number, _ in RELEASES]
    assert all(new > old for new, old in pairwise(numbers))


def test_the_changelog_keeps_its_form() -> None:
    """Sections are Keep a Changelog's, in its order, each once a release, and each with something in it."""
    _, *parts = re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)
    assert [part.split("]")[0].lstrip("[") for part in parts] == ["Unreleased", *(number for number, _ in RELEASES)]
    for part in parts:
        _, *sections = re.split(r"^### ", part, flags=re.MULTILINE)
        names = [section.splitlines()[0] for section in sections]
        assert names == [name for name in SECTIONS if name in names]
        assert all("\n- " in section for section in sections)


def test_each_release_has_its_link() -> None:
    """To what changed since the one before, or to the first one's tag, in the repository that the metadata name."""
    urls = dict(url.split(", ") for url in metadata("hwnuma").get_all("Project-URL") or [])
    numbers = [number for number, _ in RELEASES]
    wanted = {"Unreleased": f"{urls['Source']}/compare/v{numbers[0]}...HEAD"}
    wanted |= {new: f"{urls['Source']}/compare/v{old}...v{new}" for new, old in pairwise(numbers)}
    wanted[numbers[-1]] = f"{urls['Source']}/releases/tag/v{numbers[-1]}"
    assert dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", CHANGELOG, re.MULTILINE)) == wanted


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_pages_show_files_of_this_version(page: Path) -> None:
    """Where a page shows a wheel or a source distribution of hwnuma, it is of this version."""
    shown = re.findall(r"hwnuma-(\d+\.\d+\.\d+)[-.](?:cp|tar|dist)", page.read_text())
    assert set(shown) <= {written_version()}


@pytest.mark.slow  # towncrier starts four times
@pytest.mark.parametrize(
    ("name", "accepted"),
    [("+capture-names.fixed.md", True), ("17.added.md", True), ("17.fix.md", False), ("17.md", False)],
)
def test_a_fragment_with_a_wrong_name_is_refused(name: str, accepted: bool, tmp_path: Path) -> None:
    """What `nox -s lint` runs fails for it, and shows what is right in its section."""
    pytest.importorskip("towncrier", reason="towncrier is not installed (the extra lint)")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "README.md").touch()
    (tmp_path / "changelog.d" / name).write_text("Names of captures are told.\n")
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == accepted, done.stderr
    if accepted:
        assert re.search(
            rf"## \[9.9.9\] - .*\n\n### {name.split('.')[1].title()}\n\n- Names of captures are told\.", done.stdout
        )
    else:
        assert f"Invalid news fragment name: {name}" in done.stderr


@pytest.mark.slow  # towncrier starts twice
def test_a_release_is_cut_as_the_pages_say(tmp_path: Path) -> None:
    """A fragment by the command of changelog.d's page, then the release by that of Releasing: it is in CHANGELOG.md."""
    pytest.importorskip("towncrier", reason="towncrier is not installed (the extra lint)")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.replace(f"[{written_version()}]", "[0.0.1]"))
    for page in ("changelog.d/README.md", "docs/developers/releasing.md"):
        [block] = typed_by("tests/test_release.py", page)
        done = subprocess.run(["bash", "-euc", block.text], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    told = (tmp_path / "CHANGELOG.md").read_text()
    assert re.search(rf"## \[{written_version()}\] - [-\d]+\n\n### Fixed\n\n- What they can do now, or", told)
    assert told.index(f"## [{written_version()}]") < told.index("## [0.0.1]")
    assert list((tmp_path / "changelog.d").iterdir()) == []


def test_parts_of_ci_are_those_of_nox() -> None:
    """Each part that .ci/run starts is a session, so that a contributor can run it."""
    require((ROOT / ".ci").exists(), "a source distribution has no .ci/run")
    started = re.findall(r"\bsession \.venv\S* ([a-z]+)", (ROOT / ".ci" / "run").read_text())
    sessions = re.findall(r'^    "([a-z]+)": Part\(', (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    assert len(started) > 10
    assert set(started) <= set(sessions)
    assert set(sessions) - set(started) == {
        "quick",
        "changelog",
        "arm",
    }  # README's own command, a part of lint, by hand
