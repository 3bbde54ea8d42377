"""SQL over the history: DuckDB in memory, read-only, over the runs that are meant."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from driver.datadir import DataDir
from driver.marks import PHASES
from exporter import history
from exporter.compaction import measurements_of
from exporter.index import CONDITIONS, DAMAGED, FIGURES, RunRow
from exporter.measurements import MEASUREMENTS
from exporter.selection import EVERYTHING, Selection
from exporter.views import MOMENTS, READY, measurement_view, quoted, ready_view, with_sources
from workload.errors import BadValueError
from workload.suggestion import nearest

RUN_COLUMNS: dict[str, pa.DataType] = (
    dict.fromkeys(("run", "kind", "campaign", "comparison", "scenario", "strategy", "outcome", "reason"), pa.string())
    | {"started": pa.timestamp("us"), "started_ns": pa.int64(), "seconds": pa.float64()}
    | {
        name: {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}[kind]
        for name, kind in (CONDITIONS | FIGURES).items()
    }
)
"""The columns of the view `runs`: what a run is, its conditions, its figures."""

_WRITERS_ERRORS = (
    duckdb.ParserException,
    duckdb.CatalogException,
    duckdb.BinderException,
    duckdb.PermissionException,
    duckdb.ConversionException,
)
"""What is wrong with the statement, not with the files."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A query's rows; `types` are DuckDB's names; `warnings` are lines on what had to be left out."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    warnings: list[str]


def execute(data: DataDir, sql: str, selection: Selection = EVERYTHING) -> Result:
    """Run one SELECT (or EXPLAIN) over the runs that are meant; a view's name alone asks for all of its rows.

    Views: `runs`, one for each measurement, and the ready ones of exporter.views. Ended runs are stored first. A
    damaged file of samples is left out and told in `warnings`. Nothing but the history can be read, and nothing
    written.

    Raises:
        BadValueError: the statement is none, several, wrong, or no SELECT; with the first line of DuckDB's message.
    """
    with opened(data, sql, selection) as (answer, warnings):
        columns = answer.description or []
        return Result(
            columns=[column[0] for column in columns],
            types=[str(column[1]) for column in columns],
            rows=answer.fetchall(),
            warnings=warnings,
        )


@contextlib.contextmanager
def opened(data: DataDir, sql: str, selection: Selection) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
    """Run a statement as `execute` does, and yield the connection with its rows still to be fetched, and the warnings.

    Raises:
        BadValueError: as `execute`.
    """
    statement = _statement(_whole_view(sql))
    every = history.runs(data)
    rows = selection.of(every)
    words = with_sources(word.lower() for word in re.findall(r"\w+", statement.query))
    files = _files(data, [row.run for row in rows], words)
    warnings = [f"run {row.run}: is damaged and left out ({row.reason})" for row in rows if row.outcome == DAMAGED]
    with contextlib.ExitStack() as stack:
        while True:
            try:
                answer = stack.enter_context(_connected(data, rows, files, words)).execute(statement)
                break
            except duckdb.Error as error:
                damaged = {} if isinstance(error, _WRITERS_ERRORS) else _unreadable(files)
                if not damaged:
                    raise BadValueError(f"query: {_first_line(error)}") from error
                warnings += [_left_out(path, reason) for path, reason in damaged.items()]
                files = {name: [path for path in paths if path not in damaged] for name, paths in files.items()}
        yield answer, warnings


def views(data: DataDir) -> Result:
    """Every view: its name, what it is or of what kind, and its columns."""
    told = {"runs": "one row a run: what it is, its conditions, its figures"}
    told |= {name: words for name, (_, _, words) in READY.items()}
    told |= dict.fromkeys(MEASUREMENTS, "every sample of this measurement")
    with _connected(data, [], dict.fromkeys(MEASUREMENTS, ()), READY) as connection:
        rows = [
            (name, words, ", ".join(row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()))
            for name, words in told.items()
        ]
    return Result(columns=["view", "is", "columns"], types=["VARCHAR"] * 3, rows=rows, warnings=[])


def _whole_view(sql: str) -> str:
    """A view's name alone stands for all its rows in the order of time.

    Raises:
        BadValueError: it is one word, and no view's name.
    """
    name = sql.strip()
    if name == "runs":
        return "SELECT * FROM runs ORDER BY run"
    if name in {*READY, *MEASUREMENTS}:
        return f"SELECT * FROM {name} ORDER BY run, time_ns"  # noqa: S608 - known
    if name.isidentifier():
        raise BadValueError(f"query: view {name!r} is not known{nearest(name, ('runs', *READY, *MEASUREMENTS))}")
    return sql


def _statement(sql: str) -> duckdb.Statement:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise BadValueError(f"query: {_first_line(error)}") from error
    if len(statements) != 1:
        raise BadValueError(f"query: found {len(statements)} statements, want one SELECT")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise BadValueError(f"query: {statements[0].type.name} is refused, want a SELECT: the history is only read")
    return statements[0]


@contextlib.contextmanager
def _connected(
    data: DataDir, rows: Sequence[RunRow], files: Mapping[str, Sequence[str]], words: Collection[str]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own with the views that are among the words; it can read the history and nothing else."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        connection.execute("SET parquet_metadata_cache = true")  # a view is bound when it is made, and when it is read
        connection.register("runs", runs_table(rows if "runs" in words else []))
        connection.register(MOMENTS, _moments_table(rows))
        for name, paths in files.items():
            connection.execute(measurement_view(name, paths))
        for name in READY:
            if name in words:
                connection.execute(ready_view(name))
        connection.execute(f"SET allowed_directories = [{quoted(str(data.runs))}]")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def runs_table(rows: Iterable[RunRow]) -> pa.Table:
    """All runs as a table with the columns of `RUN_COLUMNS`; what is not known of one is null."""
    records = []
    for row in rows:
        started = None
        if row.started_ns is not None:
            started = dt.datetime.fromtimestamp(row.started_ns / 1e9, dt.UTC).replace(tzinfo=None)
        plain: dict[str, object] = {
            name: getattr(row, name, None) for name in RUN_COLUMNS if name not in {**CONDITIONS, **FIGURES}
        }
        records.append(plain | {**row.conditions, **row.figures, "started": started})
    return pa.Table.from_pylist(records, schema=pa.schema(list(RUN_COLUMNS.items())))


def _moments_table(rows: Iterable[RunRow]) -> pa.Table:
    """When each run's phases began, for the columns `phase` and `migration_seconds`."""
    kinds = {"run": pa.string(), "strategy": pa.string()} | {f"{phase}_ns": pa.int64() for phase in PHASES}
    records: list[dict[str, str | int | None]] = [
        {"run": row.run, "strategy": row.strategy, **{f"{phase}_ns": row.phases.get(phase) for phase in PHASES}}
        for row in rows
    ]
    return pa.Table.from_pylist(records, schema=pa.schema(list(kinds.items())))


def _files(data: DataDir, runs: Iterable[str], words: Collection[str]) -> dict[str, list[str]]:
    """Every measurement with its files, the declared ones first; those that are not among the words have none.

    Opening a file costs 0.1 ms: over 2,000 runs the six measurements that are not asked for would cost a second.
    """
    files: dict[str, list[str]] = {name: [] for name in MEASUREMENTS}
    for run in map(data.run, runs):
        for name in measurements_of(run):
            paths = files.setdefault(name, [])
            if name.lower() in words:
                paths.append(f"{run.samples}/{name}.parquet")
    return files


def _unreadable(files: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which files cannot be read, and why: DuckDB's message does not name them. Only where all ends are well, read all.

    A file that ends well may still be damaged in its middle.
    """
    paths = [path for paths in files.values() for path in paths]
    return _damaged(paths, _read_end) or _damaged(paths, _read_all)


def _damaged(paths: Iterable[str], read: Callable[[str], None]) -> dict[str, str]:
    damaged: dict[str, str] = {}
    for path in paths:
        try:
            read(path)
        except (OSError, pa.ArrowException) as error:
            damaged[path] = _first_line(error)
    return damaged


def _read_end(path: str) -> None:
    pq.read_metadata(path)


def _read_all(path: str) -> None:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        file.read()


def _left_out(path: str, reason: str) -> str:
    return f"{path}: is damaged and left out ({reason[:120]})"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hint = next((line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))), "")
    return f"{lines[0] if lines else type(error).__name__}{'; ' if hint else ''}{hint}"
