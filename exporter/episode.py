"""One VM of others with the same QEMUs, from the end of one of its migrations to the end of the next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psutil

from driver.clock import Clock
from driver.datadir import DataDir
from driver.progress import ACTIVE, ENDED, Progress
from driver.watch import Sampling
from exporter.following import Following
from exporter.identity import Identity
from exporter.journal import Batch
from exporter.observed_run import ObservedRun
from exporter.observer import DestinationObserver, RunObserver, SourceObserver
from exporter.rates import Pace
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sink import Sink
from exporter.sources.console import ConsoleSource, Resume
from exporter.sources.monitor import MonitorSource, Observer
from exporter.sources.source import Source
from exporter.sources.threads import ThreadsSource
from exporter.verdicts import Verdicts

LOOK_SECONDS = 0.1
BEFORE_NS = 2_000_000_000
AFTER_SECONDS = 2.0
GONE_SECONDS = 1.0
LOST_SECONDS = 10.0
OTHER_END_SECONDS = 2.0
STEPPED_NS = 50_000_000
NANO = 1e-9

log = logging.getLogger(__name__)


class Desk(Protocol):
    """Who is told of the runs."""

    def begun(self, run: ObservedRun) -> None:
        """A run begins to be recorded."""

    def over(self, run: ObservedRun) -> None:
        """A run has its outcome and is to be stored."""


class Resting(Protocol):
    """Who shows a VM between its migrations."""

    def rest(self, vm: str, samples: Sequence[Sample]) -> None:
        """Take what is seen of a VM at rest."""

    def forget(self, vm: str) -> None:
        """A VM is no longer watched."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all VMs of an exporter share."""

    data: DataDir
    sinks: Sequence[Sink]
    resting: Resting
    desk: Desk
    metrics: SelfMetrics
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class End:
    """How a migration ended: QEMU's last status or what was seen instead, and when."""

    outcome: str
    reason: str | None
    time_ns: int
    seen: float


class Episode:
    """The VM's watch with the same QEMUs, from one migration's end to the next one's."""

    def __init__(self, name: str, ends: Sequence[Identity], around: Surroundings) -> None:
        self._name = name
        self._ends = ends
        self._around = around
        self._clock = Clock.now()
        self._verdicts = Verdicts(None)
        self._before: deque[Batch] = deque()
        self._begin_ns: int | None = None
        self._phases: list[tuple[str, int]] = []
        self._end: End | None = None
        self._run: ObservedRun | None = None
        self._threads: list[ThreadsSource] = []

    async def live(self, other_end: Callable[[], Awaitable[bool]]) -> None:
        """Follow all sources until the episode is over."""
        self._following = Following(f"vm {self._name}", self._name, self._take, self._around.metrics)
        sources = self._sources()
        try:
            await self._following.start(sources)
            await self._until_over(other_end)
            if self._run:
                await self._following.read_rest()
        finally:
            await self._following.stop()
            self._conclude()

    def _sources(self) -> list[Source]:
        sampling, metrics, clock = self._around.sampling, self._around.metrics, self._clock
        migration, post_copy = (Pace(sampling.rest_hz, sampling.active_hz) for _ in range(2))
        observed = RunObserver(
            verdicts=self._verdicts, migration=migration, post_copy=post_copy, counts=True,
            changed=[self._list_threads],
        )  # fmt: skip
        sources: list[Source] = []
        for end in self._ends:
            leads = end is self._ends[0]
            pace = migration if leads else post_copy
            inner = SourceObserver(observed) if end.role == "source" else DestinationObserver(observed)
            ear = _Ear(inner, end.role, leads, self, migration)
            monitor = MonitorSource(end.role, end.qemu.qmp, clock, pace, ear, metrics, 0)
            if leads:
                self._monitor = monitor
            if end.pid is not None:
                self._threads.append(ThreadsSource(end.role, partial(int, end.pid), clock.stamp, pace, metrics))
            if end.qemu.console:
                path = Path(end.qemu.console)
                resume = Resume(offset=path.stat().st_size if path.exists() else 0)
                sources.append(ConsoleSource(end.role, path, clock, resume, metrics))
            sources.append(monitor)
        return [*self._threads, *sources]

    def _list_threads(self) -> None:
        for threads in self._threads:
            threads.list_soon()

    def heard(self, status: str | None, time_ns: int, error: str | None, total_seconds: float) -> None:
        """The leading QEMU says how its migration stands."""
        begun = ACTIVE if self._ends[0].role == "source" else ACTIVE - {"setup"}  # a destination waits in it
        if status in begun and self._begin_ns is None:
            self._begin_ns = time_ns - round(total_seconds / NANO)
        elif status in ENDED and self._begin_ns is not None and self._end is None:
            outcome = str(status)
            reason = {"failed": error or "QEMU did not say why", "cancelled": "by whoever runs the VM"}.get(outcome)
            self._end = End(outcome=outcome, reason=reason, time_ns=time_ns, seen=time.monotonic())

    def switched(self, role: str, name: str, time_ns: int) -> None:
        """A guest stopped, or went on."""
        if self._begin_ns is None:
            return
        if role == "source":
            self._phases.append(("switchover" if name == "STOP" else "", time_ns))
        elif name == "RESUME":
            self._phases.append(("recover", time_ns))

    def _take(self, batch: Batch) -> None:
        """Record a batch, or keep it for a while: a migration that begins wants to know what was before it."""
        if self._run is None and self._begin_ns is not None:
            self._begin(self._begin_ns)
        if self._run is None:
            self._around.resting.rest(self._name, batch.samples)
            self._before.append(batch)
            newest_ns = max((sample.time_ns for sample in batch.samples), default=0)
            while self._before and all(s.time_ns < newest_ns - BEFORE_NS for s in self._before[0].samples):
                self._before.popleft()
            return
        self._run.take(batch)
        for name, time_ns in self._phases:
            if name:
                self._run.phase(name, time_ns)
            else:
                self._run.resumed(time_ns)
        self._phases.clear()

    def _begin(self, begin_ns: int) -> None:
        around = self._around
        run = ObservedRun(
            around.data, self._name, self._ends, self._clock, around.sinks, around.metrics, self._verdicts.in_words,
            around.desk.begun,
        )  # fmt: skip
        self._run = run
        log.info("vm %s: a migration begins: run %s", self._name, run.run.run)
        first_ns = min((s.time_ns for batch in self._before for s in batch.samples), default=begin_ns)
        if first_ns < begin_ns:
            run.phase("settle", first_ns)
        for batch in self._before:
            run.take(batch)
        self._before.clear()
        run.phase("migrate", begin_ns)

    def _conclude(self) -> None:
        if self._run is None:
            return
        now_ns = self._clock.stamp()
        end = self._end or End(
            outcome="abandoned", reason="the exporter stopped watching during the migration", time_ns=now_ns, seen=0
        )
        if end.outcome == "completed" and len(self._ends) == 1:
            self._run.phase("end", end.time_ns)
        self._run.end(end.outcome, end.reason, now_ns)
        log.info("vm %s: run %s: %s", self._name, self._run.run.run, end.outcome)
        self._around.desk.over(self._run)
        self._run = None

    async def _until_over(self, other_end: Callable[[], Awaitable[bool]]) -> None:
        lost_since: float | None = None
        looked = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            up = self._following.is_open(self._monitor)
            lost_since = None if up else (lost_since or now)
            lost_seconds = 0.0 if lost_since is None else now - lost_since
            if self._end is not None:
                if now - self._end.seen >= (AFTER_SECONDS if len(self._ends) == 2 else LOOK_SECONDS):
                    return
            elif self._run is not None:
                self._judge_loss(lost_seconds)
            elif lost_seconds > GONE_SECONDS or abs(time.time_ns() - self._clock.stamp()) > STEPPED_NS:
                return
            elif now - looked >= OTHER_END_SECONDS:
                looked = now
                if await other_end():
                    return

    def _judge_loss(self, lost_seconds: float) -> None:
        """A QEMU that ends in the middle of its migration says no more; one that is silent may come back."""
        leading = self._ends[0]
        if lost_seconds and leading.pid is not None and not _lives(leading.pid):
            outcome, reason = "guest_lost", f"the {leading.role}'s QEMU (pid {leading.pid}) ended during the migration"
        elif lost_seconds > LOST_SECONDS:
            outcome, reason = "broken", f"the {leading.role}'s monitor gave no answer for {LOST_SECONDS:g} s"
        else:
            return
        self._end = End(outcome=outcome, reason=reason, time_ns=self._clock.stamp(), seen=time.monotonic())


class _Ear:
    """Hears what a monitor tells its observer, and tells the episode what decides over it."""

    def __init__(self, inner: Observer, role: str, leads: bool, episode: Episode, pace: Pace) -> None:
        self._inner = inner
        self._role = role
        self._leads = leads
        self._episode = episode
        self._pace = pace

    def counts(self) -> bool:
        """Whether a status is of a migration that is watched: always."""
        return self._inner.counts()

    def limits(self, parameters: Mapping[str, Any]) -> None:
        """Take QEMU's limits."""
        self._inner.limits(parameters)

    def happened(self, name: str, data: Mapping[str, Any], time_ns: int) -> float | None:
        """Take an event."""
        if name == "MIGRATION" and self._leads:
            self._status(data.get("status"), time_ns, None, 0.0)
        elif name in ("STOP", "RESUME"):
            self._episode.switched(self._role, name, time_ns)
        return self._inner.happened(name, data, time_ns)

    def progressed(self, time_ns: int, progress: Progress) -> list[Sample]:
        """Take a reply to query-migrate."""
        if self._leads:
            self._status(progress.status, time_ns, progress.error, progress.fields.get("total_seconds", 0.0))
        return self._inner.progressed(time_ns, progress)

    def _status(self, status: str | None, time_ns: int, error: str | None, total_seconds: float) -> None:
        self._episode.heard(status, time_ns, error, total_seconds)
        self._pace.set_active(status in ACTIVE)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that its parent has not yet waited for does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
