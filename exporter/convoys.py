"""What a convoy took as a whole: until its last guest was home, and what its guests felt."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.index import RunRow

NANO = 1e-9


@dataclass(frozen=True, kw_only=True)
class ConvoyFigures:
    """One convoy; what is not known of any of its guests is None.

    `all_home_seconds` runs from the first migration's start until the last guest ran at its destination, None where one
    never did. `slowdown` is the guests' mean pace while migrating over their pace before, as a factor of seconds a GiB.
    """

    convoy: str
    scenario: str
    guests: int
    completed: int
    all_home_seconds: float | None
    median_total_seconds: float | None
    median_blackout_seconds: float | None
    worst_blackout_seconds: float | None
    slowdown: float | None


def convoys(rows: Iterable[RunRow]) -> list[ConvoyFigures]:
    """The convoys among runs, in their order."""
    found: dict[str, list[RunRow]] = defaultdict(list)
    for row in rows:
        if row.convoy:
            found[row.convoy].append(row)
    return [_figures(convoy, of_it) for convoy, of_it in found.items()]


def _figures(convoy: str, rows: Sequence[RunRow]) -> ConvoyFigures:
    completed = [row for row in rows if row.outcome == "completed"]
    starts = [row.phases["migrate"] for row in rows if "migrate" in row.phases]
    homes = [row.phases["recover"] for row in completed if "recover" in row.phases]
    blackouts = _known(rows, "blackout_seconds")
    slowdowns = [
        moving / settled
        for row in rows
        if (moving := row.figures.get("migrate_seconds_per_gib_mean"))
        and (settled := row.figures.get("settle_seconds_per_gib_mean"))
    ]
    return ConvoyFigures(
        convoy=convoy,
        scenario=rows[0].scenario or "",
        guests=len(rows),
        completed=len(completed),
        all_home_seconds=(max(homes) - min(starts)) * NANO if len(homes) == len(rows) else None,
        median_total_seconds=_median(_known(completed, "total_seconds")),
        median_blackout_seconds=_median(blackouts),
        worst_blackout_seconds=max(blackouts, default=None),
        slowdown=statistics.fmean(slowdowns) if slowdowns else None,
    )


def _known(rows: Iterable[RunRow], name: str) -> list[float]:
    return [value for row in rows if (value := row.figures.get(name)) is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
