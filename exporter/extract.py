"""Views of the history written to files for other programs: CSV, Parquet or lines of JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from driver.datadir import DataDir
from exporter import query
from exporter.measurements import MEASUREMENTS
from exporter.selection import Selection
from exporter.views import READY
from workload.errors import BadValueError, BrokenError
from workload.suggestion import nearest

BATCH_ROWS = 100_000
VIEWS = ("runs", *READY, *MEASUREMENTS)

TYPES = {
    "BIGINT": pa.int64(), "INTEGER": pa.int32(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(), "TIMESTAMP": pa.timestamp("us"),
}  # fmt: skip

Write = Callable[[pa.RecordBatch], Any]


def extract(
    data: DataDir, kind: str, views: Sequence[str], folder: Path, selection: Selection
) -> tuple[dict[Path, int], list[str]]:
    """Write each view to `folder/VIEW.KIND`; returns the rows of each file, and lines on what had to be left out.

    `kind` is one of `KINDS`; no view named means all. A file that cannot be written whole is not left behind, and one
    that stands there already is replaced only by a whole one.

    Raises:
        BadValueError: a view is not known.
        BrokenError: the disk refuses.
    """
    written: dict[Path, int] = {}
    warnings: list[str] = []
    for name in views or VIEWS:
        if name not in VIEWS:
            raise BadValueError(f"history: view {name!r} is not known{nearest(name, VIEWS)}")
    _make(folder)
    for name in views or VIEWS:
        path = folder / f"{name}.{kind}"
        part = path.with_name(f".{path.name}.part")
        try:
            with (
                query.opened(data, name, selection) as (answer, told),
                KINDS[kind](part, schema := _schema(answer.description or [])) as write,
            ):
                written[path] = 0
                while rows := answer.fetchmany(BATCH_ROWS):
                    write(_batch(rows, schema))
                    written[path] += len(rows)
            part.replace(path)
        except OSError as error:
            raise BrokenError(f"{path}: cannot be written: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)
        warnings += [line for line in told if line not in warnings]
    return written, warnings


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokenError(f"{folder}: cannot be made: {error.strerror}") from error


def _schema(columns: Sequence[tuple[Any, ...]]) -> pa.Schema:
    """DuckDB's columns as Arrow's; what our views do not have would be words."""
    return pa.schema([(name, TYPES.get(str(kind), pa.string())) for name, kind, *_ in columns])


def _batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


@contextlib.contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[Write]:
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _json(path: Path, schema: pa.Schema) -> Iterator[Write]:  # noqa: ARG001 - one shape
    with path.open("wb") as file:
        yield lambda batch: file.writelines(
            orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist()
        )


KINDS: dict[str, Callable[[Path, pa.Schema], contextlib.AbstractContextManager[Write]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
