"""What grafanalib writes, made fit for today's Grafana: it speaks the language of years ago in some places."""

from __future__ import annotations

import json
from typing import Any

from grafanalib._gen import DashboardEncoder
from grafanalib.core import Dashboard

SCHEMA_VERSION = 41
"""Classic JSON of this version is taken by Grafana up to 13; a lower one would be migrated on load."""

OLD_OF_DASHBOARD = ("gnetId", "hideControls", "inputs", "rows", "sharedCrosshair", "style")
OLD_OF_PANEL = (
    "cacheTimeout", "editable", "error", "height", "hideTimeOverride", "maxDataPoints", "maxPerRow", "minSpan",
    "repeatDirection", "span",
)  # fmt: skip
OLD_OF_TABLE = ("color", "columns", "fontSize", "mappings")
OLD_OF_TARGET = ("intervalFactor", "metric", "step", "target", "measurement")
OLD_OF_VARIABLE = ("auto", "auto_count", "auto_min", "tagValuesQuery", "tagsQuery", "useTags")
"""Keys that Grafana no longer reads, or whose fixed value is too coarse for runs of seconds."""

KEPT_EMPTY = frozenset({"calcs", "list", "mappings", "options", "overrides", "panels", "steps"})


def normalised(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard's JSON: no nulls but a threshold's base, no old keys, each datasource with type and uid."""
    plain = json.loads(json.dumps(dashboard, cls=DashboardEncoder))
    data: dict[str, Any] = _clean(plain, _store(plain))
    data |= {"schemaVersion": SCHEMA_VERSION, "editable": False, "graphTooltip": 1}
    _drop(data, OLD_OF_DASHBOARD)
    _drop(data["timepicker"], ("time_options",))
    for variable in data["templating"]["list"]:
        _drop(variable, OLD_OF_VARIABLE)
        _settle_variable(variable, data["templating"]["list"][0]["query"])
    for panel in data["panels"]:
        _settle_panel(panel)
    return data


def text(dashboard: Dashboard) -> str:
    """Write a dashboard as a file's text, in a fixed order of keys."""
    return json.dumps(normalised(dashboard), indent=2, sort_keys=True) + "\n"


def _drop(data: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        data.pop(key, None)


def _store(dashboard: dict[str, Any]) -> str:
    """The type of datasource that a dashboard asks, as its first variable names it."""
    return str(dashboard["templating"]["list"][0]["query"])


def _settle_panel(panel: dict[str, Any]) -> None:
    """Give a panel and its targets the form that Grafana writes."""
    _drop(panel, OLD_OF_PANEL)
    if panel["type"] == "row":
        _drop(panel, ("fieldConfig", "transformations", "targets", "thresholds"))
        panel |= {"collapsed": False, "panels": []}
        return
    colour = panel["fieldConfig"]["defaults"].get("color", {})
    if colour.get("mode") != "fixed":
        _drop(colour, ("fixedColor",))
    if panel["type"] == "table":
        _drop(panel, OLD_OF_TABLE)
        custom = panel["fieldConfig"]["defaults"]["custom"]
        custom.setdefault("cellOptions", {"type": custom.pop("displayMode", "auto")})
        _drop(custom, ("displayMode",))
    for target in panel["targets"]:
        _drop(target, OLD_OF_TARGET)
        if "expr" in target:
            _drop(target, ("query",))
            instant = bool(target.get("instant"))
            target |= {"editorMode": "code", "range": not instant, "instant": instant}
        else:
            target |= {"rawQuery": True}


def _clean(value: Any, store: str) -> Any:
    """Take out, at every depth, what says nothing; give each datasource its type."""
    if isinstance(value, list):
        return [_clean(item, store) for item in value]
    if not isinstance(value, dict):
        return value
    cleaned = {name: _clean(item, store) for name, item in value.items() if _says(name, item)}
    if isinstance(cleaned.get("datasource"), str):
        cleaned["datasource"] = {"type": store, "uid": cleaned["datasource"]}
    return cleaned


def _says(name: str, item: Any) -> bool:
    """Whether a key says anything: nulls and empty words, lists and objects do not (a threshold's base is null)."""
    if name == "value" and item is None:
        return True
    return item is not None and (item not in ("", [], {}) or name in KEPT_EMPTY)


def _settle_variable(variable: dict[str, Any], store: str) -> None:
    """Give a variable the form that Grafana writes: what is chosen, and Prometheus' query as an object with a refId."""
    chosen = variable["current"]
    value = chosen.get("value") or ""
    several = variable["multi"]
    variable["current"] = {
        "selected": False,
        "text": ["All"] if value == "$__all" else chosen.get("text") or "",
        "value": [value] if several else value,
    }
    if variable["type"] == "query":
        variable["definition"] = variable["query"]
    if variable["type"] == "query" and store == "prometheus":
        variable["query"] = {"query": variable["query"], "refId": f"variable-{variable['name']}"}
