"""A run's figures of the guest's disk: what the guest wrote, and what its mirror took (docs/block.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from driver.record import RunRecord
from exporter.timeline import Event, Span, Timeline

if TYPE_CHECKING:
    import pyarrow as pa

NANO = 1e-9
MIRROR = ("ready_seconds", "lag_bytes", "drain_seconds", "switchover_seconds", "copied_bytes")
WRITES = ("bytes_per_second", "write_seconds")


def disk_figures(
    record: RunRecord, times: Timeline, events: Sequence[Event], load: Callable[[str], pa.Table]
) -> dict[str, float | str]:
    """Each figure, or the reason why there is none."""
    if record.hardware is not None and not record.hardware.disk_mib:
        reason = "the guest has no disk (disk_mib=0)"
        writes = [f"{window}_disk_{name}" for window in ("settle", "migrate") for name in WRITES]
        mirror = [f"disk_mirror_{name}" for name in MIRROR]
        return dict.fromkeys([*mirror, *writes, "disk_written_bytes", "migrate_disk_write_seconds_max"], reason)
    return _mirror(times, events, load("block_job")) | _writes(times, load("guest_disk"))


def _mirror(times: Timeline, events: Sequence[Event], table: pa.Table) -> dict[str, float | str]:
    """By QEMU's own events, whose stamps are the moments at which it sent them, and the last look at the job."""
    source = [event for event in events if event.role == "source"]
    ready_ns = next((event.time_ns for event in source if event.name == "BLOCK_JOB_READY"), None)
    begun = [event.time_ns for event in source if event.name == "JOB_STATUS_CHANGE"
             and "status=created" in (event.detail or "") and (ready_ns or 0) > event.time_ns]  # fmt: skip
    words = [(event.time_ns, event.detail) for event in source if event.name == "MIGRATION"]
    held_ns = next((time_ns for time_ns, detail in words if detail == "status=pre-switchover"), None)
    freed_ns = next((time_ns for time_ns, _ in words if held_ns is not None and time_ns > held_ns), None)
    rows = [row for row in table.to_pylist() if row["role"] == "source" and row["done_bytes"] is not None]
    last = {row["job"]: row["done_bytes"] for row in rows}
    stop_ns = times.stop_ns
    until_ns = stop_ns or held_ns
    lags = {row["job"]: row["lag_bytes"] for row in rows if until_ns is not None and row["time_ns"] <= until_ns}
    unheld = "the migration did not wait for a mirror (pre-switchover)"
    never = "QEMU told of no mirror that became ready"
    return {
        "disk_mirror_ready_seconds": (ready_ns - begun[-1]) * NANO if ready_ns and begun else never,
        "disk_mirror_lag_bytes": sum(lags.values()) if lags else "no block job was seen up to a switchover",
        "disk_mirror_drain_seconds": (held_ns - stop_ns) * NANO if held_ns and stop_ns else unheld,
        "disk_mirror_switchover_seconds": (freed_ns - held_ns) * NANO if held_ns and freed_ns else unheld,
        "disk_mirror_copied_bytes": sum(last.values()) if last else "no block job was seen",
    }


def _writes(times: Timeline, table: pa.Table) -> dict[str, float | str]:
    """What lies wholly in a window, by the guest's own clock; that of `migrate` ends at STOP."""
    rows = [row for row in table.to_pylist() if row["seconds"] is not None]
    reason = "the guest wrote nothing to its disk in that time"
    migrate = None
    if times.migration:
        migrate = Span(start_ns=times.migration.start_ns, end_ns=times.stop_ns or times.migration.end_ns)
    found: dict[str, float | str] = {"disk_written_bytes": sum(row["bytes"] for row in rows) if rows else reason}
    for window, span in (("settle", times.settle), ("migrate", migrate)):
        inside = [row for row in rows if span and row["bytes"] and row["time_ns"] <= span.end_ns
                  and row["time_ns"] - row["seconds"] / NANO >= span.start_ns]  # fmt: skip
        seconds, writes = sum(row["seconds"] for row in inside), sum(row["writes"] for row in inside)
        found[f"{window}_disk_bytes_per_second"] = sum(row["bytes"] for row in inside) / seconds if seconds else reason
        spent = sum(row["write_seconds"] for row in inside)
        found[f"{window}_disk_write_seconds"] = spent / writes if writes else reason
    longest = [row["most_seconds"] for row in rows if migrate and row["time_ns"] > migrate.start_ns]
    found["migrate_disk_write_seconds_max"] = max(longest, default=reason)
    return found
