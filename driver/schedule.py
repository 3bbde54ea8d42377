"""What is to be done while a migration runs, and when: steps as values, with a spelling for people.

`iteration 3: downtime-limit-ms=1000; 2.5 s: bandwidth-mib-s=400; stalled: post-copy; post-copy 0.05 s: cut`
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from driver.scenario_settings import MOST_ITERATIONS, WEEK_SECONDS, Limits, PostCopy, Throttling
from workload.errors import BadValueError
from workload.suggestion import meant
from workload.value import Setting, bounds, settings_of

ITERATION, SECONDS, STALLED, IN_POST_COPY = "iteration", "s", "stalled", "post-copy"
PAUSE, POST_COPY, CUT, CANCEL = "pause", "post-copy", "cut", "cancel"

DEEDS = (PAUSE, POST_COPY, CUT, CANCEL)
"""Steps that set nothing: stop the guest, switch to post-copy, cut the link in post-copy, cancel."""

CHANGEABLE = (
    "downtime_limit_ms", "bandwidth_mib_s", "avail_switchover_mib_s", "post_copy_bandwidth_mib_s",
    "auto_converge_increment", "auto_converge_max", "dirty_limit_mib_s",
)  # fmt: skip
"""The settings that QEMU takes while it migrates."""

SHORT = {
    "downtime_limit_ms": "downtime",
    "bandwidth_mib_s": "bandwidth",
    "avail_switchover_mib_s": "switchover",
    "post_copy_bandwidth_mib_s": "post-copy-bandwidth",
    "auto_converge_increment": "increment",
    "auto_converge_max": "max",
    "dirty_limit_mib_s": "dirty-limit",
}

WHEN = re.compile(r"(?:(iteration) +(\d+)|(post-copy) +(\d+\.?\d*) *s|(\d+\.?\d*) *s|(stalled))")


@dataclass(frozen=True, kw_only=True)
class When:
    """When a step is due.

    `kind` is `iteration` (once `number` iterations are over), `s` (`number` seconds after the start), `stalled` (at a
    verdict that says so; each takes the next such step) or `post-copy` (`number` seconds after post-copy's start).
    """

    kind: str
    number: float = 0

    def __str__(self) -> str:
        number = f"{self.number:.10g}"
        return {
            ITERATION: f"iteration {number}", SECONDS: f"{number} s", IN_POST_COPY: f"post-copy {number} s"
        }.get(self.kind, STALLED)  # fmt: skip

    @property
    def slug(self) -> str:
        """The moment as a part of a scenario's name: `it3`, `2.5s`, `stalled`, `pc0.05s`."""
        number = f"{self.number:.10g}"
        return {ITERATION: f"it{number}", SECONDS: f"{number}s", IN_POST_COPY: f"pc{number}s"}.get(self.kind, STALLED)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: when it is due, and one of `DEEDS` or the name of a setting with its new value."""

    when: When
    what: str
    value: int | None = None

    def __str__(self) -> str:
        what = self.what if self.value is None else f"{self.what.replace('_', '-')}={self.value}"
        return f"{self.when}: {what}"

    @property
    def key(self) -> str:
        """What stands for the step among those done: the guest is paused, or switched to post-copy, only once."""
        return self.what if self.what in (PAUSE, POST_COPY) else str(self)


def parse_schedule(text: str) -> tuple[Step, ...]:
    """Read a schedule; an empty text is one without steps.

    Raises:
        BadValueError: a step cannot be read, is out of bounds, or stands twice.
    """
    steps = tuple(_step(part.strip()) for part in text.split(";") if part.strip())
    for number, step in enumerate(steps):
        if step in steps[:number]:
            raise BadValueError(f"scenario.schedule: {str(step)!r} stands twice")
    return steps


def spell_schedule(steps: Iterable[Step]) -> str:
    """Write a schedule as `parse_schedule` reads it."""
    return "; ".join(map(str, steps))


def schedule_slug(steps: Iterable[Step]) -> str:
    """The schedule as a part of a scenario's name: `downtime-stalled-150-200.it3-post-copy`."""
    parts = []
    for (what, sets), group in itertools.groupby(steps, lambda step: (step.what, step.value is not None)):
        if not sets:
            parts += [f"{step.when.slug}-{what}" for step in group]
            continue
        words, before = [SHORT[what]], ""
        for step in group:
            words += [step.when.slug] * (step.when.slug != before) + [str(step.value)]
            before = step.when.slug
        parts.append("-".join(words))
    return ".".join(parts)


def _step(text: str) -> Step:
    when_text, colon, what_text = text.partition(":")
    when = WHEN.fullmatch(when_text.strip())
    if not colon or not when:
        raise BadValueError(
            f"scenario.schedule: {text!r}: want WHEN: WHAT with WHEN one of `iteration N`, `N s`, `stalled`,"
            " `post-copy N s`"
        )
    return _what(_when(when, text), what_text.strip(), text)


def _when(found: re.Match[str], text: str) -> When:
    iteration, in_post_copy, seconds = found[2], found[4], found[5]
    number = float(iteration or in_post_copy or seconds or 0)
    highest = MOST_ITERATIONS if iteration else WEEK_SECONDS
    if number > highest or (iteration and number < 1) or (seconds and number <= 0):
        raise BadValueError(f"scenario.schedule: {text!r}: want more than 0 and at most {highest}")
    kind = ITERATION if iteration else IN_POST_COPY if in_post_copy else SECONDS if seconds else STALLED
    return When(kind=kind, number=number)


def _what(when: When, what: str, text: str) -> Step:
    name, equals, value = what.partition("=")
    field = name.strip().replace("-", "_")
    if not equals and what in DEEDS:
        if (what == CUT) != (when.kind == IN_POST_COPY):
            raise BadValueError(
                f"scenario.schedule: {text!r}: "
                + ("want `post-copy N s: cut`" if what == CUT else f"{what} is of no use once post-copy has begun")
            )
        return Step(when=when, what=what)
    if not equals or field not in CHANGEABLE:
        known = [*DEEDS, *(f"{each.replace('_', '-')}=N" for each in CHANGEABLE)]
        near = meant(name.strip(), [each.removesuffix("=N") for each in known])
        raise BadValueError(f"scenario.schedule: {text!r}: {near}want one of {', '.join(known)}")
    facts = _facts()[field]
    if not value.strip().isdigit() or not (facts.low or 0) <= int(value) <= (facts.high or 0):
        raise BadValueError(f"scenario.schedule: {text!r}: want {bounds(facts).removeprefix('0 (off) or ')}")
    return Step(when=when, what=field, value=int(value))


def _facts() -> dict[str, Setting]:
    return {
        name: facts
        for part in (Limits, PostCopy, Throttling)
        for name, (_, _, facts) in settings_of(part).items()
        if name in CHANGEABLE
    }
