"""One attached run: its sources, its journal and who looks at its samples, from attach to detach."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from driver.datadir import RunDir
from driver.marks import Mark
from driver.record import read_record
from driver.targets import Target, Targets, read_targets
from driver.watch import DETACH_SECONDS, LiveState, Sampling
from exporter.journal import Batch, Header, JournalWriter
from exporter.live import LiveView
from exporter.observer import DestinationObserver, RunObserver, SourceObserver
from exporter.rates import Pace
from exporter.recorder import Recorder
from exporter.resume import Left, read_left
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sink import Sink
from exporter.sources.console import ConsoleSource
from exporter.sources.marks import MarksSource
from exporter.sources.monitor import MonitorSource
from exporter.sources.source import Source
from exporter.sources.threads import ThreadsSource
from exporter.verdicts import Verdicts
from workload.errors import BadValueError

READY_SECONDS = 5.0
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 5.0

log = logging.getLogger(__name__)


class AttachedRun:
    """Follows one run.

    A source that fails is logged once, counted and tried again with growing pauses; the other sources, the journal and
    the scrape never notice.
    """

    def __init__(self, run: RunDir, vm: str, sampling: Sampling, sinks: Sequence[Sink], metrics: SelfMetrics) -> None:
        self.run = run
        self.vm = vm
        targets = read_targets(run)
        if targets.run != run.run:
            raise BadValueError(f"{run.targets}: is of run {targets.run}, want {run.run}")
        self._record = read_record(run)
        self._header = _header(targets, vm)
        self._sinks = sinks
        self._metrics = metrics
        self._targets = targets
        self._sampling = sampling
        self._migration = Pace(sampling.rest_hz, sampling.active_hz)
        self._post_copy = Pace(sampling.rest_hz, sampling.active_hz)
        self._verdicts = Verdicts(self._record.scenario)
        self._view = LiveView(self._header)
        self._takers: list[Callable[[Sequence[Sample]], None]] = [
            self._view.take,
            *(partial(sink.take, run.run) for sink in sinks),
        ]
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._open: set[Source] = set()

    @property
    def version(self) -> int:
        """Rises whenever the phase, the status or the outcome changes."""
        return self._view.version

    def state(self) -> LiveState:
        """What the run looks like now."""
        return self._view.state(self._verdicts.in_words())

    async def start(self) -> None:
        """Open the journal and all sources; returns once each has come up or failed for the first time.

        Raises:
            OSError: the journal cannot be written.
        """
        attached: list[Sink] = []
        try:
            for sink in self._sinks:
                sink.attach(self._header, self._record)
                attached.append(sink)
            left = read_left(self.run, self._hand_on)
            journal = JournalWriter(self.run.new_journal(), self._header)
        except BaseException:
            for sink in attached:
                sink.detach(self.run.run)
            raise
        self._recorder = Recorder(journal, self._header, [self._hand_on], self._metrics, left.last_stamps)
        for source in self._sources(left):
            self._tasks[source] = asyncio.create_task(self._follow(source))
        self._tried = {source: asyncio.Event() for source in self._tasks}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                for tried in self._tried.values():
                    await tried.wait()

    async def finish(self) -> None:
        """Read every source to its end (bound 5 s), close the journal, let the sinks go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DETACH_SECONDS):
                await asyncio.gather(*(self._read_rest(source) for source in list(self._open)))
        await self._stop()

    async def abandon(self) -> None:
        """Stop watching without an end: the exporter itself is told to go, and another may follow."""
        await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._recorder.close()
        for sink in self._sinks:
            sink.detach(self.run.run)
        self._metrics.source_up.forget(self.vm)

    def _sources(self, left: Left) -> Iterable[Source]:
        clock, metrics = self._targets.clock, self._metrics
        threads = [
            ThreadsSource(target.role, target.pid, clock.stamp, self._pace(target), metrics)
            for target in self._targets.targets
        ]
        run = RunObserver(
            verdicts=self._verdicts,
            migration=self._migration,
            post_copy=self._post_copy,
            counts=self._record.kind == "observed",
            changed=[source.list_soon for source in threads],
        )
        self._monitors = [
            MonitorSource(
                target.role,
                target.monitor,
                clock,
                self._pace(target),
                SourceObserver(run) if target.role == "source" else DestinationObserver(run),
                metrics,
                left.sequence(target.role),
            )
            for target in self._targets.targets
        ]
        # marks first: whether a status counts is known before the first poll
        yield MarksSource(self.run.marks, left.last_mark_ns, partial(self._marked, run))
        yield from (
            ConsoleSource(target.role, Path(target.console), clock, left.console(target.role), metrics)
            for target in self._targets.targets
        )
        yield from threads
        yield from self._monitors

    def _pace(self, target: Target) -> Pace:
        """The source is looked at closely while a migration is under way, the destination once it has the guest."""
        return self._migration if target.role == "source" else self._post_copy

    def _marked(self, run: RunObserver, mark: Mark) -> None:
        if samples := run.marked(mark):
            self._recorder.take(Batch(samples=samples))
        if mark.kind == "action":
            for monitor in self._monitors:
                if monitor in self._open:
                    monitor.ask_limits()

    def _hand_on(self, samples: Sequence[Sample]) -> None:
        """Give what the journal has acknowledged to the live view and the sinks; one that fails harms no other."""
        for take in self._takers:
            try:
                take(samples)
            except Exception:
                log.exception("run %s: a sink could not take %d samples", self.run.run, len(samples))
                self._metrics.source_errors.add("sink")

    async def _follow(self, source: Source) -> None:
        """The boundary around one source: what it raises is logged once, counted, and tried again later."""
        pause, logged = FIRST_RETRY_SECONDS, False
        while True:
            try:
                async with source:
                    self._open.add(source)
                    self._note(source, up=True)
                    async for batch in source.batches():
                        self._recorder.take(batch)
                        pause = FIRST_RETRY_SECONDS
            except Exception as error:
                self._metrics.source_errors.add(source.name)
                if not logged:
                    log.warning(
                        "run %s: %s of the %s: %s; retrying", self.run.run, source.name, source.role, _line(error)
                    )
                    logged = True
            finally:
                self._open.discard(source)
                self._note(source, up=False)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_RETRY_SECONDS)

    async def _read_rest(self, source: Source) -> None:
        """Read a source to its end: the same boundary as `_follow`, for a QEMU that is gone already."""
        try:
            self._recorder.take(await source.rest())
        except Exception as error:
            self._metrics.source_errors.add(source.name)
            log.warning("run %s: %s of the %s, at its end: %s", self.run.run, source.name, source.role, _line(error))

    def _note(self, source: Source, *, up: bool) -> None:
        self._metrics.source_up.set(self.vm, source.role, source.name, value=float(up))
        self._tried[source].set()


def _header(targets: Targets, vm: str) -> Header:
    return Header(
        run=targets.run, campaign=targets.campaign, scenario=targets.scenario, host=targets.host, vm=vm,
        clock=targets.clock,
    )  # fmt: skip


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
