"""Sending again: a run of the history, live or compacted, and dead letters, back into a spool."""

from __future__ import annotations

from driver.datadir import RunDir
from driver.record import read_record
from exporter.journal import Batch, JournalWriter
from exporter.mirror.spool import Spool
from exporter.recorded import recorded_parts
from workload.errors import BadValueError

BATCH_SAMPLES = 500


def spool_again(spool: Spool, run: RunDir) -> None:
    """Have a run sent from its start; a run that is spooled already is begun again.

    What was compacted is written into the spool as a journal once more, in the order of time.

    Raises:
        BadValueError: there is no sample of the run.
        BrokenError: the disk refuses.
        MigrascopeError: its record or its samples are damaged.
    """
    read_record(run)
    with spool.adding(run) as spooled:
        if not spooled.since.exists():
            if run.samples.is_dir():
                spooled.kept.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                for segment in spooled.kept.journals():  # a writing of it that did not come to its end
                    segment.unlink()
                _write(run, spooled.kept)
            spooled.link(run, segments=not run.samples.is_dir())
            if not spooled.kept.journals():
                raise BadValueError(f"run {run.run}: has no samples to send")
        spooled.since.touch()


def retry_dead_letters(spool: Spool) -> int:
    """Have the dead letters sent again; returns how many there are. OSError passes through."""
    if spool.retried_letters.exists() or not spool.dead_letters.exists():
        return 0
    count = spool.dead_letters.read_bytes().count(b"\n")
    spool.dead_letters.rename(spool.retried_letters)
    return count


def _write(run: RunDir, kept: RunDir) -> None:
    for header, samples in recorded_parts(run):
        with JournalWriter(kept.new_journal(), header) as journal:
            for start in range(0, len(samples), BATCH_SAMPLES):
                journal.append(Batch(samples=samples[start : start + BATCH_SAMPLES]))
