"""The blackout: how long the guest really stood still at the switchover, from its ticks' stamps. Pure functions.

The guest's clock stands still while it is moved, so only the host sees the pause: as the shift of the offset between
the host's clock (arrival of a tick) and the guest's (the time that the tick carries). The least offset near the
switchover is taken on both sides, since every delay of a line only adds to it. What it is worth: docs/blackout.md.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NANO = 1e-9
WINDOW_SECONDS = 10.0
"""Long enough for ten ticks of a guest that is throttled to 1 % (a slice of sleep a second); the two clocks drift apart
by less than 0.5 ms in it (docs/blackout.md)."""
CONFIRMED_SECONDS = 0.01
"""Another tick must come this near to the least offset of its side: one tick more or less then changes no more."""


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


def blackout(ticks: Sequence[Tick], stop_ns: int, resume_ns: int, *, kvm: bool, running_ns: int = 0) -> Blackout:
    """Judge one switchover: STOP at the source, RESUME at the destination; `ticks` in the order of arrival.

    Before it are the ticks from 10 s before STOP, but not from before the source last began to run (`running_ns`: an
    earlier standstill lies between the two offsets), up to RESUME (a line may still be on its way at STOP). After it
    are those within 10 s of RESUME; a line of the source's that was read only then is known by the guest's time.
    Each side's least offset must be confirmed by a second tick. Lost ticks are no matter: they could only have had a
    lesser offset. Under KVM that part of the guest clock's gap which is above the median tick is added, and the figure
    is an upper bound.
    """
    window_ns = round(WINDOW_SECONDS / NANO)
    start_ns = max(running_ns, stop_ns - window_ns)
    before = [tick for tick in ticks if start_ns <= tick.time_ns < resume_ns]
    offsets_before = _offsets(before)
    if not offsets_before:
        return _refused("before", before)
    stopped_at = stop_ns * NANO - _guest_zero(before)
    after = [
        tick for tick in ticks
        if resume_ns <= tick.time_ns <= resume_ns + window_ns and tick.guest_seconds > stopped_at
    ]  # fmt: skip
    offsets_after = _offsets(after)
    if not offsets_after:
        return _refused("after", after)
    for side, offsets in (("before", offsets_before), ("after", offsets_after)):
        if len(offsets) == 1:
            return Blackout(seconds=None, why=f"only one tick {side} the switchover: it may have come late")
        if (above := offsets[1] - offsets[0]) > CONFIRMED_SECONDS:
            why = f"no tick confirms the least offset {side} the switchover: the next is {above * 1e3:.0f} ms above it"
            return Blackout(seconds=None, why=why)
    shift = offsets_after[0] - offsets_before[0]
    if kvm:
        gap = after[0].guest_seconds - before[-1].guest_seconds
        shift += max(0.0, gap - _median_tick(before, after))
    return Blackout(seconds=max(0.0, shift), upper_bound=kvm)


def longest_silence(ticks: Sequence[Tick], start_ns: int, end_ns: int, resume_ns: int | None = None) -> Blackout:
    """The largest gap between two ticks' arrivals within a span; it holds the pause and the slowness around it.

    A tick that is missing in it makes it unknown, but for one across RESUME at the destination: STOP cuts a line in
    two, and its second half is the destination's first sign, not the source's last.
    """
    within = [tick for tick in ticks if start_ns <= tick.time_ns <= end_ns]
    if len(within) < 2:
        return Blackout(seconds=None, why="fewer than two ticks from migrate start to the end of recover")
    if len(_offsets(within)) < len(within):
        return Blackout(seconds=None, why="some ticks of the migration are older than the exporter's start")
    earlier, later = max(itertools.pairwise(within), key=lambda pair: pair[1].time_ns - pair[0].time_ns)
    arrived = {tick.sequence for tick in ticks}
    lost = sum(sequence not in arrived for sequence in range(earlier.sequence + 1, later.sequence))
    cut = 1 if resume_ns is not None and earlier.time_ns < resume_ns <= later.time_ns else 0
    if lost > cut:
        return Blackout(seconds=None, why=f"{lost} ticks are lost in the longest silence")
    return Blackout(seconds=(later.time_ns - earlier.time_ns) * NANO)


def _offsets(ticks: Sequence[Tick]) -> list[float]:
    """The known offsets, least first."""
    return sorted(tick.offset_seconds for tick in ticks if tick.offset_seconds is not None)


def _refused(side: str, ticks: Sequence[Tick]) -> Blackout:
    if ticks:
        return Blackout(seconds=None, why=f"every tick {side} the switchover is older than the exporter's start")
    return Blackout(seconds=None, why=f"no tick {side} the switchover")


def _guest_zero(ticks: Sequence[Tick]) -> float:
    """Where the guest's clock had its zero on the run's clock, in seconds: least over the ticks, as offsets are."""
    return min(tick.time_ns * NANO - tick.guest_seconds for tick in ticks if tick.offset_seconds is not None)


def _median_tick(before: Sequence[Tick], after: Sequence[Tick]) -> float:
    gaps = [
        later.guest_seconds - earlier.guest_seconds
        for side in (before, after)
        for earlier, later in itertools.pairwise(side)
    ]
    return statistics.median(gaps) if gaps else 0.0
