"""Iteration boundaries: what remained at each dirty-bitmap sync, and what the iteration before it sent and dirtied.

A boundary is a sync (QEMU's dirty-sync-count rises, event MIGRATION_PASS). Only there can remaining bytes be compared:
inside an iteration they swing.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from driver.progress import Progress

NANO = 1e-9

BANDWIDTH_WINDOW = 5

CAPPED = 0.93
"""A migration is held by its bandwidth cap when it reaches this share of it."""

WINDOW_NS = 100_000_000
"""QEMU shares out its bandwidth in windows of 100 ms (BUFFER_DELAY)."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """One dirty-bitmap sync.

    `remaining_bytes` is what had to be sent at the sync; `threshold_bytes` what QEMU could send within the downtime
    limit at the measured bandwidth (median of the last five boundaries, None until QEMU measured one);
    `iteration_seconds`, `sent_bytes` and `dirtied_bytes` are of the iteration that the sync ended: pages sent by
    whichever way times the page size, and, exactly, `change of remaining + sent` (None where its beginning was not
    seen); `mixed` says that the conditions changed within it. Times are nanoseconds of the samples' clock.
    """

    iteration: int
    time_ns: int
    remaining_bytes: float
    threshold_bytes: float | None = None
    bandwidth_bytes_per_second: float | None = None
    iteration_seconds: float | None = None
    sent_bytes: float | None = None
    dirtied_bytes: float | None = None
    mixed: bool = False

    @property
    def ratio(self) -> float | None:
        """Remaining over threshold: QEMU switches over once it is at most 1."""
        return self.remaining_bytes / self.threshold_bytes if self.threshold_bytes else None

    @property
    def dirtied_ratio(self) -> float | None:
        """Dirtied over sent: 0.1 to 0.5 while a migration converges, about 1 in a stall."""
        if self.dirtied_bytes is None or not self.sent_bytes:
            return None
        return self.dirtied_bytes / self.sent_bytes


def of_one_piece(boundaries: Sequence[Boundary]) -> list[Boundary]:
    """Those whose iteration tells of the guest: the first sends all of RAM, a mixed one saw two sets of conditions."""
    return [each for each in boundaries if each.iteration > 2 and not each.mixed]


def dirtied_ratios(boundaries: Sequence[Boundary]) -> list[float]:
    """What is known of dirtied / sent under the present conditions."""
    return [ratio for each in of_one_piece(boundaries) if (ratio := each.dirtied_ratio) is not None]


@dataclass(frozen=True, kw_only=True)
class _Sync:
    """A sync as the samples around it tell: all pages handled until then, in bytes, and what remained."""

    time_ns: int
    handled_bytes: float
    remaining_bytes: float


@dataclass(kw_only=True)
class BoundaryFinder:
    """Finds the boundaries in one migration's samples.

    Feed it, in order of time: `passed` for each MIGRATION_PASS event, `sample` for each reply to query-migrate.
    `bandwidth_limit` is the cap in bytes a second, None for no cap.
    """

    downtime_limit_seconds: float
    bandwidth_limit: float | None = None
    _bandwidths: deque[float] = field(default_factory=lambda: deque(maxlen=BANDWIDTH_WINDOW))
    _passes: dict[int, int] = field(default_factory=dict)
    _before: tuple[int, Progress] | None = None
    _last_sync: tuple[int, _Sync] | None = None

    @property
    def capacity(self) -> float | None:
        """Bytes a second that can be sent: the median of the last five boundaries' measures."""
        return statistics.median(self._bandwidths) if self._bandwidths else None

    def passed(self, time_ns: int, iteration: int) -> None:
        """Take the stamp of QEMU's MIGRATION_PASS event for an iteration."""
        self._passes[iteration] = time_ns

    def forget_bandwidth(self) -> None:
        """Forget the measured bandwidths: the conditions have changed."""
        self._bandwidths.clear()

    def sample(self, time_ns: int, progress: Progress) -> Boundary | None:
        """Take one reply of an active migration; the first one after a sync yields its boundary."""
        before, self._before = self._before, (time_ns, progress)
        if before is None or before[1].iteration > progress.iteration:
            self._last_sync = self._start(time_ns, progress)
            return None
        if progress.iteration <= max(before[1].iteration, 1):
            if self._last_sync is None or self._last_sync[0] < progress.iteration:
                self._last_sync = self._start(time_ns, progress)
            return None
        return self._boundary(before, (time_ns, progress))

    def _start(self, time_ns: int, progress: Progress) -> tuple[int, _Sync] | None:
        """The first sync, which begins the migration: all of RAM remained then."""
        if progress.iteration != 1 or progress.remaining_bytes is None:
            return None
        handled = progress.pages_sent * progress.page_bytes
        stamp = self._passes.get(1, time_ns)
        return 1, _Sync(time_ns=stamp, handled_bytes=0.0, remaining_bytes=progress.remaining_bytes + handled)

    def _boundary(self, before: tuple[int, Progress], after: tuple[int, Progress]) -> Boundary:
        time_ns, progress = after
        bandwidth = progress.bandwidth_bytes_per_second or before[1].bandwidth_bytes_per_second
        if bandwidth:
            self._bandwidths.append(bandwidth)
        since = self._sent_since(before, after)
        sync = _Sync(
            time_ns=self._passes.get(progress.iteration, (before[0] + time_ns) // 2),
            handled_bytes=progress.pages_sent * progress.page_bytes - since,
            remaining_bytes=(progress.remaining_bytes or 0.0) + since,
        )
        last, self._last_sync = self._last_sync, (progress.iteration, sync)
        # a poll that comes late sees two syncs as one: their lengths and bytes cannot be told apart
        began = last[1] if last and last[0] == progress.iteration - 1 else None
        sent = max(sync.handled_bytes - began.handled_bytes, 0.0) if began else None
        capacity = self.capacity
        return Boundary(
            iteration=progress.iteration,
            time_ns=time_ns,
            remaining_bytes=sync.remaining_bytes,
            threshold_bytes=max(capacity * self.downtime_limit_seconds, 1.0) if capacity else None,
            bandwidth_bytes_per_second=capacity,
            iteration_seconds=(sync.time_ns - began.time_ns) * NANO if began else None,
            sent_bytes=sent,
            dirtied_bytes=max(sync.remaining_bytes - began.remaining_bytes + sent, 0.0)
            if began and sent is not None
            else None,
        )

    def _sent_since(self, before: tuple[int, Progress], after: tuple[int, Progress]) -> float:
        """Bytes sent between the sync and the first sample after it.

        Under a cap QEMU sends its budget of 100 ms in one burst at the start of each such window, and syncs before the
        burst (source: migration/migration.c, migration_iteration_run, migration_rate_limit): the bursts of the
        windows since the MIGRATION_PASS stamp came after the sync. Without a cap what was sent between the two samples
        is shared out by time. Without a stamp the sync is taken to lie half way.
        """
        (time_before, progress_before), (time_after, progress_after) = before, after
        stamp = self._passes.get(progress_after.iteration, (time_before + time_after) // 2)
        sent = max(progress_after.pages_sent - progress_before.pages_sent, 0.0) * progress_after.page_bytes
        since = max(time_after - stamp, 0)
        cap, bandwidth = self.bandwidth_limit, progress_after.bandwidth_bytes_per_second
        if cap and bandwidth and bandwidth >= CAPPED * cap:
            windows = since // WINDOW_NS + 1
            return min(sent, windows * cap * WINDOW_NS * NANO)
        return sent * min(since / max(time_after - time_before, 1), 1.0)
