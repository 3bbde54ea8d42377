"""The report in a real browser: lines can be switched and zoomed, any width and colour scheme, nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Locator, Page

from dashboards import report
from driver.datadir import DataDir
from driver.record import write_record
from tests.report_runs import SCENARIO, record_of, replayed_run

pytestmark = pytest.mark.browser

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(autouse=True)
def closed_pages(browser: Browser) -> Iterator[None]:
    """What a test opened is closed: each page holds a Plotly and its figures."""
    yield
    for context in browser.contexts:
        context.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the reports of two runs, and of one without samples."""
    place = tmp_path_factory.mktemp("reports")
    data = DataDir.open(place / "data")
    runs = [
        replayed_run(data, "r1", "7.2-m-nonconverge-ws16-bw32-dl100", outcome="not_converged", limit_reached="time"),
        replayed_run(data, "r2", "7.2-m-postcopy-rescue", replace(SCENARIO, post_copy_iterations=3), vcpus=2),
    ]
    report.write(data, runs, place / "two.html")
    empty = data.run("r3")
    empty.path.mkdir()
    write_record(empty, replace(record_of("r3", SCENARIO, outcome="unsupported"), reason="<b>no</b> userfaultfd"))
    report.write(data, [empty], place / "none.html")
    return place


def opened(browser: Browser, path: Path, said: list[str], *, width: int = 1280, scheme: Any = "light") -> Page:
    """Open a page; what it logs, throws or asks of the network goes to `said`."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url))
    page.goto(path.as_uri())
    assert said.pop(0) == path.as_uri(), "the page itself"
    if page.locator(".figure").count():
        page.wait_for_selector(".figure .main-svg")
    return page


def legend_of(page: Page) -> Locator:
    """The overlay's legend, which stands before it."""
    return page.locator("#overlay").locator("xpath=preceding-sibling::*[1]")


def test_a_line_is_switched_off_and_on_by_its_legend_entry(browser: Browser, pages: Path) -> None:
    said: list[str] = []
    page = opened(browser, pages / "two.html", said)
    lines = page.locator("#overlay .scatterlayer .trace")
    shown = lines.count()
    entry = legend_of(page).get_by_role("button", name="Remaining").first
    entry.click()
    page.wait_for_function("n => document.querySelectorAll('#overlay .scatterlayer .trace').length < n", arg=shown)
    assert lines.count() == shown - 2, "one line of each run"
    assert entry.get_attribute("aria-pressed") == "false"
    entry.click()
    page.wait_for_function("n => document.querySelectorAll('#overlay .scatterlayer .trace').length === n", arg=shown)
    assert said == []


def test_a_run_that_was_switched_off_comes_back_with_the_lines_that_it_had(browser: Browser, pages: Path) -> None:
    page = opened(browser, pages / "two.html", [])
    lines = page.locator("#overlay .scatterlayer .trace")
    shown = lines.count()
    entry = page.locator("button.run").last
    entry.click()
    page.wait_for_function("n => document.querySelectorAll('#overlay .scatterlayer .trace').length < n", arg=shown)
    entry.click()
    page.wait_for_function("n => document.querySelectorAll('#overlay .scatterlayer .trace').length === n", arg=shown)


def test_dragging_zooms_and_the_button_shows_the_whole_run_again(browser: Browser, pages: Path) -> None:
    said: list[str] = []
    page = opened(browser, pages / "two.html", said)
    page.locator("#overlay").scroll_into_view_if_needed()
    reach = "() => { const [a, b] = document.getElementById('overlay')._fullLayout.xaxis.range; return b - a; }"
    whole = page.evaluate(reach)
    box = page.locator("#overlay .nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
    page.mouse.up()
    page.wait_for_function(f"n => ({reach})() < n", arg=whole * 0.5)
    zoomed = page.evaluate(reach)
    legend = legend_of(page)
    legend.get_by_role("button", name="Dirty rate").first.click()
    assert page.evaluate(reach) == pytest.approx(zoomed), "switching a line keeps the zoom"
    legend.get_by_role("button", name="whole run").click()
    page.wait_for_function(f"n => ({reach})() > n * 0.95", arg=whole)
    assert said == []


def test_no_button_hands_the_data_to_a_site(browser: Browser, pages: Path) -> None:
    page = opened(browser, pages / "two.html", [])
    titles = page.locator("#overlay .modebar-btn").evaluate_all("all => all.map((one) => one.dataset.title)")
    assert [title.split()[0] for title in titles] == ["Download", "Zoom", "Pan", "Zoom", "Zoom", "Reset"]


def test_the_guests_axis_turns_logarithmic(browser: Browser, pages: Path) -> None:
    page = opened(browser, pages / "two.html", [])
    legend = legend_of(page)
    kind = "() => document.getElementById('overlay')._fullLayout.yaxis.type"
    assert page.evaluate(kind) == "linear"
    legend.get_by_role("button", name="guest axis: linear").click()
    page.wait_for_function(f"() => ({kind})() === 'log'")


@pytest.mark.parametrize("name", ["two.html", "none.html"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_page_fits_its_width_in_either_scheme_and_fetches_nothing(
    browser: Browser, pages: Path, name: str, width: int
) -> None:
    said: list[str] = []
    page = opened(browser, pages / name, said, width=width, scheme="dark" if width == 400 else "light")
    for height in range(0, page.evaluate("() => document.documentElement.scrollHeight"), 600):
        page.evaluate("y => window.scrollTo(0, y)", height)
        page.wait_for_timeout(30)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    if name == "two.html" and width == 1280:
        scrolls = "all => all.filter((one) => one.scrollWidth > one.clientWidth).length"
        assert page.locator(".scroll").evaluate_all(scrolls) == 0, "no table scrolls sideways where there is room"
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.locator("text=<b>no</b> userfaultfd").count() == (1 if name == "none.html" else 0)
    assert said == []


def test_colours_follow_a_change_of_scheme_while_the_page_is_open(browser: Browser, pages: Path) -> None:
    page = opened(browser, pages / "two.html", [])
    stroke = "() => document.querySelector('#overlay .scatterlayer .js-line').style.stroke"
    before = page.evaluate(stroke)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"old => ({stroke})() !== old", arg=before)
