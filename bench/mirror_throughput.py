"""How fast mirrors are: the journal's write rate, the spool to a real VictoriaMetrics, influxdb-client's own batching.

    .venv/bin/python -m bench.mirror_throughput [--runs 100]

Recorded runs are journalled, spooled and mirrored, by InfluxDB's protocol and by remote write, this process pinned to
one core; then the same lines go through influxdb-client's batching mode (5,000 a batch), which keeps nothing on disk.
Ratios are to that mode in the same run. Target: at least 50,000 points/s through the spool. Exit status 1 where missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import WriteOptions
from rich.console import Console
from rich.table import Table

from driver.datadir import DataDir
from driver.record import write_record
from exporter.journal import JournalWriter
from exporter.mirror.destination import INFLUXDB, REMOTE_WRITE, Destination
from exporter.mirror.feed import Feed
from exporter.mirror.line_protocol import line, tag_set
from exporter.mirror.spool import Spool, spool_for
from exporter.mirror.status import standing
from tests.recorded import a_record, batches, header, samples
from tests.servers import Server, running_victoria_metrics
from workload.cache import cache_dir

LEAST_POINTS = 50_000
BATCH = 5000


def main() -> int:
    """Measure, print the table, and say whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="recorded runs of 2,215 samples each")
    runs = [f"20261123-{number:06}-benc" for number in range(parser.parse_args().runs)]
    rows: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="bench-mirror-") as scratch:
        folder = Path(scratch)
        data = DataDir.open(folder / "data")
        with running_victoria_metrics(cache_dir() / "bin" / "victoria-metrics", folder / "victoria") as server:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            places = {
                "spool, InfluxDB's protocol": Destination(kind=INFLUXDB, url=server.url, bucket="spool"),
                "spool, remote write": Destination(kind=REMOTE_WRITE, url=f"{server.url}/api/v1/write"),
            }
            spools = {name: spool_for(data, place) for name, place in places.items()}
            found = samples()
            points = len(runs) * len(found)
            rows.append(("journal, 50 samples a write", *measured(lambda: journalled(data, runs, spools), points)))
            for name, spool in spools.items():
                feed = Feed(data, spool, threading.Event())
                rows.append((name, *measured(feed.run, points)))
                assert standing(spool).samples == points
            lines = [[line(sample, tag_set(header(run).tags())) or "" for sample in found] for run in runs]
            rows.append(("influxdb-client's batching", *measured(lambda: batching(server, lines), points)))
    return told(rows, points)


def journalled(data: DataDir, runs: list[str], spools: dict[str, Spool]) -> None:
    """Write every run's journal and spool it for every destination."""
    parts = list(batches(samples()))
    for run in runs:
        directory = data.run(run)
        directory.path.mkdir()
        write_record(directory, a_record(run))
        with JournalWriter(directory.new_journal(), header(run)) as journal:
            for batch in parts:
                journal.append(batch)
        for spool in spools.values():
            spool.follow(directory)
            spool.release(directory)


def batching(server: Server, lines: list[list[str]]) -> None:
    """Send lines as influxdb-client's batching mode does, gzip as ours, and wait for its end."""
    with InfluxDBClient(url=server.url, token="", org="o", enable_gzip=True) as client:
        options = WriteOptions(batch_size=BATCH, flush_interval=1000)
        with client.write_api(write_options=options) as api:
            for run in lines:
                api.write(bucket="batching", record=run)


def measured(work: Callable[[], object], points: int) -> tuple[float, float]:
    """Points a second of wall time, and of this process' CPU time."""
    began, cpu = time.monotonic(), time.process_time()
    work()
    return points / (time.monotonic() - began), points / (time.process_time() - cpu)


def told(rows: list[tuple[str, float, float]], points: int) -> int:
    """Print the table."""
    table = Table(title=f"{points:,} samples, one core")
    for column in ("", "points/s", "points/s of CPU", "to batching"):
        table.add_column(column, justify="left" if not column else "right")
    base = rows[-1][1]
    for name, wall, cpu in rows:
        table.add_row(name, f"{wall:,.0f}", f"{cpu:,.0f}", f"{wall / base:.2f}")
    Console(width=100).print(table)
    return 0 if rows[1][1] >= LEAST_POINTS else 1


if __name__ == "__main__":
    sys.exit(main())
