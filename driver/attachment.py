"""A run's hold on its exporter: attached before the guest runs, started again if it dies, detached at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import psutil

from driver.datadir import DataDir, RunDir
from driver.watch import ExporterClient, Sampling
from workload.errors import BrokenError, MigrascopeError

StartExporter: TypeAlias = Callable[[DataDir], Awaitable[ExporterClient]]

LOOK_SECONDS = 1.0
GONE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Attachment:
    """Follows the contract of driver/watch.py; with `start` None nothing watches and every step does nothing."""

    def __init__(self, data: DataDir, run: RunDir, sampling: Sampling, start: StartExporter | None) -> None:
        self.client: ExporterClient | None = None
        self._data = data
        self._run = run
        self._sampling = sampling
        self._start = start
        self._starting: asyncio.Future[ExporterClient] | None = None
        self._caring: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._restarted = False

    def prepare(self) -> None:
        """Find or start the exporter while the QEMUs are being started."""
        if self._start:
            self._starting = asyncio.ensure_future(self._start(self._data))

    async def attach(self) -> None:
        """Have the run watched; returns once the exporter's sources are up.

        Raises:
            MigrascopeError: it did not start, refused, or did not answer.
        """
        if self._starting and self._start:
            client = await self._starting
            try:
                await client.attach(self._run.run, self._sampling)
            except BrokenError:
                if not _gone(client):
                    raise
                # it had lingered long enough and went while our QEMUs were being started
                client = await self._start(self._data)
                await client.attach(self._run.run, self._sampling)
            self.client = client
            self._caring = asyncio.create_task(self._care())

    async def detach(self, seconds: float | None = None) -> None:
        """End the watch; a failure is a warning, the run's outcome stands.

        An exporter that has died since it was last looked at is started first: what its sources have not read yet, the
        consoles above all, is still there.
        """
        await self._stop_caring()
        if self.client:
            try:
                async with asyncio.timeout(seconds):
                    await self._look()
                    if self.client:
                        await self.client.detach(self._run.run)
            except (MigrascopeError, TimeoutError) as error:
                _log.warning("%s; run %s is compacted later", error or "exporter: slow to detach", self._run.run)
                self.client = None

    async def stored(self) -> None:
        """Wait until the exporter has stored the run, at most 15 s; a failure is a warning."""
        if self.client:
            try:
                await self.client.stored(self._run.run)
            except MigrascopeError as error:
                _log.warning("%s; run %s is compacted later", error, self._run.run)

    async def close(self) -> None:
        """Leave nothing pending; an exporter that has just been started ends by itself."""
        await self._stop_caring()
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._starting:
            self._starting.cancel()
            with contextlib.suppress(MigrascopeError, asyncio.CancelledError):
                await self._starting

    async def _care(self) -> None:
        while self._start and self.client:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Look after the exporter, once at a time: who is cancelled meanwhile leaves the look to the next."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._revive())
        await asyncio.shield(self._looking)

    async def _revive(self) -> None:
        """Should the exporter have died, start it once again; the run goes on in any case."""
        if not self._start or not self.client or _lives(self.client.info.pid):
            return
        _log.warning("exporter (pid %d) died during run %s", self.client.info.pid, self._run.run)
        if self._restarted:
            self.client = None
            return
        self._restarted = True
        try:
            self.client = await self._start(self._data)
            await self.client.attach(self._run.run, self._sampling)
        except MigrascopeError as error:
            _log.warning("%s; run %s goes on unwatched", error, self._run.run)
            self.client = None

    async def _stop_caring(self) -> None:
        if self._caring:
            self._caring.cancel()
            await asyncio.gather(self._caring, return_exceptions=True)
            self._caring = None


def _gone(client: ExporterClient) -> bool:
    """Whether an exporter has taken its socket away: it is ending, or has ended."""
    return not Path(client.info.socket).exists()


def _lives(pid: int) -> bool:
    """Whether a process lives; an exporter that we started and that has died is our zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False
