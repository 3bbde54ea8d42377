"""What earlier runs on the same transport and host say of the link's own speed, which no cap binds in the last pass."""

from __future__ import annotations

from driver.datadir import DataDir
from driver.downtime import link_speed
from driver.record import RunRecord
from exporter.index import opened

STOPPING = frozenset({"pause", "post-copy", "recover", "multifd", "zero-copy", "background-snapshot"})
"""Strategies under which QEMU's downtime-bytes are not those of a last pass."""


def known_link_speed(data: DataDir, record: RunRecord) -> float | None:
    """Bytes a second in the median of the index's earlier runs; None where there are none, or no scenario."""
    scenario = record.scenario
    if scenario is None:
        return None
    with opened(data.index) as index:
        rows = [row for _, row in index.rows().values()]
    passes = [
        (row.figures.get("downtime_bytes") or 0.0, row.figures.get("qemu_downtime_seconds") or 0.0)
        for row in rows
        if row.outcome == "completed"
        and row.conditions.get("transport") == scenario.transport
        and not STOPPING & set((row.strategy or "").split("+"))
    ]
    return link_speed(passes)
