"""Abandoned runs: a run without an outcome whose driver died is closed by who obtains its lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from driver.datadir import RunDir
from driver.lock import try_lock
from driver.record import RunRecord, read_record, write_record


def close_abandoned(run: RunDir) -> RunRecord:
    """Return a run's record; one that no driver holds any more is first given the outcome `abandoned`.

    A phase that was under way keeps its open end. Nothing is written while the driver lives.

    Raises:
        MigrascopeError: run.json is missing or damaged.
        OSError: it cannot be written.
    """
    record = read_record(run)
    if record.outcome is not None:
        return record
    with _obtained(run) as obtained:
        if not obtained:
            return record
        record = read_record(run)  # the driver may have ended well just before its lock came free
        if record.outcome is None:
            open_phase = next((phase.name for phase in reversed(record.phases) if phase.end_ns is None), None)
            where = (
                f"in phase {open_phase}" if open_phase else "between two phases" if record.phases else "at its start"
            )
            who = "exporter" if record.kind == "observed" else "driver"
            record = replace(record, outcome="abandoned", reason=f"the {who} died {where}")
            write_record(run, record)
            run.remove_state()
            run.remove_disks()
        return record


def driver_lives(run: RunDir) -> bool:
    """Whether a driver holds the run's lock."""
    with _obtained(run) as obtained:
        return not obtained


@contextlib.contextmanager
def _obtained(run: RunDir) -> Iterator[bool]:
    """Try to hold the run's lock; a run directory that came without its lock file has no driver here."""
    if not run.lock.exists():
        yield True
        return
    with try_lock(run.lock) as taken:
        yield taken
