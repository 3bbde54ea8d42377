"""What a run of a campaign costs beyond QEMU's own migration time, cold and warm, read from the campaigns' directory.

    .venv/bin/python -m bench.campaign_overhead [--data-dir DIR] [--runs 60] [--minutes N] [--read-only]

Each way is one campaign of six cells (pre-copy, post-copy and multifd at two bandwidths). In a kept data directory it
goes on where it was cut. guestperf spends 28.5 s a run on this kind of machine (docs/measured.md).
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.run_overhead import GUESTPERF_SECONDS
from driver.campaign_state import read_state
from driver.datadir import DataDir
from exporter import history

CELLS = 6
LEAST_SECONDS = 15.0
"""A campaign that is interrupted earlier than this may not have come to hear of it."""
PLAN = """\
name = "overhead-{name}"
repeats = {repeats}
order = "interleaved"
warm_start = {warm}

[scenario]
downtime_limit_ms = 300
post_copy_iterations = 2
multifd_channels = 2

[hardware]
memory_mib = 128
accelerator = "tcg"

[workload]
working_set_mib = 16
granularity_mib = 4

[grid]
strategy = ["none", "post-copy", "multifd"]
bandwidth_mib_s = [64, 256]
"""


def measure(data: Path, name: str, runs: int, seconds: float) -> None:
    """Run the campaign, or what is left of it, for at most so many seconds."""
    plan = data / f"overhead-{name}.toml"
    plan.write_text(PLAN.format(name=name, repeats=max(1, runs // CELLS), warm=str(name == "warm").lower()))
    command = [sys.executable, "-m", "migrascope.main", "campaign", "run", str(plan), "--data-dir", str(data), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, words = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, words = process.communicate()
    if process.returncode not in (0, 130):
        raise SystemExit(f"bench.campaign_overhead: campaign {name}: exit {process.returncode}: {words[-2000:]}")


def overheads(data: DataDir, name: str) -> tuple[list[float], list[float]]:
    """Seconds of each run that completed (its process from its start to its end), and of QEMU's migration in it."""
    rows = {row.run: row for row in history.runs(data)}
    taken, moved = [], []
    for place in data.all_campaigns():
        if not place.campaign.startswith(f"overhead-{name}-"):
            continue
        for result in read_state(place).results():
            row = rows.get(result.run)
            if row is not None and row.outcome == "completed" and (total := row.figures.get("total_seconds")):
                taken.append(result.seconds)
                moved.append(total)
    return taken, moved


@contextlib.contextmanager
def scratch(kept: Path | None) -> Iterator[Path]:
    """The directory that is kept, or one of its own."""
    if kept is not None:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="bench-campaign-") as path:
        yield Path(path)


def main() -> None:
    """Run what is missing and print both ways side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=None, help="keep the campaigns here, and go on with them")
    parser.add_argument("--runs", type=int, default=60, help="of each campaign, a multiple of 6")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop in good order after this time")
    parser.add_argument("--read-only", action="store_true", help="print what the directory holds")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    with scratch(arguments.data_dir) as path:
        for name in () if arguments.read_only else ("warm", "cold"):
            if (left := end - time.monotonic()) > LEAST_SECONDS:
                measure(path, name, arguments.runs, left)
        for name in ("cold", "warm"):
            taken, moved = overheads(DataDir.open(path), name)
            if not taken:
                print(f"{name}: no run has completed")
                continue
            beyond = [seconds - total for seconds, total in zip(taken, moved, strict=True)]
            mean = statistics.fmean(beyond)
            print(
                f"{name}: {len(beyond)} runs: mean {mean:.2f} s, median {statistics.median(beyond):.2f}, worst"
                f" {max(beyond):.2f} beyond QEMU's migration time ({statistics.fmean(moved):.2f} s in the mean);"
                f" guestperf {GUESTPERF_SECONDS} s, {GUESTPERF_SECONDS / mean:.1f} times as much"
            )


if __name__ == "__main__":
    main()
