"""Statistics of many runs: rates and figures of each group with their intervals. Pure functions of the history's rows.

Everything is drawn with a fixed seed, so that the same runs give the same figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from exporter.figures import percentile
from exporter.index import RunRow
from exporter.statistics_groups import Group

SEED = 20_261_124
CONFIDENCE = 0.95
RESAMPLES = 2000
INTERVAL_RUNS = 3
"""Fewer values than this have no bootstrap interval: it would only repeat them."""

NS = 1e-9
MIB_PER_GIB = 1024

ANSWERS = ("completed", "not_converged", "failed", "guest_lost")
"""Outcomes that answer whether a migration converges. The others are no fault of its strategy, and not counted."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How many of so many, with a Wilson score interval (Wilson 1927); without a run the interval is 0 to 1."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """The share, None of nothing."""
        return self.count / self.of if self.of else None


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Values of one figure: median and 95th percentile (nearest rank), each with a bootstrap interval where it has one.

    The 95th percentile of fewer than 20 values is their greatest.
    """

    values: tuple[float, ...]
    median: float
    median_interval: tuple[float, float] | None
    p95: float
    p95_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class GroupStatistics:
    """One group in figures: outcomes, convergence, and each of `METRICS` over its completed runs where it is known."""

    group: Group
    outcomes: Mapping[str, int]
    convergence: Rate
    figures: Mapping[str, Distribution]


def _slowdown(row: RunRow) -> float | None:
    settled = row.figures.get("settle_seconds_per_gib_mean")
    migrating = row.figures.get("migrate_seconds_per_gib_mean")
    return migrating / settled if settled and migrating else None


def _sent_per_gib(row: RunRow) -> float | None:
    memory, sent = row.conditions.get("memory_mib"), row.figures.get("transferred_bytes")
    return sent * MIB_PER_GIB / memory if isinstance(memory, int | float) and memory and sent is not None else None


def lost_seconds(row: RunRow) -> float | None:
    """Seconds of work that the migration cost its guest: what it would have done at its settled pace, and did not.

    From the migration's start to STOP the share that its pace fell short of the settled one, then the blackout, then
    the same share from RESUME to the end of recover: sum of span x (1 - settled / pace), paces in seconds per GiB.
    """
    figures = row.figures
    start, stop, resume = (figures.get(name) for name in ("migrate_start_ns", "stop_ns", "resume_ns"))
    settled, blackout = figures.get("settle_seconds_per_gib_mean"), figures.get("blackout_seconds")
    if not settled or blackout is None or start is None or stop is None or resume is None:
        return None
    lost = blackout
    migrating, recovering = (figures.get(f"{phase}_seconds_per_gib_mean") for phase in ("migrate", "recover"))
    if migrating:
        lost += max(0.0, (stop - start) * NS * (1 - settled / migrating))
    end = row.phases.get("end")
    if recovering and end is not None:
        lost += max(0.0, (end - resume) * NS * (1 - settled / recovering))
    return lost


METRICS: Mapping[str, Callable[[RunRow], float | None]] = {
    "total_seconds": lambda row: row.figures.get("total_seconds"),
    "blackout_seconds": lambda row: row.figures.get("blackout_seconds"),
    "slowdown": _slowdown,
    "lost_seconds": lost_seconds,
    "source_cpu_seconds": lambda row: row.figures.get("source_cpu_seconds"),
    "destination_cpu_seconds": lambda row: row.figures.get("destination_cpu_seconds"),
    "sent_bytes_per_gib": _sent_per_gib,
    "extra_memory_bytes": lambda row: row.figures.get("source_extra_resident_bytes"),
}
"""Every figure that is compared; of each, less is better."""


def statistics_of(group: Group) -> GroupStatistics:
    """Sum a group up; figures are of its completed runs, since the others' only tell when they were given up."""
    outcomes = Counter(row.outcome for row in group.rows)
    completed = [row for row in group.rows if row.outcome == "completed"]
    found = {}
    for name, figure in METRICS.items():
        values = [value for row in completed if (value := figure(row)) is not None]
        if values:
            found[name] = distribution(values)
    return GroupStatistics(
        group=group,
        outcomes=outcomes,
        convergence=rate(outcomes["completed"], sum(outcomes[name] for name in ANSWERS)),
        figures=found,
    )


def rate(count: int, of: int) -> Rate:
    """A share with its interval."""
    if not of:
        return Rate(count=0, of=0, low=0.0, high=1.0)
    interval = stats.binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Rate(count=count, of=of, low=float(interval.low), high=float(interval.high))


def distribution(values: Sequence[float]) -> Distribution:
    """Median and 95th percentile of at least one value."""
    return Distribution(
        values=tuple(values),
        median=float(np.median(values)),
        median_interval=bootstrap_interval([values], np.median),
        p95=percentile(values, 95),
        p95_interval=bootstrap_interval([values], _p95),
    )


def bootstrap_interval(
    samples: Sequence[Sequence[float]], statistic: Callable[..., object]
) -> tuple[float, float] | None:
    """The percentile bootstrap's interval (Efron 1979) of a statistic of one or two samples; None of too few values."""
    if min(len(sample) for sample in samples) < INTERVAL_RUNS:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = stats.bootstrap(
            [np.asarray(sample) for sample in samples],
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if np.isfinite([low, high]).all() else None


def _p95(values: Any, axis: int = -1) -> Any:
    return np.percentile(values, 95, axis=axis, method="inverted_cdf")
