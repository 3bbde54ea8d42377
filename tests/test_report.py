"""The report of replayed runs: what the page says, what its figures hold, and that no text becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import report
from dashboards.colours import palettes
from dashboards.figures import best_in_words, best_runs, figures_of, in_words
from dashboards.labels import labels
from dashboards.report_figure import run_figure
from dashboards.report_page import inline_json, page
from dashboards.report_tables import PACES
from dashboards.report_view import RunView
from dashboards.series import Row, cpu_percent, thin, total_pace
from driver.datadir import DataDir, RunDir
from driver.record import write_record
from exporter.summary import Summary
from tests.report_runs import SCENARIO, record_of, replayed_run
from workload.errors import BadValueError

AUTO_CONVERGE = replace(SCENARIO, auto_converge_initial=80, auto_converge_increment=19, downtime_limit_ms=200)
POST_COPY = replace(SCENARIO, post_copy_iterations=3)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataDir, list[RunDir]]:
    """A data directory with three replayed runs: one that did not converge, auto-converge, post-copy."""
    data = DataDir.open(tmp_path_factory.mktemp("three") / "data")
    return data, [
        replayed_run(data, "r1", "7.2-m-nonconverge-ws16-bw32-dl100", outcome="not_converged", limit_reached="time"),
        replayed_run(data, "r2", "7.2-m-autoconverge-i80-s19", AUTO_CONVERGE),
        replayed_run(data, "r3", "7.2-m-postcopy-rescue", POST_COPY),
    ]


@pytest.fixture(scope="module")
def views(three: tuple[DataDir, list[RunDir]]) -> list[RunView]:
    """The three runs as the report reads them."""
    return report.views(*three)


def figures_in(text: str) -> dict[str, Any]:
    """The figures of a page by their names, as they stand in it."""
    found = re.findall(r'<script type="application/json" data-figure="([^"]+)">(.*?)</script>', text, re.DOTALL)
    return {name: orjson.loads(content) for name, content in found}


def coloured(value: Any) -> Any:
    """A figure with real colours, as the page makes it, so that Plotly can judge it."""
    if isinstance(value, str) and value.startswith("@"):
        name, _, opacity = value[1:].partition("/")
        plain = palettes()["light"][name]
        rgb = ",".join(str(int(plain[at : at + 2], 16)) for at in (1, 3, 5))
        return f"rgba({rgb},{opacity})" if opacity else plain
    if isinstance(value, dict):
        return {key: coloured(inner) for key, inner in value.items()}
    return [coloured(inner) for inner in value] if isinstance(value, list) else value


def test_a_report_compares_three_runs_and_shows_each(three: tuple[DataDir, list[RunDir]], tmp_path: Path) -> None:
    data, runs = three
    output = tmp_path / "out" / "report.html"
    report.write(data, runs, output)
    text = output.read_text()
    figures = figures_in(text)
    assert list(figures) == ["overlay", "run-0", "run-1", "run-2"]
    assert "did not converge within its limit on time" in text
    assert text.count("the guest was dark for") == 2
    runs_shown = {trace["meta"]["run"] for trace in figures["overlay"]["data"] if trace["visible"] is True}
    assert len(runs_shown) == 3
    assert 4e6 < len(text) < 8e6, "Plotly is inlined, and the samples stay moderate"


def test_a_report_says_at_once_which_completed_run_was_best_in_what(views: list[RunView]) -> None:
    told = [figures_of(view.record, view.summary) for view in views]
    best = best_runs(told)
    assert best["slowdown"] == 2
    assert all(place > 0 for place in best.values()), "the first did not complete"
    words = best_in_words([view.label for view in views], told)
    assert re.search(r"^Of the 2 that completed, post-copy-3.* slowed its guest least \([\d.]+ x\)", words)
    text = page(views)
    assert words in text
    assert text.count("<td class=best") == len(best.keys() - set(PACES))
    assert best_runs(told[:2]) == {}, "one completed run is the best of nothing"
    assert best_in_words(["pre-copy", "auto-converge"], told[:2]) == ""


def test_runs_of_a_report_are_named_by_what_tells_them_apart() -> None:
    records = [record_of("r1", SCENARIO), record_of("r2", POST_COPY), record_of("r3", POST_COPY)]
    assert labels(records) == ["pre-copy", "post-copy-3 #1", "post-copy-3 #2"]
    assert labels(records[:1]) == [SCENARIO.name]


def test_conditions_that_are_off_in_every_run_stand_in_one_row(views: list[RunView]) -> None:
    text = page(views[1:])
    off = re.findall(r'<tr><th>off</th><td class="words wide" colspan="2">(.*?)</td>', text)
    assert "pause after iterations" in off[0]
    assert "post-copy after iterations" not in off[0], "one of the runs has it"
    assert "<th>pause after iterations</th>" not in text


def test_plotly_takes_every_figure_as_it_is_written(data: DataDir) -> None:
    run = replayed_run(data, "r", "10.0-m-autoconverge-i80-s19", AUTO_CONVERGE, vcpus=2)
    figure = coloured(run_figure(report.views(data, [run])[0]))
    made = go.Figure({"data": figure["data"], "layout": figure["layout"]})
    kinds = {trace.meta["kind"] for trace in made.data}
    assert kinds >= {"guest", "guest-vcpu", "cpu-process", "cpu-vcpu", "cpu-migration", "remaining", "dirty",
                     "bandwidth", "cap", "throttle", "iterations", "blackout", "ribbon"}  # fmt: skip


def test_the_axis_starts_at_the_migration_and_the_blackout_lies_between_stop_and_resume(views: list[RunView]) -> None:
    view = views[1]
    traces = {trace["meta"]["kind"]: trace for trace in run_figure(view)["data"]}
    assert view.summary.stop_ns is not None
    assert view.summary.resume_ns is not None
    stop, resume = view.seconds(view.summary.stop_ns), view.seconds(view.summary.resume_ns)
    assert traces["blackout"]["x"][0] == pytest.approx(stop, abs=1e-3)
    assert traces["blackout"]["x"][2] == pytest.approx(resume, abs=1e-3)
    assert min(traces["guest"]["x"]) == pytest.approx(-2, abs=0.1), "the settled guest stands left of zero"
    assert traces["remaining"]["x"][0] == pytest.approx(0, abs=0.1)


def test_each_iteration_says_its_status_throttle_and_dirty_rate(views: list[RunView]) -> None:
    traces = {trace["meta"]["kind"]: trace for trace in run_figure(views[1])["data"]}
    last = traces["iterations"]["text"][-1]
    assert re.search(r"Iteration \d+</b> · active<br>[\d.]+ [KM]iB remaining<br>dirty rate [\d.]+ .*", last)
    assert last.endswith("throttle 99 %")


def test_a_slow_guest_is_drawn_on_a_logarithmic_axis_and_an_even_one_on_a_linear_one(views: list[RunView]) -> None:
    axes = [run_figure(view)["layout"]["yaxis"]["type"] for view in views[1:]]
    assert axes == ["log", "linear"]


def test_a_run_without_samples_gets_a_page_that_says_why(data: DataDir) -> None:
    place = data.run("r")
    place.path.mkdir()
    write_record(place, replace(record_of("r", SCENARIO, outcome="unsupported"), reason="userfaultfd is for root only"))
    text = page(report.views(data, [place]))
    assert "this run has no samples" in text
    assert "userfaultfd is for root only" in text
    assert figures_in(text) == {}


def test_a_run_that_failed_at_once_gets_a_page(data: DataDir) -> None:
    run = replayed_run(data, "r", "7.2-netns-nolimit", outcome="failed", reason="connection reset")
    text = page(report.views(data, [run]))
    assert "connection reset" in text
    assert list(figures_in(text)) == ["run-0"]


def test_text_of_a_record_never_becomes_markup(data: DataDir) -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    run = replayed_run(data, "r", "7.2-m-postcopy-rescue", POST_COPY, outcome="failed", reason=evil, git_revision=evil)
    text = page(report.views(data, [run]))
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<img" not in text[: text.index("plotly.js v")]


@given(st.text())
def test_json_in_the_page_cannot_end_its_element_and_reads_back(word: str) -> None:
    written = inline_json({"word": word.encode(errors="replace").decode()})
    assert "<" not in written
    assert orjson.loads(written)["word"] == word.encode(errors="replace").decode()


def test_no_run_and_a_directory_as_output_are_refused(data: DataDir, tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match="no run was given"):
        report.write(data, [], tmp_path / "x.html")
    run = replayed_run(data, "r", "7.2-m-postcopy-rescue", POST_COPY)
    with pytest.raises(BadValueError, match="is a directory"):
        report.write(data, [run], tmp_path)


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), min_size=0, max_size=400),
    st.integers(4, 60),
)
def test_thinning_out_loses_neither_peaks_nor_gaps_nor_ends(values: list[float | None], points: int) -> None:
    x = [float(place) for place in range(len(values))]
    line = thin(x, values, points)
    known = [value for value in values if value is not None]
    kept = [value for value in line.y if value is not None]
    assert (min(kept, default=None), max(kept, default=None)) == (min(known, default=None), max(known, default=None))
    assert list(line.y).count(None) == values.count(None)
    assert sorted(line.x) == list(line.x)
    if values:
        assert (line.x[0], line.x[-1]) == (x[0], x[-1])
    assert len(kept) <= points + 2


def test_cpu_is_smoothed_over_a_tenth_of_a_second_and_broken_where_the_counter_fell() -> None:
    ticks = [Row(time_ns=n * 10_000_000, values={"cpu_seconds": (n // 4) * 0.04}) for n in range(100)]
    line = cpu_percent(ticks, 0)
    assert all(y is not None and 60 <= y <= 140 for y in line.y), "jumps of 40 ms a tick do not show as 400 %"
    again = [Row(time_ns=10**9 + row.time_ns, values=row.values) for row in ticks]
    assert list(cpu_percent([*ticks, *again], 0).y).count(None) == 1


def test_the_guest_in_total_weighs_all_lines_of_a_tenth_of_a_second() -> None:
    gib = float(1 << 30)
    fast = [Row(time_ns=n * 20_000_000, values={"bytes": gib, "seconds": 1.0}) for n in range(5)]
    slow = [Row(time_ns=90_000_000, values={"bytes": gib, "seconds": 4.0}),
            Row(time_ns=950_000_000, values={"bytes": gib, "seconds": 9.0})]  # fmt: skip
    line = total_pace({("0",): fast, ("1",): slow}, 0)
    assert list(line.x) == pytest.approx([0.09, 0.95])
    assert list(line.y) == pytest.approx([1500, 9000])


def test_a_switchover_without_ticks_says_that_its_blackout_is_not_known() -> None:
    record = record_of("r", POST_COPY)
    why = {"blackout_seconds": "no tick after the switchover"}
    told = in_words(figures_of(record, Summary(run="r", total_seconds=2.1, stop_resume_seconds=0.009, why=why)))
    assert told == (
        "completed, after 2.10 s; the guest was dark for a time that is not known (no tick after the switchover)."
    )
