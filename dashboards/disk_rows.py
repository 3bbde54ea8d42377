"""A run's figures of the guest's disk in words, for `show` and the report."""

from __future__ import annotations

from dashboards.units import UNKNOWN, duration, milliseconds, rate, size
from exporter.summary import Summary


def disk_rows(summary: Summary) -> list[tuple[str, str]]:
    """Name and words of each figure that is known; none of a guest without a disk."""
    settled, migrating = summary.settle_disk_bytes_per_second, summary.migrate_disk_bytes_per_second
    rows = [
        ("disk's mirror ready after", duration(summary.disk_mirror_ready_seconds)),
        ("mirror copied", size(summary.disk_mirror_copied_bytes)),
        ("mirror behind as the guest stopped", size(summary.disk_mirror_lag_bytes)),
        ("disk and mirror written out in", milliseconds(summary.disk_mirror_drain_seconds)),
        ("mirror held the switchover for", milliseconds(summary.disk_mirror_switchover_seconds)),
        ("guest wrote to its disk", size(summary.disk_written_bytes)),
        ("guest's disk writes settled", _writes(settled, summary.settle_disk_write_seconds)),
        ("guest's disk writes migrating", _writes(migrating, summary.migrate_disk_write_seconds)),
        ("longest disk write from then on", milliseconds(summary.migrate_disk_write_seconds_max)),
    ]
    return [(name, words) for name, words in rows if words != UNKNOWN]


def _writes(bytes_per_second: float | None, seconds: float | None) -> str:
    return UNKNOWN if bytes_per_second is None else f"{rate(bytes_per_second)}, {milliseconds(seconds)} each"
