"""What verdicts and estimates are worth on recorded migrations: alarms, when they came, how far the ETA was off.

    .venv/bin/python -m bench.verdict_worth

Errors are |published completion - STOP| over the migration's whole length, at the boundaries of recordings that
completed by pre-copy under unchanged conditions; beside them stand remaining / bandwidth (the naive estimate) and how
often the range held the truth.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from driver.convergence import Verdict
from tests import captures
from tests.test_verdict_cases import row_of

FEW = 4
SLACK_SECONDS = 0.1
"""The range is held against a clock of 100 ms windows."""

CHANGED = ("pause", "postcopy", "raise", "kvm-ring", "dirty-limit", "cancel", "snapshot", "nbd")
"""Parts of the names of recordings whose conditions changed on the way."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recording with its verdicts; `stop` is None where it did not complete by itself."""

    name: str
    start: float
    stop: float | None
    verdicts: list[Verdict]

    @classmethod
    def of(cls, name: str) -> Case | None:
        """Replay a recording; None where it holds no migration."""
        lines = [line for line in captures.read(name) if line.vm == "src" and isinstance(line.data, dict)]
        replies = [line for line in lines if line.kind == "query-migrate"]
        if not replies:
            return None
        stops = [line.seconds for line in lines if line.kind == "event" and line.data["event"] == "STOP"]
        by_itself = replies[-1].data.get("status") == "completed" and not any(word in name for word in CHANGED)
        return cls(
            name=name,
            start=replies[0].seconds,
            stop=stops[-1] if stops and by_itself else None,
            verdicts=row_of(name).verdicts(name),
        )


def main() -> int:
    """Print both tables."""
    cases = [case for name in captures.names() if (case := Case.of(name))]
    console = Console()
    table = Table(title="Verdicts: boundaries that said so, seconds from the start to the first alarm")
    for column in ("recording", "ended", "boundaries", "stalled", "alarms", "first alarm s"):
        table.add_column(column)
    for case in cases:
        if len(case.verdicts) < FEW:
            continue
        alarms = [verdict.time_ns / 1e9 - case.start for verdict in case.verdicts if verdict.not_converging]
        stalled = sum(verdict.stalled for verdict in case.verdicts)
        ended = "by itself" if case.stop else "cut or changed"
        first = f"{alarms[0]:.1f}" if alarms else ""
        table.add_row(case.name, ended, f"{len(case.verdicts)}", f"{stalled}", f"{len(alarms)}", first)
    console.print(table)
    table = Table(title="Errors of the ETA, as a share of the whole")
    for column in ("recordings", "boundaries", "with an ETA", "median", "p90", "naive median", "naive p90", "held"):
        table.add_column(column)
    finished = [case for case in cases if case.stop and case.verdicts]
    table.add_row("fewer than 4 boundaries", *_errors([case for case in finished if len(case.verdicts) < FEW]))
    for word in ("slow", "noisy"):
        table.add_row(f"{word} convergers", *_errors([case for case in finished if f"-{word}-" in case.name]))
    console.print(table)
    return 0


def _errors(cases: list[Case]) -> tuple[str, ...]:
    published: list[float] = []
    naive: list[float] = []
    held: list[bool] = []
    boundaries = 0
    for case in cases:
        assert case.stop is not None
        whole = case.stop - case.start
        for verdict in case.verdicts:
            now, bandwidth = verdict.time_ns / 1e9, verdict.boundary.bandwidth_bytes_per_second
            left = case.stop - now
            if left < 0 or not bandwidth:
                continue
            boundaries += 1
            naive.append(abs(verdict.boundary.remaining_bytes / bandwidth - left) / whole)
            if verdict.completion_ns is not None:
                published.append(abs(verdict.completion_ns / 1e9 - case.stop) / whole)
            if verdict.eta and verdict.eta.high is not None:
                held.append(verdict.eta.low - SLACK_SECONDS <= left <= verdict.eta.high + SLACK_SECONDS)
    return (f"{boundaries}", f"{len(published)}", *_spread(published), *_spread(naive), f"{sum(held)} of {len(held)}")


def _spread(errors: list[float]) -> tuple[str, str]:
    if not errors:
        return "", ""
    return f"{statistics.median(errors):.1%}", f"{sorted(errors)[int(len(errors) * 0.9)]:.1%}"


if __name__ == "__main__":
    sys.exit(main())
