"""A whole run with its exporter: what is stored, and what a killed exporter costs."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from driver.datadir import DataDir, RunDir
from driver.marks import read_marks
from driver.run import run_migration
from driver.scenario import Scenario
from driver.watch import ExporterClient, find_exporter
from exporter import history
from exporter.start import start_exporter
from tests.driver_process import NEVER, a_request

pytestmark = pytest.mark.qemu

WAIT_SECONDS = 60.0


@pytest.fixture
def data(watched_data: DataDir) -> DataDir:
    return watched_data


async def test_an_exporter_killed_in_mid_run_is_started_again_and_only_its_absence_is_lost(data: DataDir) -> None:
    killed: list[int] = []

    async def kill_once(run: RunDir) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not any(mark.name == "migrate" for mark in read_marks(run)):  # noqa: ASYNC110 - a file tells
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        client = find_exporter(data)
        assert client
        killed.append(client.info.pid)
        os.kill(client.info.pid, signal.SIGKILL)

    tasks: list[asyncio.Task[None]] = []

    def started(run: RunDir, client: ExporterClient | None) -> None:
        assert client
        tasks.append(asyncio.create_task(kill_once(run)))

    record = await run_migration(a_request(replace(NEVER, max_time_seconds=8)), data, start_exporter, started=started)
    await asyncio.gather(*tasks)
    assert killed
    assert (record.outcome, record.limit_reached) == ("not_converged", "time")
    run = data.run(record.run)
    assert [row.run for row in history.runs(data)] == [record.run]
    migrate = record.phase("migrate")
    assert migrate
    stamps = sorted(history.load(data, run, "migration").column("time_ns").to_pylist())
    seconds = [(stamp - migrate.start_ns) / 1e9 for stamp in stamps]
    assert sum(0 < second < 1 for second in seconds) > 20
    assert sum(5 < second < 8 for second in seconds) > 60
    ticks = history.load(data, run, "guest_tick").column("sequence").to_pylist()
    assert len(ticks) == len(set(ticks))
    assert not run.journals()


async def test_the_blackout_of_a_save_lasts_until_the_guest_has_been_loaded(
    data: DataDir, qemu_10_binary: Path
) -> None:
    request = a_request(
        Scenario(bandwidth_mib_s=1000, downtime_limit_ms=500, transport="file"), binary=str(qemu_10_binary)
    )
    record = await run_migration(request, data, start_exporter)
    assert record.outcome == "completed", record.reason
    summary = history.summary(data.run(record.run))
    assert summary
    assert record.saved
    assert record.saved.load_seconds
    assert summary.stop_resume_seconds
    assert summary.stop_resume_seconds > 0.8 * record.saved.load_seconds
    if summary.blackout_seconds is None:  # a tick that STOP cut in two ends on the destination's console
        torn = not data.run(record.run).console("source").read_bytes().endswith(b"\n")
        assert torn, summary.why
        return
    # the ticks' own jitter stands on both sides
    assert abs(summary.blackout_seconds - summary.stop_resume_seconds) < 0.2
