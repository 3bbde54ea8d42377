"""Grafana's dashboards: agreed on, of the form that Grafana writes, and kept to the rules of Grafana's own linter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import DASHBOARDS, build
from dashboards.colours import MEANINGS
from dashboards.dialect import INFLUXDB, PROMETHEUS, Query
from dashboards.expression import Gauge, Product, Rate, Ratio
from dashboards.lint import faults, panels, walk
from dashboards.live import live_run
from dashboards.normalise import text
from migrascope.main import main
from tests.golden import Golden

OF_PLUGINS = re.compile(r"\.annotations\.list\[\]\.(step|titleFormat|useValueForTime|query|titleColumn|textColumn)")
"""What a datasource's own editor adds to an annotation: the SDK knows only what all annotations have."""

WRITTEN_BY_GRAFANA = {".templating.list[].definition"}
"""A key that Grafana writes beside a variable's query and the SDK does not know."""

DEFAULTS = {"tooltip", "fiscalYearStartMonth", "builtIn", "perPage", "repeatDirection", "allowCustomValue", "auto",
            "auto_count", "auto_min", "skipUrlSync", "inspect", "frameIndex", "fullHighlight", "showTypeIcons",
            "xTickLabelMaxLength", "showLegend", "fillOpacity"}  # fmt: skip
"""Keys that the SDK adds with their default where we leave them out."""


@pytest.fixture(params=sorted(DASHBOARDS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dashboard(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text(DASHBOARDS[name]()))
    return data


def test_dashboards_are_the_agreed_ones_and_are_written_as_flat_files(tmp_path: Path, golden: Golden) -> None:
    written = build(tmp_path / "new" / "directory")
    assert [path.name for path in written] == [f"{name}.json" for name in DASHBOARDS]
    for path in written:
        golden.check(path.name, path.read_text())


def test_every_dashboard_has_a_uid_of_its_own_and_none_can_be_edited() -> None:
    made = [json.loads(text(make())) for make in DASHBOARDS.values()]
    uids = [each["uid"] for each in made]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("migrascope-") for uid in uids)
    assert not any(each["editable"] for each in made)
    assert all(each["links"][0]["tags"] == ["migrascope"] for each in made)


def test_a_dashboard_keeps_the_rules(dashboard: dict[str, Any]) -> None:
    assert faults(dashboard) == []


def test_letters_of_queries_follow_each_other(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        letters = list("ABCDEFGHIJKLMNOP")[: len(panel["targets"])]
        assert [target["refId"] for target in panel["targets"]] == letters


def _without(place: str, key: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: panels(data)[0].pop(key) if place == "panel" else data.pop(key)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda data: data.update(schemaVersion=12), "schemaVersion is 12, want 41"),
        (lambda data: data.update(editable=True), "can be edited"),
        (lambda data: data.update(uid="x"), "uid is 'x'"),
        (_without("panel", "title"), "panel 1: has no title"),
        (lambda data: panels(data)[0].update(description="short"), "Verdict: has no description"),
        (lambda data: panels(data)[0]["fieldConfig"]["defaults"].pop("unit"), "Verdict: has no unit"),
        (lambda data: panels(data)[0].update(targets=[]), "Verdict: asks nothing"),
        (lambda data: panels(data)[0]["targets"][0].pop("legendFormat"), "Verdict A: its series have no name"),
        (lambda data: panels(data)[1].update(id=1), "two panels have one id"),
        (lambda data: panels(data)[1]["gridPos"].update(x=0), "covers another panel"),
        (lambda data: panels(data)[1]["gridPos"].update(x=23), "is outside the grid"),
        (lambda data: data["templating"]["list"].pop(0), "its first variable is no datasource"),
        (lambda data: data["templating"]["list"].pop(1), "there is no variable $job"),
        (lambda data: panels(data)[0].update(datasource={"uid": "p"}), "want the variable"),
        (lambda data: panels(data)[0].update(interval=None), "interval is null"),
        (lambda data: target(data).update(expr='up{job="$job"}'), "selects no metric of ours"),
        (lambda data: target(data).update(expr="migrascope_nothing{}"), "migrascope_nothing is not in the catalogue"),
        (lambda data: target(data).update(expr="migrascope_guest_ticks_total{}"), "is a counter without rate"),
        (lambda data: target(data).update(expr="migrascope_run_phase{}"), "is not chosen by job"),
    ],
)
def test_what_breaks_a_rule_is_told(spoil: Callable[[dict[str, Any]], object], told: str) -> None:
    data = json.loads(text(live_run(PROMETHEUS)))
    spoil(data)
    assert any(told in fault for fault in faults(data)), faults(data)


def target(dashboard: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = panels(dashboard)[0]["targets"][0]
    return found


def test_check_tells_of_files_that_are_not_what_would_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboards", "build", str(tmp_path)]) == 0
    assert main(["dashboards", "check", str(tmp_path)]) == 0
    (tmp_path / "campaign.json").write_text("{}")
    (tmp_path / "comparison.json").unlink()
    capsys.readouterr()
    assert main(["dashboards", "check", str(tmp_path)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        f"{tmp_path}/{name}.json" for name in ("campaign", "comparison")
    ]
    assert main(["dashboards", "check"]) == 0
    assert main(["dashboards", "build"]) == 2


def test_what_grafana_no_longer_reads_is_gone(dashboard: dict[str, Any]) -> None:
    words = json.dumps(dashboard)
    assert not any(key in words for key in ("intervalFactor", "maxDataPoints", '"step": 10', "minSpan"))


def test_grafanas_own_sdk_reads_and_writes_each_dashboard_without_losing_a_key(dashboard: dict[str, Any]) -> None:
    register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    ours, theirs = set(keys(dashboard)), set(keys(back))
    lost = {key for key in ours - theirs if not OF_PLUGINS.fullmatch(key)}
    assert lost <= WRITTEN_BY_GRAFANA
    assert {key.rpartition(".")[2] for key in theirs - ours} <= DEFAULTS


def keys(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{place}.{key}"
            yield from keys(item, f"{place}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from keys(item, f"{place}[]")


def test_a_colour_is_one_of_our_meanings(dashboard: dict[str, Any]) -> None:
    known = {colour.dark for colour in MEANINGS.values()} | {"text", "orange", "blue"}
    colours = {value for place, value in walk(dashboard["panels"]) if re.search(r"\.(fixedColor|color)$", place)}
    assert colours <= known


def test_both_stores_are_asked_the_same_panels_as_far_as_influxdb_holds_them() -> None:
    held = {panel["id"]: panel["title"] for panel in panels(json.loads(text(live_run(PROMETHEUS))))}
    mirrored = {panel["id"]: panel["title"] for panel in panels(json.loads(text(live_run(INFLUXDB))))}
    assert mirrored.items() <= held.items()
    missing = {held[number] for number in held.keys() - mirrored.keys()}
    # derived at the scrape from what the mirror does not hold: the clock, the settled pace, the run's summary
    assert missing == {"Left until the switchover", "The guest is slower by", "Blackout", "Phase or outcome",
                       "Guest: silence on its console"}  # fmt: skip


def test_a_query_that_the_catalogue_does_not_allow_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="want its rate"):
        Gauge(of="guest_xor.bytes").promql()
    with pytest.raises(ValueError, match="has no rate"):
        Rate(of="migration.iteration", by=("vm",)).promql()
    with pytest.raises(KeyError, match="no label role"):
        Gauge(of="verdict.stalled", where={"role": "source"}).promql()
    with pytest.raises(KeyError, match="no label colour"):
        Rate(of="guest_xor.bytes", by=("colour",)).promql()
    with pytest.raises(KeyError):
        Gauge(of="migrascope_verdict_misspelt").promql()


def test_the_same_expression_is_written_for_each_store() -> None:
    pace = Ratio(
        top=Rate(of="guest_xor.seconds", by=("vm",)),
        bottom=Rate(of="guest_xor.bytes", by=("vm",)),
        factor=2.0,
    )
    assert re.fullmatch(r"sum by \(vm\) \(.*\) / sum by \(vm\) \(.*\) \* 2", pace.promql())
    assert (pace.influxql() or "").startswith('SELECT sum("seconds") / sum("bytes") * 2 FROM "guest_xor" WHERE')
    dirty = Product(
        one=Gauge(of="migration.dirty_pages_per_second"),
        other=Gauge(of="migration.page_bytes"),
    )
    assert 'last("dirty_pages_per_second") * last("page_bytes")' in (dirty.influxql() or "")
    own = Query(ask=Gauge(of="exporter.attached_runs"), legend="runs")
    assert PROMETHEUS.says(own)
    assert not INFLUXDB.says(own)
