"""Writes what the sources saw: to the journal first, then to whoever looks, in that order and once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from exporter.journal import Batch, Header, JournalWriter
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics

WRITE_SECONDS = 0.05
RETRY_SECONDS = 0.5
MOST_PENDING_SAMPLES = 200_000
"""About half a minute of a run at full rate: longer than that a full disk makes its driver give up."""

SeriesKey = tuple[str, ...]

log = logging.getLogger(__name__)


class Recorder:
    """One run's way from sources to journal to takers.

    What the sources hand over within 50 ms is written in one go: a write at each tick of each source cost a third of
    the exporter's CPU. Stamps rise strictly within a series (ties + 1 ns). While the journal cannot be written, samples
    wait and are retried; beyond `MOST_PENDING_SAMPLES` the oldest are dropped, counted, and told by an `event` sample
    named `gap`.
    """

    def __init__(
        self,
        journal: JournalWriter,
        header: Header,
        takers: Sequence[Callable[[Sequence[Sample]], None]],
        metrics: SelfMetrics,
        last_stamps: Mapping[SeriesKey, int],
    ) -> None:
        self._journal = journal
        self._header = header
        self._takers = takers
        self._metrics = metrics
        self._last_stamps = dict(last_stamps)
        self._samples: list[Sample] = []
        self._offsets: dict[str, int] = {}
        self._dropped = 0
        self._failing = False
        self._scheduled: asyncio.TimerHandle | None = None

    def take(self, batch: Batch) -> None:
        """Take a batch; it is acknowledged within 50 ms."""
        self._samples.extend(self._rising(sample) for sample in batch.samples)
        self._offsets.update(batch.offsets)
        if self._scheduled is None and (self._samples or self._offsets):
            self._scheduled = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._write)

    def close(self) -> None:
        """Write what is left and close the journal."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        if self._samples or self._offsets:
            self._write()
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._journal.close()

    def _rising(self, sample: Sample) -> Sample:
        key = (sample.measurement, *sample.tags.values())
        last = self._last_stamps.get(key, 0)
        if sample.time_ns <= last:
            sample = replace(sample, time_ns=last + 1)
        self._last_stamps[key] = sample.time_ns
        return sample

    def _write(self) -> None:
        self._scheduled = None
        self._bound()
        samples = self._samples
        if self._dropped:
            samples = [*samples, self._gap(samples[-1].time_ns if samples else 0)]
        before = self._journal.bytes_written
        try:
            self._journal.append(Batch(samples=samples, offsets=self._offsets))
        except OSError as error:
            if not self._failing:
                log.warning("run %s: cannot write its journal: %s; retrying", self._header.run, error.strerror)
            self._failing = True
            self._metrics.journal_errors.add()
            self._scheduled = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._write)
            return
        self._failing = False
        self._metrics.journal_bytes.add(amount=self._journal.bytes_written - before)
        self._samples, self._offsets, self._dropped = [], {}, 0
        for sample in samples:
            self._metrics.samples.add(sample.measurement)
        for taker in self._takers:
            taker(samples)

    def _bound(self) -> None:
        surplus = len(self._samples) - MOST_PENDING_SAMPLES
        if surplus > 0:
            del self._samples[:surplus]
            self._dropped += surplus
            self._metrics.journal_lost_samples.add(amount=surplus)

    def _gap(self, time_ns: int) -> Sample:
        detail = f"{self._dropped} samples could not be written"
        tags = {"role": "exporter", "name": "gap"}
        return self._rising(Sample("event", time_ns, {"count": 1.0, "detail": detail}, tags))
