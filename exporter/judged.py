"""A recorded run judged again by today's rules: the same code as live, fed from history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from driver.datadir import RunDir
from driver.marks import read_marks
from driver.progress import Progress
from driver.record import RunRecord
from exporter.compaction import load
from exporter.sample import Sample
from exporter.verdicts import Verdicts

LIMITS = {"downtime_limit_seconds": ("downtime-limit", 1000), "bandwidth_limit_bytes_per_second": ("max-bandwidth", 1)}


def judged_again(run: RunDir, record: RunRecord) -> list[Sample]:
    """The verdicts that a run's samples deserve now, in the order of time; of runs of any schema of ours.

    Raises:
        MigrascopeError: the run's samples are damaged.
    """
    verdicts = Verdicts(record.scenario)
    marks = [mark for mark in read_marks(run) if mark.kind == "action"]
    found: list[Sample] = []
    for time_ns, kind, row in _told(run):
        while marks and marks[0].time_ns <= time_ns:
            verdicts.marked(marks.pop(0))
        if kind == "event":
            verdicts.happened(row["role"], row["name"], _data(row), time_ns)
        elif row["role"] == "source":
            limits = {name: round(row[field] * factor) for field, (name, factor) in LIMITS.items()
                      if row.get(field) is not None}  # fmt: skip
            if limits:
                verdicts.limits(limits)
            fields = {name: value for name, value in row.items() if isinstance(value, float)}
            found += verdicts.progressed(time_ns, Progress(status=row["status"], fields=fields))
        else:
            found += verdicts.settled(time_ns) if verdicts.over else []
    return found


def _told(run: RunDir) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """What both monitors told, in the order of time; at one moment the event came first."""
    rows = [
        (row["time_ns"], kind, row)
        for kind in ("event", "migration")
        for row in load(run, kind).to_pylist()
        if kind == "event" or row["status"] is not None
    ]
    yield from sorted(rows, key=lambda row: row[:2])


def _data(row: dict[str, Any]) -> dict[str, Any]:
    """An event's data, from the words that the monitor source made of it: `status=active`, `pass=3`."""
    data: dict[str, Any] = {}
    for word in (row.get("detail") or "").split():
        key, _, value = word.partition("=")
        data[key] = int(value) if value.isdigit() else value
    return data
