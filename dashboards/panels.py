"""Our panel shapes for Grafana: a figure, lines, states, bars, a table, a matrix, lines over another axis than time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grafanalib.core import BarChart, GridPos, Panel, RowPanel, Stat, StateTimeline, Table, TimeSeries

from dashboards.colours import MEANINGS
from dashboards.dialect import DATASOURCE, Dialect, Query

GRID = 24
"""Columns of Grafana's grid."""

BASE_STEPS = [{"color": "text", "value": None}]

BY_NAME: dict[str, Any] = {
    "options": {"textMode": "value_and_name"},
    "fieldConfig": {"defaults": {"mappings": [
        {"type": "value", "options": {"0": {"index": 0, "text": "no"}, "1": {"index": 1, "text": "yes"}}}
    ]}},
}  # fmt: skip
"""How a figure shows a truth value, or a word, beside its name."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A panel before it has a place: its id (fixed, so that links to it last), words, unit, size and queries.

    `more` is merged into the panel's JSON: what one shape has beyond the others. A figure of `words` shows the names of
    the series that hold; InfluxDB has no series that hold, but words, and 0 and 1: there it shows these by their names.
    """

    kind: str
    number: int
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 12
    height: int = 9
    more: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Mapping[str, Any]] = ()
    transformations: Sequence[Mapping[str, Any]] = ()
    words: bool = False

    def told_by(self, dialect: Dialect) -> Shape | None:
        """The shape with those queries that a store can answer; None where none is left."""
        kept = [query for query in self.queries if dialect.says(query)]
        if not kept:
            return None
        shown = _merged(self.more, BY_NAME) if self.words and dialect.suffix else self.more
        return replace(self, queries=kept, more=shown)


def figure(
    number: int, title: str, description: str, unit: str, *queries: Query, steps: Sequence[tuple[float, str]] = (),
    words: bool = False,
) -> Shape:  # fmt: skip
    """Make one figure; `steps` colour it from a value on by a meaning, `words` shows the name of the series instead."""
    return Shape(
        kind="stat", number=number, title=title, description=description, unit=unit, queries=queries, width=4, height=4,
        more={
            "options": {"textMode": "name" if words else "value", "graphMode": "none" if words else "area",
                        "wideLayout": True, "percentChangeColorMode": "standard", "showPercentChange": False},
            "fieldConfig": {"defaults": {"thresholds": _thresholds(steps)}},
        },
        overrides=_colours(queries) if words else (), words=words,
    )  # fmt: skip


def lines(number: int, title: str, description: str, unit: str, *queries: Query, width: int = 12) -> Shape:
    """Make a panel of lines over time."""
    return Shape(
        kind="lines", number=number, title=title, description=description, unit=unit, queries=queries, width=width,
        overrides=[*_colours(queries), *_axes(queries)],
    )  # fmt: skip


def states(number: int, title: str, description: str, *queries: Query, width: int = 12) -> Shape:
    """Make a panel of states: a row a series, filled while it is 1 (or showing its word)."""
    return Shape(
        kind="states", number=number, title=title, description=description, unit="none", queries=queries, width=width,
        overrides=_colours(queries),
    )  # fmt: skip


def bars(
    number: int, title: str, description: str, unit: str, by: str, *queries: Query, width: int = 12,
    stacked: bool = False,
) -> Shape:  # fmt: skip
    """Make bars, a group for each value of the label `by`, a bar for each query (asked for its last value)."""
    columns = {f"Value #{_ref(index)}": query.legend for index, query in enumerate(queries)}
    return Shape(
        kind="bars", number=number, title=title, description=description, unit=unit, width=width,
        queries=[replace(query, instant=True) for query in queries],
        more={"options": {"stacking": "normal" if stacked else "none"}},
        overrides=[_by_name(query.legend, _fixed(query.meaning)) for query in queries if query.meaning],
        transformations=_one_table(columns, by),
    )  # fmt: skip


def table(
    number: int, title: str, description: str, unit: str, by: str, *queries: Query, width: int = 24, sort: str = "",
    overrides: Sequence[Mapping[str, Any]] = (), hidden: Sequence[str] = (),
) -> Shape:  # fmt: skip
    """Make a table: a row for each value of the label `by`, a column for each query (named by its legend)."""
    columns = {f"Value #{_ref(index)}": query.legend for index, query in enumerate(queries)}
    ordered = [{"displayName": sort, "desc": True}] if sort else []
    units = [_by_name(query.legend, ("unit", query.right_unit)) for query in queries if query.right_unit]
    return Shape(
        kind="table", number=number, title=title, description=description, unit=unit, width=width,
        queries=[replace(query, instant=True) for query in queries],
        more={"options": {"sortBy": ordered, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"]}}},
        overrides=[*units, *overrides, *(_by_name(name, ("custom.hidden", True)) for name in hidden)],
        transformations=_one_table(columns, by),
    )  # fmt: skip


def matrix(
    number: int, title: str, description: str, unit: str, row: str, column: str, query: Query, *,
    steps: Sequence[tuple[float, str]], width: int = 12,
) -> Shape:  # fmt: skip
    """Make a heat map of cells: one label down, another across, coloured from good to bad by `steps`."""
    return Shape(
        kind="table", number=number, title=title, description=description, unit=unit, width=width,
        queries=[replace(query, instant=True)],
        more={
            "options": {"sortBy": [], "cellHeight": "md", "footer": {"show": False, "reducer": ["sum"]}},
            "fieldConfig": {"defaults": {"thresholds": _thresholds(steps),
                                         "custom": {"cellOptions": {"type": "color-background", "mode": "basic"}}}},
        },
        transformations=[{
            "id": "groupingToMatrix",
            "options": {"rowField": row, "columnField": column, "valueField": "Value", "emptyValue": "empty"},
        }],
    )  # fmt: skip


def against(
    number: int, title: str, description: str, unit: str, pairs: Sequence[tuple[Query, Query]], *, width: int = 12
) -> Shape:
    """Make lines over another axis than time: of each pair the first query is x, the second y."""
    queries = [query for pair in pairs for query in pair]
    series = [
        {
            "x": {"matcher": {"id": "byName", "options": x.legend}},
            "y": {"matcher": {"id": "byName", "options": y.legend}},
            "color": {"matcher": {"id": "byName", "options": y.legend}},
            "name": {"fixed": y.legend},
        }
        for x, y in pairs
    ]
    return Shape(
        kind="xy", number=number, title=title, description=description, unit=unit, queries=queries, width=width,
        more={"options": {"mapping": "manual", "series": series}},
        overrides=[
            *(_by_name(x.legend, ("unit", "s")) for x, _ in pairs),
            *(_by_name(y.legend, _fixed(y.meaning)) for _, y in pairs),
        ],
        transformations=[{"id": "joinByField", "options": {"byField": "Time", "mode": "outer"}}],
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A row of its own that says what the panels below it answer."""

    number: int
    title: str


def arranged(dialect: Dialect, items: Sequence[Shape | Heading]) -> list[Panel]:
    """Give each panel its place, from left to right and then down; a heading begins a new row."""
    panels: list[Panel] = []
    x = y = tallest = 0
    heading: Heading | None = None
    for item in items:
        if isinstance(item, Heading):
            heading = item
            continue
        if (shape := item.told_by(dialect)) is None:
            continue
        if heading:  # only now: one whose panels this store cannot fill is left out
            y, x, tallest = y + tallest, 0, 0
            panels.append(RowPanel(id=heading.number, title=heading.title, gridPos=GridPos(h=1, w=GRID, x=0, y=y)))
            y, heading = y + 1, None
        if x + shape.width > GRID:
            x, y, tallest = 0, y + tallest, 0
        panels.append(_panel(shape, dialect, GridPos(h=shape.height, w=shape.width, x=x, y=y)))
        x, tallest = x + shape.width, max(tallest, shape.height)
    return panels


def _panel(shape: Shape, dialect: Dialect, place: GridPos) -> Panel:
    common: dict[str, Any] = {
        "id": shape.number,
        "title": shape.title,
        "description": shape.description,
        "dataSource": DATASOURCE,
        "gridPos": place,
        "targets": [dialect.target(query, _ref(index)) for index, query in enumerate(shape.queries)],
        "transformations": list(shape.transformations),
        "extraJson": _merged({"fieldConfig": {"defaults": {"thresholds": _thresholds(())}}}, shape.more),
    }
    overrides = list(shape.overrides)
    match shape.kind:
        case "stat":
            return Stat(**common, format=shape.unit, reduceCalc="lastNotNull", noValue="-", overrides=overrides,
                        color={"mode": "thresholds"})  # fmt: skip
        case "lines":
            return TimeSeries(
                **common, unit=shape.unit, fillOpacity=0, showPoints="auto", lineWidth=1, legendDisplayMode="list",
                tooltipMode="multi", tooltipSort="desc", axisSoftMin=0, overrides=overrides,
            )  # fmt: skip
        case "states":
            shown = {"type": "value", "options": {"1": {"color": "text", "index": 0, "text": " "}}}
            return StateTimeline(**_with(common, unit=shape.unit), mappings=[shown], showValue="auto",
                                 overrides=overrides)  # fmt: skip
        case "bars":
            return BarChart(**_with(common, unit=shape.unit), showValue="auto", overrides=overrides,
                            thresholdSteps=BASE_STEPS, legendDisplayMode="list",
                            stacking=shape.more["options"]["stacking"])  # fmt: skip
        case "table":
            return Table(**common, unit=shape.unit, overrides=overrides, filterable=True)
        case "xy":
            return XYChart(**_with(common, unit=shape.unit, overrides=overrides))
    raise ValueError(f"{shape.kind}: no such shape")


class XYChart(Panel):
    """Grafana's XY chart, which grafanalib lacks; all of it comes by `extraJson`."""

    def to_json_data(self) -> Any:
        """Write the panel."""
        legend = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
        shown = {"show": "lines", "lineWidth": 1, "pointSize": {"fixed": 4}, "axisPlacement": "auto"}
        return self.panel_json(  # type: ignore[no-untyped-call]
            {
                "type": "xychart",
                "options": {"legend": legend, "tooltip": {"mode": "single", "sort": "none"}},
                "fieldConfig": {"defaults": {"custom": shown}},
            }
        )


def _with(common: dict[str, Any], *, unit: str, overrides: Sequence[Any] | None = None) -> dict[str, Any]:
    """The same with a unit (and overrides) where grafanalib's class has no attribute for it."""
    config: dict[str, Any] = {"defaults": {"unit": unit}}
    if overrides is not None:
        config["overrides"] = list(overrides)
    return common | {"extraJson": _merged(common["extraJson"], {"fieldConfig": config})}


def _one_table(columns: Mapping[str, str], by: str) -> list[dict[str, Any]]:
    """Join the queries' last values on a label and name the columns."""
    dropped = dict.fromkeys(("Time", *(f"Time {n}" for n in range(1, len(columns) + 1))), True)
    return [
        {"id": "joinByField", "options": {"byField": by, "mode": "outer"}},
        {"id": "organize", "options": {"excludeByName": dropped, "renameByName": dict(columns)}},
    ]


def _thresholds(steps: Sequence[tuple[float, str]]) -> dict[str, Any]:
    named = [{"color": MEANINGS[meaning].dark, "value": value} for value, meaning in steps]
    return {"mode": "absolute", "steps": [*BASE_STEPS, *named]}


def _colours(queries: Sequence[Query]) -> list[dict[str, Any]]:
    return [_by_ref(index, [_property(_fixed(query.meaning))]) for index, query in enumerate(queries) if query.meaning]


def _axes(queries: Sequence[Query]) -> list[dict[str, Any]]:
    found = []
    for index, query in enumerate(queries):
        properties: list[tuple[str, Any]] = []
        if query.right_unit:
            properties += [("unit", query.right_unit), ("custom.axisPlacement", "right")]
        if query.dashed:
            properties.append(("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}))
        if properties:
            found.append(_by_ref(index, [_property(each) for each in properties]))
    return found


def _fixed(meaning: str) -> tuple[str, Any]:
    return "color", {"mode": "fixed", "fixedColor": MEANINGS[meaning].dark}


def _property(pair: tuple[str, Any]) -> dict[str, Any]:
    return {"id": pair[0], "value": pair[1]}


def _by_ref(index: int, properties: list[dict[str, Any]]) -> dict[str, Any]:
    return {"matcher": {"id": "byFrameRefID", "options": _ref(index)}, "properties": properties}


def _by_name(name: str, *pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"matcher": {"id": "byName", "options": name}, "properties": [_property(pair) for pair in pairs]}


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for name, item in other.items():
        mine = both.get(name)
        both[name] = _merged(mine, item) if isinstance(mine, Mapping) and isinstance(item, Mapping) else item
    return both
