"""A convoy: several runs of one scenario on this host and over one link, each a child process, as one experiment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from driver.convoy_runs import convoy_runs, free_runs
from driver.datadir import DataDir
from driver.kit import check_fits
from driver.lock import driver_lock
from driver.namespaces import joined_namespaces
from driver.record import RunRecord, read_record
from driver.request import Request
from driver.run_process import JobEnd, run_process
from driver.runtime import run_runtime_dir
from driver.seat import HOME, READY, Seat
from driver.warm import prepare_image
from workload.errors import BrokenError, MigrascopeError, UnsupportedError

Words = Callable[[Request, DataDir], Sequence[str]]
"""Writes the command line that makes one run of a request with an id."""

Started = Callable[[Sequence[str]], None]

DEADLINE_SECONDS = 400.0


async def run_convoy(
    request: Request, data: DataDir, words: Words, cancel: asyncio.Event, started: Started | None = None
) -> list[RunRecord]:
    """Run every guest of the request's convoy to its end; their records, by seat. Call it from the main thread.

    `request.run` is the first guest's id, and so the convoy's (None: a new one). `started` is given all ids, by seat,
    as they begin. Setting `cancel` interrupts all of them as Ctrl-C does.

    Raises:
        BadValueError: so many guests do not fit on this host.
        BrokenError: a run left no record.
    """
    scenario = request.scenario
    check_fits(request.hardware, request.workload, scenario.convoy_guests * (1 if request.destination_host else 2))
    with driver_lock(), run_runtime_dir() as runtime:
        if request.warm_start:
            with suppress(MigrascopeError):  # each run will say so itself
                await prepare_image(request, runtime)  # once: seats that wait for each other's would look alike
        async with AsyncExitStack() as stack:
            seats = [Seat(place=runtime, number=number) for number in range(1, scenario.convoy_guests + 1)]
            if scenario.hosts == "namespaces":
                with suppress(UnsupportedError):  # each run will say so itself
                    making = joined_namespaces(scenario.link_mbit_s, scenario.link_shaper, runtime)
                    seats[0].share_link(await stack.enter_async_context(making))
            runs = convoy_runs(request.run, len(seats)) if request.run else free_runs(data, len(seats))
            if started:
                started(runs)
            requests = [
                replace(request, run=run, convoy=runs[0], seat=each) for run, each in zip(runs, seats, strict=True)
            ]
            ends = await _all_ended([_process(each, data, words, runtime) for each in requests], cancel)
    return [_record(data, run, end) for run, end in zip(runs, ends, strict=True)]


async def _process(request: Request, data: DataDir, words: Words, runtime: Path) -> JobEnd:
    seat, scenario = request.seat, request.scenario
    if seat is None:
        raise BrokenError("convoy: a run without a seat")
    longest = scenario.max_time_seconds * scenario.attempts * scenario.convoy_guests
    try:
        return await run_process(
            words(request, data), runtime / f"{seat.number}.log", deadline_seconds=DEADLINE_SECONDS + 2 * longest,
            lock=runtime / f"{seat.number}.lock",
        )  # fmt: skip
    finally:
        for what in (READY, HOME):  # nobody waits for a run that has ended
            seat.say(what)


async def _all_ended(
    processes: Sequence[Coroutine[Any, Any, JobEnd]], cancel: asyncio.Event
) -> list[JobEnd | BaseException]:
    wanted = asyncio.create_task(cancel.wait())
    running = [asyncio.create_task(process) for process in processes]
    left: set[asyncio.Task[Any]] = {*running}
    try:
        while left and not wanted.done():
            _, left = await asyncio.wait({wanted, *left}, return_when=asyncio.FIRST_COMPLETED)
            left.discard(wanted)
    finally:
        wanted.cancel()
        for task in running:
            task.cancel()
        ends = await asyncio.gather(*running, return_exceptions=True)
    return ends


def _record(data: DataDir, run: str, end: JobEnd | BaseException) -> RunRecord:
    try:
        return read_record(data.run(run))
    except MigrascopeError as error:
        why = end.trouble if isinstance(end, JobEnd) else None
        raise BrokenError(f"convoy: run {run} left no record: {why or error}") from error
