"""What a run's samples say, made ready for its figures and tables: rows by thread, iterations, statuses, blackout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from dashboards.report_view import RunView
from dashboards.series import Row, groups
from dashboards.units import duration, milliseconds

BLACKOUT = "Blackout"

CPU_LINES: tuple[tuple[str, str, str, str, bool], ...] = (
    ("source", "process", "QEMU", "solid", True),
    ("destination", "process", "QEMU", "solid", True),
    ("source", "vcpu", "vCPU", "dot", True),
    ("destination", "vcpu", "vCPU", "dot", True),
    ("source", "migration", "migration thread", "dash", True),
    ("source", "multifd", "multifd", "dashdot", False),
    ("destination", "multifd", "multifd", "dashdot", False),
    ("destination", "post-copy", "post-copy thread", "dash", False),
    ("source", "return-path", "return path", "longdash", False),
    ("source", "main", "main thread", "longdashdot", False),
    ("destination", "main", "main thread", "longdashdot", False),
    ("source", "io", "I/O thread", "longdashdot", False),
    ("destination", "io", "I/O thread", "longdashdot", False),
)
"""Role, kind of thread, its name, its dash, and whether it is shown at first."""

PROGRESS_FIELDS = (
    "status", "iteration", "remaining_bytes", "dirty_pages_per_second", "page_bytes", "bandwidth_bytes_per_second",
    "throttle_percent", "transferred_bytes", "total_bytes", "total_seconds", "downtime_seconds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One dirty-bitmap sync: what the first sample after it said, and the verdict where there is one."""

    number: int
    seconds: float
    status: str
    remaining_bytes: float | None
    dirty_bytes_per_second: float | None
    bandwidth_bytes_per_second: float | None
    throttle_percent: float | None
    implied_downtime_seconds: float | None = None
    verdict: str = ""


def guest_rows(view: RunView) -> dict[tuple[str, ...], list[Row]]:
    """The xor lines by vCPU."""
    return groups(view.tables.get("guest_xor"), ("vcpu",), ("bytes", "seconds"))


def cpu_rows(view: RunView) -> dict[tuple[str, ...], list[Row]]:
    """The CPU counters by (role, kind, index)."""
    return groups(view.tables.get("qemu_cpu"), ("role", "kind", "index"), ("cpu_seconds",))


def progress_rows(view: RunView) -> list[Row]:
    """The source's replies to query-migrate, with the dirty rate in bytes a second."""
    found = groups(view.tables.get("migration"), ("role",), PROGRESS_FIELDS).get(("source",), [])
    rows = []
    for row in found:
        pages, page_bytes = row.values["dirty_pages_per_second"], row.values["page_bytes"] or 4096
        dirty = {"dirty_bytes_per_second": None if pages is None else pages * page_bytes}
        rows.append(Row(time_ns=row.time_ns, values={**row.values, **dirty}))
    return rows


def iterations(view: RunView) -> list[Iteration]:
    """Every iteration that was seen, in order."""
    fields = ("iteration", "implied_downtime_seconds", "stalled", "not_converging", "iteration_remaining_bytes")
    verdicts = {
        row.values["iteration"]: row.values
        for rows in groups(view.tables.get("verdict"), (), fields).values()
        for row in rows
    }
    found: list[Iteration] = []
    for row in progress_rows(view):
        number = int(row.values["iteration"] or 0)
        if number == 0 or (found and number <= found[-1].number):
            continue
        verdict = verdicts.get(row.values["iteration"], {})
        found.append(
            Iteration(
                number=number,
                seconds=view.seconds(row.time_ns),
                status=escape(str(row.values["status"] or "")),
                remaining_bytes=verdict.get("iteration_remaining_bytes") or row.values["remaining_bytes"],
                dirty_bytes_per_second=row.values["dirty_bytes_per_second"],
                bandwidth_bytes_per_second=row.values["bandwidth_bytes_per_second"],
                throttle_percent=row.values["throttle_percent"],
                implied_downtime_seconds=verdict.get("implied_downtime_seconds"),
                verdict=_verdict_word(verdict),
            )
        )
    return found


def _verdict_word(verdict: Mapping[str, Any]) -> str:
    if verdict.get("not_converging"):
        return "not converging"
    return "stalled" if verdict.get("stalled") else ""


def statuses(view: RunView) -> list[tuple[str, float, float]]:
    """QEMU's status over time: each with its start and end in seconds."""
    found: list[tuple[str, float, float]] = []
    for row in progress_rows(view):
        status, now = escape(str(row.values["status"] or "")), view.seconds(row.time_ns)
        if not status:
            continue
        if found and found[-1][0] == status:
            found[-1] = (status, found[-1][1], now)
        else:
            if found:
                found[-1] = (found[-1][0], found[-1][1], now)
            found.append((status, now, now))
    return found


def blackout_words(view: RunView) -> str:
    """The blackout's label: its measured length, else STOP to RESUME and that it is that."""
    measured = view.summary.blackout_seconds
    if measured is not None:
        return f"blackout {'≤ ' if view.summary.blackout_upper_bound else ''}{milliseconds(measured)}"
    span = view.dark_span()
    return f"STOP to RESUME {duration(span[1] - span[0])}" if span else "no blackout"
