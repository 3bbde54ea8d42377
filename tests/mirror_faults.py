"""A campaign of played runs under faults: who is killed, away or refuses when, and what is missing at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from driver.datadir import DataDir
from driver.watch import Sampling, find_exporter
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.mirror.status import standings
from exporter.start import start_exporter
from tests.influx_shim import influx_rows, influx_shim
from tests.played import Key, PlayedRun
from tests.servers import Server, running_influxdb

BUCKET = "runs"
DRAIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of it: samples in history, how many InfluxDB lacks or has besides, lines that history lacks."""

    samples: int
    missing: int
    surplus: int
    lost_lines: int
    retries: int
    dropped: int
    dead_letters: int


class Fleet:
    """A data directory, and an InfluxDB behind its shim that can be stopped, killed and started again."""

    def __init__(self, influxd: Path, folder: Path) -> None:
        self.data = DataDir.open(folder / "data")
        self.consoles = folder
        self._influxd = influxd
        self._folder = folder / "influx"
        self._running = contextlib.ExitStack()
        self._shim = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.server = self.start()
        self.server.post("/query?q=CREATE%20DATABASE%20runs")
        self.shim = self._shim.enter_context(influx_shim(self.server))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shim.close()
        self._running.close()

    def start(self) -> Server:
        """Start InfluxDB, or start it again on what it held."""
        self.server = self._running.enter_context(running_influxdb(self._influxd, self._folder))
        if hasattr(self, "shim"):
            self.shim.target = self.server.url
        return self.server

    def stop(self) -> None:
        """End InfluxDB in good order."""
        self._running.close()

    def kill(self) -> None:
        """Kill InfluxDB, and start it again."""
        os.kill(self.server.process_id, signal.SIGKILL)
        self._running.close()
        self.start()


async def campaign(
    fleet: Fleet,
    *,
    runs: int,
    seconds: float,
    away: range,
    killed: Collection[int],
    refusing: Mapping[int, float],
    exporter_killed: Collection[int],
) -> Told:
    """Play runs one after the other.

    InfluxDB is stopped before the first run of `away` and started after its last; it is killed in the middle of the
    runs in `killed`, answers 503 for so many seconds of those in `refusing`; the exporter is killed in the middle of
    those in `exporter_killed`, and another attached, as a driver does.
    """
    asked = Sampling(influx_url=fleet.shim.url, influx_bucket=BUCKET)
    played: list[PlayedRun] = []
    for number in range(runs):
        if number == away.start and away:
            await asyncio.to_thread(fleet.stop)
        run = PlayedRun(fleet.data, f"20261124-{number:06}-play", fleet.consoles)
        played.append(run)
        client = await start_exporter(fleet.data)
        await client.attach(run.run, asked)
        await asyncio.sleep(seconds / 3)
        if number in killed:
            await asyncio.to_thread(fleet.kill)
        if number in exporter_killed:
            os.kill(client.info.pid, signal.SIGKILL)
            client = await start_exporter(fleet.data)
            await client.attach(run.run, asked)
        if number in refusing:
            fleet.shim.refuses = True
            await asyncio.sleep(refusing[number])
            fleet.shim.refuses = False
        await asyncio.sleep(seconds * 2 / 3)
        await asyncio.to_thread(run.end)
        await client.detach(run.run)
        await client.stored(run.run)
        if away and number == away[-1]:
            await asyncio.to_thread(fleet.start)
    await start_exporter(fleet.data)
    told = await asyncio.to_thread(_compare, fleet, played)
    if left := find_exporter(fleet.data):
        os.kill(left.info.pid, signal.SIGTERM)
        await asyncio.to_thread(os.waitpid, left.info.pid, 0)
    return told


def _compare(fleet: Fleet, played: list[PlayedRun]) -> Told:
    deadline = time.monotonic() + DRAIN_SECONDS
    while any(mirror.waiting_runs for mirror in standings(fleet.data)) and time.monotonic() < deadline:
        time.sleep(0.1)
    stored = {key for run in played for key in run.stored()}
    there = {key for measurement in MEASUREMENTS for key in _rows(fleet.server, measurement)}
    lost = sum(run.written - len(set(run.ticks())) for run in played)
    [mirror] = standings(fleet.data)
    return Told(
        samples=len(stored), missing=len(stored - there), surplus=len(there - stored), lost_lines=lost,
        retries=mirror.retries, dropped=mirror.dropped, dead_letters=mirror.dead_letters,
    )  # fmt: skip


def _rows(server: Server, measurement: str) -> set[Key]:
    names = {*RUN_TAGS, *MEASUREMENTS[measurement].tags}
    return {
        (measurement, row["time"], frozenset((name, row[name]) for name in names & row.keys() if row[name]))
        for row in influx_rows(server, BUCKET, f'SELECT * FROM "{measurement}"')
    }
