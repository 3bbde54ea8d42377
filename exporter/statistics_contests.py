"""One way against another, A/B: better, worse, or cannot tell, with the evidence and what it would take to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from exporter.statistics import SEED, GroupStatistics, bootstrap_interval
from exporter.statistics_groups import Value

ALPHA = 0.05
"""Which share of the verdicts in a metric may be wrong: the false discovery rate."""

CONVERGENCE = "convergence"
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
EXACT_RUNS = 8
"""Up to so many runs a side the test counts every arrangement; beyond, the normal approximation holds."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """`first` against `second` in one metric: the verdict is about `first`.

    `p` is the chance of such a difference where there is none (None: it could not be tested), `q` the same after
    Benjamini and Hochberg's correction (1995) over all contests in this metric. `ratio` is the first's median
    over the second's, with its bootstrap interval. `runs_needed` is how many runs a side a verdict takes at the least.
    """

    condition: Mapping[str, Value]
    metric: str
    first: str
    second: str
    first_runs: int
    second_runs: int
    verdict: str = CANNOT_TELL
    p: float | None = None
    q: float | None = None
    ratio: float | None = None
    ratio_interval: tuple[float, float] | None = None
    runs_needed: int = 0

    @property
    def enough_runs(self) -> bool:
        """Whether the runs could have told anything at all."""
        return min(self.first_runs, self.second_runs) >= self.runs_needed


def contests(groups: Sequence[GroupStatistics], metrics: Sequence[str]) -> list[Contest]:
    """Set every way against every later one of the same condition, in convergence and in each metric.

    Give all groups of a report at once: the verdicts in one metric are corrected together (at most 5 % of those that
    say something are expected to be wrong).
    """
    found: list[Contest] = []
    leans: list[float] = []
    for place, first in enumerate(groups):
        for second in groups[place + 1 :]:
            if first.group.condition != second.group.condition:
                continue
            for contest, lean in (_convergence(first, second), *(_figure(first, second, name) for name in metrics)):
                found.append(contest)
                leans.append(lean)
    for metric in (CONVERGENCE, *metrics):
        tested = [place for place, contest in enumerate(found) if contest.metric == metric and contest.p is not None]
        if not tested:
            continue
        corrected = stats.false_discovery_control([found[place].p for place in tested])
        for place, q in zip(tested, corrected, strict=True):
            verdict = CANNOT_TELL if q > ALPHA or leans[place] == 0 else BETTER if leans[place] < 0 else WORSE
            found[place] = replace(found[place], q=float(q), verdict=verdict)
    return found


def verdict_on(
    found: Sequence[Contest], condition: Mapping[str, Value], metric: str, way: str, other: str
) -> tuple[str, Contest | None]:
    """How `way` did against `other`, whichever of the two came first; cannot tell where they never met."""
    turned = {BETTER: WORSE, WORSE: BETTER, CANNOT_TELL: CANNOT_TELL}
    for contest in found:
        if contest.metric == metric and contest.condition == condition:
            if (contest.first, contest.second) == (way, other):
                return contest.verdict, contest
            if (contest.second, contest.first) == (way, other):
                return turned[contest.verdict], contest
    return CANNOT_TELL, None


def least_runs(alpha: float = ALPHA) -> int:
    """With how many runs a side a rank test can reach `alpha` at all: its least p is 2 / C(2n, n)."""
    runs = 1
    while 2 / math.comb(2 * runs, runs) > alpha:
        runs += 1
    return runs


def _convergence(first: GroupStatistics, second: GroupStatistics) -> tuple[Contest, float]:
    """Fisher's exact test of the two shares; leaning below 0 is in favour of the first."""
    one, other = first.convergence, second.convergence
    contest = _contest(first, second, CONVERGENCE, one.of, other.of)
    if not one.of or not other.of:
        return contest, 0.0
    table = [[one.count, one.of - one.count], [other.count, other.of - other.count]]
    p = float(stats.fisher_exact(table).pvalue)
    return replace(contest, p=p), (other.share or 0.0) - (one.share or 0.0)


def _figure(first: GroupStatistics, second: GroupStatistics, metric: str) -> tuple[Contest, float]:
    """Mann and Whitney's rank test of one figure: no assumption on how it is distributed, and no outlier decides."""
    one, other = (side.figures[metric].values if metric in side.figures else () for side in (first, second))
    contest = _contest(first, second, metric, len(one), len(other))
    if not one or not other:
        return contest, 0.0
    ranks = stats.rankdata([*one, *other])
    lean = float(ranks[: len(one)].mean() - ranks[len(one) :].mean())
    below = first.figures[metric].median, second.figures[metric].median
    return replace(
        contest,
        p=_rank_test(one, other),
        ratio=below[0] / below[1] if below[1] else None,
        ratio_interval=bootstrap_interval([one, other], _ratio),
    ), lean


def _contest(
    first: GroupStatistics, second: GroupStatistics, metric: str, first_runs: int, second_runs: int
) -> Contest:
    return Contest(
        condition=first.group.condition,
        metric=metric,
        first=first.group.way,
        second=second.group.way,
        first_runs=first_runs,
        second_runs=second_runs,
        runs_needed=least_runs(),
    )


def _rank_test(one: Sequence[float], other: Sequence[float]) -> float:
    if len({*one, *other}) == 1:
        return 1.0  # all alike
    if 1 in (len(one), len(other)):
        return _rank_of_one(*((one, other) if len(one) == 1 else (other, one)))
    ties = len({*one, *other}) < len(one) + len(other)
    method: object = "auto"
    if ties and min(len(one), len(other)) <= EXACT_RUNS:
        method = stats.PermutationMethod(n_resamples=9999, rng=np.random.default_rng(SEED))
    return float(stats.mannwhitneyu(one, other, alternative="two-sided", method=method).pvalue)


def _rank_of_one(alone: Sequence[float], others: Sequence[float]) -> float:
    """How often one of all these values, taken at random, has a rank as far from the middle as this single one has."""
    ranks = stats.rankdata([*alone, *others])
    away = np.abs(ranks - ranks.mean())
    return float((away >= away[0]).mean())


def _ratio(one: Any, other: Any, axis: int = -1) -> Any:
    return np.median(one, axis=axis) / np.median(other, axis=axis)
