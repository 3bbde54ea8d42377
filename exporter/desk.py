"""The watch protocol's server side: attach, detach, stored, watch and status, as driver.watch speaks them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any, Protocol

import orjson

from driver.datadir import DataDir, RunDir
from driver.watch import STORED_SECONDS, LiveState, Mirroring, Sampling
from exporter import history
from exporter.attached import AttachedRun
from exporter.mirror.service import Mirrors
from exporter.selfmetrics import SelfMetrics
from exporter.sink import Sink
from exporter.slots import Slots
from workload.errors import BadValueError, MigrascopeError
from workload.value import from_json

WATCH_SECONDS = 0.2
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 0.05
ATTACH_WAIT_SECONDS = 60.0
MOST_REMEMBERED_RUNS = 100
DRIVER_SECONDS = 1.0
ASK_SECONDS = 2.0
"""How long a driver may take from a run's end to asking whether it is stored; a lingering of 0 waits that long too."""

log = logging.getLogger(__name__)


class WatchedRun(Protocol):
    """A run as viewers see it: made by a driver here, or by whoever runs the VM."""

    run: RunDir

    @property
    def version(self) -> int:
        """Rises whenever the phase, the status or the outcome changes."""

    def state(self) -> LiveState:
        """What the run looks like now."""


class Desk:
    """Answers drivers and viewers; holds the runs that are attached or observed, and those that are being stored."""

    def __init__(
        self, data: DataDir, sinks: Sequence[Sink], mirrors: Mirrors, metrics: SelfMetrics, linger: Callable[[], float]
    ) -> None:
        self._data = data
        self._sinks = sinks
        self._mirrors = mirrors
        self._metrics = metrics
        self._slots = Slots(linger)
        self._runs: dict[str, AttachedRun] = {}
        self._observed: dict[str, WatchedRun] = {}
        self._attaching: set[str] = set()
        self._ending: set[str] = set()
        self._storing: dict[str, asyncio.Task[str | None]] = {}
        self._ended: dict[str, WatchedRun] = {}
        self._connections: set[asyncio.Task[Any] | None] = set()
        self._leaving = False
        self._unasked: dict[str, float] = {}
        self._operations: Mapping[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "attach": self._attach,
            "detach": self._detach,
            "stored": self._stored,
            "status": self._status,
        }

    @property
    def busy(self) -> bool:
        """Whether a run is attached, being stored, still being mirrored, or about to be asked after."""
        storing = any(not task.done() for task in self._storing.values())
        now = asyncio.get_running_loop().time()
        unasked = any(now < until for until in self._unasked.values())
        return bool(self._runs or self._attaching or self._ending or self._mirrors.busy or storing or unasked)

    def begun(self, run: WatchedRun) -> None:
        """A migration of a VM of others begins to be recorded; the exporter's own mirrors get it too."""
        self._observed[run.run.run] = run
        try:
            self._mirrors.follow(run.run, self._mirrors.spools_of(Mirroring()))
        except MigrascopeError as error:
            log.warning("run %s: is not mirrored: %s", run.run.run, error)

    def over(self, run: WatchedRun) -> None:
        """A migration of a VM of others has its outcome: it is stored."""
        self._observed.pop(run.run.run, None)
        self._mirrors.release(run.run)
        self._remember(run, asyncio.create_task(self._store(run)))

    async def tidy(self) -> None:
        """Close and compact what dead drivers and exporters have left."""
        try:
            await asyncio.to_thread(history.runs, self._data)
        except (MigrascopeError, OSError) as error:
            log.warning("history: %s", error)

    async def release_abandoned(self) -> None:
        """Let go, for ever, of runs whose driver died without a word; they are stored as far as they came."""
        while True:
            await asyncio.sleep(DRIVER_SECONDS)
            for name in [name for name, run in self._runs.items() if run.abandoned]:
                log.info("run %s: its driver died; it is no longer watched", name)
                with contextlib.suppress(BadValueError):  # another was quicker
                    await self._detach({"run": name})

    def turn_away(self) -> None:
        """Take no request any more: who has connected and not asked yet finds that we have gone."""
        self._leaving = True

    async def close(self) -> None:
        """Stop watching all runs (their journals stay, for the next exporter) and wait for those being stored."""
        for run in self._runs.values():
            await run.abandon()
            self._mirrors.release(run.run)
        self._runs.clear()
        pending = [task for task in self._storing.values() if not task.done()]
        if pending:
            await asyncio.wait(pending, timeout=STORED_SECONDS)
        connections = [task for task in self._connections if task is not None]
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, its answer (a stream of states for `watch`)."""
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            request = _request(await reader.readline())
            if self._leaving:
                return
            if request.get("op") == "watch":
                await self._watch(str(request.get("run")), writer)
            else:
                await _answer(writer, await self._answer_to(request))
        except (OSError, ValueError):  # the other side went away, or sent a line beyond all bounds
            return
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer_to(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = self._operations.get(str(request.get("op")))
        if operation is None:
            return {"ok": False, "error": f"operation {request.get('op')!r} is not known"}
        try:
            return {"ok": True, **await operation(request)}
        except MigrascopeError as error:
            return {"ok": False, "error": str(error)}
        except OSError as error:
            return {"ok": False, "error": f"{error.filename or self._data.path}: {error.strerror}"}

    async def _attach(self, request: dict[str, Any]) -> dict[str, Any]:
        run = str(request.get("run"))
        sampling = from_json(Sampling, request.get("sampling"), "attach: sampling")
        if run in self._runs or run in self._attaching:
            raise BadValueError(f"run {run}: is attached already")
        directory = self._data.run(run)
        if directory.path.parent != self._data.runs or not directory.path.is_dir():
            raise BadValueError(f"run {run}: is not in {self._data.runs}")
        vm = self._slots.take()
        self._attaching.add(run)
        try:
            spools = self._mirrors.spools_of(sampling)
            attached = AttachedRun(directory, vm, sampling, self._sinks, self._metrics)
            await attached.start(lambda: self._mirrors.follow(directory, spools))
        except BaseException:
            self._slots.release(vm)
            self._mirrors.release(directory)
            raise
        finally:
            self._attaching.discard(run)
        self._runs[run] = attached
        return {"vm": vm}

    async def _detach(self, request: dict[str, Any]) -> dict[str, Any]:
        run = str(request.get("run"))
        attached = self._runs.pop(run, None)
        if attached is None:
            raise BadValueError(f"run {run}: is not attached")
        self._ending.add(run)
        try:
            await attached.finish()
        finally:
            self._slots.release(attached.vm)
            self._ending.discard(run)
            self._mirrors.release(attached.run)
        self._remember(attached, asyncio.create_task(self._store(attached)))
        return {}

    async def _stored(self, request: dict[str, Any]) -> dict[str, Any]:
        run = str(request.get("run"))
        if run in self._runs or run in self._ending:
            raise BadValueError(f"run {run}: is still attached")
        if run not in self._storing:
            raise BadValueError(f"run {run}: was not attached to this exporter")
        reason = await asyncio.shield(self._storing[run])
        self._unasked.pop(run, None)
        if reason:
            raise MigrascopeError(f"run {run}: could not be stored: {reason}")
        return {}

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - one shape
        return {
            "version": metadata.version("migrascope"),
            "runs": sorted([*self._runs, *self._observed]),
            "storing": sorted(run for run, task in self._storing.items() if not task.done()),
        }

    async def _watch(self, run: str, writer: asyncio.StreamWriter) -> None:
        """Stream a run's state a few times a second and at each change, until it is stored or its watch is given up."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + ATTACH_WAIT_SECONDS
        while (attached := self._seen(run)) is None:
            if loop.time() >= give_up_at:
                await _answer(writer, {"ok": False, "error": f"run {run}: is not attached"})
                return
            await asyncio.sleep(LOOK_SECONDS)
        while True:
            version, due = attached.version, loop.time() + WATCH_SECONDS
            await _answer(writer, asdict(attached.state()))
            if (storing := self._storing.get(run)) and storing.done():
                return
            if run not in {*self._runs, *self._observed} and run not in self._ending and storing is None:
                return
            while loop.time() < due and attached.version == version:  # noqa: ASYNC110 - watchers share no event
                await asyncio.sleep(LOOK_SECONDS)

    def _seen(self, run: str) -> WatchedRun | None:
        return self._runs.get(run) or self._observed.get(run) or self._ended.get(run)

    async def _store(self, attached: WatchedRun) -> str | None:
        """Compact a run in a thread of its own; returns the reason where that failed."""
        try:
            await asyncio.to_thread(history.store_run, self._data, attached.run)
            summary = await asyncio.to_thread(history.summary, attached.run)
        except (MigrascopeError, OSError) as error:
            log.warning("run %s: could not be stored: %s", attached.run.run, error)
            return str(error)
        if summary is not None:
            for sink in self._sinks:
                sink.conclude(attached.run.run, asdict(summary))
        return None

    def _remember(self, attached: WatchedRun, storing: asyncio.Task[str | None]) -> None:
        run = attached.run.run
        self._ended[run], self._storing[run] = attached, storing
        self._unasked[run] = asyncio.get_running_loop().time() + ASK_SECONDS
        for old in list(self._ended)[:-MOST_REMEMBERED_RUNS]:
            del self._ended[old], self._storing[old]
            self._unasked.pop(old, None)


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return request if isinstance(request, dict) else {}


async def _answer(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    """Write one line; a reader that takes nothing for 5 s is given up."""
    writer.write(orjson.dumps(answer) + b"\n")
    async with asyncio.timeout(ANSWER_SECONDS):
        await writer.drain()
