"""What auto-converge's throttle has done: when it began, and how much higher it went than it had to."""

from __future__ import annotations

from dataclasses import dataclass, field

from driver.boundary import Boundary

NANO = 1e-9

FALLING = 0.9
"""Remaining memory falls where less than this share of what is sent is dirtied again."""


@dataclass(kw_only=True)
class Throttling:
    """Follows the throttle over one migration.

    `first_seconds` counts from the migration's start to the first throttling; None where there was none.
    """

    first_seconds: float | None = None
    percent: float | None = None
    _least_enough: float | None = field(default=None)
    _boundaries_at_level: int = 0

    def sample(self, seconds: float, percent: float | None) -> bool:
        """Take the throttle of a reply that came so many seconds after the start; says whether it has changed."""
        if percent and self.first_seconds is None:
            self.first_seconds = seconds
        changed, self.percent = percent != self.percent, percent
        if changed:
            self._boundaries_at_level = 0
        return changed

    def boundary(self, boundary: Boundary) -> None:
        """Take a boundary: was this level of the throttle enough? The first iteration at a level began at another."""
        self._boundaries_at_level += 1
        share = boundary.dirtied_ratio
        if self.percent and self._boundaries_at_level > 1 and share is not None and share < FALLING:
            self._least_enough = min(self._least_enough or self.percent, self.percent)

    @property
    def overshoot(self) -> float | None:
        """The throttle now less the least one under which remaining memory fell, 0 to 1; None where none did."""
        if self._least_enough is None or self.percent is None:
            return None
        return max(self.percent - self._least_enough, 0.0) / 100
