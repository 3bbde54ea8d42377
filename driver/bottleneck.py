"""What holds a migration back, in words: the states of migrascope_verdict_bottleneck."""

from __future__ import annotations

BOTTLENECKS = ("throttle", "cap", "link", "sender", "dirtying", "switchover-estimate")
"""Each state: the throttle still climbs; the bandwidth cap; the link; the sender's CPU; the guest dirties as fast as
is sent; QEMU's own switchover estimate, which the cap makes too high."""
