"""Verdicts, live and on history: the judge of driver.convergence fed with what monitors and marks say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from driver.bottleneck import in_words
from driver.convergence import Judge, Verdict
from driver.downtime import Switchover
from driver.eta import Estimate
from driver.marks import ATTEMPT, Mark
from driver.progress import Progress, believed
from driver.scenario import Scenario, step_to_come
from exporter.sample import Sample

NANO = 1e-9
FIRST_RANGE_NS = 1_000_000_000
"""How often the range of the first iteration, in which there is no boundary, is said."""

NO_STEP = "none"


class Verdicts:
    """One run's verdicts: at its iteration boundaries, and once more when what they say has ceased to hold.

    The strategy comes from the run's record (None: of a migration that is not ours only its throttle is known), steps
    that were taken from the driver's marks, limits from QEMU. `sender_cores` tells the CPU of the source's busiest
    sending thread, `link_bytes_per_second` what earlier last passes on this transport reached.
    """

    def __init__(
        self,
        scenario: Scenario | None,
        *,
        link_bytes_per_second: float | None = None,
        sender_cores: Callable[[], float | None] | None = None,
    ) -> None:
        self._scenario = scenario
        self._stays = scenario is not None and scenario.background_snapshot
        self._link_bytes_per_second = link_bytes_per_second
        self._sender_cores = sender_cores
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet of a migration that is about to start."""
        scenario = self._scenario
        self._judge = Judge(
            downtime_limit_seconds=scenario.downtime_limit_seconds if scenario else 0.3,
            bandwidth_limit=float(scenario.bandwidth_bytes_per_second) if scenario else None,
            link_bytes_per_second=self._link_bytes_per_second,
            sender_cores=self._sender_cores,
        )
        self._switchover = Switchover()
        self._done: set[str] = set()
        self._max_throttle = 99.0
        self._limit_reached = False
        self._last: Verdict | None = None
        self._over = False
        self._transfer_ratio: float | None = None
        self._range_said_ns = 0
        self._step: str | None = None
        self._step_depends: tuple[int, float | None, bool] | None = None
        self._final: dict[str, float] = {}

    def limits(self, parameters: Mapping[str, Any]) -> None:
        """Take QEMU's limits; where they changed, what was seen before says nothing about now."""
        downtime, bandwidth = parameters.get("downtime-limit"), parameters.get("max-bandwidth")
        limit, cap, highest = believed(downtime), believed(bandwidth), believed(parameters.get("max-cpu-throttle"))
        seconds = limit / 1000 if isinstance(limit, float) else self._judge.downtime_limit_seconds
        self._judge.retuned(seconds, cap if isinstance(cap, float) and cap else None)
        if isinstance(highest, float):
            self._max_throttle = highest

    def happened(self, role: str, name: str, data: Mapping[str, Any], time_ns: int) -> None:
        """Take an event of the source or the destination."""
        status = data.get("status")
        self._switchover.happened(role, name, status if isinstance(status, str) else None, time_ns)
        if role != "source":
            return
        if name == "MIGRATION_PASS" and isinstance(number := believed(data.get("pass")), float):
            self._judge.passed(time_ns, int(number))
        elif self._stays:
            return  # it stands still for its snapshot and runs on: nothing is switched over
        elif name == "STOP" or (name == "MIGRATION" and status == "postcopy-active"):
            self._judge.restart()
            self._over = True
        elif name == "RESUME":
            self._over = False

    def marked(self, mark: Mark) -> None:
        """Take a mark of the driver: an action is a step that is done, a further attempt is another migration."""
        if mark.kind == "action" and mark.name == ATTEMPT:
            self._begin()
        elif mark.kind == "action":
            self._done.add(str(mark.detail.get("step", mark.name)))

    def limit_reached(self, time_ns: int) -> list[Sample]:
        """A limit on time or iterations was reached: not converging, whatever the curve says, but for a snapshot.

        The figures are those of the last boundary, or the alert that this keeps firing would lose its numbers.
        """
        self._limit_reached = True
        return [Sample("verdict", time_ns, self._fields(self._last))]

    def withdrawn(self, time_ns: int) -> list[Sample]:
        """A further attempt begins: what the last verdict said of the one before no longer holds."""
        return [Sample("verdict", time_ns, self._fields(None))]

    def progressed(self, time_ns: int, progress: Progress) -> list[Sample]:
        """Take a reply of the source to query-migrate; a new boundary yields its verdict."""
        sent, total = progress.fields.get("transferred_bytes"), progress.fields.get("total_bytes")
        if sent and total:
            self._transfer_ratio = sent / total
        verdict = self._judge.sample(time_ns, progress, self._step_to_come(progress))
        if verdict is not None and not self._over:  # the last pass's own sync decides nothing any more
            self._last = verdict
            self._final = self._finals(time_ns)
            return [Sample("verdict", time_ns, self._fields(verdict))]
        if time_ns - self._range_said_ns >= FIRST_RANGE_NS and (first := self._judge.first_range(progress)):
            self._range_said_ns = time_ns
            return [Sample("verdict", time_ns, self._fields(None) | {"iteration": 1.0} | _eta_fields(first))]
        return self.settled(time_ns, ended=progress.ended) if self._over or progress.ended else []

    def settled(self, time_ns: int, *, ended: bool = False) -> list[Sample]:
        """What is new since the last sample, once the guest has stopped at the source or the migration has ended.

        The verdict no longer holds then; the switchover's parts and the time in post-copy come to be known.
        """
        finals = self._finals(time_ns)
        withdrawn = self._over and self._last is not None
        if not withdrawn and finals.keys() == self._final.keys() and not (ended and finals != self._final):
            return []
        self._final = finals
        if withdrawn:
            self._last = None
        return [Sample("verdict", time_ns, self._fields(self._last))]

    @property
    def over(self) -> bool:
        """Whether the guest has stopped at the source for the switchover, or post-copy has begun."""
        return self._over

    def in_words(self) -> str | None:
        """The last verdict in one sentence."""
        return self._last.in_words() if self._last else None

    def bottleneck_in_words(self) -> str | None:
        """What holds the migration back, for people."""
        return in_words(self._last.bottleneck) if self._last and self._last.bottleneck else None

    def _fields(self, verdict: Verdict | None) -> dict[str, float | str]:
        fields: dict[str, float | str | None] = {
            "iteration": 0.0,
            "stalled": 0.0,
            "not_converging": float(self._limit_reached and not self._stays),
            "limit_reached": float(self._limit_reached),
            "step_to_come": self._step or NO_STEP,
        }
        if verdict:
            fields |= _boundary_fields(verdict)
            fields["stalled"] = float(verdict.stalled)
            fields["not_converging"] = float(verdict.not_converging or self._limit_reached)
        fields |= self._final
        return {name: value for name, value in fields.items() if value is not None}

    def _finals(self, time_ns: int) -> dict[str, float]:
        """The figures that stay when the run has ended, as far as they are known."""
        throttling = self._judge.throttling
        risk = self._switchover.post_copy_risk_seconds(time_ns) if self._switchover.completed_ns else None
        known = {
            "transfer_ratio": self._transfer_ratio,
            "first_throttle_seconds": throttling.first_seconds,
            "throttle_overshoot_ratio": throttling.overshoot,
            "post_copy_risk_seconds": risk,
        } | {f"downtime_{part}_seconds": seconds for part, seconds in self._switchover.parts().items()}
        return {name: value for name, value in known.items() if value is not None}

    def _step_to_come(self, progress: Progress) -> str | None:
        """Asked 100 times a second, answered anew only where something that it depends on has changed."""
        depends = (len(self._done), progress.throttle_percent, progress.dirty_limited)
        if depends != self._step_depends:
            self._step_depends = depends
            if self._scenario is not None:
                self._step = step_to_come(
                    self._scenario, self._done, progress.throttle_percent, dirty_limited=progress.dirty_limited
                )
            else:
                climbs = 0 < (progress.throttle_percent or 0) < self._max_throttle
                self._step = "auto-converge" if climbs else None
        return self._step


def _boundary_fields(verdict: Verdict) -> dict[str, float | str | None]:
    boundary = verdict.boundary
    fields: dict[str, float | str | None] = {
        "iteration": float(verdict.iteration),
        "iteration_remaining_bytes": boundary.remaining_bytes,
        "threshold_bytes": boundary.threshold_bytes,
        "implied_downtime_seconds": verdict.implied_downtime_seconds,
        "iteration_seconds": boundary.iteration_seconds,
        "iteration_sent_bytes": boundary.sent_bytes,
        "iteration_dirtied_bytes": boundary.dirtied_bytes,
        "dirtied_ratio": boundary.dirtied_ratio,
        "expected_blackout_seconds": verdict.expected_blackout_seconds,
        "bottleneck": verdict.bottleneck,
    }
    if verdict.eta:
        fields |= _eta_fields(verdict.eta)
    if verdict.completion_ns is not None:
        fields["completion_timestamp_seconds"] = verdict.completion_ns * NANO
        fields["eta_seconds"] = max(verdict.completion_ns - verdict.time_ns, 0) * NANO
    return fields


def _eta_fields(eta: Estimate) -> dict[str, float | str]:
    fields: dict[str, float | str] = {"eta_low_seconds": eta.low}
    if eta.high is not None:
        fields["eta_high_seconds"] = eta.high
    return fields
