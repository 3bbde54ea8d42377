"""`migrascope report`: the interactive HTML file of one or several recorded runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dashboards.document import write_document
from dashboards.labels import labels
from dashboards.report_page import page
from dashboards.report_view import MEASUREMENTS, RunView
from driver.datadir import DataDir, RunDir
from driver.marks import read_marks
from driver.record import read_record
from exporter import history
from workload.errors import BadValueError


def write(data: DataDir, runs: Sequence[RunDir], output: Path) -> None:
    """Write the report of `runs`, in their order, as one self-contained HTML file; its directory is made.

    Raises:
        BadValueError: no run was given, or `output` cannot be a file.
        MigrascopeError: a run's record or samples are damaged; the message names the file.
        BrokenError: the file cannot be written.
    """
    if not runs:
        raise BadValueError("report: no run was given; `migrascope runs` lists them")
    write_document(output, page(views(data, runs)))


def views(data: DataDir, runs: Sequence[RunDir]) -> list[RunView]:
    """Read runs for the report: record, figures, samples and marks."""
    records = [read_record(run) for run in runs]
    return [
        RunView(
            record=record,
            label=label,
            summary=history.summary(run),
            tables={name: history.load(data, run, name) for name in MEASUREMENTS},
            marks=read_marks(run),
        )
        for run, record, label in zip(runs, records, labels(records), strict=True)
    ]
