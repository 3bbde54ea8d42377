"""Does this migration converge? Verdicts at iteration boundaries, pure: the same live, in steering and on history.

The rules and their gates come from 221 recorded migrations (docs/convergence.md tells what each is worth).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from driver.bottleneck import bottleneck
from driver.boundary import CAPPED, NANO, Boundary, BoundaryFinder
from driver.downtime import expected_blackout
from driver.eta import Estimate, Publication, estimate, first_iteration_range
from driver.progress import Progress
from driver.throttling import Throttling

MARGIN = 0.96
"""The least remaining of late boundaries must be below this share of the least before, or nothing was gained."""

STALLED = (3, 1.05)
"""A stall: so many late boundaries without gain, each with remaining at least so many times the threshold."""

NOT_CONVERGING = ((5, 1.2), (12, 1.05))
"""Not converging: any of these. What stands for longer needs to stand less far from the threshold."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one boundary says; figures that cannot be known yet are None.

    `time_ns` is of the sample that showed the boundary. `implied_downtime_seconds` is remaining / measured bandwidth:
    QEMU's own switchover test, not a forecast. `eta` is this boundary's own estimate, `completion_ns` the published
    one. `step_to_come` names the strategy step that may still change the odds.
    """

    iteration: int
    time_ns: int
    boundary: Boundary
    implied_downtime_seconds: float | None
    stalled: bool
    not_converging: bool
    step_to_come: str | None
    eta: Estimate | None = None
    completion_ns: int | None = None
    bottleneck: str | None = None
    expected_blackout_seconds: float | None = None

    @property
    def iteration_remaining_bytes(self) -> float:
        """What remained at the boundary."""
        return self.boundary.remaining_bytes

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
    one clock; `bandwidth_limit` is the cap in bytes a second, None for no cap; `sender_cores` tells the CPU that
    the busiest sending thread uses lately, `link_bytes_per_second` what earlier last passes reached.
    """

    downtime_limit_seconds: float
    bandwidth_limit: float | None = None
    link_bytes_per_second: float | None = None
    sender_cores: Callable[[], float | None] | None = None
    boundaries: list[Boundary] = field(default_factory=list)
    throttling: Throttling = field(default_factory=Throttling)
    _finder: BoundaryFinder = field(init=False)
    _publication: Publication = field(default_factory=Publication)
    _started_ns: int | None = None
    _changed: bool = False

    def __post_init__(self) -> None:
        self._finder = BoundaryFinder(
            downtime_limit_seconds=self.downtime_limit_seconds, bandwidth_limit=self.bandwidth_limit
        )

    def passed(self, time_ns: int, iteration: int) -> None:
        """Take the stamp of QEMU's MIGRATION_PASS event for an iteration."""
        self._finder.passed(time_ns, iteration)

    def restart(self) -> None:
        """Forget the boundaries: what was seen before the conditions changed says nothing about now."""
        self.boundaries.clear()
        self._changed = True
        self._finder.forget_bandwidth()

    def retuned(self, downtime_limit_seconds: float, bandwidth_limit: float | None) -> None:
        """Take QEMU's limits as they are now; history restarts where they differ from those before."""
        if (downtime_limit_seconds, bandwidth_limit) != (self.downtime_limit_seconds, self.bandwidth_limit):
            self.downtime_limit_seconds = self._finder.downtime_limit_seconds = downtime_limit_seconds
            self.bandwidth_limit = self._finder.bandwidth_limit = bandwidth_limit
            self.restart()

    def sample(self, time_ns: int, progress: Progress, step_to_come: str | None) -> Verdict | None:
        """Take one reply; at a new boundary say the verdict, otherwise None."""
        if progress.status != "active" or progress.remaining_bytes is None:
            return None
        self._started_ns = self._started_ns or time_ns
        if self.throttling.sample((time_ns - self._started_ns) * NANO, progress.throttle_percent):
            self.restart()
        boundary = self._finder.sample(time_ns, progress)
        if boundary is None:
            return None
        boundary, self._changed = replace(boundary, mixed=self._changed), False
        self.throttling.boundary(boundary)
        if boundary.threshold_bytes is not None:
            self.boundaries.append(boundary)
        return self._verdict(boundary, step_to_come)

    def first_range(self, progress: Progress) -> Estimate | None:
        """The range of times to the switchover in the first iteration; None once it is over or nothing was measured."""
        bandwidth, sent = progress.bandwidth_bytes_per_second, progress.pages_sent
        remaining, total = progress.remaining_bytes, progress.fields.get("total_bytes")
        if progress.status != "active" or progress.iteration != 1 or not bandwidth or not sent:
            return None
        if remaining is None or total is None:
            return None
        return first_iteration_range(remaining, total, progress.fields.get("zero_pages", 0.0) / sent, bandwidth)

    def _verdict(self, boundary: Boundary, step_to_come: str | None) -> Verdict:
        bandwidth = boundary.bandwidth_bytes_per_second
        capped = bool(bandwidth and self.bandwidth_limit and bandwidth >= CAPPED * self.bandwidth_limit)
        eta = estimate(self.boundaries, capped=capped) if self.boundaries else None
        stalled = without_gain(self.boundaries, *STALLED)
        # the model sees a gain of 1 % an iteration go on for ever; where nothing was gained there is no end to name
        seconds = eta.seconds if eta and not stalled else None
        return Verdict(
            iteration=boundary.iteration,
            time_ns=boundary.time_ns,
            boundary=boundary,
            implied_downtime_seconds=boundary.remaining_bytes / bandwidth if bandwidth else None,
            stalled=stalled,
            not_converging=step_to_come is None
            and any(without_gain(self.boundaries, *rule) for rule in NOT_CONVERGING),
            step_to_come=step_to_come,
            eta=eta,
            completion_ns=self._publication.publish(boundary.time_ns, seconds),
            bottleneck=bottleneck(
                self.boundaries,
                throttle_climbs=step_to_come == "auto-converge" and bool(self.throttling.percent),
                bandwidth_limit=self.bandwidth_limit,
                sender_cores=self.sender_cores() if self.sender_cores else None,
                link_bytes_per_second=self.link_bytes_per_second,
                downtime_limit_seconds=self.downtime_limit_seconds,
            ),
            expected_blackout_seconds=expected_blackout(
                self.downtime_limit_seconds, bandwidth, self.link_bytes_per_second, capped=capped
            )
            if bandwidth
            else None,
        )


def without_gain(boundaries: Sequence[Boundary], late: int, ratio: float) -> bool:
    """Whether the last `late` boundaries gained nothing over all older ones and are all above `ratio`.

    Gained nothing: their least remaining is at least `MARGIN` times the least before them. False while there is no
    older boundary to compare with.
    """
    if len(boundaries) <= late:
        return False
    older, last = boundaries[:-late], boundaries[-late:]
    gained = min(b.remaining_bytes for b in last) < MARGIN * min(b.remaining_bytes for b in older)
    return not gained and all(boundary.ratio is not None and boundary.ratio >= ratio for boundary in last)
