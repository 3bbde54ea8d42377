"""SQL over the history: DuckDB in memory, read-only, with a view of all runs and one of each measurement."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from driver.datadir import DataDir
from exporter import history
from exporter.compaction import measurements_of
from exporter.index import CONDITIONS, FIGURES, RunRow
from exporter.measurements import MEASUREMENTS
from exporter.rows import NUMBER, declared_fields, tags_of
from workload.errors import BadValueError

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


def execute(data: DataDir, sql: str) -> Result:
    """Run one SELECT (or EXPLAIN) over the history.

    Views: `runs`, and one for each measurement over all runs' samples. Ended runs are stored first. A damaged file of
    samples is left out and told in `warnings`. Nothing but the history can be read, and nothing written.

    Raises:
        BadValueError: the statement is none, several, wrong, or no SELECT; with the first line of DuckDB's message.
    """
    statement = _statement(sql)
    rows = history.runs(data)
    files, warnings = _files(data)
    warnings += [f"run {row.run}: is damaged and left out ({row.reason})" for row in rows if row.outcome == "damaged"]
    while True:
        try:
            return _run(statement, data, rows, files, warnings)
        except duckdb.Error as error:
            damaged = {} if isinstance(error, _WRITERS_ERRORS) else _unreadable(files)
            if not damaged:
                raise BadValueError(f"query: {_first_line(error)}") from error
            warnings += [_left_out(path, reason) for path, reason in damaged.items()]
            files = {name: [path for path in paths if path not in damaged] for name, paths in files.items()}


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


def _run(
    statement: duckdb.Statement, data: DataDir, rows: Sequence[RunRow], files: dict[str, list[str]], warnings: list[str]
) -> Result:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        connection.register("runs", runs_table(rows))
        for name, paths in files.items():
            connection.execute(_view(name, paths))
        connection.execute(f"SET allowed_directories = [{_quoted(str(data.runs))}]")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        answer = connection.execute(statement)
        columns = answer.description or []
        return Result(
            columns=[column[0] for column in columns],
            types=[str(column[1]) for column in columns],
            rows=answer.fetchall(),
            warnings=warnings,
        )


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


def _files(data: DataDir) -> tuple[dict[str, list[str]], list[str]]:
    """Every measurement with its files, the declared ones first; a file whose end is damaged is told and left out."""
    files: dict[str, list[str]] = {name: [] for name in MEASUREMENTS}
    warnings: list[str] = []
    for run in data.all_runs():
        for name in measurements_of(run):
            path = run.samples / f"{name}.parquet"
            if reason := _damage(path):
                warnings.append(_left_out(str(path), reason))
            else:
                files.setdefault(name, []).append(str(path))
    return files, warnings


def _damage(path: Path) -> str | None:
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        return _first_line(error)
    return None


def _unreadable(files: dict[str, list[str]]) -> dict[str, str]:
    """Which files cannot be read in full, and why: DuckDB's message does not name them."""
    damaged: dict[str, str] = {}
    for path in (path for paths in files.values() for path in paths):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                file.read()
        except (OSError, pa.ArrowException) as error:
            damaged[path] = _first_line(error)
    return damaged


def _left_out(path: str, reason: str) -> str:
    return f"{path}: is damaged and left out ({reason[:120]})"


def _view(name: str, paths: Sequence[str]) -> str:
    """The declared columns, so that a view has them even where no file does, joined by name with those of the files."""
    kinds = dict.fromkeys(tags_of(name), "VARCHAR")
    kinds |= {field: "DOUBLE" if kind == NUMBER else "VARCHAR" for field, kind in declared_fields(name).items()}
    columns = [f'NULL::{kind} AS "{column}"' for column, kind in ({"time_ns": "BIGINT"} | kinds).items()]
    shape = f"SELECT {', '.join(columns)} WHERE false"
    if paths:
        names = ", ".join(map(_quoted, paths))
        shape += f" UNION ALL BY NAME SELECT * FROM read_parquet([{names}], union_by_name=true)"  # noqa: S608 - quoted
    return f"CREATE VIEW {_identifier(name)} AS {shape}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hint = next((line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))), "")
    return f"{lines[0] if lines else type(error).__name__}{'; ' if hint else ''}{hint}"
