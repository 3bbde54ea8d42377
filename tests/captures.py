"""Recorded QMP streams of real migrations (QEMU 7.2 and 10.0), read for tests."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.convergence import Judge, Verdict
from driver.progress import Progress
from driver.scenario import Scenario, step_to_come

CAPTURES = Path(__file__).with_name("data") / "captures"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a capture: when (seconds, monotonic), what, of which VM."""

    seconds: float
    kind: str
    vm: str
    data: Any


def names(pattern: str = "*") -> list[str]:
    """The captures' names, without their ending."""
    return sorted(path.name.removesuffix(".jsonl.gz") for path in CAPTURES.glob(f"{pattern}.jsonl.gz"))


def read(name: str) -> list[Line]:
    """All lines of a capture in order."""
    with gzip.open(CAPTURES / f"{name}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [Line(seconds=row["t_mono"], kind=row["kind"], vm=row.get("vm", ""), data=row["data"]) for row in rows]


def replies(name: str, vm: str = "src") -> list[tuple[int, Progress]]:
    """All replies to query-migrate with their stamps in nanoseconds."""
    return [
        (int(line.seconds * 1e9), Progress.parse(line.data))
        for line in read(name)
        if line.kind == "query-migrate" and line.vm == vm and isinstance(line.data, dict)
    ]


def verdicts(name: str, scenario: Scenario, cap_bytes_per_second: float | None = None) -> list[Verdict]:
    """Replay a capture through the judge, as the exporter and the driver do live.

    The cap is for captures that lack the reply to query-migrate-parameters; in others that reply counts.
    """
    lines = read(name)
    judge = Judge(downtime_limit_seconds=scenario.downtime_limit_seconds, bandwidth_limit=cap_bytes_per_second)
    done: set[str] = set()
    found: list[Verdict] = []
    for line in lines:
        now = int(line.seconds * 1e9)
        if line.vm != "src" or not isinstance(line.data, dict):
            continue
        if line.kind == "event":
            event, data = str(line.data["event"]), line.data.get("data") or {}
            if event == "MIGRATION_PASS":
                judge.passed(now, int(data["pass"]))
            for step in steps_of("source", event, data):
                judge.restart()
                done.add(step)
        elif line.kind == "parameters" and "downtime-limit" in line.data:
            judge.retuned(line.data["downtime-limit"] / 1000, line.data["max-bandwidth"] or None)
        elif line.kind == "query-migrate":
            progress = Progress.parse(line.data)
            verdict = judge.sample(now, progress, step_to_come(scenario, done, progress.throttle_percent))
            if verdict:
                found.append(verdict)
    return found


def steps_of(role: str, event: str, data: dict[str, Any]) -> list[str]:
    """The strategy's step that an event of a recording shows to have been taken: recordings have no marks."""
    if role != "source":
        return []
    if event == "STOP":
        return ["pause"]
    return ["post-copy"] if event == "MIGRATION" and data.get("status") == "postcopy-active" else []
