"""The catalogue's metrics as families of prometheus_client, empty or with their samples."""

from __future__ import annotations

from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)

from exporter.metric import Metric
from exporter.selfmetrics import Histogram
from exporter.sinks.mapping import LABELS

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily | StateSetMetricFamily


def family(metric: Metric) -> Family:
    """Make a metric's family, with no sample in it."""
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.family, metric.help, labels=metric.all_labels, unit=metric.unit)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.all_labels, unit=metric.unit)
        case "histogram":
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.all_labels, unit=metric.unit)
        case "stateset":
            return StateSetMetricFamily(metric.name, metric.help, labels=metric.all_labels)
        case "info":
            return InfoMetricFamily(metric.family, metric.help, labels=metric.all_labels[: -len(metric.labels)])
        case _:
            raise ValueError(f"metric {metric.name}: kind {metric.kind!r} is not known")


def add(shown: Family, metric: Metric, labels: LABELS, value: float | str | Histogram) -> None:
    """Add one series (all series of one state set, whose value joins the states that hold with `+`) to a family.

    Raises:
        ValueError: the label values are more or fewer than the labels, or the value does not fit the family.
    """
    if len(labels) != len(metric.all_labels):
        raise ValueError(f"metric {metric.name}: has the labels {metric.all_labels}, got {labels}")
    match shown, value:
        case ((CounterMetricFamily() | GaugeMetricFamily()), float()):
            shown.add_metric(labels, value)
        case StateSetMetricFamily(), str():
            held = value.split("+")
            known = dict.fromkeys((*metric.states, *held))
            shown.add_metric(labels, {state: state in held for state in known})
        case InfoMetricFamily(), float():
            named = dict(zip(metric.all_labels, labels, strict=True))
            shown.add_metric(labels, {name: named[name] for name in metric.labels})
        case HistogramMetricFamily(), Histogram():
            totals = list(accumulate(value.counts))
            bounds = [*(f"{bound:.10g}" for bound in metric.buckets), "+Inf"]
            shown.add_metric(labels, list(zip(bounds, totals, strict=True)), value.sum)
        case _:
            raise ValueError(f"metric {metric.name}: a {metric.kind} cannot take {value!r}")
