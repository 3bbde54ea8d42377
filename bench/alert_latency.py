"""From a verdict to the webhook: runs that never converge, under the stack's own Prometheus and Alertmanager.

Prints, for each run, the seconds from the exporter's first `not converging` to the notification's arrival; then median
and worst. Prometheus scrapes and evaluates once a second, the alert holds for 2 s, Alertmanager waits 1 s for a group.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from dashboards import stack
from driver.datadir import DataDir
from exporter import history
from tests.waiting import wait_until
from tests.webhook import Told, receiving
from workload.cache import cache_dir

RUN = ("--bandwidth-mib-s", "32", "--downtime-limit-ms", "100", "--memory-mib", "128", "--working-set-mib", "16",
       "--granularity-mib", "4", "--max-time-seconds", "12", "--accel", "tcg", "--warm-start")  # fmt: skip
ALERT = "MigrationNotConverging"
PAUSE_SECONDS = 60.0
"""Between two runs, at most: until the one before has been told to be resolved."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    os.environ["MIGRASCOPE_LINGER_SECONDS"] = "120"
    found = []
    with tempfile.TemporaryDirectory() as scratch, receiving() as told:
        data = DataDir.open(Path(scratch) / "data")
        try:
            stack.up(data, cache_dir(), webhook=told.url)
            for number in range(arguments.runs):
                if number:
                    wait_until(lambda: told.alerts("resolved"), PAUSE_SECONDS)
                found.append(one(data, told))
                print(f"run {number + 1}: {found[-1]:.2f} s", flush=True)
        finally:
            stack.down(data)
    print(f"{len(found)} runs: median {statistics.median(found):.2f} s, worst {max(found):.2f} s")


def one(data: DataDir, told: Told) -> float:
    """One run; returns the seconds from its first verdict to the notification."""
    told.notifications.clear()
    command = [sys.executable, "-m", "migrascope.main", "run", *RUN, "--data-dir", str(data.path)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    run = data.all_runs()[-1]
    rows = history.load(data, run, "verdict").to_pylist()
    verdict = min(row["time_ns"] for row in rows if row["not_converging"]) / 1e9
    wait_until(lambda: told.first(ALERT), PAUSE_SECONDS, f"run {run.run}: {ALERT} was not told")
    return float((told.first(ALERT) or 0.0) - verdict)


if __name__ == "__main__":
    main()
