"""The switchover's time in its parts, by events of both QEMUs, and what earlier switchovers say of the next."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

NANO = 1e-9

LAST_PASS_SHARE = 0.84
"""How much of limit x bandwidth the last pass sends under a cap, in the median of recorded migrations."""


@dataclass(kw_only=True)
class Switchover:
    """Follows one switchover by QMP events; times are nanoseconds of one clock.

    Its parts add up to STOP -> RESUME: `sync` (STOP to the last MIGRATION_PASS: the last look for dirty pages; where
    the guest was stopped by hand, also all passes since), `last_pass` (from there to the source's `completed`: the
    last pass's RAM and the devices' state, which QEMU sends while it holds its lock and answers nothing, so that nobody
    can tell them apart from outside), `device_state` (post-copy only, whose switchover sends no RAM: STOP to the
    destination's `postcopy-active`), and `resume` (to RESUME at the destination).
    """

    stop_ns: int | None = None
    resume_ns: int | None = None
    post_copy_ns: int | None = None
    completed_ns: int | None = None
    _pass_ns: int | None = None
    _loaded_ns: int | None = None

    def happened(self, role: str, name: str, status: str | None, time_ns: int) -> None:
        """Take an event of `source` or `destination`; `status` is that of a MIGRATION event."""
        match role, name, status:
            case "source", "STOP", _:
                self.stop_ns = time_ns if self.resume_ns is None else self.stop_ns
            case "source", "RESUME", _:
                self.stop_ns = self._pass_ns = None
            case "source", "MIGRATION_PASS", _ if self.stop_ns is not None:
                self._pass_ns = time_ns
            case "source", "MIGRATION", "postcopy-active":
                self.post_copy_ns = self.post_copy_ns or time_ns
            case "source", "MIGRATION", "completed":
                self.completed_ns = time_ns
            case "destination", "MIGRATION", "postcopy-active":
                self._loaded_ns = time_ns
            case "destination", "RESUME", _ if self.stop_ns is not None:
                self.resume_ns = self.resume_ns or time_ns

    def parts(self) -> dict[str, float]:
        """The parts in seconds; empty until the guest has resumed at the destination and its STOP was seen."""
        stop, resume = self.stop_ns, self.resume_ns
        if stop is None or resume is None:
            return {}
        if self.post_copy_ns is not None:
            loaded = self._loaded_ns if self._loaded_ns is not None else resume
            moments = {"device_state": loaded, "resume": resume}
        else:
            completed = min(self.completed_ns or resume, resume)
            moments = {"sync": min(self._pass_ns or stop, completed), "last_pass": completed, "resume": resume}
        found: dict[str, float] = {}
        before = stop
        for part, moment in moments.items():
            found[part] = max(moment - before, 0) * NANO
            before = max(moment, before)
        return found

    def post_copy_risk_seconds(self, now_ns: int) -> float | None:
        """Time so far in post-copy, in which the loss of link or host loses the guest; None where there was none."""
        if self.post_copy_ns is None:
            return None
        return ((self.completed_ns or now_ns) - self.post_copy_ns) * NANO


def link_speed(last_passes: Iterable[tuple[float, float]]) -> float | None:
    """Bytes a second of earlier last passes, which no cap binds: the median of bytes / downtime; None without any.

    Each is (downtime-bytes, downtime in seconds) of a run on the same transport. They mean nothing for stopped guests,
    post-copy, multifd and mapped-ram. Within a factor of 1.1 to 1.3 of the truth in the median of recorded runs.
    """
    speeds = [size / seconds for size, seconds in last_passes if size > 0 and seconds > 0]
    return statistics.median(speeds) if speeds else None


def expected_blackout(
    downtime_limit_seconds: float, bandwidth: float, link_bytes_per_second: float | None, *, capped: bool
) -> float | None:
    """Seconds that the last pass should take: about 0.84 x limit x bandwidth bytes at the link's own speed.

    None without history and under a cap: remaining / bandwidth would be wrong by a factor of 16 to 126 then. Without a
    cap the measured bandwidth is the link's.
    """
    speed = link_bytes_per_second or (None if capped else bandwidth)
    return LAST_PASS_SHARE * downtime_limit_seconds * bandwidth / speed if speed else None
