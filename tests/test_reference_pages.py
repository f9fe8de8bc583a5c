"""The pages of the reference that are made of the code are what it makes now, and leave out nothing that is public."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import hwnuma
import hwnuma.integrations
import hwnuma.testing
from hwnuma import errors
from hwnuma.cli.commands import COMMANDS
from tests.conftest import ROOT

REFERENCE = ROOT / "docs" / "reference"
SHOWN = re.findall(
    r"^\.\. auto(?:function|class|exception|data):: ([\w.]+)$", (REFERENCE / "api.md").read_text(), re.MULTILINE
)
INTEGRATIONS = re.findall(
    r"^\.\. automodule:: ([\w.]+)$", (REFERENCE / "api-integrations.md").read_text(), re.MULTILINE
)


def written_by(maker: Path) -> str:
    """What a page's maker makes of the code now."""
    found = importlib.util.spec_from_file_location(maker.stem, maker)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return str(module.page())


@pytest.mark.parametrize("name", ["commands", "errors"])
def test_a_page_is_what_its_maker_makes(name: str) -> None:
    """`python docs/reference/NAME_page.py` would change nothing."""
    assert (REFERENCE / f"{name}.md").read_text() == written_by(REFERENCE / f"{name}_page.py")


def test_every_error_says_what_to_do_and_its_exit_status() -> None:
    """Each class has its section with a remedy; all but the root, an exit status."""
    sections = re.split(r"^## ", (REFERENCE / "errors.md").read_text(), flags=re.MULTILINE)[1:]
    by_name = dict(section.split("\n", 1) for section in sections)
    known = {
        name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.HwnumaError)
    }
    assert set(by_name) == known
    assert [name for name, section in by_name.items() if not re.search(r"\*\*What to do\*\*: [\w`]", section)] == []
    statuses = {name: re.findall(r"\*\*Exit status\*\*: (\d)", section) for name, section in by_name.items()}
    assert {name for name, found in statuses.items() if found == ["1"]} == {
        "BindingError", "JobError", "NoAllowedCpusError", "NotEnoughCoresError", "PlanError", "UnknownLocalityError",
    }  # fmt: skip
    assert [name for name, found in statuses.items() if not found] == ["HwnumaError"]


def test_every_command_has_its_section() -> None:
    """And a row with its exit statuses."""
    page = (REFERENCE / "commands.md").read_text()
    assert re.findall(r"^## hwnuma (\w+)$", page, re.MULTILINE) == re.findall(
        r"^\| \[`hwnuma (\w+)`\]", page, re.MULTILINE
    )
    assert set(re.findall(r"^## hwnuma (\w+)$", page, re.MULTILINE)) == set(COMMANDS)


def test_every_public_name_is_on_the_page_of_python() -> None:
    """All of `hwnuma.__all__`, each once; every error, those too that `hwnuma` does not export."""
    assert len(SHOWN) == len(set(SHOWN))
    assert {f"hwnuma.{name}" for name in hwnuma.__all__} <= set(SHOWN)
    last_names = {name.rpartition(".")[2] for name in SHOWN}
    assert {
        name for name, each in vars(errors).items() if isinstance(each, type) and name.endswith("Error")
    } <= last_names


def test_every_integration_is_on_its_page() -> None:
    """Each module of `hwnuma.integrations`."""
    modules = {f"hwnuma.integrations.{each.name}" for each in pkgutil.iter_modules(hwnuma.integrations.__path__)}
    assert set(INTEGRATIONS) == modules


def test_what_testing_exports_is_seen_without_being_asked_for() -> None:
    """`dir(hwnuma.testing)`, by which its page, and completion, find the names."""
    assert set(hwnuma.testing.__all__) <= set(dir(hwnuma.testing))
