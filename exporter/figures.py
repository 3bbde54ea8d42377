"""Figures of one run, each from the samples of one measurement over a span of its timeline. Pure functions."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from exporter.blackout import NANO, Tick
from exporter.summary import Gap
from exporter.timeline import Span

GIB = 1 << 30
GAP_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Guest seconds that a vCPU took for one GiB: over all lines of a span, and the 95th percentile of the lines."""

    mean: float
    p95: float


def pace(table: pa.Table, span: Span) -> Pace | None:
    """The guest's pace over the xor lines that lie wholly within a span; None where there is none."""
    spent: list[float] = []
    seconds = sizes = 0.0
    for row in table.select(["time_ns", "bytes", "seconds"]).to_pylist():
        if not row["bytes"] or row["seconds"] is None or row["time_ns"] > span.end_ns:
            continue
        if row["time_ns"] - row["seconds"] / NANO < span.start_ns:
            continue
        seconds += row["seconds"]
        sizes += row["bytes"]
        spent.append(row["seconds"] / row["bytes"] * GIB)
    return Pace(mean=seconds / sizes * GIB, p95=percentile(spent, 95)) if spent else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the least value that `percent` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def ticks_of(table: pa.Table) -> list[Tick]:
    """The rows of a `guest_tick` table in the order of arrival."""
    rows = table.select(["time_ns", "guest_seconds", "offset_seconds", "sequence"]).to_pylist()
    return [
        Tick(
            time_ns=row["time_ns"],
            guest_seconds=row["guest_seconds"],
            offset_seconds=row["offset_seconds"],
            sequence=int(row["sequence"]),
        )
        for row in sorted(rows, key=lambda row: row["time_ns"])
        if row["guest_seconds"] is not None and row["sequence"] is not None
    ]


def cpu_seconds(table: pa.Table, span: Span) -> dict[str, dict[str, float]]:
    """CPU seconds by role and kind over a span, the counters read at its ends by interpolation.

    A thread that was born within the span counts from 0; one of a QEMU that was not yet watched from its first sample.
    """
    series: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    watched_since: dict[str, int] = {}
    # plain strings: a dictionary's values one by one take ten times as long
    tags = (table.column(name).cast(pa.string()).to_pylist() for name in ("role", "kind", "index"))
    times, counters = (table.column(name).to_pylist() for name in ("time_ns", "cpu_seconds"))
    for role, kind, index, time_ns, counter in zip(*tags, times, counters, strict=True):
        if counter is None:
            continue
        series[role, kind, index].append((time_ns, counter))
        watched_since[role] = min(time_ns, watched_since.get(role, time_ns))
    found: dict[str, dict[str, float]] = {}
    for (role, kind, _), points in series.items():
        if points[0][0] > span.end_ns:
            continue
        born = points[0][0] > max(span.start_ns, watched_since[role])
        start = 0.0 if born else _at(points, span.start_ns)
        kinds = found.setdefault(role, {})
        kinds[kind] = kinds.get(kind, 0.0) + max(0.0, _at(points, span.end_ns) - start)
    return found


def peak_by_role(table: pa.Table, field: str) -> dict[str, float]:
    """The largest value of a field, by role."""
    peaks: dict[str, float] = {}
    for row in table.select(["role", field]).to_pylist():
        if row[field] is not None:
            peaks[row["role"]] = max(row[field], peaks.get(row["role"], row[field]))
    return peaks


def extra_resident(table: pa.Table, span: Span) -> float | None:
    """Bytes of memory that the source's QEMU took on in a span: its most in it, above what it had as it began."""
    rows = _source_rows(table.select(["time_ns", "role", "resident_bytes"]), Span(start_ns=0, end_ns=span.end_ns))
    told = [(row["time_ns"], row["resident_bytes"]) for row in rows.to_pylist() if row["resident_bytes"] is not None]
    within = [count for time_ns, count in told if time_ns >= span.start_ns]
    if not within:
        return None
    before = [count for time_ns, count in told if time_ns < span.start_ns]
    return float(max(0.0, max(within) - (before or within)[-1 if before else 0]))


def last_replies(table: pa.Table, span: Span) -> dict[str, float]:
    """The last number of every field that the source's query-migrate told within a span."""
    rows = _source_rows(table, span)
    found: dict[str, float] = {}
    for field in rows.schema:
        told = rows.column(field.name).drop_null()
        if pa.types.is_floating(field.type) and field.name != "sequence" and len(told):
            found[field.name] = told[-1].as_py()
    return found


def throttle(table: pa.Table, span: Span) -> tuple[float | None, float | None]:
    """Seconds from the span's start to the first throttling, and the highest throttle in percent."""
    rows = _source_rows(table.select(["time_ns", "role", "throttle_percent"]), span)
    rows = rows.filter(pc.greater(rows.column("throttle_percent"), 0))
    if not len(rows):
        return None, None
    first_ns = rows.column("time_ns")[0].as_py()
    return (first_ns - span.start_ns) * NANO, pc.max(rows.column("throttle_percent")).as_py()


def polling_gaps(table: pa.Table) -> tuple[int, tuple[Gap, ...]]:
    """How many polls of query-migrate are missing by their sequence numbers, and the gaps of at least `GAP_SECONDS`.

    A late poll is skipped now and then; only what lasts is a gap in what is known of the run.
    """
    missed = 0
    gaps: list[Gap] = []
    last: dict[str, tuple[int, int]] = {}
    rows = table.select(["time_ns", "role", "sequence"]).to_pylist()
    for row in sorted(rows, key=lambda row: row["time_ns"]):
        if row["sequence"] is None:
            continue
        role, number, time_ns = row["role"], int(row["sequence"]), row["time_ns"]
        before_ns, before = last.get(role, (time_ns, number - 1))
        if number != before + 1:
            missed += max(0, number - before - 1)
            if (time_ns - before_ns) * NANO >= GAP_SECONDS:
                gaps.append(Gap(role=role, start_ns=before_ns, end_ns=time_ns))
        last[role] = (time_ns, number)
    return missed, tuple(gaps)


def _source_rows(table: pa.Table, span: Span) -> pa.Table:
    """The source's rows within a span; one series, and so in the order of time."""
    times = table.column("time_ns")
    within = pc.and_(pc.greater_equal(times, span.start_ns), pc.less_equal(times, span.end_ns))
    return table.filter(pc.and_(within, pc.equal(table.column("role").cast(pa.string()), "source")))


def _at(points: Sequence[tuple[int, float]], time_ns: int) -> float:
    """A counter's value at a moment, between its neighbouring samples; at the ends the outermost sample's."""
    place = bisect.bisect_left(points, (time_ns, -math.inf))
    if place == 0:
        return points[0][1]
    if place == len(points):
        return points[-1][1]
    (before_ns, before), (after_ns, after) = points[place - 1], points[place]
    return before + (after - before) * (time_ns - before_ns) / (after_ns - before_ns)
