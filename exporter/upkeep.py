"""Keeping a long history well: what is damaged in it, what may go, and its index made anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from driver.datadir import DataDir, RunDir
from driver.record import read_record
from exporter import compaction, history
from exporter.abandoned import driver_lives
from exporter.compaction import Compaction, measurements_of
from exporter.index import RUNNING, Index, RunRow, damaged_row
from exporter.journal import JournalReader
from exporter.measurements import RUN_TAGS
from exporter.rows import tags_of
from exporter.selection import EVERYTHING, Selection
from exporter.summary import read_summary
from workload.errors import BadValueError, BrokenError, MigrascopeError


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """One run that went, or would go: its id, the bytes that are freed, and why it stays where it does."""

    run: str
    freed_bytes: int
    kept: str | None = None


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """How many runs were stored now, the reasons of those that were not, and the bytes before and after."""

    stored: int
    waiting: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def verify(data: DataDir, selection: Selection = EVERYTHING) -> dict[str, list[str]]:
    """Read all that is kept of the runs that are meant; returns each run with what is wrong with it, one line a fault.

    Record and summary are read strictly, each Parquet file to its end with its checksums; it must hold as many rows as
    samples were compacted, and time must rise strictly within a series. Nothing is changed, and no run is closed.
    """
    known = {row.run: row for row in _known(data)}
    return {
        run.run: list(_faults(run))
        for run in data.all_runs()
        if selection.admits(known.get(run.run) or damaged_row(run.run, "not in the index"))
    }


def prune(data: DataDir, selection: Selection, *, samples_only: bool, dry: bool) -> list[Pruned]:
    """Remove the runs that are meant; with `samples_only` their records, summaries and rows in the index stay.

    A run that goes on, or whose journal is still written, is kept. With `dry` nothing is removed.

    Raises:
        BadValueError: nothing says which runs are meant.
    """
    if selection == EVERYTHING:
        raise BadValueError("history: prune wants to be told which runs, such as --until 30d (all that are older)")
    return [_pruned(data, row, samples_only=samples_only, dry=dry) for row in selection.of(history.runs(data))]


def compact(data: DataDir) -> Compacted:
    """Close what dead drivers left and store every ended run that has a journal."""
    waiting = [run for run in data.all_runs() if run.journals()]
    before = sum(_size(run.path) for run in waiting)
    rows = {row.run: row for row in history.runs(data)}
    left = {run.run: _why_waiting(rows.get(run.run)) for run in waiting if run.journals()}
    return Compacted(
        stored=len(waiting) - len(left),
        waiting=tuple(f"run {run}: {reason}" for run, reason in left.items()),
        bytes_before=before,
        bytes_after=sum(_size(run.path) for run in waiting),
    )


def rebuild_index(data: DataDir) -> list[RunRow]:
    """Forget the index and read every run again; returns the new rows."""
    for suffix in ("", "-wal", "-shm"):
        data.index.with_name(data.index.name + suffix).unlink(missing_ok=True)
    return history.runs(data)


def _known(data: DataDir) -> Iterable[RunRow]:
    index = Index(data.index)
    try:
        return [row for _, row in index.rows().values()]
    finally:
        index.close()


def _faults(run: RunDir) -> Iterator[str]:
    try:
        read_record(run)
    except MigrascopeError as error:
        yield str(error)
    done: Compaction | None = None
    try:
        done = compaction.read_compaction(run)
    except MigrascopeError as error:
        yield str(error)
    rows, whole = 0, True
    for name in measurements_of(run):
        try:
            table = compaction.stored(run, name)
        except MigrascopeError as error:
            whole = False
            yield str(error)
            continue
        rows += table.num_rows
        if wrong := _unordered(table, tags_of(name)):
            yield f"{run.samples / name}.parquet: {wrong} rows are not later than the one before in their series"
    for path in run.journals():
        reader = JournalReader(path=path)
        for _ in reader.batches():
            pass
        if reader.damaged_lines:
            yield f"{path}: {reader.damaged_lines} damaged lines, what they held is lost"
    if done and whole and not run.journals() and rows < done.samples:
        yield f"{run.samples}: hold {rows} samples of {done.samples}"
    if run.summary.exists():
        try:
            read_summary(run)
        except MigrascopeError as error:
            yield f"{error}; it is computed again when it is next asked for"


def _unordered(table: pa.Table, tags: Iterable[str]) -> int:
    """How many rows are not later than their predecessor of the same series."""
    names = [name for name in tags if name in table.column_names and name not in RUN_TAGS]
    keys = zip(*(table.column(name).cast(pa.string()).to_pylist() for name in names), strict=True)
    series = list(keys) if names else [()] * table.num_rows
    times = table.column("time_ns").to_pylist()
    return sum(
        series[place] == series[place - 1] and times[place] <= times[place - 1] for place in range(1, len(times))
    )


def _pruned(data: DataDir, row: RunRow, *, samples_only: bool, dry: bool) -> Pruned:
    run = data.run(row.run)
    if row.outcome == RUNNING or driver_lives(run):
        return Pruned(run=row.run, freed_bytes=0, kept="it goes on")
    gone = [run.samples, *run.path.glob("console-*.log")] if samples_only else [run.path]
    freed = sum(map(_size, gone))
    try:
        with compaction.locked(run):
            for path in [] if dry else gone:
                _remove(path)
    except (BrokenError, OSError) as error:
        return Pruned(run=row.run, freed_bytes=0, kept=str(error))
    return Pruned(run=row.run, freed_bytes=freed)


def _why_waiting(row: RunRow | None) -> str:
    return "goes on" if row and row.outcome == RUNNING else "an exporter still writes its journal, or it is damaged"


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
