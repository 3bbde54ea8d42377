"""Lines for figures, out of the recorded tables: pure functions from a run's samples to seconds and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
NS = 1e-9
SMOOTHING_SECONDS = 0.1
"""A running thread's CPU figure moves by scheduler ticks: a rate over less than this says nothing."""

GAP_SECONDS = 2.0
"""Where no sample came for this long a CPU line is broken, not drawn through."""

POINTS = 1500
"""More points than this are thinned out, since a screen is not wider."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: `x` seconds since the migration's start, `y` the value (None breaks the line).

    `thinned_from` is the number of points before thinning out, 0 where every sample is shown.
    """

    x: Sequence[float]
    y: Sequence[float | None]
    thinned_from: int = 0

    def __bool__(self) -> bool:
        return any(value is not None for value in self.y)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample: its stamp in nanoseconds and the fields that it has."""

    time_ns: int
    values: Mapping[str, Any]


def groups(table: Any, tags: Sequence[str], fields: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Split a pyarrow table by its tags, in order of time; a column that it lacks is None in every row."""
    if table is None or not table.num_rows:
        return {}
    missing = [None] * table.num_rows
    columns = {
        name: table.column(name).to_pylist() if name in table.column_names else missing
        for name in ("time_ns", *tags, *fields)
    }
    found: dict[tuple[str, ...], list[Row]] = {}
    names = list(fields)
    for place, time_ns in enumerate(columns["time_ns"]):
        key = tuple(str(columns[tag][place] or "") for tag in tags)
        values = {name: columns[name][place] for name in names}
        found.setdefault(key, []).append(Row(time_ns=time_ns, values=values))
    for rows in found.values():
        rows.sort(key=lambda row: row.time_ns)
    return found


def plain(rows: Iterable[Row], name: str, origin_ns: int, factor: float = 1.0) -> Line:
    """A field as it was sampled, times `factor`; rows without it are left out."""
    pairs = [
        ((row.time_ns - origin_ns) * NS, row.values[name] * factor) for row in rows if row.values[name] is not None
    ]
    return thin([x for x, _ in pairs], [y for _, y in pairs])


def paces(rows: Iterable[Row], origin_ns: int) -> Line:
    """One vCPU's pace: ms/GiB of each of its xor lines, drawn at the line's arrival."""
    pairs = [((row.time_ns - origin_ns) * NS, pace) for row in rows if (pace := _pace(row)) is not None]
    return thin([x for x, _ in pairs], [y for _, y in pairs])


def total_pace(by_vcpu: Mapping[tuple[str, ...], Sequence[Row]], origin_ns: int) -> Line:
    """The guest's pace over all vCPUs: ms/GiB of the lines that arrived within `SMOOTHING_SECONDS`, at the last one.

    A guest so slow that a line takes longer than that has a point at each line.
    """
    window_ns = round(SMOOTHING_SECONDS / NS)
    windows: dict[int, tuple[int, float, float]] = {}
    for row in sorted((row for rows in by_vcpu.values() for row in rows), key=lambda row: row.time_ns):
        if _pace(row) is not None:
            place = (row.time_ns - origin_ns) // window_ns
            _, seconds, count = windows.get(place, (0, 0.0, 0.0))
            windows[place] = (row.time_ns, seconds + row.values["seconds"], count + row.values["bytes"])
    ends = [(time_ns - origin_ns) * NS for time_ns, _, _ in windows.values()]
    return thin(ends, [1000 * seconds * GIB / count for _, seconds, count in windows.values()])


def cpu_percent(rows: Sequence[Row], origin_ns: int) -> Line:
    """CPU use in percent of one core, from a counter of CPU seconds, each over at least `SMOOTHING_SECONDS`.

    A counter that falls (another process took the place) and a gap in sampling break the line.
    """
    samples = [(row.time_ns * NS, row.values["cpu_seconds"]) for row in rows if row.values["cpu_seconds"] is not None]
    x: list[float] = []
    y: list[float | None] = []
    start = 0
    for place, (now, counter) in enumerate(samples):
        if place and (now - samples[place - 1][0] > GAP_SECONDS or counter < samples[place - 1][1]):
            start = place
            x.append(now - origin_ns * NS)
            y.append(None)
        while start + 1 < place and now - samples[start + 1][0] >= SMOOTHING_SECONDS:
            start += 1
        span = now - samples[start][0]
        if span >= SMOOTHING_SECONDS * 0.999:
            x.append(now - origin_ns * NS)
            y.append(100 * (counter - samples[start][1]) / span)
    return thin(x, y)


def thin(x: Sequence[float], y: Sequence[float | None], points: int = POINTS) -> Line:
    """Thin out a line so that no peak is lost: of each stretch its least and its greatest value stay, and every gap."""
    if len(x) <= points:
        return Line(x=x, y=y)
    kept: list[int] = []
    stretches = points // 2
    for stretch in range(stretches):
        first, last = stretch * len(x) // stretches, (stretch + 1) * len(x) // stretches
        known = [place for place in range(first, last) if y[place] is not None]
        chosen = {place for place in range(first, last) if y[place] is None}
        if known:
            value: Callable[[int], float] = lambda place: y[place] or 0.0  # noqa: E731 - None was sorted out above
            chosen |= {min(known, key=value), max(known, key=value)}
        kept += sorted(chosen)
    kept = sorted({0, *kept, len(x) - 1})
    return Line(x=[x[place] for place in kept], y=[y[place] for place in kept], thinned_from=len(x))


def _pace(row: Row) -> float | None:
    count, seconds = row.values["bytes"], row.values["seconds"]
    return 1000 * seconds * GIB / count if count and seconds is not None else None
