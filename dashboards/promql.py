"""Queries built from the catalogue: a name, label or rate that it does not allow cannot be written."""

from __future__ import annotations

from exporter.catalogue import BY_NAME
from exporter.metric import Metric

JOB = "migrascope"
"""The one job that every rule selects and every dashboard starts with: what is scraped and received counts once."""

RULE = (f'job="{JOB}"',)
"""What a rule's series are chosen by."""

DASHBOARD = ('job="$job"', 'instance=~"$instance"', 'vm=~"$vm"')
"""What a dashboard's series are chosen by: its variables."""


def select(name: str, base: tuple[str, ...], **matchers: str) -> str:
    """Select a metric's series by the base matchers and by equal labels.

    Raises:
        KeyError: the catalogue has no such metric, or the metric no such label.
    """
    metric = BY_NAME[name]
    for label in matchers:
        if label not in metric.all_labels:
            raise KeyError(f"{name} has no label {label}")
    chosen = ",".join([*base, *(f'{label}="{value}"' for label, value in matchers.items())])
    return f"{name}{{{chosen}}}"


def gauge(name: str, **matchers: str) -> str:
    """Select a gauge (or the states of a state set) on a dashboard.

    Raises:
        ValueError: it is a counter, whose value says nothing by itself.
    """
    if BY_NAME[name].kind == "counter":
        raise ValueError(f"{name} is a counter: want its rate")
    return select(name, DASHBOARD, **matchers)


def rate(name: str, by: tuple[str, ...], **matchers: str) -> str:
    """Sum the rates of a counter's series on a dashboard by labels.

    Raises:
        ValueError: it is no counter.
    """
    metric: Metric = BY_NAME[name]
    if metric.kind != "counter":
        raise ValueError(f"{name} is a {metric.kind}: it has no rate")
    return f"sum by ({', '.join(by)}) (rate({select(name, DASHBOARD, **matchers)}[$__rate_interval]))"
