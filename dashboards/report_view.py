"""One recorded run as the report reads it: record, summary and samples on one axis of seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dashboards.series import NS
from driver.marks import Mark
from driver.record import RunRecord
from exporter.summary import Summary

MEASUREMENTS = ("guest_xor", "qemu_cpu", "migration", "event", "verdict")
"""What the report reads; ticks and memory stay in the store."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run to be shown. `tables` maps a measurement to its pyarrow table; what was never sampled is missing.

    `label` tells this run from the others of its report.
    """

    record: RunRecord
    label: str
    summary: Summary
    tables: Mapping[str, Any] = field(default_factory=dict)
    marks: Sequence[Mark] = ()

    @property
    def origin_ns(self) -> int:
        """Zero of the time axis: the migration's start; the run's own start where it never came to that."""
        if self.summary.migrate_start_ns is not None:
            return self.summary.migrate_start_ns
        return self.record.clock.wall_ns

    def seconds(self, time_ns: int) -> float:
        """A stamp as seconds since the migration's start."""
        return (time_ns - self.origin_ns) * NS

    def last_seconds(self) -> float:
        """The last moment that anything is known of."""
        stamps = [phase.end_ns or phase.start_ns for phase in self.record.phases]
        known = [table for table in self.tables.values() if table is not None and table.num_rows]
        stamps += [max(table.column("time_ns").to_pylist()) for table in known]
        return self.seconds(max(stamps, default=self.origin_ns))

    def phases(self) -> list[tuple[str, float, float]]:
        """The phases from settle on, each with its start and end in seconds; an open one lasts to the end.

        Of those before settle nothing was sampled: they would only push the figure aside.
        """
        names = [phase.name for phase in self.record.phases]
        first = names.index("settle") if "settle" in names else 0
        last = self.last_seconds()
        return [
            (phase.name, self.seconds(phase.start_ns), last if phase.end_ns is None else self.seconds(phase.end_ns))
            for phase in self.record.phases[first:]
            if phase.name != "end"
        ]

    def dark_span(self) -> tuple[float, float] | None:
        """When the guest stood still: STOP at the source to RESUME, wherever that was; None where it never stood."""
        stop_ns, resume_ns = self.summary.stop_ns, self.summary.resume_ns
        if stop_ns is None or resume_ns is None:
            return None
        return self.seconds(stop_ns), self.seconds(resume_ns)
