"""Which way to take under a condition, at what cost, and how sure that is: a fixed rule over the evidence.

1. Ways that completed as often as the best one, as far as can be told, are candidates; snapshots, which move no guest,
   only among themselves.
2. Of these the one wins that costs its guest the fewest seconds of work (`lost_seconds`; total time where that is not
   known).
3. Where plain pre-copy is a candidate and cannot be told from the winner, or costs its guest less than a tenth of a
   second more, it is taken: it needs nothing set and risks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.statistics import CONFIDENCE, METRICS, GroupStatistics
from exporter.statistics_contests import (
    BETTER,
    CANNOT_TELL,
    CONVERGENCE,
    WORSE,
    Contest,
    contests,
    verdict_on,
)
from exporter.statistics_groups import Grouping, Value

SHARE_APART = 0.05
"""A way that completed less often than the best by more than this is no candidate, even where that may be chance."""

NEGLIGIBLE_SECONDS = 0.1
"""Less work of the guest than this (or time, where that decides) is no reason to set a strategy for."""

SURE_SHARE = 0.5
"""A winner whose rate of completion might be below this is not called clear."""

CLEAR, LEANING = "clear", "leaning"


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to take under one condition; `way` is None where nothing completed.

    `decided_by` is the metric that the candidates were ranked by. `beaten` are candidates that are worse in it, `tied`
    those that cannot be told from the winner, `unreliable` the ways that completed less often. `exceptions` are the
    contests in which another candidate is better than the winner.
    """

    condition: Mapping[str, Value]
    way: str | None
    strength: str
    decided_by: str
    winner: GroupStatistics | None = None
    beaten: tuple[Contest, ...] = ()
    tied: tuple[str, ...] = ()
    unreliable: tuple[GroupStatistics, ...] = ()
    exceptions: tuple[Contest, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that a set of runs tells: groups in figures, every contest, a recommendation for each condition."""

    grouping: Grouping
    groups: tuple[GroupStatistics, ...]
    contests: tuple[Contest, ...]
    recommendations: tuple[Recommendation, ...]
    confidence: float = CONFIDENCE


def findings(grouping: Grouping, groups: Sequence[GroupStatistics]) -> Findings:
    """Draw every conclusion from the groups of a grouping."""
    found = contests(groups, list(METRICS))
    return Findings(
        grouping=grouping,
        groups=tuple(groups),
        contests=tuple(found),
        recommendations=tuple(
            recommend(condition, [one for one in groups if one.group.condition == condition], found)
            for condition in grouping.conditions
        ),
    )


def recommend(
    condition: Mapping[str, Value], groups: Sequence[GroupStatistics], found: Sequence[Contest]
) -> Recommendation:
    """Apply the rule to the groups of one condition."""
    asked = [one for one in groups if not one.group.stays] or list(groups)
    completed = [one for one in asked if one.convergence.count]
    metric = (
        "lost_seconds" if completed and all("lost_seconds" in one.figures for one in completed) else "total_seconds"
    )
    best = max((one.convergence.share or 0.0 for one in completed), default=0.0)
    candidates = [
        one for one in completed
        if (one.convergence.share or 0.0) >= best - SHARE_APART and metric in one.figures
        and not any(_verdict(found, condition, CONVERGENCE, one, other) == WORSE for other in completed)
    ]  # fmt: skip
    if not candidates:
        return Recommendation(
            condition=condition, way=None, strength=LEANING, decided_by=metric, unreliable=tuple(asked)
        )
    cheapest = min(candidates, key=lambda one: one.figures[metric].median)
    least = cheapest.figures[metric].median
    winner = next(
        (
            one for one in candidates
            if one.group.plain
            and (_verdict(found, condition, metric, cheapest, one) != BETTER
                 or one.figures[metric].median <= least + NEGLIGIBLE_SECONDS)
        ),
        cheapest,
    )  # fmt: skip
    others = [one for one in candidates if one is not winner]
    tied = tuple(
        one.group.way for one in others if _verdict(found, condition, metric, winner, one) == CANNOT_TELL
    )  # fmt: skip
    sure = winner.convergence.low >= SURE_SHARE
    return Recommendation(
        condition=condition,
        way=winner.group.way,
        strength=CLEAR if sure and not tied else LEANING,
        decided_by=metric,
        winner=winner,
        beaten=_met(found, condition, [metric], winner, others, BETTER),
        tied=tied,
        unreliable=tuple(one for one in asked if one not in candidates),
        exceptions=_met(found, condition, list(METRICS), winner, others, WORSE),
    )


def _met(
    found: Sequence[Contest], condition: Mapping[str, Value], metrics: Sequence[str], winner: GroupStatistics,
    others: Sequence[GroupStatistics], verdict: str,
) -> tuple[Contest, ...]:  # fmt: skip
    """The contests in which the winner had a verdict."""
    met = []
    for other in others:
        for metric in metrics:
            told, contest = verdict_on(found, condition, metric, winner.group.way, other.group.way)
            if contest and told == verdict:
                met.append(contest)
    return tuple(met)


def _verdict(
    found: Sequence[Contest], condition: Mapping[str, Value], metric: str, one: GroupStatistics, other: GroupStatistics
) -> str:
    return verdict_on(found, condition, metric, one.group.way, other.group.way)[0]
