"""InfluxQL for the samples that the mirror writes: which measurement, field and tags a metric of the catalogue is.

InfluxDB 1.x speaks it, and InfluxDB 2 answers it too. A run is chosen by its own tag, so slots (`vm`) play no part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dashboards.promql import STATE
from exporter.measurements import MEASUREMENTS
from exporter.metric import Metric

TAGS = {"vm": "run", "scenario": "scenario", "campaign": "campaign"}
"""Labels of Prometheus' series that are other tags here."""

CAMPAIGN = '"campaign" =~ /^$campaign$/'
CHOSEN = f'{CAMPAIGN} AND "scenario" =~ /^$scenario$/ AND "run" =~ /^$run$/'
"""The variables; their "All" is `.*`, which also matches a tag that is absent."""


def last(metric: Metric, where: Mapping[str, str]) -> str | None:
    """Select the last value of each interval; a field whose name holds a label's value is one column a value."""
    if not _held(metric) or metric.field in ("", "time_ns", "*"):
        return None
    if metric.pattern:
        fields = [name for name in MEASUREMENTS[metric.measurement].fields or () if metric.pattern.fullmatch(name)]
        if not fields:
            return None
        columns = [f'last("{name}"){_times(metric)} AS "{_label_in(metric, name)}"' for name in fields]
        return _query(", ".join(columns), metric, where, _grouped(metric, where)[:1])
    value = f'last("{metric.field}")'
    value += f' / last("{metric.over}")' if metric.over else ""
    return _query(value + _times(metric), metric, where, _grouped(metric, where))


def last_product(one: Metric, other: Metric, where: Mapping[str, str]) -> str | None:
    """Select the product of the last values of two fields of one measurement."""
    if not _held(one) or one.measurement != other.measurement:
        return None
    value = f'last("{one.field}") * last("{other.field}")'
    return _query(value, one, where, _grouped(one, where))


def rate(metric: Metric, by: Sequence[str], where: Mapping[str, str]) -> str | None:
    """Derive a counter that its source counts: each series by itself, then the sum by labels."""
    if not _held(metric) or metric.tally:
        return None
    every = _grouped(metric, where)
    inner = f'non_negative_derivative(max("{metric.field}"), 1s){_times(metric)} AS "rate"'
    tags = [tag for tag in (TAGS.get(label, label) for label in by) if tag in every]
    query = _query(inner, metric, where, every)
    return f'SELECT sum("rate") FROM ({query}) WHERE $timeFilter {_group_by(tags)}'  # noqa: S608 - catalogue's names


def ratio(top: Metric, bottom: Metric, by: Sequence[str], where: Mapping[str, str], factor: float) -> str | None:
    """Divide two fields' sums over each interval: both counters add up what each row holds."""
    if not _held(top) or not (top.tally and bottom.tally and top.measurement == bottom.measurement):
        return None
    value = f'sum("{top.field}") / sum("{bottom.field}")' + (f" * {factor:.15g}" if factor != 1 else "")
    tags = [TAGS.get(label, label) for label in by if label not in ("job", "instance")]
    return _query(value, top, where, tags)


def mean(measurement: str, value: str, weight: str) -> str:
    """Write the mean of a field over an interval's rows, each counted as often as another field says."""
    rows = f'FROM "{measurement}" WHERE $timeFilter AND {CHOSEN} GROUP BY "run"'
    inner = f'SELECT "{value}" * "{weight}" AS "sum", "{weight}" AS "count" {rows}'
    return f'SELECT sum("sum") / sum("count") FROM ({inner}) WHERE $timeFilter {_group_by(["run"])}'  # noqa: S608 - ours


def most(measurement: str, value: str) -> str:
    """Write the highest value of a field in each interval."""
    rows = f'FROM "{measurement}" WHERE $timeFilter AND {CHOSEN}'
    return f'SELECT max("{value}") {rows} {_group_by(["run"])}'


def alias(legend: str) -> str:
    """Write a legend of Prometheus' form as an alias: `{{vm}} total` becomes `$tag_run total`."""
    for label in ("vm", "scenario", "campaign", "vcpu", "role", "kind", "index", "name", "source"):
        legend = legend.replace(f"{{{{{label}}}}}", f"$tag_{TAGS.get(label, label)}")
    # what else a legend tells by a label, a state set's states, is the value itself here
    return re.sub(r" ?\{\{\w+\}\}", "", legend.replace("{{part}}", "$col")) or "$tag_run"


def _held(metric: Metric) -> bool:
    return metric.measurement in MEASUREMENTS and metric.kind != "histogram"


def _times(metric: Metric) -> str:
    return f" * {metric.factor:.15g}" if metric.factor != 1 else ""


def _label_in(metric: Metric, field: str) -> str:
    match = metric.pattern.fullmatch(field) if metric.pattern else None
    return match[1] if match else field


def _grouped(metric: Metric, where: Mapping[str, str]) -> list[str]:
    """The run, and those of the metric's own labels that are tags and not fixed."""
    return ["run", *(label for label in metric.labels if label not in where)]


def _query(value: str, metric: Metric, where: Mapping[str, str], tags: Sequence[str]) -> str:
    conditions = ["$timeFilter", CAMPAIGN if "scenario" in where else CHOSEN]
    conditions += [f"\"{label}\" = '{word}'" for label, word in where.items() if label != STATE]
    if metric.only:
        conditions.append(f"\"{metric.only[0]}\" = '{metric.only[1]}'")
    if metric.omit:
        conditions.append(f"\"{metric.omit[0]}\" != '{metric.omit[1]}'")
    rows = f'FROM "{metric.measurement}" WHERE {" AND ".join(conditions)}'
    return f"SELECT {value} {rows} {_group_by(tags)}"


def _group_by(tags: Sequence[str]) -> str:
    return "GROUP BY " + ", ".join(["time($__interval)", *(f'"{tag}"' for tag in tags)]) + " fill(null)"
