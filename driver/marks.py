"""The driver's marks: phases and strategy actions with their stamps, appended to marks.jsonl as they happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from driver.datadir import RunDir, append_line

PHASES = (
    "start",
    "negotiate",
    "boot",
    "restore",
    "settle",
    "mirror",
    "migrate",
    "switchover",
    "recover",
    "load",
    "end",
)
"""The phases of a run in their order; `restore` stands for `boot` in a warm start, `mirror` is there with a disk.

A snapshot has no `switchover`, and is loaded once its guest has recovered.
"""

KINDS = ("phase", "action", "outcome")

ATTEMPT = "attempt"
"""The action that begins a further attempt, after a cancelled one: whoever follows the run begins anew with it."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One mark: a phase that begins, an action of a strategy or the driver, or the outcome.

    `time_ns` is of the run's clock. An action's `detail` holds what it acted on: the verdict and its figures.
    """

    kind: str
    name: str
    time_ns: int
    detail: Mapping[str, Any] = field(default_factory=dict)


def append_mark(run: RunDir, mark: Mark) -> None:
    """Append a mark; OSError passes through."""
    append_line(run.marks, {"kind": mark.kind, "name": mark.name, "time_ns": mark.time_ns, "detail": dict(mark.detail)})


def parse_mark(line: bytes) -> Mark | None:
    """Read one line of marks.jsonl; None for a torn or foreign line."""
    try:
        data = orjson.loads(line)
        return Mark(
            kind=str(data["kind"]), name=str(data["name"]), time_ns=int(data["time_ns"]), detail=dict(data["detail"])
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def read_marks(run: RunDir) -> list[Mark]:
    """Read all marks of a run; none when the file is missing."""
    try:
        lines = run.marks.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [mark for line in lines if line and (mark := parse_mark(line))]
