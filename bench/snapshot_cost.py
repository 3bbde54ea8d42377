"""What a background snapshot costs its guest, beside a guest that is saved and loaded: medians over runs in turn.

python -m bench.snapshot_cost [--runs N] [--data-dir DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from driver.datadir import DataDir
from driver.hardware import Hardware
from driver.record import RunRecord
from driver.request import Request
from driver.run import run_migration
from driver.scenario import Scenario
from exporter import history
from exporter.start import start_exporter
from exporter.summary import Summary
from workload.settings import Workload

BINARIES = ("qemu-system-x86_64", "qemu-system-x86_64-10.0")
HARDWARE = Hardware(vcpus=1, memory_mib=256, accelerator="tcg")
WORKLOAD = Workload(working_set_mib=96, granularity_mib=4, probe_hz=200)
UNCAPPED = Scenario(bandwidth_mib_s=4000, downtime_limit_ms=500)
WAYS = {
    "saved to a file": replace(UNCAPPED, transport="exec-file"),
    "snapshot to a file": replace(UNCAPPED, transport="exec-file", background_snapshot=True),
    "snapshot to a waiting QEMU": replace(UNCAPPED, transport="unix", background_snapshot=True),
}
FIGURES = ("done s", "load s", "dark ms", "slower x", "p99 before us", "p99 during us", "longest us", "p99 after us")


def figures(record: RunRecord, summary: Summary) -> list[float | None]:
    """A run's `FIGURES`; None for one that it does not have."""
    settled, meanwhile = summary.settle_seconds_per_gib_mean, summary.migrate_seconds_per_gib_mean
    saved = record.saved
    accesses = (
        summary.before_access_seconds_p99, summary.during_access_seconds_p99, summary.during_access_seconds_max,
        summary.after_access_seconds_p99,
    )  # fmt: skip
    return [
        saved.save_seconds if saved else summary.total_seconds,
        saved.load_seconds if saved else None,
        None if summary.blackout_seconds is None else 1e3 * summary.blackout_seconds,
        meanwhile / settled if meanwhile and settled else None,
        *(None if seconds is None else 1e6 * seconds for seconds in accesses),
    ]


async def measure(data: DataDir, runs: int) -> dict[tuple[str, str], list[list[float | None]]]:
    """The figures of all runs, by binary and way; those that did not complete are told and left out."""
    found: dict[tuple[str, str], list[list[float | None]]] = defaultdict(list)
    for _ in range(runs):
        for binary in BINARIES:
            for way, scenario in WAYS.items():
                request = Request(
                    scenario=scenario, hardware=HARDWARE, workload=WORKLOAD, warm_start=True, source_binary=binary
                )
                record = await run_migration(request, data, start_exporter)
                summary = history.summary(data.run(record.run))
                if record.outcome == "completed" and summary:
                    found[(binary, way)].append(figures(record, summary))
                else:
                    sys.stderr.write(f"{binary}, {way}: {record.outcome}: {record.reason}\n")
    return found


def main() -> int:
    """Measure, and print the median of each figure, its least and its most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = DataDir.open(arguments.data_dir or Path(scratch) / "data")
        found = asyncio.run(measure(data, arguments.runs))
    print(f"| QEMU | way | runs | {' | '.join(FIGURES)} |")
    print("|---|---|---|" + "---|" * len(FIGURES))
    for (binary, way), rows in found.items():
        print(f"| {binary} | {way} | {len(rows)} | {' | '.join(map(_told, zip(*rows, strict=True)))} |")
    return 0


def _told(values: tuple[float | None, ...]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{statistics.median(known):.3g} ({min(known):.3g}-{max(known):.3g})"


if __name__ == "__main__":
    sys.exit(main())
