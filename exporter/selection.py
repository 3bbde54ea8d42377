"""Which runs of the history are meant: by id, campaign, scenario, strategy and time."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from exporter.index import RunRow
from workload.errors import BadValueError

_AGE = re.compile(r"(\d+(?:\.\d+)?)(min|[smhdw])")
_AGE_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a run must be to be meant; what is None or empty admits all.

    `runs` are ids; `campaign`, `scenario` and `strategy` are names in which `*` and `?` stand for anything; `since_ns`
    (included) and `until_ns` (excluded) bound the run's start on the wall clock. A run whose record is damaged has none
    of these facts: only its id selects it.
    """

    runs: frozenset[str] = frozenset()
    campaign: str | None = None
    scenario: str | None = None
    strategy: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def admits(self, row: RunRow) -> bool:
        """Whether a run is meant."""
        names = ((self.campaign, row.campaign), (self.scenario, row.scenario), (self.strategy, row.strategy))
        started_ns = row.started_ns
        return (
            (not self.runs or row.run in self.runs)
            and all(wanted is None or fnmatchcase(found or "", wanted) for wanted, found in names)
            and (self.since_ns is None or (started_ns is not None and started_ns >= self.since_ns))
            and (self.until_ns is None or (started_ns is not None and started_ns < self.until_ns))
        )

    def of(self, rows: Iterable[RunRow]) -> list[RunRow]:
        """The rows that are meant, in their order."""
        return [row for row in rows if self.admits(row)]


EVERYTHING = Selection()
"""Every run, damaged ones too."""


def moment_ns(text: str, now_ns: int) -> int:
    """Read a moment: an age (`90m`, `24h`, `7d`, `2w`) before `now_ns`, or a date and time in ISO 8601.

    Without an offset the time is UTC, as `runs` shows it. Returns Unix nanoseconds.

    Raises:
        BadValueError: it is neither.
    """
    if age := _AGE.fullmatch(text.strip()):
        return now_ns - round(float(age[1]) * _AGE_SECONDS[age[2]] * 1e9)
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadValueError(
            f"time {text!r}: want an age such as 90m, 24h or 7d, or ISO 8601 such as 2026-11-24T13:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1e9)
