"""index.sqlite: one row a run, so that a long history lists at once; a cache that is rebuilt when in doubt."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from driver.hardware import Hardware
from driver.record import RunRecord
from driver.scenario import Scenario
from exporter.summary import Summary
from workload.errors import MigrascopeError
from workload.settings import Workload
from workload.value import from_json, settings_of

LAYOUT = 4
BUSY_SECONDS = 10.0

RUNNING, DAMAGED = "running", "damaged"
"""What stands for the outcome of a run that has none: it goes on, or its run.json cannot be read."""

CONDITIONS: dict[str, type] = {
    name: kind for value in (Scenario, Hardware, Workload) for name, (kind, _, _) in settings_of(value).items()
} | {"source_qemu": str, "destination_qemu": str}
"""Every field of scenario, hardware and workload with its type, and the versions of both QEMUs."""

FIGURES: dict[str, type] = {
    name: {"int | None": int, "bool": bool, "int": int}.get(str(kind), float)
    for name, kind in Summary.__annotations__.items()
    if name not in {"schema", "run", "cpu_seconds", "peak_resident_bytes", "gaps", "why"}
} | {"source_cpu_seconds": float, "destination_cpu_seconds": float, "migration_cpu_seconds": float}
"""Every plain figure of the summary with its type, and the CPU seconds that are asked for most."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run in the index. `outcome` is one of the record's, or `running`, or `damaged` (then `reason` says why).

    `started` is ISO 8601 in UTC; `seconds` the run's length up to its last known moment; `phases` maps each phase to
    its start on the run's clock (Unix nanoseconds); `conditions` maps the names of `CONDITIONS` (accelerator: the one
    that was used) and `figures` those of `FIGURES` to what is known of them.
    """

    run: str
    kind: str | None = None
    campaign: str | None = None
    comparison: str | None = None
    convoy: str | None = None
    scenario: str | None = None
    strategy: str | None = None
    outcome: str
    reason: str | None = None
    started: str | None = None
    started_ns: int | None = None
    seconds: float | None = None
    phases: Mapping[str, int] = field(default_factory=dict)
    conditions: Mapping[str, float | str | None]
    figures: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """The row as `migrascope runs --json` prints it: all fields, conditions and figures as objects."""
        return dict(vars(self))  # asdict copies all that is in it: 0.2 s for 2,000 rows


def version_of(*names: str) -> int:
    """SQLite's user_version (31 bits) for rows of these names: a row that is older than a setting would lack it."""
    return zlib.crc32(" ".join((str(LAYOUT), *names)).encode()) >> 1


VERSION = version_of(*CONDITIONS, *FIGURES)


class Index:
    """The open index; one that is damaged, of another version or cannot be written is replaced by an empty one."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = _open(path)
        except sqlite3.OperationalError:
            self._connection = _open(Path(":memory:"))  # read-only or full: everything is read from the runs instead
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._connection = _open(path)

    def rows(self) -> dict[str, tuple[str, RunRow]]:
        """Every run's stamp and row; a row that cannot be read is left out and so made anew."""
        found: dict[str, tuple[str, RunRow]] = {}
        for run, stamp, row in self._connection.execute("SELECT run, stamp, row FROM runs"):
            with contextlib.suppress(MigrascopeError, orjson.JSONDecodeError):
                found[run] = (stamp, from_json(RunRow, orjson.loads(row), "index"))
        return found

    def put(self, stamp: str, row: RunRow) -> None:
        """Store a run's row; `stamp` tells which files it was made from."""
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk costs the cache's row, nothing else
            self._connection.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", (row.run, stamp, orjson.dumps(row.to_json()))
            )

    def drop(self, run: str) -> None:
        """Forget a run whose directory is gone."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("DELETE FROM runs WHERE run = ?", (run,))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Index]:
    """Open the index for as long as the context lasts."""
    index = Index(path)
    try:
        yield index
    finally:
        index.close()


def row_of(record: RunRecord, summary: Summary | None) -> RunRow:
    """Make a run's row from its record and, where there is one, its summary."""
    conditions: dict[str, float | str | None] = {}
    for value in (record.scenario, record.hardware, record.workload):
        if value is not None:
            conditions |= asdict(value)
    if record.accelerator:
        conditions["accelerator"] = record.accelerator
    for role, binary in (("source", record.source_binary), ("destination", record.destination_binary)):
        conditions[f"{role}_qemu"] = binary.version if binary else None
    moments = [phase.end_ns or phase.start_ns for phase in record.phases]
    return RunRow(
        run=record.run,
        kind=record.kind,
        campaign=record.campaign,
        comparison=record.comparison,
        convoy=record.convoy,
        scenario=record.scenario_name,
        strategy=record.scenario.strategy if record.scenario else None,
        outcome=record.outcome or RUNNING,
        reason=record.reason,
        started=_iso(record.clock.wall_ns),
        started_ns=record.clock.wall_ns,
        seconds=(max(moments) - record.clock.wall_ns) / 1e9 if moments else None,
        phases={phase.name: phase.start_ns for phase in record.phases},
        conditions=conditions,
        figures=_figures(summary) if summary else {},
    )


def damaged_row(run: str, reason: str) -> RunRow:
    """The row of a run whose run.json cannot be read."""
    return RunRow(run=run, outcome=DAMAGED, reason=reason, conditions={}, figures={})


def _figures(summary: Summary) -> dict[str, float | None]:
    cpu = summary.cpu_seconds
    source, destination = cpu.get("source", {}), cpu.get("destination", {})
    more = {
        "source_cpu_seconds": source.get("process"),
        "destination_cpu_seconds": destination.get("process"),
        "migration_cpu_seconds": source.get("migration"),
    }
    return {name: more[name] if name in more else getattr(summary, name) for name in FIGURES}


def _iso(time_ns: int) -> str:
    moment = dt.datetime.fromtimestamp(time_ns // 1_000_000_000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DROP TABLE IF EXISTS runs")
            connection.execute("CREATE TABLE runs (run TEXT PRIMARY KEY, stamp TEXT NOT NULL, row BLOB NOT NULL)")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        connection.execute("SELECT run, stamp, row FROM runs LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
