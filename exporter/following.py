"""The boundary around sources: each is opened, read, and tried again when it fails, and none harms another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from driver.watch import DETACH_SECONDS
from exporter.journal import Batch
from exporter.selfmetrics import SelfMetrics
from exporter.sources.source import Source

READY_SECONDS = 5.0
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 5.0

log = logging.getLogger(__name__)


class Following:
    """Follows several sources at once and hands on what they see.

    A source that fails is logged once, counted and tried again with growing pauses; the other sources and who takes the
    samples never notice. `subject` names the run or the VM in the log, `vm` labels the sources' `source_up`.
    """

    def __init__(self, subject: str, vm: str, take: Callable[[Batch], None], metrics: SelfMetrics) -> None:
        self._subject = subject
        self._vm = vm
        self._take = take
        self._metrics = metrics
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._open: set[Source] = set()
        self._tried: dict[Source, asyncio.Event] = {}

    def is_open(self, source: Source) -> bool:
        """Whether a source is up at this moment."""
        return source in self._open

    async def start(self, sources: Iterable[Source]) -> None:
        """Open all sources; returns once each has come up or failed for the first time (bound 5 s)."""
        for source in sources:
            self._tried[source] = asyncio.Event()
            self._tasks[source] = asyncio.create_task(self._follow(source))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                for tried in self._tried.values():
                    await tried.wait()

    async def read_rest(self) -> None:
        """Read every open source to its end (bound 5 s)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DETACH_SECONDS):
                await asyncio.gather(*(self._read_rest(source) for source in list(self._open)))

    async def stop(self) -> None:
        """Close all sources."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._metrics.source_up.forget(self._vm)

    async def _follow(self, source: Source) -> None:
        """The boundary around one source: what it raises is logged once, counted, and tried again later."""
        pause, logged = FIRST_RETRY_SECONDS, False

        def take(batch: Batch) -> None:
            nonlocal pause
            pause = FIRST_RETRY_SECONDS
            self._take(batch)

        while True:
            try:
                async with source:
                    self._open.add(source)
                    self._note(source, up=True)
                    await source.follow(take)
            except Exception as error:
                self._metrics.source_errors.add(source.name)
                if not logged:
                    log.warning("%s: %s of the %s: %s; retrying", self._subject, source.name, source.role, _line(error))
                    logged = True
            finally:
                self._open.discard(source)
                self._note(source, up=False)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_RETRY_SECONDS)

    async def _read_rest(self, source: Source) -> None:
        """Read a source to its end: the same boundary as `_follow`, for a QEMU that is gone already."""
        try:
            self._take(await source.rest())
        except Exception as error:
            self._metrics.source_errors.add(source.name)
            log.warning("%s: %s of the %s, at its end: %s", self._subject, source.name, source.role, _line(error))

    def _note(self, source: Source, *, up: bool) -> None:
        self._metrics.source_up.set(self._vm, source.role, source.name, value=float(up))
        self._tried[source].set()


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
