"""Compaction: a run's journal becomes one wide Parquet file a measurement; a crash at any moment loses nothing.

The files are built in a directory of their own and put in place with one rename; only then the journal may go. Which
segments they hold stands beside them in compaction.json, so that a segment is never lost and never taken twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from driver.datadir import RunDir, read_json, write_json
from exporter.rows import Segment, arranged, empty_table, tags_of
from workload.errors import BrokenError, MigrascopeError
from workload.value import from_json

RECORD = "compaction.json"


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What was compacted: the segments (name, size and time of each), and what of them could not be read.

    `dropped_values` counts values whose type was not their field's.
    """

    segments: tuple[str, ...] = ()
    samples: int = 0
    damaged_lines: int = 0
    dropped_values: int = 0


def compact(run: RunDir) -> Compaction:
    """Bring every segment of the journal into `samples/`; the segments stay, `discard_journal` removes them.

    Idempotent. What an earlier compaction wrote is kept and joined with segments that came later.

    Raises:
        BrokenError: an exporter still writes the journal, or the disk refuses.
    """
    with locked(run):
        done = _compaction(run)
        segments = [path for path in run.journals() if _identity(path) not in done.segments]
        if not segments and run.samples.is_dir():
            return done
        tables = {name: [table] for name, table in _stored(run).items()}
        parts = [Segment(run.run, path) for path in segments]
        for part in parts:
            for name, table in part.tables().items():
                tables.setdefault(name, []).append(table)
        result = Compaction(
            segments=(*done.segments, *map(_identity, segments)),
            samples=done.samples + sum(part.samples for part in parts),
            damaged_lines=done.damaged_lines + sum(part.damaged_lines for part in parts),
            dropped_values=done.dropped_values + sum(part.dropped_values for part in parts),
        )
        _write(run, {name: arranged(name, several) for name, several in tables.items()}, result)
        return result


def discard_journal(run: RunDir) -> None:
    """Remove the segments that `samples/` holds.

    Raises:
        BrokenError: an exporter still writes the journal, or the disk refuses.
    """
    with locked(run):
        held = _compaction(run).segments
        for path in run.journals():
            if _identity(path) in held:
                path.unlink()


def read_compaction(run: RunDir) -> Compaction:
    """What is known of a run's compaction; of a journal that was not compacted, what reading it tells."""
    done = _compaction(run)
    parts = [Segment(run.run, path) for path in run.journals() if _identity(path) not in done.segments]
    for part in parts:
        part.tables()
    return Compaction(
        segments=done.segments,
        samples=done.samples + sum(part.samples for part in parts),
        damaged_lines=done.damaged_lines + sum(part.damaged_lines for part in parts),
        dropped_values=done.dropped_values + sum(part.dropped_values for part in parts),
    )


def load(run: RunDir, measurement: str) -> pa.Table:
    """One measurement of a run, from Parquet and from those journal segments that were not compacted yet.

    Columns: `time_ns` (int64, strictly rising within a series), the run's tags and the measurement's (dictionaries),
    its fields (float64, or string for words; absent is null). Rows stand series by series.

    Raises:
        MigrascopeError: its Parquet file is damaged; the message names it.
    """
    held = _compaction(run).segments
    fresh = [table for path in run.journals() if _identity(path) not in held
             and (table := Segment(run.run, path).tables().get(measurement)) is not None]  # fmt: skip
    held_table = [stored(run, measurement)] if (run.samples / f"{measurement}.parquet").exists() else []
    if held_table and not fresh:
        return held_table[0]
    return arranged(measurement, [*held_table, *fresh]) if fresh else empty_table(measurement)


def stored(run: RunDir, measurement: str) -> pa.Table:
    """One measurement of a run from its Parquet file alone, its checksums verified; columns as of `load`.

    Raises:
        MigrascopeError: the file is missing or damaged; the message names it.
    """
    path = run.samples / f"{measurement}.parquet"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=tags_of(measurement)) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise MigrascopeError(f"{path}: is damaged, its samples cannot be read ({reason})") from error


def measurements_of(run: RunDir) -> list[str]:
    """The measurements of which `samples/` holds a file."""
    return sorted(path.stem for path in run.samples.glob("*.parquet"))


def write_table(path: Path, table: pa.Table) -> None:
    """Write one measurement: zstd; times as deltas, floats as byte streams, words and tags as dictionaries.

    Neither Arrow's schema nor statistics of any column but the time are written: in a run of a few seconds they were a
    quarter of the file.
    """
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    words = [field.name for field in table.schema if field.name not in floats and field.name != "time_ns"]
    encodings = {"time_ns": "DELTA_BINARY_PACKED"} | dict.fromkeys(floats, "BYTE_STREAM_SPLIT")
    pq.write_table(
        table, path, compression="zstd", use_dictionary=words, column_encoding=encodings, write_page_checksum=True,
        write_statistics=["time_ns"], store_schema=False,
    )  # fmt: skip


def _write(run: RunDir, tables: dict[str, pa.Table], result: Compaction) -> None:
    fresh, old = run.path / ".samples.new", run.path / ".samples.old"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        for name, table in tables.items():
            path = fresh / f"{name}.parquet"
            write_table(path, table)
            _sync(path)
        write_json(fresh / RECORD, asdict(result))
        _sync(fresh)
        if run.samples.is_dir():
            run.samples.rename(old)
        fresh.rename(run.samples)
        _sync(run.path)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise BrokenError(f"run {run.run}: its samples cannot be written to {run.samples}: {error.strerror}") from error


def _stored(run: RunDir) -> dict[str, pa.Table]:
    return {name: stored(run, name) for name in measurements_of(run)}


def _compaction(run: RunDir) -> Compaction:
    path = run.samples / RECORD
    if not path.exists():
        return Compaction()
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("segments"), list):
        data = data | {"segments": tuple(data["segments"])}
    return from_json(Compaction, data, str(path))


def _identity(segment: Path) -> str:
    facts = segment.stat()
    return f"{segment.name}:{facts.st_size}:{facts.st_mtime_ns}"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the run's directory and every segment of its journal.

    Raises:
        BrokenError: an exporter still writes a segment.
    """
    with contextlib.ExitStack() as stack:
        _lock(stack, run.path, fcntl.LOCK_EX)
        for path in run.journals():
            try:
                _lock(stack, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BrokenError(f"run {run.run}: an exporter still writes its journal {path.name}") from error
        old = run.path / ".samples.old"
        if not run.samples.exists() and old.is_dir():  # a crash between the two renames
            old.rename(run.samples)
        shutil.rmtree(old, ignore_errors=True)
        yield


def _lock(stack: contextlib.ExitStack, path: Path, operation: int) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, handle)
    fcntl.flock(handle, operation)
