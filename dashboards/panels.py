"""Our panel shapes for Grafana: lines over time, states over time; and the variables that all dashboards share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafanalib.core import GridPos, StateTimeline, Target, Template, TimeSeries

from dashboards.promql import JOB

DATASOURCE = "${datasource}"
WIDTH, HEIGHT = 12, 9
"""Two panels a row on Grafana's grid of 24."""

BASE_COLOUR = {"mode": "absolute", "steps": [{"color": "green", "value": None}]}


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query of a panel; `right_unit` puts its lines on an axis of their own, `dashed` marks a limit."""

    expr: str
    legend: str
    right_unit: str = ""
    dashed: bool = False


def lines(number: int, title: str, description: str, unit: str, *queries: Query) -> TimeSeries:
    """Make a panel of lines; `number` counts from 1 and gives id and place."""
    return TimeSeries(
        id=number,
        title=title,
        description=description,
        dataSource=DATASOURCE,
        gridPos=_place(number),
        targets=_targets(queries),
        unit=unit,
        fillOpacity=0,
        showPoints="auto",
        lineWidth=1,
        legendDisplayMode="list",
        tooltipMode="multi",
        tooltipSort="desc",
        axisSoftMin=0,
        overrides=[override for index, query in enumerate(queries) for override in _overrides(index, query)],
        extraJson={"fieldConfig": {"defaults": {"thresholds": BASE_COLOUR}}},
    )


def states(number: int, title: str, description: str, *queries: Query) -> StateTimeline:
    """Make a panel of states: a row a series, filled while it is 1."""
    shown = {"type": "value", "options": {"1": {"color": "blue", "index": 0, "text": " "}}}
    return StateTimeline(
        id=number,
        title=title,
        description=description,
        dataSource=DATASOURCE,
        gridPos=_place(number),
        targets=_targets(queries),
        mappings=[shown],
        showValue="never",
        extraJson={"fieldConfig": {"defaults": {"thresholds": BASE_COLOUR, "unit": "none"}}},
    )


def variables() -> list[Template]:
    """Make the variables: datasource, then exactly one job, then instances and VMs of it."""
    info = "migrascope_run_info"
    return [
        Template(name="datasource", label="Datasource", type="datasource", query="prometheus", default="default"),
        _variable("job", "Job", f"label_values({info}, job)", several=False),
        _variable("instance", "Exporter", f'label_values({info}{{job="$job"}}, instance)', several=True),
        _variable("vm", "VM", f'label_values({info}{{job="$job",instance=~"$instance"}}, vm)', several=True),
    ]


def events_annotation() -> dict[str, Any]:
    """Mark each phase and action of the driver: the series' value is the moment, in milliseconds."""
    events = 'migrascope_event_timestamp_seconds{job="$job",instance=~"$instance",vm=~"$vm",role="driver"} * 1000'
    return {
        "name": "Phases and actions",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "orange",
        "expr": events,
        "step": "1s",
        "titleFormat": "{{vm}}: {{name}}",
        "useValueForTime": "on",
    }


def _variable(name: str, label: str, query: str, *, several: bool) -> Template:
    return Template(
        name=name,
        label=label,
        dataSource=DATASOURCE,
        query=query,
        default="$__all" if several else JOB,
        includeAll=several,
        multi=several,
        refresh=2,  # whenever the time range changes: runs come and go
    )


def _place(number: int) -> GridPos:
    row, column = divmod(number - 1, 24 // WIDTH)
    return GridPos(h=HEIGHT, w=WIDTH, x=column * WIDTH, y=row * HEIGHT)


def _targets(queries: tuple[Query, ...]) -> list[Target]:
    return [
        Target(expr=query.expr, legendFormat=query.legend, refId=chr(ord("A") + index), datasource=DATASOURCE)
        for index, query in enumerate(queries)
    ]


def _overrides(index: int, query: Query) -> list[dict[str, Any]]:
    properties: list[dict[str, Any]] = []
    if query.right_unit:
        properties += [{"id": "unit", "value": query.right_unit}, {"id": "custom.axisPlacement", "value": "right"}]
    if query.dashed:
        properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}})
    matcher = {"id": "byFrameRefID", "options": chr(ord("A") + index)}
    return [{"matcher": matcher, "properties": properties}] if properties else []
