"""The history: every run that was, brought to its final form on disk, listed, and read back for those who show it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from driver.datadir import DataDir, RunDir
from driver.record import RunRecord, read_record
from exporter.abandoned import close_abandoned, driver_lives
from exporter.index import RUNNING, Index, RunRow, damaged_row, opened, row_of
from exporter.summary import Summary, read_summary, write_summary
from workload.errors import BrokenError, MigrascopeError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


def store_run(data: DataDir, run: RunDir) -> None:
    """Bring an ended run to its final form: samples, summary, index row; then the journal goes.

    Idempotent; after a crash at any moment it is simply done again.

    Raises:
        BrokenError: an exporter still writes the journal, or the disk refuses; the journal stays.
        MigrascopeError: what an earlier compaction wrote, or run.json, is damaged; the journal stays.
    """
    from exporter import compaction  # noqa: PLC0415 - Arrow takes 0.3 s: paid where samples are read, not to list runs
    from exporter.derivation import summarise  # noqa: PLC0415

    with _disk(run):
        done = compaction.compact(run)
        record = read_record(run)
        summary = summarise(record, done, lambda measurement: compaction.load(run, measurement))
        write_summary(run, summary)
        with opened(data.index) as index:
            index.put(_stamp(run), row_of(record, summary))
        compaction.discard_journal(run)


def runs(data: DataDir) -> list[RunRow]:
    """Every run, oldest first. The index is brought up to date first; runs that nobody holds are closed and stored.

    A run whose run.json is damaged has the outcome `damaged` and the reason; it hides no other.
    """
    found: list[RunRow] = []
    with opened(data.index) as index:
        known = index.rows()
        for run in data.all_runs():
            stamp, row = known.pop(run.run, ("", None))
            if row is None or stamp != _stamp(run) or row.outcome == RUNNING or run.journals():
                row = _fresh_row(data, run, index)
            found.append(row)
        for gone in known:
            index.drop(gone)
    return found


def summary(run: RunDir) -> Summary:
    """A run's figures: from summary.json, or computed again where that is missing, damaged or out of date.

    Raises:
        MigrascopeError: run.json or a file of samples is damaged.
    """
    record = read_record(run)
    return _kept_summary(run) or _computed(run, record)


def load(data: DataDir, run: RunDir, measurement: str) -> pa.Table:  # noqa: ARG001 - callers need not know which part of the history holds a run
    """One measurement of a run as a table, from Parquet or, not yet compacted, from the journal.

    Columns: `time_ns` (int64, strictly rising within a series), tags (dictionaries), fields (float64, string for
    words; absent is null); rows stand series by series. Without samples the table has its columns and no rows.

    Raises:
        MigrascopeError: its Parquet file is damaged; the message names it.
    """
    from exporter import compaction  # noqa: PLC0415

    return compaction.load(run, measurement)


def _fresh_row(data: DataDir, run: RunDir, index: Index) -> RunRow:
    """Close, store and read one run; whatever is wrong with it stays its own affair."""
    try:
        with _disk(run):
            record = close_abandoned(run)
    except MigrascopeError as error:
        row = damaged_row(run.run, str(error))
    else:
        row = row_of(record, _stored_summary(data, run) if record.outcome else None)
    index.put(_stamp(run), row)
    return row


def _stored_summary(data: DataDir, run: RunDir) -> Summary | None:
    """An ended run's figures, stored first if they were not; None, and a line in the log, where they cannot be had.

    While its driver lives it is not stored: should the exporter have died, the next one reads the journal to know where
    to go on, and would record anew what it did not find there.
    """
    if run.journals() and not driver_lives(run):
        try:
            store_run(data, run)
        except BrokenError as error:  # its exporter still writes, or the disk is full: the next reader's turn
            log.info("%s", error)
        except MigrascopeError as error:
            log.warning("%s", error)
    if kept := _kept_summary(run):
        return kept
    try:
        found = summary(run)
    except MigrascopeError as error:
        log.warning("%s", error)
        return None
    if not run.journals():
        with contextlib.suppress(OSError):  # where it cannot be kept, the next reader computes it too
            write_summary(run, found)
    return found


def _kept_summary(run: RunDir) -> Summary | None:
    """What summary.json says; None where it is missing, damaged, or older than run.json or one of its keys."""
    with contextlib.suppress(MigrascopeError):
        if not run.journals() and _written_ns(run.summary) >= _written_ns(run.record):
            return read_summary(run)
    return None


def _computed(run: RunDir, record: RunRecord) -> Summary:
    from exporter import compaction  # noqa: PLC0415
    from exporter.derivation import summarise  # noqa: PLC0415

    return summarise(record, compaction.read_compaction(run), lambda measurement: compaction.load(run, measurement))


def _stamp(run: RunDir) -> str:
    """What a row was made from: the moments at which run.json and summary.json were last written."""
    return ":".join(str(_written_ns(path)) for path in (run.record, run.summary))


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _disk(run: RunDir) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BrokenError(f"run {run.run}: cannot be stored in {run.path}: {error.strerror}") from error
