"""What a dashboard must hold to be of use: the rules of Grafana's own dashboard-linter, and ours, on its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dashboards.promql import JOB
from exporter.catalogue import BY_KEY, CATALOGUE

SCHEMA_VERSION = 41
GRID = 24
NAMES = frozenset(metric.name for metric in CATALOGUE) | {
    f"{metric.name}_bucket" for metric in CATALOGUE if metric.kind == "histogram"
}
RATED = frozenset(metric.name for metric in CATALOGUE if metric.kind == "counter" and metric.measurement != "campaign")
"""Counters that may start again, and so say nothing without a rate; a campaign's stand in its own file and do not."""

EVER = frozenset({BY_KEY["exporter.journal_lost_samples"].name})
"""A counter whose value is the question: whether anything was ever lost."""

MACROS = frozenset({"__rate_interval", "__interval", "__range", "timeFilter", "tag", "col", "__data"})


def faults(dashboard: Mapping[str, Any]) -> list[str]:
    """Name what is wrong with a dashboard, in words: where, what, and what was wanted."""
    return [*_whole(dashboard), *_panels(dashboard), *_places(dashboard), *_variables(dashboard), *_queries(dashboard)]


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something: all but headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def promql(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Every PromQL query of panels and annotations, by where it stands."""
    found = {
        f"{panel.get('title')} {target['refId']}": target["expr"]
        for panel in panels(dashboard)
        for target in panel["targets"]
        if "expr" in target
    }
    notes = dashboard.get("annotations", {}).get("list", [])
    return found | {note["name"]: note["expr"] for note in notes if "expr" in note}


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its place: `.panels.0.title`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    empty = True
    for key, item in items:
        empty = False
        yield from walk(item, f"{place}.{key}")
    if empty:
        yield place, value


def _whole(dashboard: Mapping[str, Any]) -> Iterator[str]:
    if dashboard.get("schemaVersion") != SCHEMA_VERSION:
        yield f"schemaVersion is {dashboard.get('schemaVersion')}, want {SCHEMA_VERSION}"
    if dashboard.get("editable"):
        yield "can be edited: what is changed in Grafana would be lost"
    if not str(dashboard.get("uid", "")).startswith("migrascope-"):
        yield f"uid is {dashboard.get('uid')!r}, want a fixed one that begins with migrascope-"
    for place, value in walk(dashboard):
        if value is None and not re.fullmatch(r".*\.thresholds\.steps\.0\.value", place):
            yield f"{place} is null"


def _panels(dashboard: Mapping[str, Any]) -> Iterator[str]:
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"
    for panel in panels(dashboard):
        title = panel.get("title") or f"panel {panel['id']}"
        if not panel.get("title"):
            yield f"{title}: has no title"
        if not str(panel.get("description", "")).endswith("."):
            yield f"{title}: has no description that ends with a full stop"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{title}: has no unit"
        if not panel.get("targets"):
            yield f"{title}: asks nothing"
        for target in panel.get("targets", []):
            if not (target.get("legendFormat") or target.get("alias")):
                yield f"{title} {target['refId']}: its series have no name"


def _places(dashboard: Mapping[str, Any]) -> Iterator[str]:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        right, bottom = place["x"] + place["w"], place["y"] + place["h"]
        cells = {(x, y) for x in range(place["x"], right) for y in range(place["y"], bottom)}
        if right > GRID:
            yield f"{panel.get('title')}: is outside the grid"
        if cells & taken:
            yield f"{panel.get('title')}: covers another panel"
        taken |= cells


def _variables(dashboard: Mapping[str, Any]) -> Iterator[str]:
    variables = dashboard["templating"]["list"]
    if not variables or variables[0]["type"] != "datasource":
        yield "its first variable is no datasource"
        return
    offered = {variable["name"] for variable in variables}
    for place, value in walk(dashboard):
        if place.endswith(".datasource.uid") and value != "${datasource}":
            yield f"{place} is {value!r}, want the variable"
        if isinstance(value, str) and re.search(r"\.(expr|query)$", place):
            unknown = set(re.findall(r"\$\{?(\w+)", value)) - offered - MACROS
            yield from (f"{place}: there is no variable ${name}" for name in sorted(unknown))


def _queries(dashboard: Mapping[str, Any]) -> Iterator[str]:
    for where, query in promql(dashboard).items():
        selectors = re.findall(r"(\w*)\(?(migrascope_\w+)\{([^}]*)\}", query)
        if not selectors:
            yield f"{where}: selects no metric of ours"
        for before, metric, matchers in selectors:
            if metric not in NAMES:
                yield f"{where}: {metric} is not in the catalogue"
            if not matchers.startswith('job="$job",instance=~"$instance"'):
                yield f"{where}: {metric} is not chosen by job ({JOB}) and instance"
            if metric in RATED - EVER and before not in ("rate", "increase"):
                yield f"{where}: {metric} is a counter without rate or increase"
