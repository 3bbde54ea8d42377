"""Does this migration converge? Verdicts at iteration boundaries, pure: the same live, in steering and on history.

A boundary is a dirty-bitmap sync (QEMU's dirty-sync-count rises, event MIGRATION_PASS). Only there can remaining bytes
be compared: inside an iteration they swing. The rules and their gates come from 221 recorded migrations
(docs/convergence.md tells what each is worth).
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

from driver.progress import Progress

MARGIN = 0.96
"""The least remaining of late boundaries must be below this share of the least before, or nothing was gained."""

STALLED_BOUNDARIES, STALLED_RATIO = 3, 1.05
NOT_CONVERGING_BOUNDARIES, NOT_CONVERGING_RATIO = 5, 1.2
BANDWIDTH_WINDOW = 5

CAPPED = 0.93
"""A migration is held by its bandwidth cap when it reaches this share of it."""

WINDOW_NS = 100_000_000
"""QEMU shares out its bandwidth in windows of 100 ms (BUFFER_DELAY)."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """One dirty-bitmap sync.

    `remaining_bytes` is what had to be sent at the sync; `threshold_bytes` what QEMU could send within the downtime
    limit at the measured bandwidth (median of the last five boundaries).
    """

    iteration: int
    time_ns: int
    remaining_bytes: float
    threshold_bytes: float

    @property
    def ratio(self) -> float:
        """Remaining over threshold: QEMU switches over once it is at most 1."""
        return self.remaining_bytes / self.threshold_bytes


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one boundary says; figures that cannot be known yet are None.

    `implied_downtime_seconds` is remaining / measured bandwidth: QEMU's own switchover test, not a forecast.
    `step_to_come` names the strategy step that may still change the odds.
    """

    iteration: int
    time_ns: int
    iteration_remaining_bytes: float
    implied_downtime_seconds: float | None
    stalled: bool
    not_converging: bool
    step_to_come: str | None

    def in_words(self) -> str:
        """Say the verdict in one sentence for people."""
        if self.not_converging:
            return "not converging under present conditions, and no step is left"
        if self.stalled:
            return f"stalled; {self.step_to_come} is still to come" if self.step_to_come else "stalled"
        return "converging or too early to tell"


@dataclass(kw_only=True)
class Judge:
    """Follows one migration's samples and says a verdict at each boundary.

    Feed it, in order of time: `passed` for each MIGRATION_PASS event, `sample` for each reply to query-migrate,
    `restart` when the conditions change (limits set anew, guest stopped, post-copy begun). Times are nanoseconds of
    one clock; `bandwidth_limit` is the cap in bytes a second, None for no cap.
    """

    downtime_limit_seconds: float
    bandwidth_limit: float | None = None
    boundaries: list[Boundary] = field(default_factory=list)
    _bandwidths: deque[float] = field(default_factory=lambda: deque(maxlen=BANDWIDTH_WINDOW))
    _passes: dict[int, int] = field(default_factory=dict)
    _before: tuple[int, Progress] | None = None
    _throttle: float | None = None

    def passed(self, time_ns: int, iteration: int) -> None:
        """Take the stamp of QEMU's MIGRATION_PASS event for an iteration."""
        self._passes[iteration] = time_ns

    def restart(self) -> None:
        """Forget the boundaries: what was seen before the conditions changed says nothing about now."""
        self.boundaries.clear()
        self._bandwidths.clear()

    def retuned(self, downtime_limit_seconds: float, bandwidth_limit: float | None) -> None:
        """Take QEMU's limits as they are now; history restarts where they differ from those before."""
        if (downtime_limit_seconds, bandwidth_limit) != (self.downtime_limit_seconds, self.bandwidth_limit):
            self.downtime_limit_seconds = downtime_limit_seconds
            self.bandwidth_limit = bandwidth_limit
            self.restart()

    def sample(self, time_ns: int, progress: Progress, step_to_come: str | None) -> Verdict | None:
        """Take one reply; at a new boundary say the verdict, otherwise None."""
        before, self._before = self._before, (time_ns, progress)
        if progress.status != "active" or progress.remaining_bytes is None:
            return None
        if progress.throttle_percent != self._throttle:
            self._throttle = progress.throttle_percent
            self.restart()
        if before is None or progress.iteration < 2 or progress.iteration <= before[1].iteration:
            return None
        bandwidth = progress.bandwidth_bytes_per_second or before[1].bandwidth_bytes_per_second
        remaining = self._remaining_at_boundary(before, (time_ns, progress))
        if bandwidth:
            self._bandwidths.append(bandwidth)
        if not self._bandwidths:
            return self._verdict(progress.iteration, time_ns, remaining, None, step_to_come)
        capacity = statistics.median(self._bandwidths)
        self.boundaries.append(
            Boundary(
                iteration=progress.iteration,
                time_ns=time_ns,
                remaining_bytes=remaining,
                threshold_bytes=max(capacity * self.downtime_limit_seconds, 1.0),
            )
        )
        return self._verdict(progress.iteration, time_ns, remaining, remaining / capacity, step_to_come)

    def _remaining_at_boundary(self, before: tuple[int, Progress], after: tuple[int, Progress]) -> float:
        """Remaining bytes at the sync: what the first sample after it says, plus what was sent since the sync.

        Under a cap QEMU sends its budget of 100 ms in one burst at the start of each such window, and syncs before the
        burst (source: migration/migration.c, migration_iteration_run, migration_rate_limit): the bursts of the
        windows since the MIGRATION_PASS stamp came after the sync. Without a cap what was sent between the two samples
        is shared out by time. Without a stamp the sync is taken to lie half way.
        """
        (time_before, progress_before), (time_after, progress_after) = before, after
        stamp = self._passes.get(progress_after.iteration, (time_before + time_after) // 2)
        page_bytes = progress_after.fields.get("page_bytes", 4096.0)
        sent = max(progress_after.pages_sent - progress_before.pages_sent, 0.0) * page_bytes
        since = max(time_after - stamp, 0)
        cap, bandwidth = self.bandwidth_limit, progress_after.bandwidth_bytes_per_second
        if cap and bandwidth and bandwidth >= CAPPED * cap:
            windows = since // WINDOW_NS + 1
            sent = min(sent, windows * cap * WINDOW_NS / 1e9)
        else:
            sent *= min(since / max(time_after - time_before, 1), 1.0)
        return (progress_after.remaining_bytes or 0.0) + sent

    def _verdict(
        self, iteration: int, time_ns: int, remaining: float, implied: float | None, step_to_come: str | None
    ) -> Verdict:
        return Verdict(
            iteration=iteration,
            time_ns=time_ns,
            iteration_remaining_bytes=remaining,
            implied_downtime_seconds=implied,
            stalled=without_gain(self.boundaries, STALLED_BOUNDARIES, STALLED_RATIO),
            not_converging=step_to_come is None
            and without_gain(self.boundaries, NOT_CONVERGING_BOUNDARIES, NOT_CONVERGING_RATIO),
            step_to_come=step_to_come,
        )


def without_gain(boundaries: list[Boundary], late: int, ratio: float) -> bool:
    """Whether the last `late` boundaries gained nothing over all older ones and are all above `ratio`.

    Gained nothing: their least remaining is at least `MARGIN` times the least before them. False while there is no
    older boundary to compare with.
    """
    if len(boundaries) <= late:
        return False
    older, last = boundaries[:-late], boundaries[-late:]
    gained = min(b.remaining_bytes for b in last) < MARGIN * min(b.remaining_bytes for b in older)
    return not gained and all(boundary.ratio >= ratio for boundary in last)
