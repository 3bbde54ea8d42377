"""How long the guest's accesses to memory took: before, during and after a migration, and in post-copy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.blackout import NANO
from exporter.metrics.guest import LATENCY_BUCKETS
from exporter.timeline import Event, Timeline

if TYPE_CHECKING:
    import pyarrow as pa

WINDOWS = ("before", "during", "post_copy", "after")
"""Of a run: up to the migration's start, up to the switchover, from there to the last page in post-copy, the rest."""

POST_COPY_ACTIVE = "status=postcopy-active"


@dataclass(kw_only=True)
class Latencies:
    """Accesses of one window: how many fell into which bucket, and the longest of them in seconds."""

    counts: list[float] = field(default_factory=lambda: [0.0] * (len(LATENCY_BUCKETS) + 1))
    most_seconds: float = 0.0

    @property
    def accesses(self) -> float:
        """How many there were."""
        return sum(self.counts)

    def percentile(self, percent: float) -> float:
        """The upper bound of the bucket that holds the nearest-rank percentile; never above the longest access."""
        wanted = max(1, math.ceil(self.accesses * percent / 100))
        bounds = (*LATENCY_BUCKETS, math.inf)
        reached = 0.0
        for bound, count in zip(bounds, self.counts, strict=True):
            reached += count
            if reached >= wanted:
                return min(bound, self.most_seconds)
        return self.most_seconds


def latencies_by_window(table: pa.Table, times: Timeline, events: Sequence[Event]) -> dict[str, Latencies]:
    """Share the lines of a `guest_latency` table out to the windows; a window without accesses is absent.

    A line tells of the time up to it, `seconds` of the guest's clock, which stands still in the blackout. So the
    console that it came over says on which side of the switchover it ended, and what it tells of both sides counts to
    the later one: there the long accesses are. Elsewhere a line belongs where the most of it lies.
    """
    post_copy = any(event.role == "source" and event.detail == POST_COPY_ACTIVE for event in events)
    found: dict[str, Latencies] = {}
    for row in table.to_pylist():
        if not row["accesses"] or row["seconds"] is None:
            continue
        name = _window(row, times, post_copy=post_copy)
        window = found.setdefault(name, Latencies())
        window.most_seconds = max(window.most_seconds, row["most_seconds"] or 0.0)
        for number in range(len(window.counts)):
            window.counts[number] += row[f"bucket{number}"] or 0.0
    return {name: found[name] for name in WINDOWS if name in found}


def _window(row: Mapping[str, float | str | None], times: Timeline, *, post_copy: bool) -> str:
    end_ns, seconds = float(row["time_ns"] or 0), float(row["seconds"] or 0)
    begin_ns = end_ns - seconds / NANO
    middle_ns = (begin_ns + end_ns) / 2
    if times.migration is None or (row["role"] == "source" and middle_ns < times.migration.start_ns):
        return "before"
    if row["role"] == "source":
        return "during" if middle_ns <= times.migration.end_ns else "after"
    return "post_copy" if post_copy and begin_ns < times.migration.end_ns else "after"
