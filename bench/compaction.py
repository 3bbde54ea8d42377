"""Compaction: samples a second from journal to Parquet, and what a field value costs there.

    .venv/bin/python -m bench.compaction [--from DATA_DIR]

Without --from the runs are replayed captures, whose guest lines and counters are regular and so pack better than real
ones: the target of at most 4 bytes a value is judged on the recorded runs of --from. Exit status 1 when they miss it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from driver.datadir import DataDir, RunDir
from exporter import compaction, history
from exporter.measurements import RUN_TAGS
from exporter.rows import tags_of
from tests.report_runs import SCENARIO, replayed_run

MOST_BYTES = 4.0
CAPTURES = ("7.2-nonconverge", "10.0-m-postcopy-rescue", "7.2-m-autoconverge-i80-s19")


def main() -> int:
    """Measure, print the table, and say whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, metavar="DATA_DIR", help="recorded runs")
    source = parser.parse_args().source
    folder = Path(tempfile.mkdtemp(prefix="migrascope-bench-"))
    try:
        table = Table()
        for column in ("run", "samples", "samples/s", "journal kB", "Parquet kB", "field values", "bytes a value"):
            table.add_column(column, justify="right" if column != "run" else "left")
        data = DataDir.open(folder / "data")
        for name in CAPTURES:
            run = replayed_run(data, f"run-{name}", name, SCENARIO)
            journal = sum(path.stat().st_size for path in run.journals())
            began = time.monotonic()
            done = compaction.compact(run)
            rate = done.samples / (time.monotonic() - began)
            size, values = _packed(run)
            table.add_row(run.run, f"{done.samples}", f"{rate:,.0f}", f"{journal / 1e3:.0f}", f"{size / 1e3:.0f}",
                          f"{values}", f"{size / values:.2f}")  # fmt: skip
        total = [0, 0]
        if source:
            recorded = DataDir.open(source)
            history.runs(recorded)
            for run in recorded.all_runs():
                size, values = _packed(run)
                total = [total[0] + size, total[1] + values]
                table.add_row(run.run, "", "", "", f"{size / 1e3:.0f}", f"{values}", f"{size / max(values, 1):.2f}")
            table.add_row("all recorded runs", "", "", "", f"{total[0] / 1e3:.0f}", f"{total[1]}",
                          f"{total[0] / max(total[1], 1):.2f}")  # fmt: skip
        Console(width=110).print(table)
        return 0 if total[0] <= MOST_BYTES * total[1] else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _packed(run: RunDir) -> tuple[int, int]:
    """The bytes of a run's Parquet files, and how many field values they hold; stamps and tags are not counted."""
    size = values = 0
    for name in compaction.measurements_of(run):
        table = compaction.stored(run, name)
        size += (run.samples / f"{name}.parquet").stat().st_size
        for column, field in zip(table.columns, table.schema, strict=True):
            if field.name not in {"time_ns", *RUN_TAGS, *tags_of(name)}:
                values += len(column) - column.null_count
    return size, values


if __name__ == "__main__":
    sys.exit(main())
