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

from exporter.catalogue import Metric
from exporter.selfmetrics import Distribution
from exporter.sinks.series import LABELS

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


def add(shown: Family, metric: Metric, labels: LABELS, value: float | str | Distribution) -> None:
    """Add one series (all series of one state set) to a family.

    Raises:
        ValueError: the label values are more or fewer than the labels, or the value does not fit the family.
    """
    named = dict(zip(metric.all_labels, labels, strict=True))
    match shown, value:
        case ((CounterMetricFamily() | GaugeMetricFamily()), float()):
            shown.add_metric(labels, value)
        case StateSetMetricFamily(), str():
            known = metric.states if value in metric.states else (*metric.states, value)
            shown.add_metric(labels, {state: state == value for state in known})
        case InfoMetricFamily(), float():
            shown.add_metric(labels, {name: named[name] for name in metric.labels})
        case HistogramMetricFamily(), Distribution():
            totals = list(accumulate(value.counts[labels]))
            bounds = [*(f"{bound:g}" for bound in value.bounds), "+Inf"]
            shown.add_metric(labels, list(zip(bounds, totals, strict=True)), value.sums[labels])
        case _:
            raise ValueError(f"metric {metric.name}: a {metric.kind} cannot take {value!r}")
