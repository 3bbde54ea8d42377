"""A run's outcome in figures and words: one value that the report, the end table and `show` all draw from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dashboards.units import digits, duration, milliseconds, pace, size, times, whole
from driver.record import RunRecord
from exporter.summary import Summary

OUTCOME_WORDS = {
    "completed": "completed",
    "not_converged": "did not converge",
    "failed": "failed",
    "guest_lost": "lost its guest",
    "unsupported": "is unsupported here",
    "broken": "broke (our side or the host)",
    "abandoned": "was abandoned",
    "cancelled": "was cancelled",
}

SNAPSHOT = "snapshot"

TAKEN = (
    "total_seconds", "iterations", "blackout_seconds", "blackout_upper_bound", "stop_resume_seconds",
    "qemu_downtime_seconds", "longest_silence_seconds", "settle_seconds_per_gib_mean", "migrate_seconds_per_gib_mean",
    "recover_seconds_per_gib_mean", "transferred_bytes", "time_to_first_throttle_seconds",
)  # fmt: skip
"""What is taken from the summary as it stands, under the same name."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What came of one run. What is not known is None, and `why` says for which figure and for what reason.

    `slowdown` is the guest's seconds per GiB while it migrated over those while it was settled; CPU seconds are the
    whole QEMU's, while it migrated.
    """

    run: str
    scenario: str
    kind: str = "migration"
    outcome: str | None
    reason: str | None = None
    limit_reached: str | None = None
    total_seconds: float | None = None
    iterations: float | None = None
    blackout_seconds: float | None = None
    blackout_upper_bound: bool = False
    stop_resume_seconds: float | None = None
    qemu_downtime_seconds: float | None = None
    longest_silence_seconds: float | None = None
    settle_seconds_per_gib_mean: float | None = None
    migrate_seconds_per_gib_mean: float | None = None
    recover_seconds_per_gib_mean: float | None = None
    slowdown: float | None = None
    source_cpu_seconds: float | None = None
    destination_cpu_seconds: float | None = None
    transferred_bytes: float | None = None
    time_to_first_throttle_seconds: float | None = None
    why: Mapping[str, str] = field(default_factory=dict)


FIGURE_COLUMNS: tuple[tuple[str, str, Callable[[Figures], str]], ...] = (
    ("total_seconds", "total", lambda f: duration(f.total_seconds)),
    ("iterations", "iterations", lambda f: whole(f.iterations)),
    ("blackout_seconds", "blackout", lambda f: _bound(f) + milliseconds(f.blackout_seconds)),
    ("stop_resume_seconds", "STOP → RESUME", lambda f: milliseconds(f.stop_resume_seconds)),
    ("qemu_downtime_seconds", "QEMU's downtime", lambda f: milliseconds(f.qemu_downtime_seconds)),
    ("longest_silence_seconds", "longest silence", lambda f: milliseconds(f.longest_silence_seconds)),
    ("settle_seconds_per_gib_mean", "guest settled", lambda f: pace(f.settle_seconds_per_gib_mean)),
    ("migrate_seconds_per_gib_mean", "guest migrating", lambda f: pace(f.migrate_seconds_per_gib_mean)),
    ("slowdown", "guest slowdown", lambda f: times(f.slowdown)),
    ("transferred_bytes", "sent", lambda f: size(f.transferred_bytes)),
    ("source_cpu_seconds", "CPU source", lambda f: duration(f.source_cpu_seconds)),
    ("destination_cpu_seconds", "CPU destination", lambda f: duration(f.destination_cpu_seconds)),
    ("time_to_first_throttle_seconds", "first throttle", lambda f: duration(f.time_to_first_throttle_seconds)),
)
"""Key, heading and text of each figure, in the order of interest."""

NO_PRICE = ("iterations", "settle_seconds_per_gib_mean", "time_to_first_throttle_seconds")
"""Figures of which less is not better."""


PRICES = (
    ("total_seconds", "was done first"),
    ("slowdown", "slowed its guest least"),
    ("blackout_seconds", "had the shortest blackout"),
    ("transferred_bytes", "sent least"),
)  # fmt: skip
"""What a way is chosen by, and the words for the run that has least of it."""


def best_runs(told: Sequence[Figures]) -> dict[str, int]:
    """Map each figure to the place of the completed run that has least of it.

    A figure that only one completed run has, or that several have least of, has no best.
    """
    best = {}
    for key, _, text in FIGURE_COLUMNS:
        known = [(getattr(figures, key), place) for place, figures in enumerate(told)
                 if figures.outcome == "completed" and getattr(figures, key) is not None]  # fmt: skip
        if len(known) < 2 or key in NO_PRICE:
            continue
        least = min(known)[1]
        if sum(text(told[place]) == text(told[least]) for _, place in known) == 1:
            best[key] = least
    return best


def best_in_words(labels: Sequence[str], told: Sequence[Figures]) -> str:
    """Which of several runs won, and in what; nothing where fewer than two completed.

    One run a way is no statistics, and the sentence says so.
    """
    completed = sum(figures.outcome == "completed" for figures in told)
    best = best_runs(told)
    if completed < 2 or not best:
        return ""
    texts = {key: text for key, _, text in FIGURE_COLUMNS}
    won: dict[int, list[str]] = {}
    for key, words in PRICES:
        if key in best:
            won.setdefault(best[key], []).append(f"{words} ({texts[key](told[best[key]])})")
    parts = [f"{labels[place]} {_listed(words)}" for place, words in won.items()]
    return f"Of the {completed} that completed, {'; '.join(parts)}. A campaign tells what of that is chance."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def figures_of(record: RunRecord, summary: Summary) -> Figures:
    """Put a run's outcome and its summary together."""
    settled, migrating = summary.settle_seconds_per_gib_mean, summary.migrate_seconds_per_gib_mean
    taken = {name: getattr(summary, name) for name in TAKEN}
    return Figures(
        run=record.run,
        scenario=record.scenario_name,
        kind=record.kind,
        outcome=record.outcome,
        reason=record.reason,
        limit_reached=record.limit_reached,
        slowdown=migrating / settled if migrating and settled else None,
        source_cpu_seconds=summary.cpu_seconds.get("source", {}).get("process"),
        destination_cpu_seconds=summary.cpu_seconds.get("destination", {}).get("process"),
        why=dict(summary.why),
        **taken,
    )


def in_words(figures: Figures) -> str:
    """The answer in one sentence: how it ended, when, and what the guest felt."""
    said = OUTCOME_WORDS.get(figures.outcome or "", "has not ended")
    if figures.kind == SNAPSHOT and figures.outcome == "not_converged":
        said = "was not saved"
    if figures.limit_reached:
        said += f" within its limit on {figures.limit_reached}"
    if figures.total_seconds is not None:
        said += f", after {duration(figures.total_seconds)}"
    if figures.iterations:
        said += f" and {figures.iterations:.0f} iteration{'s' if figures.iterations > 1 else ''}"
    felt = []
    if figures.blackout_seconds is not None:
        bound = "at most " if figures.blackout_upper_bound else ""
        felt.append(f"was dark for {bound}{milliseconds(figures.blackout_seconds)}")
    elif figures.stop_resume_seconds is not None:
        felt.append(f"was dark for a time that is not known ({figures.why.get('blackout_seconds', 'no reason given')})")
    elif figures.outcome == "not_converged":
        felt.append("stayed on the source")
    if figures.slowdown is not None:
        while_ = "while its snapshot was saved" if figures.kind == SNAPSHOT else "while it migrated"
        felt.append(f"ran {digits(figures.slowdown)} times slower than before {while_}"
                    if figures.slowdown >= 1.1 else f"kept its pace {while_}")  # fmt: skip
    sentence = f"{said}; the guest {' and '.join(felt)}." if felt else f"{said}."
    return sentence if not figures.reason else f"{sentence} Reason: {figures.reason.rstrip('.')}."


def _bound(figures: Figures) -> str:
    """`≤ ` where the blackout is an upper bound (KVM's guest clock may jump)."""
    return "≤ " if figures.blackout_upper_bound and figures.blackout_seconds is not None else ""
