"""PromQL built from the catalogue: a name, label or rate that it does not allow cannot be written."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.catalogue import BY_NAME
from exporter.metric import Metric

JOB = "migrascope"
"""The one job that every rule selects and every dashboard starts with: what is scraped and received counts once."""

RULE = (f'job="{JOB}"',)
"""What a rule's series are chosen by."""

EXPORTER = ('job="$job"', 'instance=~"$instance"')
CAMPAIGN = (*EXPORTER, 'campaign=~"$campaign"')
RUN = (*CAMPAIGN, 'scenario=~"$scenario"')
"""What a dashboard's series are chosen by: its variables, as far as the series carry their labels."""

RUN_INFO = "migrascope_run_info"


def rule(name: str, /, **matchers: str) -> str:
    """Select a metric's series in a rule, by equal labels.

    Raises:
        KeyError: the catalogue has no such metric, or the metric no such label.
    """
    return _selector(BY_NAME[name], RULE, matchers)


def select(metric: Metric, where: Mapping[str, str]) -> str:
    """Select a metric's series on a dashboard.

    Raises:
        KeyError: the metric has no such label.
    """
    return _selector(metric, base_of(metric, where), where)


def base_of(metric: Metric, where: Mapping[str, str]) -> tuple[str, ...]:
    """The variables' matchers that a metric's labels allow; a fixed scenario takes the place of the variable."""
    labels = metric.all_labels
    if "scenario" in labels and "scenario" not in where:
        return RUN
    return CAMPAIGN if "campaign" in labels else EXPORTER


def chosen_run(name: str, where: Mapping[str, str], expr: str) -> str:
    """Keep of an expression over runs' series those of the chosen runs: `run` stands only in the info.

    A comparison fixes the scenario instead, and takes all its runs.
    """
    if "scenario" not in BY_NAME[name].all_labels or "scenario" in where or name == RUN_INFO:
        return expr
    info = _selector(BY_NAME[RUN_INFO], EXPORTER, {})
    return f'({expr}) and on (job, instance, vm) {info[:-1]},run=~"$run"}}'


def gauge_metric(name: str) -> Metric:
    """Find a metric whose value speaks for itself.

    Raises:
        KeyError: the catalogue has no such metric.
        ValueError: it is a counter, whose value says nothing by itself.
    """
    metric = BY_NAME[name]
    if metric.kind == "counter":
        raise ValueError(f"{name} is a counter: want its rate")
    return metric


def counter(name: str) -> Metric:
    """Find a counter.

    Raises:
        KeyError: the catalogue has no such metric.
        ValueError: it is no counter.
    """
    metric = BY_NAME[name]
    if metric.kind != "counter":
        raise ValueError(f"{name} is a {metric.kind}: it has no rate")
    return metric


def all_labels_of(metric: Metric) -> tuple[str, ...]:
    """The labels by which a metric's series can be summed: its own, the run's, and those of the scrape."""
    return ("job", "instance", *metric.all_labels)


def _selector(metric: Metric, base: tuple[str, ...], where: Mapping[str, str]) -> str:
    states = (metric.name,) if metric.kind == "stateset" else ()
    for label in where:
        if label not in (*metric.all_labels, *states):
            raise KeyError(f"{metric.name} has no label {label}")
    chosen = ",".join([*base, *(f'{label}="{value}"' for label, value in where.items())])
    return f"{metric.name}{{{chosen}}}"
