"""One attached run: its sources, its journal and who looks at its samples, from attach to detach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import psutil

from driver.datadir import DataDir, RunDir
from driver.marks import Mark
from driver.record import read_record
from driver.targets import Target, Targets, read_targets
from driver.watch import LiveState, Sampling
from exporter.abandoned import driver_lives
from exporter.following import Following
from exporter.journal import Batch, Header
from exporter.link_speed import known_link_speed
from exporter.observer import DestinationObserver, RunObserver, SourceObserver
from exporter.rates import Pace
from exporter.recording import Recording
from exporter.resume import Left
from exporter.selfmetrics import SelfMetrics
from exporter.sink import Sink
from exporter.sources.console import ConsoleSource
from exporter.sources.marks import MarksSource
from exporter.sources.monitor import MonitorSource
from exporter.sources.remote import RemoteConsoleSource, RemoteThreadsSource
from exporter.sources.source import Source
from exporter.sources.threads import ThreadsSource
from exporter.verdicts import Verdicts
from workload.errors import BadValueError


class AttachedRun:
    """Follows one run that a driver makes; the journal, the sinks and the scrape never notice a source that fails."""

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
        self._migration = Pace(sampling.rest_hz, sampling.active_hz)
        self._post_copy = Pace(sampling.rest_hz, sampling.active_hz)

    @property
    def version(self) -> int:
        """Rises whenever the phase, the status or the outcome changes."""
        return self._recording.view.version

    @property
    def abandoned(self) -> bool:
        """Whether its driver is dead, and its QEMUs, which die with it, are gone as well."""
        return not driver_lives(self.run) and not any(
            psutil.pid_exists(target.pid) for target in self._targets.targets if target.elsewhere is None
        )

    def state(self) -> LiveState:
        """What the run looks like now."""
        return self._recording.view.state(self._verdicts.in_words(), self._verdicts.bottleneck_in_words())

    async def start(self, opened: Callable[[], None]) -> None:
        """Open the journal and all sources; returns once each has come up or failed for the first time.

        `opened` is called when the journal is there and holds no sample yet; should it fail, the run is not watched.

        Raises:
            OSError: the journal cannot be written.
        """
        speed = await asyncio.to_thread(known_link_speed, DataDir(path=self.run.path.parent.parent), self._record)
        self._recording = Recording(self.run, self._header, self._record, self._sinks, self._metrics, opened)
        self._verdicts = Verdicts(
            self._record.scenario, link_bytes_per_second=speed, sender_cores=self._recording.view.sender_cores
        )
        self._following = Following(f"run {self.run.run}", self.vm, self._recording.take, self._metrics)
        await self._following.start(self._sources(self._recording.left))

    async def finish(self) -> None:
        """Read every source to its end (bound 5 s), close the journal, let the sinks go."""
        await self._following.read_rest()
        await self.abandon()

    async def abandon(self) -> None:
        """Stop watching without an end: the exporter itself is told to go, and another may follow."""
        await self._following.stop()
        self._recording.close()

    def _sources(self, left: Left) -> Iterable[Source]:
        clock, metrics = self._targets.clock, self._metrics
        threads = [self._threads(target) for target in self._targets.targets]
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
                _wall_clock(target),
            )
            for target in self._targets.targets
        ]
        # marks first: whether a status counts is known before the first poll
        yield MarksSource(self.run.marks, left.last_mark_ns, partial(self._marked, run))
        yield from (self._console(target, Path(target.console), left) for target in self._targets.targets
                    if target.console)  # fmt: skip
        yield from threads
        yield from self._monitors

    def _pid(self, role: str) -> int:
        """The process of a role now: a further attempt has a new destination."""
        self._targets = read_targets(self.run)
        return next(target.pid for target in self._targets.targets if target.role == role)

    def _threads(self, target: Target) -> ThreadsSource | RemoteThreadsSource:
        clock, pace, metrics = self._targets.clock, self._pace(target), self._metrics
        if target.elsewhere:
            return RemoteThreadsSource(target.role, target.elsewhere, clock, pace, metrics)
        return ThreadsSource(target.role, partial(self._pid, target.role), clock.stamp, pace, metrics)

    def _console(self, target: Target, path: Path, left: Left) -> ConsoleSource:
        clock, resume = self._targets.clock, left.console(target.role)
        if target.elsewhere:
            return RemoteConsoleSource(target.role, path, target.elsewhere, clock, resume, self._metrics)
        return ConsoleSource(target.role, path, clock, resume, self._metrics)

    def _pace(self, target: Target) -> Pace:
        """The source is looked at closely while a migration is under way, the destination once it has the guest."""
        return self._migration if target.role == "source" else self._post_copy

    def _marked(self, run: RunObserver, mark: Mark) -> None:
        if samples := run.marked(mark):
            self._recording.take(Batch(samples=samples))
        if mark.kind == "action":
            for monitor in self._monitors:
                if self._following.is_open(monitor):
                    monitor.ask_limits()


def _wall_clock(target: Target) -> Callable[[], int]:
    """How the wall clock of a QEMU's host is read: elsewhere by our monotonic one and the offset measured."""
    if target.elsewhere is None:
        return time.time_ns
    offset_ns = target.elsewhere.clock.wall_ns
    return lambda: time.monotonic_ns() + offset_ns


def _header(targets: Targets, vm: str) -> Header:
    return Header(
        run=targets.run, campaign=targets.campaign, scenario=targets.scenario, host=targets.host, vm=vm,
        clock=targets.clock,
    )  # fmt: skip
