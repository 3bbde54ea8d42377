"""One clock a run: a wall-clock anchor plus monotonic differences, so that NTP can never bend a duration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The anchor of a run's stamps: wall and monotonic nanoseconds read at one moment of one boot."""

    boot_id: str
    wall_ns: int
    monotonic_ns: int

    @classmethod
    def now(cls) -> Clock:
        """Anchor a new clock at this moment."""
        before = time.monotonic_ns()
        wall = time.time_ns()
        return cls(boot_id=BOOT_ID.read_text().strip(), wall_ns=wall, monotonic_ns=(before + time.monotonic_ns()) // 2)

    def stamp(self, monotonic_ns: int | None = None) -> int:
        """Wall-clock nanoseconds of a monotonic moment (None: of now)."""
        return self.wall_ns + (time.monotonic_ns() if monotonic_ns is None else monotonic_ns) - self.monotonic_ns


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """One question to another host: our monotonic ns when it left and when the answer came, both its clocks between."""

    sent_ns: int
    arrived_ns: int
    monotonic_ns: int
    wall_ns: int


@dataclass(frozen=True, kw_only=True)
class ClockOffset:
    """Another host's clocks against our monotonic one, in ns: its monotonic clock less ours, its wall clock less ours.

    `uncertainty_ns` is half the least of `round_trips` round trips: the answer was given somewhere within it.
    `drift_ns` is how far a later measurement in the same run was from it (None: there was none).
    """

    monotonic_ns: int
    wall_ns: int
    uncertainty_ns: int
    round_trips: int
    drift_ns: int | None = None

    @property
    def bound_ns(self) -> int:
        """How far a stamp that was carried over may be from the truth, as far as is known."""
        return self.uncertainty_ns + abs(self.drift_ns or 0)


def clock_offset(trips: Sequence[RoundTrip], before: ClockOffset | None = None) -> ClockOffset:
    """Estimate an offset as NTP does: by the quickest round trip, whose middle is the moment of the answer (RFC 5905).

    Given an earlier estimate it is that one which is returned, with its drift, the greater uncertainty and all trips.
    """
    best = min(trips, key=lambda trip: trip.arrived_ns - trip.sent_ns)
    middle_ns = (best.sent_ns + best.arrived_ns) // 2
    found = ClockOffset(
        monotonic_ns=best.monotonic_ns - middle_ns,
        wall_ns=best.wall_ns - middle_ns,
        uncertainty_ns=(best.arrived_ns - best.sent_ns + 1) // 2,
        round_trips=len(trips),
    )
    if before is None:
        return found
    return ClockOffset(
        monotonic_ns=before.monotonic_ns,
        wall_ns=before.wall_ns,
        uncertainty_ns=max(before.uncertainty_ns, found.uncertainty_ns),
        round_trips=before.round_trips + found.round_trips,
        drift_ns=found.monotonic_ns - before.monotonic_ns,
    )
