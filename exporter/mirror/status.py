"""How the mirrors stand, read from their spools: what `migrascope mirror status` prints and /metrics shows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from driver.datadir import DataDir
from exporter.mirror.spool import Checkpoint, Spool, SpooledRun, spools

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One mirror: its counters (since its spool was made) and what still waits.

    `lag_seconds` is the age of the newest sample that was acknowledged, 0 where nothing waits; `trouble` why the last
    request failed, empty where it was taken.
    """

    mirror: str
    url: str
    bucket: str
    trouble: str
    lag_seconds: float
    waiting_bytes: int
    waiting_runs: int
    samples: int
    retries: int
    dropped: int
    dead_letters: int
    collapsed: int


def standings(data: DataDir) -> list[Standing]:
    """Read how every mirror of a data directory stands."""
    return [standing(spool) for spool in spools(data)]


def standing(spool: Spool) -> Standing:
    """Read how one mirror stands."""
    checkpoint = spool.checkpoint()
    waiting: list[tuple[SpooledRun, int]] = []
    for run in spool.runs():
        try:
            waiting.append((run, run.waiting_bytes(run.place(checkpoint))))
        except FileNotFoundError:
            continue  # it was finished while we looked
    behind = [run for run, amount in waiting if amount]
    return Standing(
        mirror=spool.destination.name,
        url=spool.destination.url,
        bucket=spool.destination.bucket,
        trouble=checkpoint.trouble,
        lag_seconds=max((_lag_seconds(run, checkpoint) for run in behind), default=0.0),
        waiting_bytes=sum(amount for _, amount in waiting),
        waiting_runs=len(waiting),
        samples=checkpoint.samples,
        retries=checkpoint.retries,
        dropped=checkpoint.dropped,
        dead_letters=checkpoint.dead_letters,
        collapsed=checkpoint.collapsed,
    )


def _lag_seconds(run: SpooledRun, checkpoint: Checkpoint) -> float:
    place = run.place(checkpoint)
    return max(time.time_ns() - max(place.last_ns, place.since_ns), 0) / SECOND_NS
