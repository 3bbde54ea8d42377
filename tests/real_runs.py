"""Whole runs on real QEMUs: run to the end, or looked at while they are under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from driver.datadir import DataDir, RunDir
from driver.marks import read_marks
from driver.record import RunRecord, read_record
from driver.request import Request
from driver.run import run_migration
from driver.targets import read_targets
from driver.watch import ExporterClient
from tests.waiting import WAIT_SECONDS


def no_qemu_of(run: RunDir) -> bool:
    """Whether no process of that run is left."""
    return not [p for p in psutil.process_iter(["cmdline"]) if run.run in " ".join(p.info["cmdline"] or ())]


def pids(run: RunDir) -> dict[str, int]:
    return {target.role: target.pid for target in read_targets(run).targets}


def phase_of(run: RunDir) -> str:
    marks = [mark.name for mark in read_marks(run) if mark.kind == "phase"]
    return marks[-1] if marks else ""


@asynccontextmanager
async def running(
    request: Request, data: DataDir
) -> AsyncIterator[tuple[asyncio.Task[RunRecord], RunDir, asyncio.Event]]:
    """A run under way, from the moment it would be watched."""
    cancel, begun = asyncio.Event(), asyncio.get_running_loop().create_future()

    def started(run: RunDir, client: ExporterClient | None) -> None:
        assert client is None
        begun.set_result(run)

    task = asyncio.create_task(run_migration(request, data, None, started=started, cancel=cancel))
    try:
        done, _ = await asyncio.wait({task, begun}, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert begun in done, task
        yield task, begun.result(), cancel
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(request: Request, data: DataDir) -> RunRecord:
    """Run to the end and check what holds for every run."""
    record = await run_migration(request, data, None)
    run = data.run(record.run)
    assert read_record(run) == record
    assert no_qemu_of(run)
    assert record.phases[-1].end_ns is not None
    assert read_marks(run)[-1].name == record.outcome
    return record


def names(record: RunRecord) -> list[str]:
    return [phase.name for phase in record.phases]
