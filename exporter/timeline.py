"""When things happened in a run: its phases and the switchover, from its record, its marks and QEMU's events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from driver.marks import ATTEMPT
from driver.progress import ENDED
from driver.record import RunRecord

if TYPE_CHECKING:
    import pyarrow as pa

_ENDED = frozenset(f"status={status}" for status in ENDED)
"""The details of the MIGRATION events that end a migration, as the monitor source writes them."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One row of the measurement `event`."""

    time_ns: int
    role: str
    name: str
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of the run's clock."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The moments that a run's figures are taken between; None where the run never came to them.

    `migration` runs from the migrate phase's start to the end that QEMU told of (else to the end of the phases), over
    all attempts where there were several.
    `stop_ns` and `resume_ns` are of the switchover that succeeded: STOP at the source, RESUME at the destination;
    `running_ns` is the source's last RESUME before that STOP. A guest that `stays` (a background snapshot) stands still
    at the start of it, from the source's STOP to its RESUME; it recovers from the snapshot's end on.
    """

    settle: Span | None
    migration: Span | None
    recover: Span | None
    stop_ns: int | None
    resume_ns: int | None
    running_ns: int | None = None
    stays: bool = False

    @property
    def under_way(self) -> Span | None:
        """While the guest runs beside its migration: up to STOP, or, where it stays, from RESUME on."""
        span = self.migration
        if span is None:
            return None
        if self.stays:
            return Span(start_ns=self.resume_ns or span.start_ns, end_ns=span.end_ns)
        return Span(start_ns=span.start_ns, end_ns=span.end_ns if self.stop_ns is None else self.stop_ns)


def events_of(table: pa.Table) -> list[Event]:
    """The rows of an `event` table in the order of time."""
    rows = table.select(["time_ns", "role", "name", "detail"]).to_pylist()
    return sorted((Event(**row) for row in rows), key=lambda event: event.time_ns)


def timeline(record: RunRecord, events: Sequence[Event]) -> Timeline:
    """Put a run's moments together; where the record has no such phase (its driver died) the marks stand in."""
    last_ns = max(
        [event.time_ns for event in events] + [phase.end_ns or phase.start_ns for phase in record.phases] + [0]
    )
    spans = _spans(record, events, last_ns)
    migrate, recover = spans.get("migrate"), spans.get("recover")
    stays = migrate is not None and _stays(record, events, migrate.start_ns)
    find = _standstill if stays else _switchover
    stop_ns, resume_ns = find(events, migrate.start_ns) if migrate else (None, None)
    migration = None
    if migrate:
        last_begin_ns = max([migrate.start_ns, *(event.time_ns for event in events if _begins_anew(event))])
        told = [event.time_ns for event in events if event.role == "source" and event.name == "MIGRATION"
                and event.detail in _ENDED and event.time_ns >= last_begin_ns]  # fmt: skip
        phases = [spans[name].end_ns for name in ("migrate", "switchover") if name in spans]
        migration = Span(start_ns=migrate.start_ns, end_ns=max(told[:1] or phases))
    back_ns = migration.end_ns if stays and migration and resume_ns else resume_ns
    return Timeline(
        settle=spans.get("settle"),
        migration=migration,
        recover=Span(start_ns=back_ns, end_ns=recover.end_ns if recover else last_ns) if back_ns else None,
        stop_ns=stop_ns,
        resume_ns=resume_ns,
        running_ns=_last_resume(events, stop_ns) if stop_ns else None,
        stays=stays,
    )


def _begins_anew(event: Event) -> bool:
    return event.role == "driver" and event.name == f"action.{ATTEMPT}"


def _stays(record: RunRecord, events: Sequence[Event], start_ns: int) -> bool:
    """Whether the guest stayed where it was; of a VM of others its source tells: it runs as it has completed."""
    if record.kind != "observed":
        return record.kind == "snapshot"
    running: bool | None = None
    for event in events:
        if event.role != "source" or event.time_ns < start_ns:
            continue
        if event.name in ("STOP", "RESUME"):
            running = event.name == "RESUME"
        elif event.detail == "status=completed":
            return running is True
    return False


def _standstill(events: Sequence[Event], start_ns: int) -> tuple[int | None, int | None]:
    """The first STOP at the source, and its RESUME after that."""
    source = [event for event in events if event.role == "source" and event.time_ns >= start_ns]
    stop_ns = next((event.time_ns for event in source if event.name == "STOP"), None)
    if stop_ns is None:
        return None, None
    return stop_ns, next((e.time_ns for e in source if e.name == "RESUME" and e.time_ns >= stop_ns), None)


def _last_resume(events: Sequence[Event], stop_ns: int) -> int | None:
    resumes = [e.time_ns for e in events if e.role == "source" and e.name == "RESUME" and e.time_ns < stop_ns]
    return max(resumes, default=None)


def _switchover(events: Sequence[Event], start_ns: int) -> tuple[int | None, int | None]:
    """The first RESUME at the destination, and the STOP that the source did not itself take back before it."""
    resumes = [e.time_ns for e in events if e.role == "destination" and e.name == "RESUME" and e.time_ns >= start_ns]
    resume_ns = min(resumes, default=None)
    stop_ns: int | None = None
    for event in events:
        if event.role != "source" or event.time_ns < start_ns:
            continue
        if resume_ns is not None and event.time_ns > resume_ns:
            break
        if event.name == "STOP" and stop_ns is None:
            stop_ns = event.time_ns
        elif event.name == "RESUME":
            stop_ns = None
    return stop_ns, resume_ns


def _spans(record: RunRecord, events: Sequence[Event], last_ns: int) -> dict[str, Span]:
    spans = {
        phase.name: Span(start_ns=phase.start_ns, end_ns=last_ns if phase.end_ns is None else phase.end_ns)
        for phase in record.phases
    }
    marks = [event for event in events if event.role == "driver" and event.name.startswith("phase.")]
    ends = [mark.time_ns for mark in marks[1:]] + [last_ns]
    for mark, end_ns in zip(marks, ends, strict=False):
        spans.setdefault(mark.name.removeprefix("phase."), Span(start_ns=mark.time_ns, end_ns=end_ns))
    return spans
