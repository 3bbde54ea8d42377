"""Campaigns of played and of real runs under faults: who is killed, away or refuses when, and what is missing then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from driver.attachment import Attachment
from driver.datadir import DataDir, RunDir
from driver.marks import read_marks
from driver.run import run_migration
from driver.watch import ExporterClient, Sampling, find_exporter
from exporter import compaction, history
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.mirror.status import standings
from exporter.start import start_exporter
from tests.driver_process import NEVER, a_request
from tests.influx_shim import influx_rows, influx_shim
from tests.played import Key, PlayedRun, stored
from tests.real_runs import phase_of
from tests.servers import Server, running_influxdb
from tests.waiting import until
from workload.console import Parser, Tick, Xor

BUCKET = "runs"
DRAIN_SECONDS = 60.0
LEAST_LINES = 200


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of it: samples in history, how many InfluxDB lacks or has besides, lines that history lacks or repeats.

    `examples` names some of the samples that one has and the other lacks; `gaps` counts the runs whose history tells
    of a stretch without polls. `forgotten` counts the missing ones that InfluxDB had acknowledged.
    """

    samples: int
    missing: int
    forgotten: int
    surplus: int
    lost_lines: int
    repeated_lines: int
    retries: int
    dropped: int
    dead_letters: int
    gaps: int
    examples: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every sample and line is where it should be, once."""
        return not (self.missing or self.surplus or self.lost_lines or self.repeated_lines)


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
    those in `exporter_killed`; a driver's own attachment starts another.
    """
    asked = Sampling(influx_url=fleet.shim.url, influx_bucket=BUCKET)
    played: list[PlayedRun] = []
    for number in range(runs):
        if number == away.start and away:
            await asyncio.to_thread(fleet.stop)
        run = PlayedRun(fleet.data, f"20261124-{number:06}-play", fleet.consoles)
        played.append(run)
        attachment = Attachment(fleet.data, run.dir, asked, start_exporter)
        attachment.prepare()
        await attachment.attach()
        await asyncio.sleep(seconds / 3)
        if number in killed:
            await asyncio.to_thread(fleet.kill)
        if number in exporter_killed:
            assert attachment.client
            os.kill(attachment.client.info.pid, signal.SIGKILL)
        if number in refusing:
            fleet.shim.refuses = True
            await asyncio.sleep(refusing[number])
            fleet.shim.refuses = False
        await asyncio.sleep(seconds * 2 / 3)
        await asyncio.to_thread(run.end)
        await attachment.detach()
        await attachment.stored()
        await attachment.close()
        run.close()
        if away and number == away[-1]:
            await asyncio.to_thread(fleet.start)
    return await _told(
        fleet, [run.dir for run in played], lambda: sum(run.written - len(set(run.ticks())) for run in played)
    )


async def real_campaign(
    fleet: Fleet,
    *,
    runs: int,
    seconds: int,
    away: range,
    killed: Collection[int],
    refusing: Mapping[int, float],
    exporter_killed: Collection[int],
) -> Told:
    """Run real migrations one after the other, under the faults of `campaign`.

    Every second one is ended by its limit of so many seconds, the others by post-copy. Faults come while they migrate.
    """
    asked = Sampling(influx_url=fleet.shim.url, influx_bucket=BUCKET)
    never = replace(NEVER, max_time_seconds=seconds)
    done: list[RunDir] = []
    for number in range(runs):
        if away and number == away.start:
            await asyncio.to_thread(fleet.stop)
        scenario = replace(never, post_copy_seconds=seconds / 2) if number % 2 else never
        faults: list[asyncio.Task[None]] = []

        def started(run: RunDir, client: ExporterClient | None, number: int = number) -> None:
            assert client
            faults.append(asyncio.create_task(in_mid_run(run, number)))  # noqa: B023 - called in this turn of the loop

        async def in_mid_run(run: RunDir, number: int) -> None:
            await until(lambda: phase_of(run) == "migrate")
            await asyncio.sleep(seconds / 4)
            if number in killed:
                await asyncio.to_thread(fleet.kill)
            if number in exporter_killed:
                client = find_exporter(fleet.data)
                assert client
                os.kill(client.info.pid, signal.SIGKILL)
            if number in refusing:
                fleet.shim.refuses = True
                await asyncio.sleep(refusing[number])
                fleet.shim.refuses = False

        record = await run_migration(
            replace(a_request(scenario), sampling=asked), fleet.data, start_exporter, started=started
        )
        await asyncio.gather(*faults)
        assert record.outcome == ("completed" if number % 2 else "not_converged"), record.reason
        done.append(fleet.data.run(record.run))
        if away and number == away[-1]:
            await asyncio.to_thread(fleet.start)
    return await _told(fleet, done, lambda: sum(map(_lost, done)))


async def _told(fleet: Fleet, runs: Sequence[RunDir], lost_lines: Callable[[], int]) -> Told:
    """Wait until the mirror has sent what it can, compare, and end the exporter."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while any(mirror.waiting_runs for mirror in standings(fleet.data)) and time.monotonic() < deadline:
        await start_exporter(fleet.data)  # one that has nothing but its mirrors to do goes after 10 s
        await asyncio.sleep(0.1)
    told = await asyncio.to_thread(_compare, fleet, runs, lost_lines)
    if left := find_exporter(fleet.data):
        os.kill(left.info.pid, signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):  # a run's own start has its exporter waited for
            await asyncio.to_thread(os.waitpid, left.info.pid, 0)
    return told


def _compare(fleet: Fleet, runs: Sequence[RunDir], lost_lines: Callable[[], int]) -> Told:
    held = {key for run in runs for key in stored(run)}
    there = {key for measurement in MEASUREMENTS for key in _rows(fleet.server, measurement)}
    gaps = [summary.gaps for run in runs if (summary := history.summary(run))]
    [mirror] = standings(fleet.data)
    return Told(
        samples=len(held), missing=len(held - there),
        forgotten=sum((name, time_ns) in fleet.shim.acknowledged for name, time_ns, _ in held - there),
        surplus=len(there - held), lost_lines=lost_lines(), repeated_lines=sum(map(_repeated, runs)),
        retries=mirror.retries, dropped=mirror.dropped, dead_letters=mirror.dead_letters,
        gaps=sum(any(gap.role == "source" for gap in found) for found in gaps),
        examples=tuple(str((name, time_ns, sorted(tags))) for name, time_ns, tags in sorted(held ^ there, key=str)[:5]),
    )  # fmt: skip


def _repeated(run: RunDir) -> int:
    """How many of a guest's lines history holds more than once."""
    ticks = compaction.load(run, "guest_tick").column("sequence").to_pylist()
    return len(ticks) - len(set(ticks))


def _lost(run: RunDir) -> int:
    """How many whole lines that a real guest printed on its consoles before its run's outcome are not in history."""
    ticks = compaction.load(run, "guest_tick").sort_by("time_ns").to_pylist()
    recorded = {("guest_tick", int(tick["sequence"])) for tick in ticks}
    recorded |= {
        ("guest_xor", int(number)) for number in compaction.load(run, "guest_xor").column("sequence").to_pylist()
    }
    last = [tick for tick in ticks if tick["offset_seconds"] is not None][-1]
    # the guest's clock at the outcome: what it printed later may have come after the exporter had let go
    ended_ns = read_marks(run)[-1].time_ns - last["time_ns"] + last["guest_seconds"] * 1e9
    printed: set[tuple[str, int]] = set()
    for role in ("source", "destination"):
        if run.console(role).exists():
            for line in Parser().feed(run.console(role).read_bytes()):
                if isinstance(line, Tick | Xor) and line.guest_ns < ended_ns:
                    printed.add(("guest_tick" if isinstance(line, Tick) else "guest_xor", line.sequence))
    assert len(printed) > LEAST_LINES, run.run
    return len(printed - recorded)


def _rows(server: Server, measurement: str) -> set[Key]:
    names = {*RUN_TAGS, *MEASUREMENTS[measurement].tags}
    return {
        (measurement, row["time"], frozenset((name, row[name]) for name in names & row.keys() if row[name]))
        for row in influx_rows(server, BUCKET, f'SELECT * FROM "{measurement}"')
    }
