"""The report in a real browser, from disk: it draws, sorts, changes colours, fits a phone, and asks for nothing.

Needs Chromium: one on the PATH (Debian's `chromium`), or the one that `playwright install chromium` puts in place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.reports.html.build import report
from harness.store.run_store import Store
from tests.reports import shop
from tests.reports.conftest import Make

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.nightly

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
DARK = "rgb(20, 23, 28)"
PATIENCE = 120_000  # milliseconds: a busy machine takes its time over 5 MB of script


@dataclass
class Opened:
    """A page that has drawn its plots, and what it asked for and complained of on the way."""

    page: Any
    path: Path
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read(self, script: str) -> Any:
        return self.page.evaluate(script)

    def column(self, place: int) -> list[str]:
        """The texts of one column of the leaderboard."""
        return self.read(
            f"[...document.querySelector('table.sorts').tBodies[0].rows].map(r => r.cells[{place}].innerText)"
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        on_path = next(filter(None, map(shutil.which, NAMES)), None)
        if on_path is None and not os.path.exists(driver.chromium.executable_path):
            pytest.skip("no Chromium here: none on the PATH, and none of playwright's")
        started = driver.chromium.launch(executable_path=on_path, args=["--no-sandbox"], timeout=PATIENCE)
        yield started
        started.close()


@pytest.fixture
def titles() -> list[str]:
    return shop.titles()


@pytest.fixture
def tokens() -> int:
    return 4


@pytest.fixture
def opened(browser: Any, store: Store, make_run: Make, tmp_path: Path, tokens: int) -> Iterator[Any]:
    """`opened(viewport, scheme)` opens the report of the shop."""
    shop.fill(store, make_run, tokens)
    path = tmp_path / "report #1.html"
    path.write_text(report(store, "toy", "ndcg@10"), encoding="utf-8")
    pages = []

    def open_page(viewport: dict[str, int] = DESKTOP, scheme: str = "light") -> Opened:
        page = browser.new_page(viewport=viewport, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        result = Opened(page, path)
        page.on("request", lambda request: result.requests.append(request.url))
        page.on("pageerror", lambda error: result.faults.append(str(error)))
        page.on(
            "console",
            lambda message: result.faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        return result

    yield open_page
    for page in pages:
        page.close()


def test_it_draws_without_a_request_or_a_fault(opened: Any) -> None:
    result = opened()
    samples = result.read("[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('svg.main-svg').length)")
    assert len(samples) == 7 and min(samples) >= 1 and result.read("document.documentElement.dataset.drawn") == "7"
    marks = result.read("document.querySelectorAll('.plot .point, .plot .slice, .plot .lines path').length")
    assert marks > 30
    assert [url for url in result.requests if not url.startswith(("data:", "blob:"))] == [result.path.as_uri()]
    assert result.faults == []
    # and no title has become markup
    assert result.page.title() == "toy: report"
    assert result.read("document.querySelectorAll('img, main a, main script:not([type])').length") == 0
    assert "<img src=x" in result.read("document.getElementById('b1-plot-tree').textContent")


@pytest.mark.parametrize("tokens, titles", [(15, [f"{n}th of the very long titles, at length" for n in range(30)])])
@pytest.mark.parametrize("width", [1200, 800, 380])
def test_the_titles_in_the_code_tree_stay_in_their_boxes(opened: Any, width: int) -> None:
    result = opened({"width": width, "height": 900})
    over = """() => [...document.querySelectorAll('#b1-plot-tree .slice')].filter(slice => {
        const text = slice.querySelector('text'), box = slice.querySelector('path.surface');
        if (!text || !box || !/[A-Za-z]/.test(text.textContent)) return false;
        const [one, other] = [text.getBoundingClientRect(), box.getBoundingClientRect()];
        return one.width > 0 && (one.right > other.right + 1 || one.bottom > other.bottom + 1);
    }).map(slice => slice.textContent)"""
    assert result.read("document.querySelectorAll('#b1-plot-tree .slice text').length") > 3
    assert result.read(f"({over})()") == []


def test_sorting_by_mouse_and_by_keyboard(opened: Any) -> None:
    result = opened()
    heads = result.read("[...document.querySelector('table.sorts').tHead.rows[0].cells].map(c => c.innerText.trim())")
    place = next(n for n, head in enumerate(heads) if head.startswith("train s"))
    previous = result.column(1)
    assert result.column(0) == ["1", "2", "3"] and set(previous) == {"alpha", "beta ‡", "gamma"}
    button = result.page.locator("table.sorts").first.locator("thead button").nth(place)
    order = f"document.querySelector('table.sorts').tHead.rows[0].cells[{place}].getAttribute('aria-sort')"
    button.click()
    assert result.column(place) == ["20.0", "2.0", "0.5"] and result.read(order) == "descending"
    button.focus()
    result.page.keyboard.press("Enter")
    assert result.column(place) == ["0.5", "2.0", "20.0"] and result.read(order) == "ascending"
    assert result.read("document.querySelectorAll('table.sorts')[0].querySelectorAll('th[aria-sort]').length") == 1
    assert "ascending" in result.read("document.getElementById('said').textContent")
    result.page.locator("table.sorts").first.locator("thead button").nth(0).click()
    assert result.column(1) == previous


def test_light_and_dark(opened: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    text = "getComputedStyle(document.querySelector('.plot .ytick text')).fill"
    light = opened()
    assert light.read(ground) == "rgb(255, 255, 255)"
    inks = [light.read(text)]
    light.page.click("#theme")
    light.page.wait_for_function(f"{ground} === '{DARK}' && {text} !== '{inks[0]}'")
    inks.append(light.read(text))
    light.page.click("#theme")
    light.page.wait_for_function(f"{ground} !== '{DARK}' && {text} === '{inks[0]}'")
    dark = opened(scheme="dark")
    assert dark.read(ground) == DARK and dark.read(text) == inks[1]
    assert dark.page.inner_text("#theme") == "Light colours"


def test_a_choice_draws_another_view(opened: Any) -> None:
    result = opened()
    title = "document.querySelector('#b1-plot-cost .xtitle').textContent"
    message = "document.getElementById('b1-plot-cost').getAttribute('aria-label')"
    assert "training time" in result.read(title) and "training time" in result.read(message)
    result.page.select_option("select[data-for='b1-plot-cost']", index=1)
    result.page.wait_for_function(f"{title}.includes('ranked a second')")
    assert "ranking speed" in result.read(message)


def test_a_phone_never_scrolls_sideways(opened: Any) -> None:
    result = opened(PHONE)
    assert result.read("innerWidth") == PHONE["width"]
    for script in ("0", "document.querySelectorAll('details').forEach(d => d.open = true)"):
        result.read(script)
        wide, output = result.read("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= output
    inside = result.read(
        "(b => [b.scrollWidth > b.clientWidth, getComputedStyle(b).overflowX])(document.querySelector('.wide'))"
    )
    assert inside == [True, "auto"]
    plots = result.read(
        "[...document.querySelectorAll('.plot svg.main-svg')].map(s => s.getBoundingClientRect().right)"
    )
    assert max(plots) <= PHONE["width"]
