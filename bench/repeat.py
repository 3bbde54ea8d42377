"""Many migrations in a row: do they complete, is anything left behind, does the blackout agree with QEMU's events?

    .venv/bin/python -m bench.repeat [--runs 20] [--data-dir DIR]

Runs that many pre-copy and that many post-copy migrations under TCG, the way a person would (`migrascope run`), and
prints the distribution of |blackout - (STOP -> RESUME)|, one paused run's blackout, and what was left behind.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

COMMON = ("--accel", "tcg", "--memory-mib", "128", "--working-set-mib", "16", "--granularity-mib", "4")
CASES = {
    "pre-copy": ("--strategy", "none", "--bandwidth-mib-s", "64", "--downtime-limit-ms", "300"),
    "post-copy": ("--strategy", "post-copy", "--bandwidth-mib-s", "64", "--downtime-limit-ms", "100"),
}
PAUSE = ("--strategy", "pause", "--pause-iterations", "3", "--bandwidth-mib-s", "16", "--downtime-limit-ms", "100")
RUN_SECONDS = 120


def leftovers() -> set[str]:
    """Everything that a run could leave behind: QEMU processes, socket directories, network namespaces."""
    found = {
        f"process {process.info['name']} pid {process.pid}"
        for process in psutil.process_iter(["name"])
        if "qemu-system" in (process.info["name"] or "")
    }
    found |= {f"file {path}" for path in Path(tempfile.gettempdir()).glob("migrascope-*/")}
    return found | {f"namespace {path}" for path in Path("/run/netns").glob("*")}


def run(data: Path, *options: str) -> dict[str, Any]:
    """Run one migration through the command line; returns its row."""
    command = [sys.executable, "-m", "migrascope.main", "run", "--json", "--data-dir", str(data), *COMMON, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    if not done.stdout:
        raise SystemExit(f"bench.repeat: {' '.join(options)}: exit {done.returncode}: {done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout)
    merged: dict[str, Any] = row | row["figures"]
    return merged


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--data-dir", type=Path, default=None)
    arguments = parser.parse_args()
    before = leftovers()
    with tempfile.TemporaryDirectory(prefix="bench-repeat-") as scratch:
        data = arguments.data_dir or Path(scratch)
        for name, options in CASES.items():
            rows = [run(data, *options) for _ in range(arguments.runs)]
            report(name, rows)
        row = run(data, *PAUSE)
        print(
            f"pause: {row['outcome']}, blackout {_ms(row.get('blackout_seconds'))}, STOP -> RESUME"
            f" {_ms(row.get('stop_resume_seconds'))}, QEMU's downtime {_ms(row.get('qemu_downtime_seconds'))}"
        )
    time.sleep(35)  # an exporter lingers for 30 s after its last run
    left = leftovers() - before
    print(f"left behind: {', '.join(sorted(left)) or 'nothing'}")


def report(name: str, rows: list[dict[str, Any]]) -> None:
    """Print one case's outcomes and how far blackout and STOP -> RESUME are apart."""
    outcomes = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in {row["outcome"] for row in rows}}
    apart = sorted(
        abs(row["blackout_seconds"] - row["stop_resume_seconds"]) * 1000
        for row in rows
        if row.get("blackout_seconds") is not None and row.get("stop_resume_seconds") is not None
    )
    print(f"{name}: {outcomes}; blackout known in {len(apart)} of {len(rows)}")
    if apart:
        within = sum(value <= 8 for value in apart) / len(apart)
        print(
            f"  |blackout - STOP -> RESUME|: median {statistics.median(apart):.2f} ms,"
            f" worst {apart[-1]:.2f} ms, within 8 ms {within:.0%} (wanted: median <= 3, 90 % within 8)"
        )
        print(f"  blackout median {statistics.median(r.get('blackout_seconds') or 0 for r in rows) * 1000:.1f} ms")


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    main()
