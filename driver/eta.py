"""When a migration should switch over: a model of what each iteration dirties, and how its estimate is published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from driver.boundary import NANO, WINDOW_NS, Boundary, dirtied_ratios, of_one_piece

AGEING = 0.9
"""What an iteration's weight is multiplied by for every one that came after it."""

FIRST_EXPONENT = 0.7
"""How what is dirtied grows with time, in the median of recorded migrations, while only the first iteration is known:
it takes so long that a working set is dirtied several times over."""

LOOK_BACK = 3
LONGEST_SECONDS = 24 * 3600.0

MARGIN, PATIENCE = 0.999, 20
"""No end is in sight once the least remaining has not fallen by a thousandth in so many iterations of the model."""

UNCAPPED_WINDOW_SECONDS = 0.05
"""Without a cap QEMU looks at what remains after each 50 ms of sending (migration/ram.c, MAX_WAIT)."""

WORTH_A_RISE = 0.05


@dataclass(frozen=True, kw_only=True)
class Dirtying:
    """How much an iteration of T seconds dirties: `scale * T ** exponent` bytes."""

    scale: float
    exponent: float

    def bytes_after(self, seconds: float) -> float:
        """What is dirtied in so many seconds."""
        return float(self.scale * seconds**self.exponent)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds from a boundary to the switchover; `seconds` is None where no end is in sight under this model.

    `low` is what sending down to the threshold takes if nothing more is dirtied; `high` what it takes if every
    iteration dirties the largest share of what it sends that was seen lately, None where that is all of it.
    """

    seconds: float | None
    low: float
    high: float | None


def fit(boundaries: Sequence[Boundary], bandwidth: float) -> Dirtying | None:
    """What iterations dirty, by those that ended at these boundaries; None without a usable one.

    Once an iteration after the first is known: a share of what is sent, `sum(D) / sum(sent)`, newer iterations weighing
    more (0.9 a step of age). Until then the first one's own figure, growing as T ** 0.7. Our field notes fit
    `D = a T^b` over all iterations; on guests that dirty 70 to 95 % of the bandwidth that saw no end at two boundaries
    in three, since b < 1 makes the share grow as iterations shorten, and the first iteration, in which a working set
    saturates, bends b (docs/convergence.md has the figures).
    """
    known = [each for each in boundaries if each.sent_bytes and each.dirtied_bytes is not None]
    later = of_one_piece(known)
    if later:
        weights = [AGEING ** (len(later) - 1 - index) for index in range(len(later))]
        dirtied = sum(weight * (each.dirtied_bytes or 0.0) for weight, each in zip(weights, later, strict=True))
        sent = sum(weight * (each.sent_bytes or 0.0) for weight, each in zip(weights, later, strict=True))
        return Dirtying(scale=dirtied / sent * bandwidth, exponent=1.0)
    if known and known[0].iteration == 2 and (seconds := known[0].iteration_seconds):
        return Dirtying(scale=(known[0].dirtied_bytes or 0.0) / seconds**FIRST_EXPONENT, exponent=FIRST_EXPONENT)
    return None


def estimate(boundaries: Sequence[Boundary], *, capped: bool) -> Estimate | None:
    """Estimate the time from the last boundary to the switchover; None where QEMU has measured no bandwidth yet.

    QEMU sends in windows (under a cap of 100 ms), ends an iteration after the window in which what remains comes within
    the threshold, syncs, and switches over if it is still within it (source: migration/migration.c,
    migration_iteration_run). So: T = the windows that sending `remaining - threshold` takes; remaining becomes what
    they left over plus what T dirties; and so on until that is within the threshold. While only the first iteration is
    known, remaining / bandwidth is the most that is said.
    """
    last = boundaries[-1] if boundaries else None
    if last is None or last.threshold_bytes is None or not last.bandwidth_bytes_per_second:
        return None
    bandwidth, threshold = last.bandwidth_bytes_per_second, last.threshold_bytes
    low = max(last.remaining_bytes - threshold, 0.0) / bandwidth
    window = WINDOW_NS * NANO if capped else UNCAPPED_WINDOW_SECONDS
    dirtying = fit(boundaries, bandwidth)
    seconds = _iterate(last.remaining_bytes, threshold, bandwidth, window, dirtying) if dirtying else None
    if dirtying is None or dirtying.exponent < 1:
        naive = last.remaining_bytes / bandwidth
        seconds = naive if seconds is None else max(low, min(seconds, naive))
    worst = max(dirtied_ratios(boundaries[-LOOK_BACK:]), default=1.0)
    high = (low + window) / (1 - worst) if worst < 1 else None
    if high is not None and seconds is not None:
        high = max(high, seconds)
    return Estimate(seconds=seconds, low=low, high=high)


def first_iteration_range(remaining_bytes: float, total_bytes: float, zero_share: float, bandwidth: float) -> Estimate:
    """The range in the first iteration, in which nothing is known of how fast the guest dirties.

    At the least what remains is as often zero (and so free) as what was handled so far; at the most none of it is, and
    all of RAM that is not zero must be sent once more.
    """
    low = remaining_bytes * (1 - zero_share) / bandwidth
    high = (remaining_bytes + total_bytes * (1 - zero_share)) / bandwidth
    return Estimate(seconds=None, low=low, high=high)


@dataclass(kw_only=True)
class Publication:
    """The estimate as people see it: it falls with time, and rises only at a boundary, by more than 5 %.

    `completion_ns` is when the switchover is expected; None while no end is in sight.
    """

    completion_ns: int | None = None

    def publish(self, now_ns: int, seconds: float | None) -> int | None:
        """Take a boundary's estimate and return the moment that is published."""
        if seconds is None:
            self.completion_ns = None
        else:
            left = (self.completion_ns - now_ns) * NANO if self.completion_ns is not None else None
            if left is None or left <= 0 or seconds <= left or seconds - left > WORTH_A_RISE * left:
                self.completion_ns = now_ns + round(seconds / NANO)
        return self.completion_ns


def _iterate(remaining: float, threshold: float, bandwidth: float, window: float, dirtying: Dirtying) -> float | None:
    """Go through the iterations to come; None where they gain nothing any more."""
    seconds, least, without_gain = 0.0, math.inf, 0
    while remaining > threshold:
        if remaining < MARGIN * least:
            least, without_gain = remaining, 0
        else:
            without_gain += 1
        if without_gain > PATIENCE or seconds > LONGEST_SECONDS:
            return None
        windows = math.ceil((remaining - threshold) / (bandwidth * window))
        taken = windows * window
        remaining = max(remaining - taken * bandwidth, 0.0) + dirtying.bytes_after(taken)
        seconds += taken
    return seconds
