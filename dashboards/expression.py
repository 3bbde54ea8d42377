"""What a panel asks, said once: each expression writes itself as PromQL and, where InfluxDB holds it, as InfluxQL.

InfluxDB holds the samples of runs (docs/metrics.md), so what the exporter tells of itself, of campaigns or from a run's
summary has no InfluxQL: `influxql` is None there. Queries are built from the catalogue (`of` is a metric's key): a
metric, label or rate that it does not allow cannot be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dashboards import influxql
from dashboards.promql import buckets, chosen_run, counter, gauge_metric, histogram, select, summable


class Expression(Protocol):
    """What can be asked of both stores."""

    def promql(self) -> str | None:
        """Write it as PromQL, with Grafana's variables; None where only InfluxDB holds it."""

    def influxql(self) -> str | None:
        """Write it as InfluxQL, with Grafana's variables and macros; None where InfluxDB does not hold it."""


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """A gauge's series as they are. `where` are equal labels."""

    of: str
    where: Mapping[str, str] = field(default_factory=dict)

    def promql(self) -> str:
        """The selector, and that the run is one of the chosen."""
        metric = gauge_metric(self.of)
        return chosen_run(metric, self.where, select(metric, self.where))

    def influxql(self) -> str | None:
        """The last value of each interval."""
        return influxql.last(gauge_metric(self.of), self.where)


@dataclass(frozen=True, kw_only=True)
class Product:
    """The product of two gauges of one sample, such as pages a second times the page's size."""

    one: Gauge
    other: Gauge

    def promql(self) -> str:
        """Multiply series with equal labels."""
        first, second = (select(gauge_metric(each.of), each.where) for each in (self.one, self.other))
        return chosen_run(gauge_metric(self.one.of), self.one.where, f"{first} * {second}")

    def influxql(self) -> str | None:
        """Multiply two fields of one row."""
        return influxql.last_product(gauge_metric(self.one.of), gauge_metric(self.other.of), self.one.where)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A counter's rate a second, summed by labels."""

    of: str
    by: Sequence[str]
    where: Mapping[str, str] = field(default_factory=dict)

    def promql(self) -> str:
        """Rate, then sum, so that a counter's reset is seen."""
        metric = counter(self.of)
        labels = summable(metric, tuple(self.by))
        rate = chosen_run(metric, self.where, f"rate({select(metric, self.where)}[$__rate_interval])")
        return f"sum by ({labels}) ({rate})" if labels else f"sum({rate})"

    def influxql(self) -> str | None:
        """The derivative of QEMU's or the kernel's own counter; None where rows hold what was added."""
        return influxql.rate(counter(self.of), self.by, self.where)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One counter's rate over another's, times a factor: seconds per byte times 2^30 is seconds per GiB."""

    top: Rate
    bottom: Rate
    factor: float = 1.0

    def promql(self) -> str:
        """Divide the sums."""
        return f"{self.top.promql()} / {self.bottom.promql()}" + (f" * {self.factor:.15g}" if self.factor != 1 else "")

    def influxql(self) -> str | None:
        """Divide the sums of what an interval's rows added."""
        return influxql.ratio(counter(self.top.of), counter(self.bottom.of), self.top.by, self.top.where, self.factor)


@dataclass(frozen=True, kw_only=True)
class Holds:
    """A truth value or a state set, while it holds: one series a state that is on."""

    of: str
    where: Mapping[str, str] = field(default_factory=dict)

    def promql(self) -> str:
        """Series that are 1."""
        metric = gauge_metric(self.of)
        return chosen_run(metric, self.where, f"{select(metric, self.where)} == 1")

    def influxql(self) -> str | None:
        """The state's word, or the truth value, at the end of each interval."""
        return influxql.last(gauge_metric(self.of), self.where)


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """The value below which a share of a histogram's observations lie, by labels."""

    of: str
    share: float
    by: Sequence[str] = ()

    def promql(self) -> str:
        """Interpolate in the buckets' rates."""
        metric = histogram(self.of)
        rate = chosen_run(metric, {}, f"rate({buckets(select(metric, {}))}[$__rate_interval])")
        labels = summable(metric, tuple(self.by))
        return f"histogram_quantile({self.share}, sum by ({', '.join(filter(None, ('le', labels)))}) ({rate}))"

    def influxql(self) -> str | None:
        """None: InfluxQL cannot count over the columns that buckets are there."""
        return None


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A query that is written by hand for what the shapes above do not say; both texts are checked by the tests.

    Its series are written by `dashboards.promql.series`, so that it too holds no metric's name.
    """

    prometheus: str | None = None
    influxdb: str | None = None

    def promql(self) -> str | None:
        """The text, if any."""
        return self.prometheus

    def influxql(self) -> str | None:
        """The text, if any."""
        return self.influxdb
