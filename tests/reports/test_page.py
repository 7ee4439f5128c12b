# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The page of a run in a real browser, without a head: Chromium, by its own driver (tox -e reports)."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from planted import AWKWARD, KERNELS, kernel_of, planted_run
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from vm.report import html, results
from vm.report.outcomes import CaseOutcome
from vm.report.results import CaseResult, FunctionResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DESK, PHONE = 1300, 390

CONTRAST = """
const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const found = colour(getComputedStyle(each).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!text || !element.checkVisibility() || element.closest("svg, script")) continue;
  const pair = [light(colour(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) poor.push([element.tagName, element.className, element.textContent.slice(0, 40), ratio]);
}
return poor;
"""
"""Text that does not stand out from what is behind it: below 4.5 to 1 (WCAG 2, 1.4.3)."""

ROWS = """
return [...document.querySelectorAll("#cells tbody tr[data-key]")].map((row) => [
  row.cells[0].innerText.split("\\n")[0].trim(), [...row.cells].slice(1).map((cell) => cell.innerText)]);
"""
"""The cells of each row of the matrix by its name's first line."""

WIDE = """
return [...document.querySelectorAll("body *")]
  .filter((element) => element.checkVisibility() && !element.closest(".scroll, pre") && !element.closest("svg"))
  .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((element) => `${element.tagName} ${element.className} ${element.textContent.slice(0, 60)}`);
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary is not None, "run ./bootstrap tox -e reports, which installs chromium"
    assert driver is not None, "run ./bootstrap tox -e reports, which installs chromium-driver"
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    run = planted_run(AWKWARD)
    results.write(run, directory)
    html.write(run, directory)
    return directory / html.HTML


class Page:
    """The page as a reader has it."""

    def __init__(self, browser: webdriver.Chrome, path: Path) -> None:
        self.browser, self._address = browser, path.as_uri()

    def open(self, view: str = "", *, width: int = DESK, dark: bool = False, script: bool = True) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.tell("Emulation.setScriptExecutionDisabled", value=not script)
        for log in ("browser", "performance"):
            self.browser.get_log(log)
        self.browser.get("about:blank")
        self.browser.get(self._address + view)

    def tell(self, command: str, **words: Any) -> None:
        self.browser.execute_cdp_cmd(command, words)

    def rows(self) -> dict[str, list[str]]:
        """Return the cells of each row of the matrix by its name's first line."""
        return dict(self.browser.execute_script(ROWS))

    def until(self, condition: Any) -> None:
        WebDriverWait(self.browser, 10).until(lambda _: condition())

    @property
    def hash(self) -> str:
        return str(self.browser.execute_script("return decodeURIComponent(location.hash)"))


@pytest.fixture
def reader(browser: webdriver.Chrome, page: Path) -> Page:
    return Page(browser, page)


def test_page_loads_without_complaint_and_asks_nothing_of_the_network(reader: Page) -> None:
    reader.open()
    reader.until(lambda: len(reader.rows()) == 2)
    assert reader.browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in reader.browser.get_log("performance")]
    asked = {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}
    assert {address.partition(":")[0] for address in asked} <= {"file", "data", "about"}
    assert "test_peer_reaches_its_socket" in reader.browser.find_element(By.ID, "findings").text
    assert "since 6.12.117, not on 6.1.192" in reader.browser.find_element(By.ID, "findings").text


def test_view_is_narrowed_and_kept_in_the_address(reader: Page) -> None:
    reader.open()
    search = reader.browser.find_element(By.ID, "query")
    reader.browser.find_element(By.TAG_NAME, "body").send_keys("/")
    search.send_keys("naïve")
    promise, parameters = "A connected socket receives all of its peer's datagrams.", AWKWARD.partition("[")[2][:-1]
    reader.until(lambda: list(reader.rows()) == ["connected", promise, parameters])
    assert reader.rows()["connected"] == ["1", "1", "1 failed"]
    assert "find=naïve" in reader.hash
    search.send_keys(Keys.ESCAPE)
    reader.until(lambda: len(reader.rows()) == 2)
    reader.browser.find_element(By.CSS_SELECTOR, "#outcomes [data-letter=F]").click()
    reader.browser.find_element(By.CSS_SELECTOR, "#kernels [data-kernel='2']").click()
    reader.until(lambda: reader.rows()["connected"] == ["1 failed"])
    kept = reader.hash
    reader.open(kept)
    assert reader.rows()["connected"] == ["1 failed"]
    reader.browser.find_element(By.ID, "reset").click()
    reader.until(lambda: len(reader.rows()) == 2)
    assert reader.hash == ""


def test_differences_between_kernels_alone(reader: Page) -> None:
    reader.open("#different=1")
    assert next(iter(reader.rows())) == "connected"
    assert "new" not in reader.rows()


def test_matrix_is_used_by_keyboard_and_leads_to_the_failure(reader: Page) -> None:
    reader.open()
    first = reader.browser.find_element(By.CSS_SELECTOR, "#cells tbody tr[tabindex='0']")
    reader.browser.execute_script("arguments[0].focus()", first)

    def press(*keys: str) -> None:
        for key in keys:
            reader.browser.switch_to.active_element.send_keys(key)

    press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    reader.until(lambda: reader.browser.find_elements(By.CSS_SELECTOR, "tr.detail"))
    detail = reader.browser.find_element(By.CSS_SELECTOR, "tr.detail")
    assert AWKWARD in detail.text
    assert "assert 3 == 2" in detail.text
    detail.find_element(By.LINK_TEXT, "in full").click()
    reader.until(lambda: reader.browser.find_element(By.ID, "f1-1").get_attribute("open") is not None)
    failure = reader.browser.find_element(By.ID, "f1-1").text
    for said in ("member 2", "another member", "src = 192.0.2.9", "45 00 00 54", "K1"):
        assert said in failure
    marked = [mark.text for mark in reader.browser.find_elements(By.CSS_SELECTOR, "#f1-1 .parts mark")]
    assert marked == ["2", "3"]
    key = [mark.text for mark in reader.browser.find_elements(By.CSS_SELECTOR, "#f1-1 .packet mark.key")]
    assert key == ["00", "."]
    assert "index 0" in failure


@pytest.mark.parametrize("view", ["", "#find=peer", "#seconds=1&open=connected"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_text_is_readable(reader: Page, width: int, dark: bool, view: str) -> None:
    reader.open(view, width=width, dark=dark)
    assert reader.browser.execute_script(CONTRAST) == []
    assert reader.browser.execute_script(WIDE) == []


def test_every_outcome_is_readable(browser: webdriver.Chrome, tmp_path: Path) -> None:
    cases = [
        CaseResult(id=f"cases/test_{at}.py::test_x", outcome=outcome, seconds=1)
        for at, outcome in enumerate(CaseOutcome)
    ]
    run = planted_run()
    run.kernels = [kernel_of("6.1", "6.1.1", cases)]
    html.write(run, tmp_path)
    reader = Page(browser, tmp_path / html.HTML)
    for dark in (False, True):
        reader.open(dark=dark)
        assert browser.execute_script(CONTRAST) == []


def test_without_javascript_the_findings_and_every_failure_are_there(reader: Page) -> None:
    reader.open(script=False)
    text = reader.browser.find_element(By.TAG_NAME, "body").text
    for said in ("Not as expected", "6.12", "naïve", "since 6.12.117", "1 failed", "another member", "assert 3 == 2"):
        assert said in text
    assert not reader.browser.find_element(By.ID, "controls").is_displayed()


def test_page_of_eleven_kernels_is_small_and_answers_at_once(browser: webdriver.Chrome, tmp_path: Path) -> None:
    names = [f"cases/test_t{at // 100}.py::test_p{at // 10}[{at}]" for at in range(2500)]
    functions = {
        name.partition("[")[0]: FunctionResult(says="What is promised.", promises=[], bugs=[]) for name in names
    }
    cases = [CaseResult(id=name, outcome=CaseOutcome.PASSED, seconds=0.1) for name in names]
    bad = [replace(case, outcome=CaseOutcome.FAILED, reason="3 == 2", detail="E " * 5000) for case in cases]
    run = planted_run()
    run.functions = functions
    run.kernels = [kernel_of(f"6.{at}", f"6.{at}.1", bad if at == 10 else cases) for at in range(11)]
    html.write(run, tmp_path)
    assert (tmp_path / html.HTML).stat().st_size < 5_000_000
    reader = Page(browser, tmp_path / html.HTML)
    reader.open()
    before = time.monotonic()
    reader.open("#find=promised&outcome=failed")
    reader.until(lambda: len(reader.rows()) == 25)
    print(f"drawn within {time.monotonic() - before:.1f} s")
    assert browser.execute_script("return document.querySelectorAll('#failures code').length") >= 2500


def test_what_was_measured_is_drawn(reader: Page) -> None:
    """The dots of the members are there to be seen, in the colour of their kernel's legend."""
    reader.open()
    (chart,) = reader.browser.find_elements(By.CSS_SELECTOR, "#charts figure:first-child svg")
    dots = chart.find_elements(By.CSS_SELECTOR, "circle")
    assert len(dots) == 2
    assert all(dot.size["width"] > 1 for dot in dots)
    legend = reader.browser.find_element(By.CSS_SELECTOR, "#charts .legend span:nth-child(3) i")
    assert {dot.value_of_css_property("fill") for dot in dots} == {
        legend.value_of_css_property("background-color").replace("rgba", "rgb").replace(", 1)", ")")
    }
    assert "<b>maglev" in reader.browser.find_element(By.ID, "charts").text


def test_kernels_stand_in_the_order_of_the_run(reader: Page) -> None:
    reader.open()
    heads = [head.text for head in reader.browser.find_elements(By.CSS_SELECTOR, "#cells thead th")]
    assert heads == ["topic", *KERNELS]
