"""The report of a campaign: what it recommends, what it shows of each cell, and that its one page fetches nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from playwright.sync_api import Browser

from dashboards.campaign_report import CampaignReport, campaign_report, page, report_json, write
from dashboards.campaign_words import METRICS as WORDS
from dashboards.campaign_words import condition_words, field_words
from exporter.index import CONDITIONS
from exporter.statistics import METRICS
from tests.campaign_reports import a_report, parked, some_rows, state_of
from tests.statistics_rows import a_row, failed, rows
from workload.errors import BadValueError


@pytest.fixture(scope="module")
def report() -> CampaignReport:
    return a_report(None, parked("3 failures in a row, the last: <b>hung</b>"))


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<(style|script)[^>]*>.*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL))


def test_every_metric_has_its_words_in_the_same_order() -> None:
    assert list(WORDS) == list(METRICS)


def test_every_condition_can_be_put_into_words() -> None:
    for name, kind in CONDITIONS.items():
        some: float | str = {int: 3, float: 1.5, bool: True}.get(kind, "word")
        for value in (some, None):
            words = field_words(name, value)
            assert words
            assert "_" not in words
    assert condition_words({"bandwidth_mib_s": 32, "memory_mib": 1024}) == "bandwidth 32 MiB/s, memory 1,024 MiB"
    assert condition_words({}) == "all conditions"


def test_the_page_says_what_to_take_under_each_condition_and_at_what_cost(report: CampaignReport) -> None:
    text = text_of(page(report))
    assert "bandwidth 32 MiB/s: Take post-copy-3." in text
    assert "It completed 6 of 6 runs (with 95 % confidence 61 to 100 % of all)." in text
    assert "auto-converge-20-10-99 completes as well, but post-copy-3 costs the guest less work" in text
    assert "pre-copy completed 0 of 6." in text
    assert "Mind that a post-copy migration" in text
    assert "bandwidth 256 MiB/s: Take pre-copy." in text
    assert "36 of 36 runs: 6 cells, 6 runs each, interleaved" in text
    assert "costs the guest less work (by less than 100 ms)" in text


def test_beside_each_figure_stands_how_many_runs_have_it() -> None:
    known, others = rows("post-copy", [1.0, 1.1, 1.2]), rows("post-copy", [1.1, 1.3], first=50)
    bare = [replace(row, figures={**row.figures, "destination_cpu_seconds": None}) for row in others]
    text = text_of(page(a_report([*known, *bare])))
    assert {count: text.count(f"n = {count}") for count in (3, 5)} == {3: 1, 5: len(METRICS) - 1}


def test_what_a_plan_or_a_reason_says_is_shown_as_text(report: CampaignReport) -> None:
    html = page(report)
    assert "&lt;which&gt; way &amp; out" in html
    assert "3 failures in a row, the last: &lt;b&gt;hung&lt;/b&gt;" in html
    assert "<b>hung" not in html
    assert not re.search(r"<(link|img|script)[^>]+(src|href)=[\"']?(https?:)?//", html)


def test_few_runs_are_told_to_be_too_few() -> None:
    slow = [a_row(50 + n, "auto-converge", total=9.0 + n / 10) for n in range(3)]
    text = text_of(page(a_report([*rows("post-copy", [1.0, 1.1, 1.2]), *slow])))
    assert "Take post-copy-3 as far as these runs tell." in text
    assert "cannot be told at 3 runs; repeat more often to know" in text
    assert "cannot tell takes 4 runs a side" in text


def test_a_campaign_in_which_nothing_completed_says_so_and_one_without_runs_as_well() -> None:
    text = text_of(page(a_report(failed("none", 3))))
    assert "Nothing completed (pre-copy 0 of 3)." in text
    assert "none completed" not in text, "there is no axis without a value"
    assert "No run has ended yet" in text_of(page(a_report([])))


def test_only_runs_that_the_campaign_counts_are_in_its_figures() -> None:
    made = some_rows()
    stray = [replace(a_row(900, "post-copy", total=99.0), run="20261124-999999-0000")]
    found = campaign_report(state_of(made), [*made, *stray], alive=False, order="sequential", labels={})
    assert len(found.rows) == 36
    assert (
        max(value for one in found.findings.groups for value in one.figures.get("total_seconds", NOTHING).values) < 20
    )


class _Nothing:
    values: tuple[float, ...] = ()


NOTHING: Any = _Nothing()


def test_the_same_stands_in_json(report: CampaignReport) -> None:
    data = json.loads(orjson.dumps(report_json(report)))
    assert [(one["condition"], one["way"]) for one in data["recommendations"]] == [
        ({"bandwidth_mib_s": 32}, "post-copy-3"), ({"bandwidth_mib_s": 256}, "pre-copy"),
    ]  # fmt: skip
    slow = data["groups"][0]
    assert (slow["way"], slow["convergence"]["count"], slow["convergence"]["of"]) == ("pre-copy", 0, 6)
    assert len(data["groups"][1]["figures"]["total_seconds"]["values"]) == 6
    assert {one["verdict"] for one in data["contests"]} == {"better", "worse", "cannot tell"}
    assert data["parked"] == [
        {"cell": "pre-copy.32mib-s.300ms 32", "reason": "3 failures in a row, the last: <b>hung</b>"}
    ]


def test_a_page_that_cannot_be_written_is_told_in_one_line(report: CampaignReport, tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match="is a directory"):
        write(report, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BadValueError, match="file is no directory that can be written"):
        write(report, tmp_path / "file" / "page.html")


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_width_in_either_scheme_and_fetches_nothing(
    browser: Browser, report: CampaignReport, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "campaign.html"
    write(report, path)
    said: list[str] = []
    sheet = browser.new_page(viewport={"width": width, "height": 900})
    sheet.on("console", lambda message: said.append(message.text))
    sheet.on("request", lambda request: said.append(request.url))
    sheet.goto(path.as_uri())
    assert said == [path.as_uri()]
    assert sheet.evaluate("() => document.documentElement.scrollWidth") <= width
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        sheet.emulate_media(color_scheme=scheme)
        ground = sheet.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    dots = sheet.locator(".strip .run")
    assert dots.count() > 100
    for box in (dots.first.bounding_box(), dots.last.bounding_box()):
        assert box
        assert 0 <= box["x"] <= width
    sheet.close()
