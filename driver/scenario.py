"""What is asked of one migration: limits, transport, strategy; and which steps of the strategy are still to come."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from driver.carriage import Carriage
from driver.scenario_name import scenario_name
from driver.scenario_settings import (
    Compression,
    Convoy,
    Disk,
    Limits,
    Multifd,
    PostCopy,
    Snapshot,
    Steps,
    Stream,
    Throttling,
)
from driver.schedule import (
    CANCEL,
    CUT,
    IN_POST_COPY,
    ITERATION,
    PAUSE,
    POST_COPY,
    SECONDS,
    Step,
    When,
    parse_schedule,
    spell_schedule,
)
from workload.errors import BadValueError
from workload.suggestion import nearest
from workload.value import check_settings

STRATEGIES: dict[str, dict[str, Any]] = {
    "none": {},
    "pause": {"pause_iterations": 5},
    "post-copy": {"post_copy_iterations": 3},
    "recover": {"post_copy_iterations": 3, "schedule": "post-copy 0.05 s: cut", "post_copy_recoveries": 1},
    "retune": {"schedule": "stalled: downtime-limit-ms=1000"},
    "auto-converge": {"auto_converge_increment": 10},
    "dirty-limit": {"dirty_limit_mib_s": 20},
    "xbzrle": {"xbzrle_cache_percent": 10},
    "compress": {"compress_threads": 2},
    "multifd": {"multifd_channels": 4},
    "zero-copy": {"multifd_channels": 4, "zero_copy_send": True, "transport": "tcp"},
    "background-snapshot": {"background_snapshot": True, "transport": "exec-file"},
}
"""Each strategy's name with the fields (and their usual values) that turn it on."""

HIGHEST_LEVEL = {"zlib": 9, "zstd": 20, "qatzip": 9}
"""The highest level of each multifd compression that has levels (QEMU qapi/migration.json)."""

NO_LEVEL = ("qpl", "uadk")
"""Compressions by hardware that take no level."""

_FIELDS = {(PAUSE, ITERATION): "pause_iterations", (POST_COPY, ITERATION): "post_copy_iterations",
           (POST_COPY, SECONDS): "post_copy_seconds"}  # fmt: skip
"""Steps that a field of their own stands for."""

_SWITCHES = {"auto_converge_increment": "auto_converge_increment", "auto_converge_max": "auto_converge_increment",
             "dirty_limit_mib_s": "dirty_limit_mib_s"}  # fmt: skip
"""Settings that a step can change only where a capability was switched on before, and the field that does so."""


@dataclass(frozen=True, kw_only=True)
class Scenario(Convoy, Carriage, Snapshot, Disk, Stream, Multifd, Compression, Throttling, PostCopy, Steps, Limits):
    """One experiment's conditions; equal values mean the same experiment. 0 turns a strategy's field off."""

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_carriage()
        self._spell()
        if self.attempts > 1 and (self.carrier.saves or self.background_snapshot):
            what = "background_snapshot" if self.background_snapshot else f"transport={self.transport}"
            raise BadValueError(
                f"scenario.attempts={self.attempts}: want 1 with {what}, which has no destination to try anew"
            )
        if self.auto_converge_initial > self.auto_converge_max:
            raise BadValueError(
                f"scenario.auto_converge_initial={self.auto_converge_initial}: want at most"
                f" auto_converge_max={self.auto_converge_max}"
            )
        if self.multifd_level and self.multifd_compression in NO_LEVEL:
            raise BadValueError(
                f"scenario.multifd_level={self.multifd_level}: want 0, {self.multifd_compression} has no levels"
            )
        highest = HIGHEST_LEVEL.get(self.multifd_compression, self.multifd_level)
        if self.multifd_level > highest:
            raise BadValueError(
                f"scenario.multifd_level={self.multifd_level}: want at most {highest} for {self.multifd_compression}"
            )
        if any(step.what == POST_COPY for step in self.steps):
            self.check_able("back_channel", "has no way back, which post-copy needs")
            if self.post_copy_preempt:
                self.check_able("multifd", "has one channel only, preempt wants another")
        if self.tls != "none":
            self.check_able("back_channel", "has no way back, which TLS needs")
        if self.multifd_channels:
            self.check_able("multifd", "has one channel only, multifd wants several")
        if self.background_snapshot:
            self._check_snapshot()
        for step in parse_schedule(self.schedule):
            base = _SWITCHES.get(step.what)
            if base and not getattr(self, base):
                raise BadValueError(f"scenario.schedule: {str(step)!r}: want {base} above 0 from the start")
            changed(dataclasses.replace(self, schedule=""), step)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Everything that is done while the migration runs: the fields' steps, then the schedule's."""
        own = [
            Step(when=When(kind=kind, number=getattr(self, field)), what=what)
            for (what, kind), field in _FIELDS.items()
            if getattr(self, field)
        ]
        return (*own, *parse_schedule(self.schedule))

    def attempt(self, number: int) -> Scenario:
        """The scenario of one attempt, from 1 on: each `cancel` of the schedule ends one, and is gone then."""
        cancels = [step for step in self.steps if step.what == CANCEL][: number - 1]
        left = (step for step in parse_schedule(self.schedule) if step not in cancels)
        return dataclasses.replace(self, schedule=spell_schedule(left))

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that are on, in the order of `STRATEGIES`; ("none",) where there is none."""
        steps = self.steps
        on = {
            "pause": any(step.what == PAUSE for step in steps),
            "post-copy": any(step.what == POST_COPY for step in steps),
            "recover": self.post_copy_recoveries > 0 or any(step.what == CUT for step in steps),
            "retune": any(step.value is not None for step in steps),
            "auto-converge": self.auto_converge_increment > 0,
            "dirty-limit": self.dirty_limit_mib_s > 0,
            "xbzrle": self.xbzrle_cache_percent > 0,
            "compress": self.compress_threads > 0,
            "multifd": self.multifd_channels > 0,
            "zero-copy": self.zero_copy_send,
            "background-snapshot": self.background_snapshot,
        }
        return tuple(name for name in STRATEGIES if on.get(name)) or ("none",)

    @property
    def kind(self) -> str:
        """The kind of run that this makes.

        `migration`; `save` where the guest goes through a file; `snapshot` where it stays and runs on, and the
        destination has a copy.
        """
        return "snapshot" if self.background_snapshot else "save" if self.carrier.saves else "migration"

    @property
    def strategy(self) -> str:
        """The strategies in one word: `none`, `post-copy`, `auto-converge+post-copy`."""
        return "+".join(self.strategies)

    @property
    def bandwidth_bytes_per_second(self) -> int:
        """The cap on bandwidth in bytes a second."""
        return self.bandwidth_mib_s << 20

    @property
    def downtime_limit_seconds(self) -> float:
        """The downtime limit in seconds."""
        return self.downtime_limit_ms / 1000

    @property
    def name(self) -> str:
        """A name computed from the values, of `[a-z0-9.-]` only: two names differ when two scenarios do."""
        return scenario_name(self, parse_schedule(self.schedule))

    def _check_snapshot(self) -> None:
        """Check what a background snapshot wants: a QEMU here that loads it, no step that waits for what never comes.

        Raises:
            BadValueError: the settings do not go with it.
        """
        if self.hosts == "ssh":
            raise BadValueError(
                "scenario.background_snapshot: want hosts=here or namespaces: it is loaded on this host"
            )
        for step in self.steps:
            if step.what != CANCEL or step.when.kind != SECONDS:
                raise BadValueError(
                    f"scenario.background_snapshot: {str(step)!r} is no step of a snapshot, which sends each page once"
                    " and knows no limits; want `N s: cancel` or none"
                )

    def _spell(self) -> None:
        """Spell the schedule in one way; a step that has a field of its own goes there, unless the field is taken."""
        steps = []
        for step in parse_schedule(self.schedule):
            field = _FIELDS.get((step.what, step.when.kind), "")
            taken = getattr(self, field, None)
            if not field or taken not in (0, step.when.number):
                steps.append(step)
            elif not taken:
                number = int(step.when.number) if step.when.kind == ITERATION else step.when.number
                object.__setattr__(self, field, number)
        object.__setattr__(self, "schedule", spell_schedule(steps))


def strategy_fields(name: str) -> dict[str, Any]:
    """Return the usual field values of a strategy, or of several joined with `+`.

    Raises:
        BadValueError: a name is unknown; the nearest one is named.
    """
    fields: dict[str, Any] = {}
    for part in name.split("+"):
        if part not in STRATEGIES:
            raise BadValueError(f"strategy {part!r} is not known{nearest(part, STRATEGIES)}")
        schedules = [each["schedule"] for each in (fields, STRATEGIES[part]) if each.get("schedule")]
        fields |= STRATEGIES[part]
        if schedules:
            fields["schedule"] = "; ".join(dict.fromkeys(schedules))
    return fields


def changed(scenario: Scenario, step: Step) -> Scenario:
    """The scenario's conditions once a step has set what it sets.

    Raises:
        BadValueError: the new value does not go with the others.
    """
    if step.value is None:
        return scenario
    new: dict[str, Any] = {step.what: step.value}
    return dataclasses.replace(scenario, **new)


def step_to_come(
    scenario: Scenario, done: Collection[str], throttle_percent: float | None, *, dirty_limited: bool = False
) -> str | None:
    """Name the strategy that may still change the odds, or None when nothing is left to hope for.

    `done` holds the keys (`Step.key`) of the steps that were taken. Auto-converge is to come until the throttle has
    reached its maximum, which a step may have changed (source: QEMU migration/ram.c, mig_throttle_guest_down);
    dirty-limit until QEMU says that it limits (`dirty_limited`). To cancel is no way to converge.
    """
    conditions = scenario
    for step in scenario.steps:
        if step.key in done:
            conditions = changed(conditions, step)
        elif step.what not in (CANCEL, CUT) and step.when.kind != IN_POST_COPY:
            return "retune" if step.value is not None else step.what
    if scenario.auto_converge_increment and (throttle_percent or 0) < conditions.auto_converge_max:
        return "auto-converge"
    if scenario.dirty_limit_mib_s and not dirty_limited:
        return "dirty-limit"
    return None
