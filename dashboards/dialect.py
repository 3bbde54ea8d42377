"""The two stores that Grafana asks: how each is named, asked, and what its variables and annotations are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafanalib.core import Target, Template
from grafanalib.influxdb import InfluxDBTarget

from dashboards import influxql
from dashboards.expression import Expression
from dashboards.promql import CAMPAIGN, EXPORTER, JOB, RUN, run_info, series, state_label
from exporter.catalogue import BY_KEY

DATASOURCE = "${datasource}"


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query of a panel: what is asked, and how its series are named, drawn and coloured.

    `meaning` is a name of `dashboards.colours.MEANINGS`; `right_unit` puts its lines on an axis of their own, `dashed`
    marks a limit; `instant` asks for the last value only, as a table.
    """

    ask: Expression
    legend: str
    meaning: str = ""
    right_unit: str = ""
    dashed: bool = False
    instant: bool = False


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """A store: its name, Grafana's type of datasource, and the suffix of its dashboards' uids and files."""

    name: str
    datasource_type: str
    suffix: str = ""
    variables: Sequence[Template] = field(default_factory=tuple)

    def says(self, query: Query) -> bool:
        """Whether the store holds what a query asks."""
        text = query.ask.promql() if self.datasource_type == "prometheus" else query.ask.influxql()
        return text is not None

    def target(self, query: Query, ref_id: str) -> Any:
        """Write a query as a panel's target."""
        if self.datasource_type == "prometheus":
            return Target(
                expr=query.ask.promql(), legendFormat=query.legend, refId=ref_id, datasource=DATASOURCE,
                instant=query.instant, format="table" if query.instant else "time_series",
            )  # fmt: skip
        return InfluxDBTarget(
            query=query.ask.influxql(), alias=influxql.alias(query.legend), refId=ref_id, datasource=DATASOURCE,
            format="table" if query.instant else "time_series",
        )  # fmt: skip

    def variables_for(self, *names: str) -> list[Template]:
        """The variables of those names, the datasource always first."""
        wanted = ("datasource", *names)
        return [each for each in self.variables if each.name in wanted]

    def annotations(self) -> list[dict[str, Any]]:
        """Mark each phase and action of the driver, and shade each phase as a region."""
        return _prometheus_annotations() if self.datasource_type == "prometheus" else _influx_annotations()


def _variable(name: str, label: str, query: str, *, several: bool = True, default: str = "$__all") -> Template:
    return Template(
        name=name,
        label=label,
        dataSource=DATASOURCE,
        query=query,
        default=default,
        includeAll=several,
        multi=several,
        allValue=".*" if several else None,  # which also takes what has no campaign
        refresh=2,  # whenever the time range changes: runs come and go
        sort=2 if name == "run" else 1,  # the newest run first: ids sort by time
    )


LETTERS = ("a", "b", "c", "d", "e", "f")
"""Two to six scenarios are compared."""

NONE = "none"
"""A scenario that there is not: what the letters from c on hold until they are chosen."""


def _letters(query: str, with_none: str | None) -> list[Template]:
    """The variables of a comparison's scenarios; where a store cannot list `none` too, the later ones are typed in."""
    found = []
    for letter in LETTERS:
        common = {"name": f"scenario_{letter}", "label": f"Scenario {letter.upper()}"}
        if letter in "ab":
            found.append(Template(**common, dataSource=DATASOURCE, query=query, refresh=2, sort=1))
        elif with_none:
            found.append(
                Template(**common, dataSource=DATASOURCE, query=with_none, regex='/scenario="([^"]+)"/', default=NONE,
                         refresh=2, sort=1)
            )  # fmt: skip
        else:
            found.append(Template(**common, type="textbox", query=NONE, default=NONE))
    return found


EXPORTERS = BY_KEY["exporter.info"].name

PROMETHEUS = Dialect(
    name="Prometheus",
    datasource_type="prometheus",
    variables=(
        Template(name="datasource", label="Datasource", type="datasource", query="prometheus", default="default"),
        _variable("job", "Job", f"label_values({EXPORTERS}, job)", several=False, default=JOB),
        _variable("instance", "Exporter", f'label_values({EXPORTERS}{{job="$job"}}, instance)'),
        _variable("campaign", "Campaign", f"label_values({run_info(EXPORTER)}, campaign)"),
        _variable("scenario", "Scenario", f"label_values({run_info(CAMPAIGN)}, scenario)"),
        _variable("run", "Run", f"label_values({run_info(RUN)}, run)"),
        *_letters(
            f"label_values({run_info(CAMPAIGN)}, scenario)",
            f"query_result(count by (scenario) (last_over_time({run_info(CAMPAIGN)}[$__range]))"
            f' or label_replace(vector(0), "scenario", "{NONE}", "", ""))',
        ),
    ),
)


def _tags(key: str, source: str = "migration", condition: str = "") -> str:
    return f'SHOW TAG VALUES FROM "{source}" WITH KEY = "{key}"' + (f" WHERE {condition}" if condition else "")


INFLUXDB = Dialect(
    name="InfluxDB",
    datasource_type="influxdb",
    suffix="-influxdb",
    variables=(
        Template(name="datasource", label="Datasource", type="datasource", query="influxdb", default="default"),
        _variable("campaign", "Campaign", _tags("campaign")),
        _variable("scenario", "Scenario", _tags("scenario", condition='"campaign" =~ /^$campaign$/')),
        _variable("run", "Run", _tags("run", condition='"campaign" =~ /^$campaign$/ AND "scenario" =~ /^$scenario$/')),
        *_letters(_tags("scenario", condition='"campaign" =~ /^$campaign$/'), None),
    ),
)


def _prometheus_annotations() -> list[dict[str, Any]]:
    moment = f"{series('event.time_ns', role='driver')} * 1000"
    phase = f"{series('run.phase')} == 1"
    common = {"datasource": DATASOURCE, "hide": False, "step": "1s"}
    return [
        common | {
            "name": "Phases and actions",
            "enable": True,
            "iconColor": "orange",
            "expr": moment,
            "titleFormat": "{{vm}}: {{name}}",
            "useValueForTime": "on",
        },
        common | {
            "name": "Phases as regions",
            "enable": False,
            "iconColor": "blue",
            "expr": phase,
            "titleFormat": f"{{{{vm}}}}: {{{{{state_label('run.phase')}}}}}",
        },
    ]  # fmt: skip


def _influx_annotations() -> list[dict[str, Any]]:
    rows = 'SELECT "count", "run", "name" FROM "event" WHERE $timeFilter'
    query = f"{rows} AND {influxql.CHOSEN} AND \"role\" = 'driver'"
    return [
        {
            "name": "Phases and actions",
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": "orange",
            "query": query,
            "titleColumn": "name",
            "textColumn": "run",
        }
    ]
