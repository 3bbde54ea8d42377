"""Running migrations for a person: the live view beside the run, and Ctrl-C once (cancel) or twice (at once)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from rich.console import Console

from dashboards.terminal import follow
from dashboards.terminal_convoy import follow_convoy
from driver.convoy import run_convoy
from driver.datadir import DataDir, RunDir
from driver.record import RunRecord
from driver.request import Request
from driver.run import run_migration
from driver.watch import ExporterClient, LiveState, find_exporter
from exporter.start import start_exporter
from migrascope.campaign_engine import request_words
from migrascope.options import note
from workload.errors import MigrascopeError

T = TypeVar("T")

VIEW_END_SECONDS = 3.0
LOOK_SECONDS = 0.2


async def run_all(requests: Sequence[Request], data: DataDir, console: Console) -> list[RunRecord]:
    """Run migrations one after another; Ctrl-C ends the one under way as `cancelled` and starts no further one."""
    return await interruptible(lambda cancel: _run_each(requests, data, console, cancel))


async def interruptible(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Do work that the first Ctrl-C (or SIGTERM) asks, by its event, to end in good order; the second ends it at once.

    Raises:
        KeyboardInterrupt: it was ended at once.
    """
    cancel = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work(cancel))

    def interrupted() -> None:
        if cancel.is_set():
            task.cancel()
            return
        note("cancelling: the migration is cancelled and cleaned up; Ctrl-C again to end at once")
        cancel.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _run_each(
    requests: Sequence[Request], data: DataDir, console: Console, cancel: asyncio.Event
) -> list[RunRecord]:
    records: list[RunRecord] = []
    told: set[int] = set()
    for position, request in enumerate(requests, start=1):
        if len(requests) > 1:
            console.rule(f"{position} of {len(requests)}: {request.scenario.name}", align="left", style="dim")
        if request.scenario.convoy_guests > 1 and request.seat is None:
            records += await _run_convoy(request, data, console, cancel, told)
        else:
            records.append(await _run_one(request, data, console, cancel, told))
        if cancel.is_set():
            break
    return records


async def _run_one(
    request: Request, data: DataDir, console: Console, cancel: asyncio.Event, told: set[int]
) -> RunRecord:
    views: list[asyncio.Task[object]] = []

    def started(run: RunDir, client: ExporterClient | None) -> None:
        if client is not None:
            _tell_metrics(client, told)
            views.append(asyncio.create_task(follow(client.watch(run.run), console)))

    try:
        return await run_migration(request, data, start_exporter, started=started, cancel=cancel)
    finally:
        await _views_ended(views)


async def _run_convoy(
    request: Request, data: DataDir, console: Console, cancel: asyncio.Event, told: set[int]
) -> list[RunRecord]:
    """Run a convoy, whose guests' own processes start the exporter: it is looked for until it watches them."""
    views: list[asyncio.Task[object]] = []
    over = asyncio.Event()

    def started(runs: Sequence[str]) -> None:
        guests = [_states(data, run, told, over) for run in runs]
        views.append(asyncio.create_task(follow_convoy(guests, console)))

    try:
        return await run_convoy(request, data, request_words, cancel, started)
    finally:
        over.set()
        await _views_ended(views)


async def _states(data: DataDir, run: str, told: set[int], over: asyncio.Event) -> AsyncIterator[LiveState]:
    """The states of a run in another process, from when an exporter watches it until it has an outcome, or all is over.

    A run that cannot be made is never watched.
    """
    while not over.is_set():
        client = find_exporter(data)
        if client and await _watches(client, run):
            async for state in client.watch(run):
                _tell_metrics(client, told)
                yield state
                if state.outcome:
                    return
        await asyncio.sleep(LOOK_SECONDS)


async def _watches(client: ExporterClient, run: str) -> bool:
    with contextlib.suppress(MigrascopeError):  # it may be ending
        return run in (await client.status())["runs"]
    return False


def _tell_metrics(client: ExporterClient, told: set[int]) -> None:
    if client.info.port not in told:
        told.add(client.info.port)
        note(f"live metrics: http://127.0.0.1:{client.info.port}/metrics")


async def _views_ended(views: Sequence[asyncio.Task[object]]) -> None:
    for view in views:
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(view, VIEW_END_SECONDS)
