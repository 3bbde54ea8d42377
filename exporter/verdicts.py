"""Verdicts, live: the judge of driver.convergence fed with what the monitor and the marks say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.convergence import Judge, Verdict
from driver.marks import Mark
from driver.progress import Progress
from driver.scenario import Scenario, step_to_come
from exporter.sample import Sample


class Verdicts:
    """One run's verdicts at its iteration boundaries.

    The strategy comes from the run's record, steps that were taken from the driver's marks, limits from QEMU.
    """

    def __init__(self, scenario: Scenario | None) -> None:
        self._scenario = scenario
        self._judge = Judge(downtime_limit_seconds=scenario.downtime_limit_seconds if scenario else 0.3)
        self._done: set[str] = set()
        self._limit_reached = False
        self._last: Verdict | None = None
        self._step: str | None = None
        self._step_depends: tuple[int, float | None, bool] | None = None

    def limits(self, parameters: Mapping[str, Any]) -> None:
        """Take QEMU's limits; where they changed, what was seen before says nothing about now."""
        downtime, bandwidth = parameters.get("downtime-limit"), parameters.get("max-bandwidth")
        seconds = downtime / 1000 if isinstance(downtime, int) else self._judge.downtime_limit_seconds
        self._judge.retuned(seconds, float(bandwidth) if isinstance(bandwidth, int) and bandwidth else None)

    def happened(self, name: str, data: Mapping[str, Any], time_ns: int) -> None:
        """Take an event of the source."""
        if name == "MIGRATION_PASS" and isinstance(number := data.get("pass"), int):
            self._judge.passed(time_ns, number)
        elif name == "STOP" or (name == "MIGRATION" and data.get("status") == "postcopy-active"):
            self._judge.restart()

    def marked(self, mark: Mark) -> None:
        """Take a mark of the driver: an action is a step that is done."""
        if mark.kind == "action":
            self._done.add(str(mark.detail.get("step", mark.name)))

    def limit_reached(self, time_ns: int) -> list[Sample]:
        """A limit on time or iterations was reached: not converging, whatever the curve says.

        The figures are those of the last boundary, or the alert that this keeps firing would lose its numbers.
        """
        self._limit_reached = True
        if self._last is not None:
            return [Sample("verdict", time_ns, self._fields(self._last))]
        fields: dict[str, float | str] = {
            "iteration": 0.0, "stalled": 0.0, "not_converging": 1.0, "limit_reached": 1.0,
        }  # fmt: skip
        return [Sample("verdict", time_ns, fields)]

    def progressed(self, time_ns: int, progress: Progress) -> list[Sample]:
        """Take a reply to query-migrate; a new boundary yields its verdict."""
        verdict = self._judge.sample(time_ns, progress, self._step_to_come(progress))
        if verdict is None:
            return []
        self._last = verdict
        return [Sample("verdict", verdict.time_ns, self._fields(verdict))]

    def _fields(self, verdict: Verdict) -> dict[str, float | str]:
        fields: dict[str, float | str] = {
            "iteration": float(verdict.iteration),
            "iteration_remaining_bytes": verdict.iteration_remaining_bytes,
            "stalled": float(verdict.stalled),
            "not_converging": float(verdict.not_converging or self._limit_reached),
            "limit_reached": float(self._limit_reached),
        }
        if verdict.implied_downtime_seconds is not None:
            fields["implied_downtime_seconds"] = verdict.implied_downtime_seconds
        return fields

    def _step_to_come(self, progress: Progress) -> str | None:
        """Asked 100 times a second, answered anew only where something that it depends on has changed."""
        depends = (len(self._done), progress.throttle_percent, progress.dirty_limited)
        if self._scenario is not None and depends != self._step_depends:
            self._step_depends = depends
            self._step = step_to_come(
                self._scenario, self._done, progress.throttle_percent, dirty_limited=progress.dirty_limited
            )
        return self._step

    def in_words(self) -> str | None:
        """The last verdict in one sentence."""
        return self._last.in_words() if self._last else None
