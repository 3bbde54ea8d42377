"""One clock a run: a wall-clock anchor plus monotonic differences, so that NTP can never bend a duration."""

from __future__ import annotations

import time
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
