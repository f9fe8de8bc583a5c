"""The HTML page in a real browser: by mouse and by keyboard, wide and narrow, light and dark, and with no request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drawing.conftest import WIDTHS, show
from tests.test_cli import DGX, run

pytestmark = pytest.mark.drawing


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the page of a DGX A100 in exclusive mode, with reserved CPUs and half of the machine disallowed."""
    path = tmp_path_factory.mktemp("page") / "plan.html"
    options = (
        "--mode",
        "exclusive",
        "--reserve-cpus",
        "0-3,128-131",
        "--gpus",
        "0-3",
        "--allowed-cpus",
        "0-63,128-191",
    )
    run("plan", "--topology", DGX, *options, "--output", str(path))
    return path


def _details(browser: Any) -> str:
    return browser.find_element("id", "details").text


def _cell(browser: Any, about: str) -> Any:
    return browser.find_element("css selector", f'.cell[aria-label^="{about}"]')


def test_a_mouse_over_a_core_tells_its_cpus_and_why(browser: Any, page: Path) -> None:
    """The core's CPUs, its rank, and the reason; the rank's other cores and its GPU stay bright."""
    from selenium.webdriver import ActionChains

    show(browser, page)
    ActionChains(browser).move_to_element(_cell(browser, "CPUs 48,176")).perform()
    assert _details(browser).split("\n") == [
        "CPUs 48,176: rank 0",
        "local rank 0, GPU 0 (0000:07:00.0), CPUs 48-55,176-183, NUMA nodes 3: near its GPU, as known from hwloc",
    ]
    assert len(browser.find_elements("css selector", ".dim .cell.same")) == 8
    assert [each.text for each in browser.find_elements("css selector", ".dim .device.same")] == [
        "GPU 0 0000:07:00.0 rank 0"
    ]
    ActionChains(browser).move_to_element(browser.find_element("css selector", "h1")).perform()
    assert "Point at a core" in _details(browser)


@pytest.mark.parametrize(
    ("cpus", "state"), [("CPUs 0,128", "reserved"), ("CPUs 4,132", "unused"), ("CPUs 64,192", "not allowed")]
)
def test_a_core_of_nobody_says_why(browser: Any, page: Path, cpus: str, state: str) -> None:
    """Kept back, left over, or not allowed."""
    from selenium.webdriver import ActionChains

    show(browser, page)
    ActionChains(browser).move_to_element(_cell(browser, cpus)).perform()
    assert _details(browser) == f"{cpus}: {state}"


def test_the_keyboard_reaches_every_core_and_device(browser: Any, page: Path) -> None:
    """Tab once, then arrows: right to the next core, down to the next cache; the focus can be seen; Escape leaves."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert _details(browser) == "CPUs 0,128: reserved"
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    assert _details(browser) == "CPUs 1,129: reserved"
    ActionChains(browser).send_keys(Keys.ARROW_DOWN).perform()
    assert _details(browser) == "CPUs 4,132: unused"
    focused = browser.switch_to.active_element
    assert focused.get_attribute("aria-label") == "CPUs 4,132: unused"
    assert focused.value_of_css_property("outline-style") == "solid"
    told = set()
    for _ in range(200):
        told.add(_details(browser).split("\n")[0])
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    assert {"CPUs 31,159: rank 3", "GPU 3 0000:4e:00.0 rank 3", "CPUs 127,255: not allowed"} <= told
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert "Point at a core" in _details(browser)


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: f"{size[0]}px")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_reads_on_every_screen(browser: Any, page: Path, size: tuple[int, int], scheme: str) -> None:
    """Nothing is wider than the screen, no text is cut or smaller than 11 pixels, and the paper is as it is asked for."""
    show(browser, page, size, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") == size[0]
    cut = (
        "return [...document.querySelectorAll('h1, h2, h3, p, .device, .cell, .cache, li span')]"
        ".filter((each) => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline')"
        ".map((each) => each.textContent)"
    )
    assert browser.execute_script(cut) == []
    smallest = (
        "return Math.min(...[...document.querySelectorAll('body *')].filter((each) => each.innerText)"
        ".map((each) => parseFloat(getComputedStyle(each).fontSize)))"
    )
    assert browser.execute_script(smallest) >= 11
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 25, 30)")


def test_on_paper_it_is_light_and_tells_all(browser: Any, page: Path) -> None:
    """Printed, in a dark browser too: white paper, colours kept, no box that follows the mouse."""
    show(browser, page, scheme="dark")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script("return getComputedStyle(document.getElementById('details')).display") == "none"
    rank = browser.find_element("css selector", ".cell.r0")
    assert rank.value_of_css_property("print-color-adjust") == "exact"
    assert rank.value_of_css_property("background-color") == "rgba(230, 159, 0, 1)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any, page: Path) -> None:
    """From the first byte to the last: one file is read, the browser's console is empty, and no script of a name runs."""
    browser.get_log("browser")
    browser.get_log("performance")
    show(browser, page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.get_log("browser") == []


def test_a_foul_name_is_text(browser: Any, tmp_path: Path) -> None:
    """A file's name with a script in it is shown, and does not run."""
    foul = tmp_path / "<script>document.title='foul'<!-- &amp;.xml"
    foul.write_bytes(Path(DGX).read_bytes())
    run("show", "--topology", str(foul), "--output", str(tmp_path / "a.html"))
    show(browser, tmp_path / "a.html")
    assert browser.find_element("css selector", "h1").text == str(foul)
    assert browser.title == str(foul)
