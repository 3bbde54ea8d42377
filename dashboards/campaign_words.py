"""What a campaign's statistics say, in plain words: conditions, figures with their units, recommendations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dashboards.units import UNKNOWN, digits, duration, milliseconds, percent, size, times
from driver.hardware import Hardware
from driver.scenario import Scenario
from exporter.statistics import GroupStatistics, Rate
from exporter.statistics_contests import BETTER, CONVERGENCE, Contest
from exporter.statistics_groups import Value
from exporter.statistics_recommendation import NEGLIGIBLE_SECONDS, Recommendation
from workload.settings import Workload
from workload.value import settings_of

SETTINGS = {**settings_of(Scenario), **settings_of(Hardware), **settings_of(Workload)}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a figure is called, written and explained; `less` says what it means to have less of it."""

    name: str
    text: Callable[[float | None], str]
    note: str
    less: str


METRICS: Mapping[str, Metric] = {
    "total_seconds": Metric(
        name="total time", text=duration, note="QEMU's own, start to end", less="is through sooner"
    ),
    "blackout_seconds": Metric(
        name="blackout", text=milliseconds, note="the guest stood still, seen from outside",
        less="has the shorter blackout",
    ),
    "slowdown": Metric(
        name="guest slowdown", text=times, note="guest's seconds per GiB while migrating / settled",
        less="slows the guest down less",
    ),
    "lost_seconds": Metric(
        name="guest's work lost", text=duration,
        note="what it would have done at its settled pace: slowdown, blackout and recovery in one figure",
        less="costs the guest less work",
    ),
    "source_cpu_seconds": Metric(
        name="CPU, source", text=duration, note="CPU seconds of the whole QEMU while migrating",
        less="takes less CPU at the source",
    ),
    "destination_cpu_seconds": Metric(
        name="CPU, destination", text=duration, note="CPU seconds of the whole QEMU while migrating",
        less="takes less CPU at the destination",
    ),
    "sent_bytes_per_gib": Metric(
        name="sent per GiB of RAM", text=size, note="bytes on the wire for each GiB of the guest's RAM",
        less="sends less",
    ),
    "extra_memory_bytes": Metric(
        name="extra memory", text=size, note="what the source's QEMU took on while migrating", less="takes less memory"
    ),
}  # fmt: skip
"""Each metric of the statistics, in the order of interest."""


def condition_words(condition: Mapping[str, Value]) -> str:
    """A condition in words: `bandwidth 32 MiB/s, memory 128 MiB`; `all conditions` where there is only one."""
    return ", ".join(field_words(name, value) for name, value in condition.items()) or "all conditions"


def field_words(name: str, value: Value) -> str:
    """One field with its value and unit: `downtime limit 300 ms`."""
    words = name
    for unit in ("_ms", "_mib_s", "_mib", "_seconds", "_percent"):
        words = words.removesuffix(unit)
    words = words.replace("_", " ").replace("qemu", "QEMU").replace("vcpus", "vCPUs")
    if value is None or value == "":
        return f"{words} {UNKNOWN}"
    facts = SETTINGS[name][2] if name in SETTINGS else None
    if facts and facts.zero and value == 0:
        return f"{words} off"
    text = (
        str(value).lower() if isinstance(value, bool) else f"{value:,.10g}" if isinstance(value, float | int) else value
    )
    return f"{words} {text}{f' {facts.unit}' if facts and facts.unit else ''}"


def rate_words(rate: Rate) -> str:
    """A rate of completion: `5 of 5 (57 to 100 %)`."""
    if not rate.of:
        return "no run has answered"
    return f"{rate.count} of {rate.of} ({rate.low * 100:.0f} to {percent(rate.high)})"


def advice(found: Recommendation) -> list[str]:
    """A recommendation as sentences: what to take, what it costs, why, and what to mind."""
    winner = found.winner
    if found.way is None or winner is None:
        told = ", ".join(f"{one.group.way} {one.convergence.count} of {one.convergence.of}" for one in found.unreliable)
        return [
            f"Nothing completed ({told}).",
            "Allow more downtime or bandwidth, or put another strategy into the plan.",
        ]
    certain = "" if found.strength == "clear" else " as far as these runs tell"
    said = [f"Take {found.way}{certain}.", _cost(winner)]
    said += [_beaten(contest, found) for contest in found.beaten]
    said += [_unreliable(one) for one in found.unreliable]
    if found.tied:
        said.append(_tied(found, winner))
    said += _exceptions(found)
    if winner.group.plain:
        said.append("It needs nothing set.")
    if "post-copy" in (winner.group.rows[0].strategy or ""):
        said.append("Mind that a post-copy migration which loses its link or a host cannot go back: the guest is lost.")
    return said


def _cost(winner: GroupStatistics) -> str:
    def median(name: str) -> str:
        return METRICS[name].text(winner.figures[name].median) if name in winner.figures else UNKNOWN

    rate = winner.convergence
    sure = f"with 95 % confidence {rate.low * 100:.0f} to {percent(rate.high)} of all"
    cpu = f"{median('source_cpu_seconds')} of CPU on the source, {median('destination_cpu_seconds')} on the destination"
    only = "It" if rate.count == 1 else "In the median it"
    return (
        f"It completed {rate.count} of {_runs(rate.of)} ({sure}). {only} took {median('total_seconds')}, the"
        f" guest was dark for {median('blackout_seconds')} and lost {median('lost_seconds')} of work; it cost {cpu},"
        f" and {median('sent_bytes_per_gib')} sent for each GiB of the guest's RAM."
    )


def _beaten(contest: Contest, found: Recommendation) -> str:
    other = contest.second if contest.first == found.way else contest.first
    ratio = contest.ratio
    if ratio and contest.second == found.way:
        ratio = 1 / ratio
    much = f" (with {other} {digits(1 / ratio)} times as much)" if ratio else ""
    return (
        f"{other} completes as well, but {found.way} {METRICS[contest.metric].less}{much}:"
        f" q {digits(contest.q or 0.0)} at {contest.first_runs} and {_runs(contest.second_runs)}."
    )


def _unreliable(one: GroupStatistics) -> str:
    if not one.convergence.of:
        ended = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in one.outcomes.items())
        return f"{one.group.way} has no run that answers ({ended})."
    return f"{one.group.way} completed {one.convergence.count} of {one.convergence.of}."


def _tied(found: Recommendation, winner: GroupStatistics) -> str:
    runs = _runs(len(winner.figures[found.decided_by].values))
    others = " or ".join(found.tied)
    return f"Whether {others} costs the guest less cannot be told at {runs}; repeat more often to know."


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _exceptions(found: Recommendation) -> list[str]:
    """What another candidate does better; what it does better by so little that plain pre-copy was taken, is said."""
    better: dict[str, list[str]] = {}
    for contest in found.exceptions:
        other = contest.second if contest.first == found.way else contest.first
        little = f" (by less than {milliseconds(NEGLIGIBLE_SECONDS)})" if contest.metric == found.decided_by else ""
        better.setdefault(other, []).append(METRICS[contest.metric].less + little)
    return [f"{other} {_listed(phrases)}." for other, phrases in better.items()]


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def verdict_words(contest: Contest) -> tuple[str, str]:
    """A contest's verdict on its first way, and what it rests on: (`better, 0.42 x`, `0.38 to 0.47 x; q 0.002`)."""
    if not contest.first_runs or not contest.second_runs:
        return UNKNOWN, "nothing to compare"
    if not contest.enough_runs:
        return contest.verdict, f"takes {contest.runs_needed} runs a side"
    chance = f"q {contest.q:.2g}" if contest.q is not None else ""
    if contest.verdict == "cannot tell" or contest.metric == CONVERGENCE or contest.ratio is None:
        return contest.verdict, chance
    interval = contest.ratio_interval
    bounds = f"{digits(interval[0])} to {digits(interval[1])} x; " if interval else ""
    return f"{contest.verdict}, {digits(contest.ratio)} x", bounds + chance


def verdict_meaning(contest: Contest) -> str:
    """The colour of a verdict: good, bad or undecided."""
    return "undecided" if contest.verdict == "cannot tell" else "good" if contest.verdict == BETTER else "bad"
