"""What /metrics shows: a collector that yields fresh families of all live and lingering runs at each scrape."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.registry import Collector

from driver.record import RunRecord
from exporter.catalogue import CATALOGUE
from exporter.journal import Header
from exporter.sample import Sample
from exporter.selfmetrics import Distribution, SelfMetrics
from exporter.sinks.families import Family, add, family
from exporter.sinks.reader import Reader
from exporter.sinks.resting import RestingVms
from exporter.sinks.series import RunSeries

log = logging.getLogger(__name__)


class PrometheusSink(Collector):
    """Keeps each run's latest values and true counters, and shows them with the exporter's own figures.

    The sampling loop writes, scrapes read in threads of their own; the lock is held only to take a batch or to copy.
    A part that fails is left out of the scrape, logged and counted.
    """

    def __init__(
        self,
        own: SelfMetrics,
        linger: Callable[[], float],
        readers: Sequence[Reader] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = own
        self._linger = linger
        self._readers = readers
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[str, RunSeries] = {}
        for part in ("run", *(reader.measurement for reader in readers), "exporter"):
            own.scrape_errors.add(part, amount=0.0)
        self.resting = RestingVms(self._lock)

    def attach(self, header: Header, record: RunRecord) -> None:
        """Begin a run's series; a lingering run of the same slot makes room at once."""
        with self._lock:
            self._runs = {name: run for name, run in self._runs.items() if run.vm != header.vm or run.until is None}
            self._runs[header.run] = RunSeries(header, record)
            self._count_attached()

    def take(self, run: str, samples: Sequence[Sample]) -> None:
        """Take a batch of a run that is attached."""
        with self._lock:
            self._runs[run].take_all(samples)

    def detach(self, run: str) -> None:
        """End a run: its states and verdicts go at once, its counters and final figures linger."""
        with self._lock:
            series = self._runs[run]
            series.end(self._clock() + self._linger())
            self._own.runs.add()
            self._own.runs_failed.add(amount=float(series.outcome != "completed"))
            self._own.runs_not_converged.add(amount=float(series.outcome == "not_converged"))
            self._count_attached()

    def conclude(self, run: str, figures: Mapping[str, object]) -> None:
        """Show the figures of a run's summary as long as its series linger."""
        with self._lock:
            if series := self._runs.get(run):
                series.conclude(figures)

    @property
    def shown_runs(self) -> int:
        """How many runs still have series, lingering ones included."""
        with self._lock:
            self._forget_the_gone()
            return len(self._runs)

    def describe(self) -> list[Family]:
        """List every family of the catalogue, empty."""
        return [family(metric) for metric in CATALOGUE]

    def collect(self) -> Iterator[Family]:
        """Yield the families that have something to show, in the catalogue's order."""
        began = self._clock()
        families = {metric.name: family(metric) for metric in CATALOGUE}
        with self._lock:
            self._forget_the_gone()
            runs = list(self._runs.values())
            runs += self.resting.without({run.vm for run in runs})
        for run in runs:
            self._guarded("run", self._add_run, families, run)
        for reader in self._readers:
            self._guarded(reader.measurement, self._add_readings, families, reader)
        self._own.linger.set(value=self._linger())
        self._guarded("exporter", self._add_own, families)
        self._own.scrapes.add()
        self._own.scrape_seconds.add(amount=self._clock() - began)
        return iter([shown for shown in families.values() if shown.samples])

    def _guarded(self, part: str, build: Callable[..., None], *arguments: object) -> None:
        """Build one part of a scrape: the boundary at which its failure is logged and counted, and the rest goes on."""
        try:
            build(*arguments)
        except Exception:
            log.exception("scrape: the part %r failed and is left out", part)
            self._own.scrape_errors.add(part)

    def _add_run(self, families: dict[str, Family], run: RunSeries) -> None:
        with self._lock:
            rows = list(run.rows())
        for metric, labels, value in rows:
            add(families[metric.name], metric, labels, value)

    def _add_own(self, families: dict[str, Family]) -> None:
        for metric in CATALOGUE:
            if metric.measurement != "exporter":
                continue
            figures = getattr(self._own, metric.field)
            if isinstance(figures, Distribution):
                for labels in sorted(dict(figures.counts)):
                    add(families[metric.name], metric, labels, figures.at(labels))
            else:
                for labels, value in sorted(dict(figures.values).items()):
                    add(families[metric.name], metric, labels, value)

    def _add_readings(self, families: dict[str, Family], reader: Reader) -> None:
        found = reader.read()
        for metric in CATALOGUE:
            if metric.measurement == reader.measurement:
                for labels, value in sorted(found.get(metric.field, {}).items()):
                    add(families[metric.name], metric, labels, value)

    def _count_attached(self) -> None:
        self._own.attached_runs.set(value=float(sum(run.until is None for run in self._runs.values())))

    def _forget_the_gone(self) -> None:
        now = self._clock()
        self._runs = {name: run for name, run in self._runs.items() if run.until is None or run.until > now}
