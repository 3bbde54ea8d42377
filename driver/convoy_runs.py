"""The runs of a convoy: their ids, which follow from the first one's, and the record that stands for all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from driver.datadir import DataDir
from driver.record import OUTCOMES, RunRecord, read_record
from driver.request import new_run_id
from workload.errors import MigrascopeError

UNFINISHED = max(OUTCOMES.values()) + 1


def convoy_runs(first: str, guests: int) -> list[str]:
    """The ids of a convoy's runs by seat, counted on from the first one's, which is the convoy's."""
    stem, _, number = first.rpartition("-")
    return [f"{stem}-{int(number, 16) + seat:04x}" for seat in range(guests)]


def free_runs(data: DataDir, guests: int, taken: Collection[str] = ()) -> list[str]:
    """New ids for a run, or for those of a convoy, none of which is taken or has a directory yet."""
    while True:
        runs = convoy_runs(new_run_id(), guests)
        if not any(run in taken or data.run(run).path.exists() for run in runs):
            return runs


def deciding_record(data: DataDir, first: str) -> RunRecord | None:
    """The record that tells how a run ended, or a convoy: that of the guest that fared worst, named in the reason.

    None where the first run left no record; `abandoned`, without a reason, where another guest's left none.
    """
    try:
        record = read_record(data.run(first))
    except MigrascopeError:
        return None
    guests = record.scenario.convoy_guests if record.scenario and record.convoy else 1
    worst, seat = record, 1
    for number, run in enumerate(convoy_runs(first, guests)[1:], start=2):
        try:
            other = read_record(data.run(run))
        except MigrascopeError:
            return replace(record, outcome="abandoned", reason=None)
        if _rank(other) > _rank(worst):
            worst, seat = other, number
    if guests == 1 or not worst.reason:
        return worst
    return replace(worst, reason=f"guest {seat} of {guests}: {worst.reason}")


def _rank(record: RunRecord) -> int:
    return OUTCOMES[record.outcome] if record.outcome else UNFINISHED
