"""The guest's disk on its way: QEMU's block jobs."""

from __future__ import annotations

from exporter.metric import Metric

GAUGES = {
    "total_bytes": ("bytes", "What the job has to do in all, which grows as the guest writes", "len"),
    "done_bytes": ("done_bytes", "What it has done", "offset"),
    "lag_bytes": ("lag_bytes", "How far a disk's mirror is behind the guest", "len less offset"),
    "ready": ("ready", "1 once a mirror has caught up for the first time", "ready"),
}
"""Field -> how its metric ends, what it is, and its place in a job of the reply."""


def disk_metrics() -> list[Metric]:
    """List the metrics of block jobs."""
    return [
        Metric(
            name=f"migrascope_block_job_{name}", kind="gauge", labels=("role", "job"), measurement="block_job",
            field=field, passing=True, help=f"{text} (QMP query-block-jobs {place})",
        )
        for field, (name, text, place) in GAUGES.items()
    ]  # fmt: skip
