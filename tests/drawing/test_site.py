"""The documentation's site, built anew and opened from the disk: nothing wider than a telephone, no complaint, search that finds."""

from __future__ import annotations

import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.drawing.conftest import WIDTHS, show
from tests.require import require

pytestmark = pytest.mark.drawing


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as CI does: no warning, and no link that leads nowhere."""
    require(importlib.util.find_spec("furo"), "the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, ROOT / "docs" / "site" / "build.py", "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ links within \d+ pages of .*: each leads somewhere$", done.stdout.splitlines()[-1])
    return folder / "html"


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_no_page_is_wider_than_its_window_or_complains(browser: Any, site: Path, size: tuple[int, int]) -> None:
    """Every page: wide tables and code scroll in boxes of their own, there is one title, and the console is empty."""
    browser.get_log("browser")
    wide, complaints, untitled = {}, {}, []
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        show(browser, page, size)
        name = str(page.relative_to(site))
        if (found := browser.execute_script("return document.documentElement.scrollWidth")) != size[0]:
            wide[name] = found
        if said := browser.get_log("browser"):
            complaints[name] = said
        if name == "search.html":  # which gets its title when something is searched for
            continue
        titles = browser.execute_script("return [...document.querySelectorAll('h1')].map((each) => each.innerText)")
        if len(titles) != 1 or not titles[0].strip():
            untitled.append((name, titles))
    assert len(pages) > 40
    assert (wide, complaints, untitled) == ({}, {}, [])


def test_search_works_from_the_disk(browser: Any, site: Path) -> None:
    """Typed into the field of the first page: pages that tell of `exclusive` are listed, and nothing is complained of."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    show(browser, site / "index.html")
    browser.get_log("browser")
    browser.find_element("css selector", "input[name=q]").send_keys("exclusive", Keys.ENTER)
    # The last of all results has been listed when the page says how many there are.
    WebDriverWait(browser, 30).until(lambda shown: "found" in shown.find_element("id", "search-results").text)
    found = [each.text for each in browser.find_elements("css selector", "ul.search > li > a")]
    assert {"Which mode?", "hwnuma.AffinityMode.EXCLUSIVE"} <= set(found)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("chosen", ["light", "dark"])
def test_pictures_follow_the_theme_that_is_chosen(browser: Any, site: Path, system: str, chosen: str) -> None:
    """Not the system's: the picture that is shown has the page's own paper, whatever the system prefers."""
    from PIL import Image  # comes with CairoSVG

    page = site / "explanation" / "which-mode.html"
    show(browser, page, scheme=system)
    browser.execute_script("localStorage.setItem('theme', arguments[0])", chosen)
    show(browser, page, scheme=system)
    shown = [each for each in browser.find_elements("css selector", "article img") if each.is_displayed()]
    assert len(shown) == 4
    browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", shown[0])
    box = browser.execute_script("return arguments[0].getBoundingClientRect()", shown[0])
    window = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    paper = window.getpixel((int(box["x"]) + 4, int(box["y"]) + 4))
    browser.execute_script("localStorage.removeItem('theme')")
    assert paper == {"light": (255, 255, 255), "dark": (21, 25, 30)}[chosen]
