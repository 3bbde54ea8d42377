"""The exporter's side of mirroring: it spools runs, keeps the mirror process going, and shows how the mirrors stand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from driver.datadir import DataDir, RunDir
from driver.watch import Mirroring
from exporter.mirror.destination import destinations_of
from exporter.mirror.feed import has_work
from exporter.mirror.spool import Spool, forget_dead_exporters, spool_for, spools
from exporter.mirror.status import Standing, standings
from exporter.selfmetrics import SelfMetrics

LOOK_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""How long an exporter that would end waits for mirrors after its last run; what is left then stays in the spool."""

END_SECONDS = 5.0
RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


class Mirrors:
    """Holds the spools of the runs that are attached; `standing` are the destinations of every run.

    Raises:
        BadValueError: a destination of `standing` cannot be used.
        BrokenError: the disk refuses.
    """

    def __init__(self, data: DataDir, standing: Mirroring, metrics: SelfMetrics) -> None:
        self._data = data
        self._metrics = metrics
        self._standing = [spool_for(data, destination) for destination in destinations_of(standing)]
        self._followed: dict[str, list[Spool]] = {}
        self._waiting = False
        self._released_at = -GRACE_SECONDS
        self._wanted = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        forget_dead_exporters(data)

    @property
    def busy(self) -> bool:
        """Whether the exporter should stay for the mirrors' sake: they still send what the last run left."""
        grace = asyncio.get_running_loop().time() < self._released_at + GRACE_SECONDS
        return grace and self._waiting

    def start(self) -> None:
        """Begin to look after the mirror process; it is started once there is something to send."""
        self._tasks = [asyncio.create_task(self._care()), asyncio.create_task(self._show())]

    def spools_of(self, asked: Mirroring) -> list[Spool]:
        """The spools of a run that asks for these destinations, the exporter's own included.

        Raises:
            BadValueError: a destination cannot be used, or its token cannot be read here.
            BrokenError: the disk refuses.
        """
        own = [spool_for(self._data, destination) for destination in destinations_of(asked)]
        names = {spool.path for spool in own}
        return [*own, *(spool for spool in self._standing if spool.path not in names)]

    def follow(self, run: RunDir, spools_of_run: Sequence[Spool]) -> None:
        """Spool a run whose journal has just been opened.

        Raises:
            BrokenError: the disk refuses, or has no hard links.
        """
        self._followed[run.run] = list(spools_of_run)
        for spool in spools_of_run:
            spool.follow(run)
        if spools_of_run:
            self._wanted.set()

    def release(self, run: RunDir) -> None:
        """Note that a run's journal has been closed."""
        for spool in self._followed.pop(run.run, ()):
            spool.release(run)
            self._waiting = True
            self._released_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """End the mirror process; what was not acknowledged stays in the spool."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _care(self) -> None:
        """Start the mirror process, and again should it die."""
        await self._wanted.wait()
        while True:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "exporter.mirror.process",
                "--data-dir", str(self._data.path), "--exporter", str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL, stdout=2,
            )  # fmt: skip
            status = await self._process.wait()
            log.warning("the mirror process ended with %d; starting it again", status)
            await asyncio.sleep(RESTART_SECONDS)

    async def _show(self) -> None:
        while True:
            try:
                found, work = await asyncio.to_thread(_look, self._data)
            except OSError as error:
                log.warning("spool: cannot be read: %s", error.strerror)
            else:
                if work:  # of an exporter before us, or of a command that sends again
                    self._wanted.set()
                self._waiting = any(mirror.waiting_bytes or mirror.waiting_runs for mirror in found)
                for mirror in found:
                    for figures, value in (
                        (self._metrics.mirror_up, not mirror.trouble),
                        (self._metrics.mirror_lag, mirror.lag_seconds),
                        (self._metrics.mirror_waiting_bytes, mirror.waiting_bytes),
                        (self._metrics.mirror_samples, mirror.samples),
                        (self._metrics.mirror_retries, mirror.retries),
                        (self._metrics.mirror_dropped, mirror.dropped),
                        (self._metrics.mirror_dead_letters, mirror.dead_letters),
                        (self._metrics.mirror_collapsed, mirror.collapsed),
                    ):
                        figures.set(mirror.mirror, value=float(value))
            await asyncio.sleep(LOOK_SECONDS)


def _look(data: DataDir) -> tuple[list[Standing], bool]:
    """How the mirrors stand, and whether any has something to send."""
    return standings(data), any(has_work(spool) for spool in spools(data))
