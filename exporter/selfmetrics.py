"""What the exporter counts of itself; the catalogue's metrics of measurement `exporter` name these fields."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from exporter.metrics.own import LATENESS_BUCKETS


@dataclass(kw_only=True)
class Figures:
    """Numbers by label values, in the order of the metric's labels. Written by one thread, read by any."""

    values: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Add to the figure of these labels; an amount of 0 makes the series known."""
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def set(self, *labels: str, value: float) -> None:
        """Set the figure of these labels."""
        self.values[labels] = value

    def forget(self, label: str) -> None:
        """Drop every figure whose first label is this one."""
        for labels in [labels for labels in self.values if labels[:1] == (label,)]:
            self.values.pop(labels, None)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Observations in each bucket (the last one: above all bounds), and their sum."""

    counts: tuple[float, ...]
    sum: float

    def __add__(self, other: Histogram) -> Histogram:
        """The observations of both, which have the same buckets."""
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Histogram(counts=counts, sum=self.sum + other.sum)


@dataclass(kw_only=True)
class Distribution:
    """A histogram by label values: observations at most each bound, then all of them, then their sum."""

    bounds: tuple[float, ...]
    counts: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    sums: dict[tuple[str, ...], float] = field(default_factory=dict)

    def observe(self, *labels: str, value: float) -> None:
        """Count one observation."""
        counts = self.counts.setdefault(labels, [0] * (len(self.bounds) + 1))
        counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sums[labels] = self.sums.get(labels, 0.0) + value

    def at(self, labels: tuple[str, ...]) -> Histogram:
        """The histogram of these labels as it stands."""
        return Histogram(counts=tuple(self.counts[labels]), sum=self.sums[labels])


def _zero() -> Figures:
    return Figures(values={(): 0.0})


@dataclass(frozen=True, kw_only=True)
class SelfMetrics:
    """The exporter's own figures; the comment on each gives its labels."""

    info: Figures = field(default_factory=Figures)  # version
    attached_runs: Figures = field(default_factory=_zero)
    runs: Figures = field(default_factory=_zero)
    runs_failed: Figures = field(default_factory=_zero)
    runs_not_converged: Figures = field(default_factory=_zero)
    source_up: Figures = field(default_factory=Figures)  # vm, role, source
    source_errors: Figures = field(default_factory=Figures)  # source
    collections: Figures = field(default_factory=Figures)  # source
    collection_seconds: Figures = field(default_factory=Figures)  # source
    samples: Figures = field(default_factory=Figures)  # measurement
    dropped_lines: Figures = field(default_factory=Figures)  # role
    unmapped: Figures = field(default_factory=_zero)
    dropped_values: Figures = field(default_factory=Figures)  # reason
    skipped: Figures = field(default_factory=Figures)  # source
    lateness: Distribution = field(default_factory=lambda: Distribution(bounds=LATENESS_BUCKETS))  # source
    journal_bytes: Figures = field(default_factory=_zero)
    journal_errors: Figures = field(default_factory=_zero)
    journal_lost_samples: Figures = field(default_factory=_zero)
    scrape_errors: Figures = field(default_factory=Figures)  # part
    scrapes: Figures = field(default_factory=_zero)
    scrape_seconds: Figures = field(default_factory=_zero)
    scrape_gap: Figures = field(default_factory=Figures)
    linger: Figures = field(default_factory=Figures)
    http_refused: Figures = field(default_factory=_zero)
    mirror_up: Figures = field(default_factory=Figures)  # mirror
    mirror_lag: Figures = field(default_factory=Figures)  # mirror
    mirror_waiting_bytes: Figures = field(default_factory=Figures)  # mirror
    mirror_samples: Figures = field(default_factory=Figures)  # mirror
    mirror_retries: Figures = field(default_factory=Figures)  # mirror
    mirror_dropped: Figures = field(default_factory=Figures)  # mirror
    mirror_dead_letters: Figures = field(default_factory=Figures)  # mirror
    mirror_collapsed: Figures = field(default_factory=Figures)  # mirror
