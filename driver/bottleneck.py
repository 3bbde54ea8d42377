"""What holds a migration back, in words: the states of migrascope_verdict_bottleneck."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from driver.boundary import CAPPED, Boundary, dirtied_ratios

BOTTLENECKS = ("throttle", "cap", "link", "sender", "dirtying", "switchover-estimate")
"""Each state: the throttle still climbs; the bandwidth cap; the link; the sender's CPU; the guest dirties as fast as
is sent; QEMU's own switchover estimate, which the cap makes too high."""

LOOK_BACK = 3
BUSY_CORES = 0.9
DIRTYING = 0.9

WORDS = {
    "throttle": "throttle still climbs",
    "cap": "bandwidth cap",
    "link": "link",
    "sender": "sender's CPU",
    "dirtying": "guest keeps pace",
    "switchover-estimate": "switchover estimate",
}
"""Each state as people read it."""


def bottleneck(
    boundaries: Sequence[Boundary],
    *,
    throttle_climbs: bool,
    bandwidth_limit: float | None,
    sender_cores: float | None,
    link_bytes_per_second: float | None,
    downtime_limit_seconds: float,
) -> str | None:
    """Name what holds the migration back over its last three boundaries, several joined with `+`; None before any.

    First what holds the sending: a throttle that still climbs, else the cap (throughput at least 0.93 of it), else the
    sender (its migration thread uses at least 0.9 of a core; None where nobody measured it), else the link. Added to
    it: `dirtying` where the median of dirtied / sent is at least 0.9; `switchover-estimate` where the migration is
    capped, remaining / bandwidth is above the limit and remaining / the link's own speed is not: QEMU takes the capped
    bandwidth for what the last pass can do, which the cap does not bind.
    """
    last = boundaries[-LOOK_BACK:]
    bandwidths = [each.bandwidth_bytes_per_second for each in last if each.bandwidth_bytes_per_second]
    if not bandwidths:
        return None
    bandwidth = statistics.median(bandwidths)
    capped = bandwidth_limit is not None and bandwidth >= CAPPED * bandwidth_limit
    if throttle_climbs:
        found = ["throttle"]
    elif capped:
        found = ["cap"]
    elif sender_cores is not None and sender_cores >= BUSY_CORES:
        found = ["sender"]
    else:
        found = ["link"]
    shares = dirtied_ratios(last)
    if shares and statistics.median(shares) >= DIRTYING:
        found.append("dirtying")
    remaining = last[-1].remaining_bytes
    if (
        capped
        and link_bytes_per_second
        and remaining / bandwidth > downtime_limit_seconds
        and remaining / link_bytes_per_second <= downtime_limit_seconds
    ):
        found.append("switchover-estimate")
    return "+".join(found)


def in_words(state: str) -> str:
    """Say a bottleneck for people."""
    return ", ".join(WORDS.get(word, word) for word in state.split("+"))
