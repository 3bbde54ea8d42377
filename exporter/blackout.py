"""The blackout: how long the guest really stood still at the switchover, from its ticks' stamps. Pure functions.

The guest's clock stands still while it is moved, so only the host sees the pause: as the shift of the offset between
the host's clock (arrival of a tick) and the guest's (the time that the tick carries). The least offset near the
switchover is taken on both sides, since every delay of a line only adds to it. Definition: docs, "Clocks".
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NANO = 1e-9
WINDOW_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One tick: arrival on the run's clock, the guest's monotonic time, host minus guest (None: not known)."""

    time_ns: int
    guest_seconds: float
    offset_seconds: float | None
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Blackout:
    """The figure, or None with the reason; an upper bound where the guest's clock may have jumped (KVM)."""

    seconds: float | None
    upper_bound: bool = False
    why: str | None = None


def blackout(ticks: Sequence[Tick], stop_ns: int, resume_ns: int, *, kvm: bool) -> Blackout:
    """Judge one switchover: STOP at the source, RESUME at the destination; `ticks` in the order of arrival.

    Before it are the ticks from 0.5 s before STOP up to RESUME (a line may still be on its way at STOP), at least the
    last one; after it those within 0.5 s of RESUME, at least the first. Under KVM that part of the guest clock's gap
    which is above the median tick is added, and the figure is an upper bound.
    """
    window_ns = round(WINDOW_SECONDS / NANO)
    before = [tick for tick in ticks if tick.time_ns < resume_ns]
    after = [tick for tick in ticks if tick.time_ns >= resume_ns]
    if not before or not after:
        return Blackout(seconds=None, why=f"no tick {'after' if before else 'before'} the switchover")
    near_before = [tick for tick in before if tick.time_ns >= stop_ns - window_ns] or before[-1:]
    near_after = [tick for tick in after if tick.time_ns <= resume_ns + window_ns] or after[:1]
    if lost := lost_ticks([*near_before, *near_after]):
        return Blackout(seconds=None, why=f"{lost} ticks around the switchover are lost")
    offsets_before = _offsets(near_before)
    offsets_after = _offsets(near_after)
    if offsets_before is None or offsets_after is None:
        return Blackout(seconds=None, why="ticks around the switchover are older than the exporter's start")
    shift = min(offsets_after) - min(offsets_before)
    if kvm:
        gap = near_after[0].guest_seconds - near_before[-1].guest_seconds
        shift += max(0.0, gap - _median_tick(near_before, near_after))
    return Blackout(seconds=max(0.0, shift), upper_bound=kvm)


def lost_ticks(ticks: Sequence[Tick]) -> int:
    """How many sequence numbers are missing among ticks in the order of arrival."""
    return sum(max(0, later.sequence - earlier.sequence - 1) for earlier, later in itertools.pairwise(ticks))


def longest_silence(ticks: Sequence[Tick], start_ns: int, end_ns: int) -> Blackout:
    """The largest gap between two ticks' arrivals within a span; it holds the pause and the slowness around it."""
    within = [tick for tick in ticks if start_ns <= tick.time_ns <= end_ns]
    if len(within) < 2:
        return Blackout(seconds=None, why="fewer than two ticks from migrate start to the end of recover")
    if _offsets(within) is None:
        return Blackout(seconds=None, why="some ticks of the migration are older than the exporter's start")
    earlier, later = max(itertools.pairwise(within), key=lambda pair: pair[1].time_ns - pair[0].time_ns)
    if lost := lost_ticks([earlier, later]):
        return Blackout(seconds=None, why=f"{lost} ticks are lost in the longest silence")
    return Blackout(seconds=(later.time_ns - earlier.time_ns) * NANO)


def _offsets(ticks: Sequence[Tick]) -> list[float] | None:
    found = [tick.offset_seconds for tick in ticks if tick.offset_seconds is not None]
    return found if len(found) == len(ticks) else None


def _median_tick(before: Sequence[Tick], after: Sequence[Tick]) -> float:
    gaps = [
        later.guest_seconds - earlier.guest_seconds
        for side in (before, after)
        for earlier, later in itertools.pairwise(side)
    ]
    return statistics.median(gaps) if gaps else 0.0
