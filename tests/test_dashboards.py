"""Grafana's dashboards: agreed on, of the form that Grafana writes, and kept to the rules of Grafana's own linter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
from dashboards.live import live_run
from dashboards.normalise import text
from exporter.catalogue import CATALOGUE
from tests.golden import Golden

COUNTERS = {metric.name for metric in CATALOGUE if metric.kind == "counter"}
NAMES = {metric.name for metric in CATALOGUE} | {
    f"{metric.name}_bucket" for metric in CATALOGUE if metric.kind == "histogram"
}

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


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Every PromQL query of panels and annotations, by a name that tells where it stands."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels(dashboard)
        for target in panel["targets"]
        if "expr" in target
    }
    notes = dashboard.get("annotations", {}).get("list", [])
    return found | {note["name"]: note["expr"] for note in notes if "expr" in note}


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


def test_every_panel_says_what_it_shows_in_which_unit_and_has_its_own_id(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        letters = list("ABCDEFGHIJKLMNOP")[: len(panel["targets"])]
        assert [target["refId"] for target in panel["targets"]] == letters
        assert all(target.get("legendFormat") or target.get("alias") for target in panel["targets"])


def test_no_panel_covers_another_and_all_fit_the_grid(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_first_variable_is_the_datasource_and_everything_asks_it(dashboard: dict[str, Any]) -> None:
    variables = dashboard["templating"]["list"]
    assert (variables[0]["name"], variables[0]["type"]) == ("datasource", "datasource")
    sources = [value for place, value in walk(dashboard) if place.endswith(".datasource.uid")]
    assert set(sources) == {"${datasource}"}
    kinds = [value for place, value in walk(dashboard) if place.endswith(".datasource.type")]
    assert set(kinds) == {variables[0]["query"]}


def test_every_variable_that_a_query_uses_is_there(dashboard: dict[str, Any]) -> None:
    offered = {variable["name"] for variable in dashboard["templating"]["list"]}
    macros = {"__rate_interval", "__interval", "__range", "timeFilter", "tag", "col", "__data"}
    for place, value in walk(dashboard):
        if isinstance(value, str) and re.search(r"\.(expr|query)$", place):
            used = set(re.findall(r"\$\{?(\w+)", value))
            assert used <= offered | macros, value


def test_every_query_names_metrics_of_the_catalogue_of_one_job(dashboard: dict[str, Any]) -> None:
    for where, query in queries(dashboard).items():
        selectors = re.findall(r"(migrascope_\w+)\{([^}]*)\}", query)
        assert selectors, where
        for metric, matchers in selectors:
            assert metric in NAMES, where
            assert matchers.startswith('job="$job",instance=~"$instance"'), where


def test_a_counter_that_may_start_again_is_never_drawn_without_rate_or_increase(dashboard: dict[str, Any]) -> None:
    """But for a campaign's counters, which the exporter reads from the campaign's own file, and totals ever lost."""
    for where, query in queries(dashboard).items():
        for metric, before in re.findall(r"(?=(migrascope_\w+)\{)", query) and [
            (match[2], match[1]) for match in re.finditer(r"(\w*)\(?(migrascope_\w+)\{", query)
        ]:
            if metric in COUNTERS and not metric.startswith(
                ("migrascope_campaign_", "migrascope_journal_lost_samples")
            ):
                assert before in ("rate", "increase"), where


def test_what_grafana_no_longer_reads_is_gone(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] == 41
    nulls = [place for place, value in walk(dashboard) if value is None]
    assert all(re.fullmatch(r".*\.thresholds\.steps\.0\.value", place) for place in nulls)
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


def walk(value: Any, place: str = "") -> list[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [found for key, item in items for found in walk(item, f"{place}.{key}")]
    return below or [(place, value)]


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
        Gauge(name="migrascope_guest_xor_bytes_total").promql()
    with pytest.raises(ValueError, match="has no rate"):
        Rate(name="migrascope_migration_iteration", by=("vm",)).promql()
    with pytest.raises(KeyError, match="no label role"):
        Gauge(name="migrascope_verdict_stalled", where={"role": "source"}).promql()
    with pytest.raises(KeyError, match="no label colour"):
        Rate(name="migrascope_guest_xor_bytes_total", by=("colour",)).promql()
    with pytest.raises(KeyError):
        Gauge(name="migrascope_verdict_misspelt").promql()


def test_the_same_expression_is_written_for_each_store() -> None:
    pace = Ratio(
        top=Rate(name="migrascope_guest_xor_seconds_total", by=("vm",)),
        bottom=Rate(name="migrascope_guest_xor_bytes_total", by=("vm",)),
        factor=2.0,
    )
    assert re.fullmatch(r"sum by \(vm\) \(.*\) / sum by \(vm\) \(.*\) \* 2", pace.promql())
    assert (pace.influxql() or "").startswith('SELECT sum("seconds") / sum("bytes") * 2 FROM "guest_xor" WHERE')
    dirty = Product(
        one=Gauge(name="migrascope_migration_dirty_pages_per_second"),
        other=Gauge(name="migrascope_migration_page_bytes"),
    )
    assert 'last("dirty_pages_per_second") * last("page_bytes")' in (dirty.influxql() or "")
    own = Query(ask=Gauge(name="migrascope_exporter_attached_runs"), legend="runs")
    assert PROMETHEUS.says(own)
    assert not INFLUXDB.says(own)
