"""A long history: how long it takes to list 2,000 runs, and to ask for the guest's pace over all of them.

    .venv/bin/python -m bench.long_history [--runs 2000] [--from DATA_DIR] [--keep DIR]

The runs are copies of recorded ones (those of --from, else replayed captures) with fresh ids and times, one every 43 s,
as 24 h of a campaign leave them. Each command is a whole process, from its start to its end; the slowest of three
counts. Targets: the list in under a second; p50 and p95 of xor seconds per GiB by strategy and phase in under two.
Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from driver.datadir import DataDir, RunDir
from driver.record import RunRecord, read_record
from driver.scenario import Scenario
from exporter import compaction, history
from exporter.summary import read_summary
from tests.report_runs import SCENARIO, replayed_run

EVERY_NS = 43_000_000_000
LIST_SECONDS, PACE_SECONDS = 1.0, 2.0
REPEATS = 3
CAPTURES = {
    "7.2-nonconverge": SCENARIO,
    "10.0-m-postcopy-rescue": replace(SCENARIO, post_copy_iterations=3),
    "7.2-m-pause-rescue": replace(SCENARIO, pause_iterations=3),
    "7.2-m-autoconverge-i80-s19": Scenario(auto_converge_increment=19, auto_converge_initial=80),
}
PACE = "SELECT strategy, phase, quantile_cont(seconds_per_gib, [0.5, 0.95]) FROM guest GROUP BY ALL ORDER BY 1, 2"


def main() -> int:
    """Make the history, measure, print the table, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="how many runs the history holds")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="DATA_DIR", help="the recorded runs that are copied"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the history here, and use one that is there")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="migrascope-bench-"))
    try:
        data = DataDir.open(arguments.keep or folder / "data")
        if len(data.all_runs()) < arguments.runs:
            source = DataDir.open(arguments.source) if arguments.source else _replayed(folder / "source")
            multiply(source, data, arguments.runs)
        return _measure(data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def multiply(source: DataDir, data: DataDir, count: int) -> None:
    """Fill a data directory with copies of a history's runs, in turn, each with an id and times of its own."""
    history.runs(source)
    templates = [
        (run, read_record(run), {name: compaction.load(run, name) for name in compaction.measurements_of(run)})
        for run in source.all_runs()
    ]
    first_ns = min(record.clock.wall_ns for _, record, _ in templates)
    for number in range(count):
        run, record, tables = templates[number % len(templates)]
        shift_ns = first_ns + number * EVERY_NS - record.clock.wall_ns
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime((record.clock.wall_ns + shift_ns) // 1_000_000_000))
        _copy(run, record, tables, data.run(f"{moment}-{number:04x}"), shift_ns)


def _replayed(path: Path) -> DataDir:
    data = DataDir.open(path)
    for name, scenario in CAPTURES.items():
        replayed_run(data, f"run-{name}", name, scenario)
    return data


def _copy(run: RunDir, record: RunRecord, tables: dict[str, pa.Table], to: RunDir, shift_ns: int) -> None:
    to.samples.mkdir(parents=True)
    for name, table in tables.items():
        moved = table.set_column(0, "time_ns", pc.add(table.column("time_ns"), pa.scalar(shift_ns, pa.int64())))
        ids = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(table)), [to.run])
        moved = moved.set_column(moved.column_names.index("run"), "run", ids)
        compaction.write_table(to.samples / f"{name}.parquet", moved)
    shutil.copy(run.samples / compaction.RECORD, to.samples)
    clock = replace(record.clock, wall_ns=record.clock.wall_ns + shift_ns)
    phases = [
        {"name": phase.name, "start_ns": phase.start_ns + shift_ns, "end_ns": phase.end_ns and phase.end_ns + shift_ns}
        for phase in record.phases
    ]
    facts = asdict(replace(record, run=to.run, clock=clock)) | {"phases": phases}
    to.record.write_bytes(orjson.dumps(facts))
    figures = asdict(read_summary(run)) | {"run": to.run}
    moments = {name: value + shift_ns for name, value in figures.items() if name.endswith("_ns") and value is not None}
    to.summary.write_bytes(orjson.dumps(figures | moments))


def _measure(data: DataDir) -> int:
    rows: list[tuple[str, float, float | None]] = []
    data.index.unlink(missing_ok=True)
    rows.append(("the list, its index built anew", _seconds(data, ["runs", "--json"]), None))
    rows.append(("the list, as a table", _slowest(data, ["runs"]), LIST_SECONDS))
    rows.append(("the list, as JSON", _slowest(data, ["runs", "--json"]), LIST_SECONDS))
    rows.append(("p50, p95 of the pace", _slowest(data, ["query", "--json", PACE]), PACE_SECONDS))
    table = Table(title=f"{len(data.all_runs())} runs, {_megabytes(data.path):.0f} MB")
    for column in ("whole command", "s", "wanted s"):
        table.add_column(column, justify="right" if column != "whole command" else "left")
    for name, seconds, wanted in rows:
        table.add_row(name, f"{seconds:.2f}", "" if wanted is None else f"{wanted:g}")
    Console(width=100).print(table)
    return 0 if all(wanted is None or seconds < wanted for _, seconds, wanted in rows) else 1


def _slowest(data: DataDir, words: Sequence[str]) -> float:
    return max(_seconds(data, words) for _ in range(REPEATS))


def _seconds(data: DataDir, words: Sequence[str]) -> float:
    command = [sys.executable, "-m", "migrascope.main", *words[:1], "--data-dir", str(data.path), *words[1:]]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(main())
