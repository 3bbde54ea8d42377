"""PromQL built from the catalogue: a metric, label or rate that it does not allow cannot be written.

A metric is asked for by its key (`migration.remaining_bytes`), never by its name, which may change in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.catalogue import BY_KEY
from exporter.metric import Metric

JOB = "migrascope"
"""The one job that every rule selects and every dashboard starts with: what is scraped and received counts once."""

RULE = (f'job="{JOB}"',)
"""What a rule's series are chosen by."""

EXPORTER = ('job="$job"', 'instance=~"$instance"')
CAMPAIGN = (*EXPORTER, 'campaign=~"$campaign"')
RUN = (*CAMPAIGN, 'scenario=~"$scenario"')
"""What a dashboard's series are chosen by: its variables, as far as the series carry their labels."""

INFO = "run.info"

STATE = "state"
"""How callers name the label of a state set's states, which is the metric's own name."""


class Like(str):
    """A label's value that is a regular expression."""

    __slots__ = ()


def rule(key: str, /, **where: str) -> str:
    """Select a metric's series in a rule, by labels.

    Raises:
        KeyError: the catalogue has no such metric, or the metric no such label.
    """
    return _selector(BY_KEY[key], RULE, where)


def series(key: str, /, **where: str) -> str:
    """The same on a dashboard, by its variables too."""
    return select(BY_KEY[key], where)


def select(metric: Metric, where: Mapping[str, str]) -> str:
    """The same of a metric that is at hand; a fixed scenario takes the place of the variable."""
    labels = metric.all_labels
    base: tuple[str, ...] = EXPORTER
    if "scenario" in labels and "scenario" not in where:
        base = RUN
    elif "campaign" in labels:
        base = CAMPAIGN
    return _selector(metric, base, where)


def buckets(selector: str) -> str:
    """Select a histogram's buckets instead of the histogram."""
    return selector.replace("{", "_bucket{", 1)


def state_label(key: str) -> str:
    """The label that holds the states of a state set.

    Raises:
        KeyError: the catalogue has no such metric.
        ValueError: it is no state set.
    """
    metric = BY_KEY[key]
    if metric.kind != "stateset":
        raise ValueError(f"{key} is a {metric.kind}: it has no states")
    return metric.name


def run_info(base: tuple[str, ...]) -> str:
    """Select the info of runs by some variables."""
    return _selector(BY_KEY[INFO], base, {})


def chosen_info() -> str:
    """Select the info of the chosen runs: `run` stands only there."""
    return _selector(BY_KEY[INFO], EXPORTER, {"run": Like("$run")})


def chosen_run(metric: Metric, where: Mapping[str, str], expr: str) -> str:
    """Keep of an expression over runs' series those of the chosen runs.

    A comparison fixes the scenario instead, and takes all its runs.
    """
    if "scenario" not in metric.all_labels or "scenario" in where or metric.key == INFO:
        return expr
    return f"({expr}) and on (job, instance, vm) {chosen_info()}"


def gauge_metric(key: str) -> Metric:
    """Find a metric whose value speaks for itself.

    Raises:
        KeyError: the catalogue has no such metric.
        ValueError: it is a counter or histogram, whose value says nothing by itself.
    """
    metric = BY_KEY[key]
    if metric.kind in ("counter", "histogram"):
        raise ValueError(f"{key} is a {metric.kind}: want its rate")
    return metric


def counter(key: str) -> Metric:
    """Find a counter.

    Raises:
        KeyError: the catalogue has no such metric.
        ValueError: it is no counter.
    """
    return _of_kind(key, "counter", "it has no rate")


def histogram(key: str) -> Metric:
    """Find a histogram.

    Raises:
        KeyError: the catalogue has no such metric.
        ValueError: it is no histogram.
    """
    return _of_kind(key, "histogram", "it has no quantiles")


def summable(metric: Metric, by: tuple[str, ...]) -> str:
    """Write the labels by which a metric's series are summed: its own, the run's, and those of the scrape.

    Raises:
        KeyError: it has no such label.
    """
    known = {"job", "instance", *metric.all_labels}
    if missing := [label for label in by if label not in known]:
        raise KeyError(f"{metric.key} has no label {missing[0]}")
    return ", ".join(by)


def _of_kind(key: str, kind: str, why: str) -> Metric:
    metric = BY_KEY[key]
    if metric.kind != kind:
        raise ValueError(f"{key} is a {metric.kind}: {why}")
    return metric


def _selector(metric: Metric, base: tuple[str, ...], where: Mapping[str, str]) -> str:
    chosen = list(base)
    for label, value in where.items():
        name = metric.name if label == STATE and metric.kind == "stateset" else label
        if name == label and label not in metric.all_labels:
            raise KeyError(f"{metric.key} has no label {label}")
        chosen.append(f'{name}{"=~" if isinstance(value, Like) else "="}"{value}"')
    return f"{metric.name}{{{','.join(chosen)}}}"
