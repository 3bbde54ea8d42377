"""Which sample feeds which series: the one mapping from samples to metrics, for /metrics and whatever else needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from driver.progress import FIELDS
from exporter.catalogue import CATALOGUE
from exporter.metric import OWN, Metric
from exporter.sample import Sample
from exporter.selfmetrics import Histogram

LABELS = tuple[str, ...]

Value = float | str | Histogram

PLAN: dict[str, tuple[Metric, ...]] = {
    measurement: tuple(metric for metric in CATALOGUE if metric.measurement == measurement)
    for measurement in {metric.measurement for metric in CATALOGUE} - OWN - {"run", "summary"}
}
"""Measurement -> the metrics that its samples feed."""

_OPEN = {name: tuple(metric for metric in metrics if metric.pattern or metric.field == "*")
         for name, metrics in PLAN.items()}  # fmt: skip
_PLAIN = {name: tuple(metric for metric in metrics if metric not in _OPEN[name]) for name, metrics in PLAN.items()}

_UNSHOWN = frozenset({"sequence", *(name for name, _ in FIELDS.values())})
"""Fields of `migration` that are no unmapped numbers though a metric may not show them."""


def series_of(sample: Sample) -> Iterator[tuple[Metric, LABELS, Value | None]]:
    """Yield every series that a sample feeds: metric, values of the metric's own labels, value.

    None says that the sample does not hold that field now. A state set's value is its state; a tally's what is added.
    """
    for metric in _PLAIN.get(sample.measurement, ()):
        if _chosen(metric, sample):
            yield metric, _tags(metric, sample), value_of(metric, sample.fields, sample.time_ns)
    open_metrics = _OPEN.get(sample.measurement, ())
    if open_metrics:
        yield from _open_series(sample)


def value_of(metric: Metric, fields: Mapping[str, float | str | None], time_ns: int) -> float | str | None:
    """The number or state that some fields hold for a metric with one plain field; None where it is absent."""
    if not metric.field:
        return metric.factor
    if metric.field == "time_ns":
        return time_ns * metric.factor
    found = fields.get(metric.field)
    if found is None or isinstance(found, str):
        return found
    if metric.over is None:
        return found * metric.factor
    over = fields.get(metric.over)
    return found / float(over) * metric.factor if over else None


@lru_cache(maxsize=4096)
def place_of(measurement: str, field: str) -> tuple[Metric, str] | None:
    """The metric that takes a field by the form of its name, and what the name says for the metric's last label."""
    plain = {name for metric in _PLAIN[measurement] for name in (metric.field, metric.over)}
    if field in plain or field in _UNSHOWN:
        return None
    for metric in _OPEN[measurement]:
        if metric.field == "*":
            return metric, field
        if metric.pattern and (match := metric.pattern.fullmatch(field)):
            return metric, match[1]
    return None


def _open_series(sample: Sample) -> Iterator[tuple[Metric, LABELS, Value | None]]:
    buckets: dict[Metric, dict[int, float]] = {}
    for field, value in sample.fields.items():
        found = place_of(sample.measurement, field)
        if found is None or isinstance(value, str):
            continue
        metric, word = found
        if metric.kind == "histogram":
            if word.isdigit():
                buckets.setdefault(metric, {})[int(word)] = value
        else:
            yield metric, (*_tags(metric, sample)[:-1], word), value * metric.factor
    for metric, counts in buckets.items():
        yield metric, _tags(metric, sample), _histogram(metric, counts, sample.fields)


def _histogram(metric: Metric, counts: Mapping[int, float], fields: Mapping[str, float | str]) -> Histogram:
    """A histogram of counted buckets; its sum is the mean (the field `over`) times their number."""
    last = len(metric.buckets)
    filled = [0.0] * (last + 1)
    for number, count in counts.items():
        filled[min(number, last)] += count
    mean = fields.get(metric.over or "", 0.0)
    return Histogram(counts=tuple(filled), sum=sum(filled) * (mean if isinstance(mean, float) else 0.0))


def _chosen(metric: Metric, sample: Sample) -> bool:
    if metric.only and sample.tags.get(metric.only[0]) != metric.only[1]:
        return False
    return not (metric.omit and sample.tags.get(metric.omit[0]) == metric.omit[1])


def _tags(metric: Metric, sample: Sample) -> LABELS:
    return tuple([sample.tags.get(label, "") for label in metric.labels])
