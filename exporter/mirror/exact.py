"""A run's samples as values of Prometheus' series, each with its exact millisecond: what remote write sends.

The series are those of /metrics, from the same code. What differs is time: every sample counts, not the latest one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driver.record import RunRecord
from exporter.journal import Header
from exporter.metric import RUN_LABELS, Metric
from exporter.mirror.prompb import Labels
from exporter.sample import Sample
from exporter.sinks.families import add, family
from exporter.sinks.mapping import LABELS, Value
from exporter.sinks.series import RunSeries

JOB = "migrascope_remote_write"
"""The job of all that is sent: every dashboard and rule selects one job, so that what is also scraped counts once."""

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""Prometheus' stale marker, the one not-a-number of these bits (model/value/value.go): the series ends here."""

HELD_MS = 1000
"""So much of a run's time a value waits for a later one of the same millisecond."""

RELEASE_MS = 500
REPEAT_MS = 60_000
"""A series that said nothing for so long is repeated: Prometheus takes one to be gone after 5 minutes."""

MILLISECOND_NS = 1_000_000

ExactValue = tuple[Labels, int, float]


@dataclass(slots=True)
class _Series:
    labels: Labels
    sent_ms: int = 0
    held_ms: int = 0
    value: float = 0.0

    @property
    def holds(self) -> bool:
        return self.held_ms > self.sent_ms


class ExactEncoder:
    """Turns a run's samples into values; which ones follow from the samples alone, not from how they are batched.

    Within a millisecond a series' last value wins, the others are counted in `collapsed`; so is one that comes when
    its millisecond has been sent. A series that a sample takes away ends with a stale marker at that moment, and all
    of them end 1 ms after their last value with the run. A run whose record is not known has no series.
    """

    remembers = True

    def __init__(self, run: str, record: RunRecord | None) -> None:  # noqa: ARG002 - one shape: the header names the run
        self.collapsed = 0
        self._record = record
        self._header: Header | None = None
        self._series: RunSeries | None = None
        self._known: dict[Labels, _Series] = {}
        self._expanded: dict[tuple[str, LABELS], list[_Series]] = {}
        self._changes: list[tuple[Metric, LABELS, Value | None]] = []
        self._now_ms = self._released_ms = self._repeated_ms = 0
        self._out: list[ExactValue] = []

    def rows(self, header: Header | None, samples: Sequence[Sample]) -> list[ExactValue]:
        """Take samples; gives the values that no later sample can change."""
        if header and header != self._header:
            self._begin(header)
        if self._series and self._header:
            for sample in samples:
                self._series.take(sample)
                self._note(self._header, sample.time_ns // MILLISECOND_NS)
        return self._given()

    def last(self) -> list[ExactValue]:
        """The values that are still held, and the stale markers."""
        for series in self._known.values():
            self._send(series)
            if not math.isnan(series.value):
                self._out.append((series.labels, series.sent_ms + 1, STALE))
        return self._given()

    def _begin(self, header: Header) -> None:
        """Begin a run, or go on under other labels where another exporter gave it another slot."""
        if self._record is None:
            return
        if self._header is None or self._series is None:
            self._header = header
            self._series = RunSeries(header, self._record, self._change)
            return
        if header.vm != self._header.vm:
            self._out = self.last()
            self._known.clear()
            self._expanded.clear()
            self._changes += [
                (metric, labels[len(RUN_LABELS) :], value) for metric, labels, value in self._series.rows()
            ]
        self._header = header

    def _change(self, metric: Metric, labels: LABELS, value: Value | None) -> None:
        self._changes.append((metric, labels, value))

    def _note(self, header: Header, time_ms: int) -> None:
        """Give what a sample changed its millisecond, and let go what is older than that by a second."""
        for metric, labels, value in self._changes:
            if value is None:
                for series in self._expanded.pop((metric.name, labels), ()):
                    self._put(series, time_ms, STALE)
            else:
                self._put_metric(header, metric, labels, value, time_ms)
        self._changes.clear()
        self._now_ms = max(self._now_ms, time_ms)
        if self._now_ms >= self._released_ms + RELEASE_MS:
            self._release(self._now_ms - HELD_MS)

    def _put_metric(self, header: Header, metric: Metric, labels: LABELS, value: Value, time_ms: int) -> None:
        key = metric.name, labels
        if metric.kind in ("counter", "gauge") and isinstance(value, float):
            if (known := self._expanded.get(key)) is None:
                known = self._expanded[key] = [series for series, _ in self._expand(header, metric, labels, value)]
            self._put(known[0], time_ms, value)
            return
        expanded = list(self._expand(header, metric, labels, value))
        self._expanded[key] = [series for series, _ in expanded]
        for series, number in expanded:
            self._put(series, time_ms, number)

    def _expand(self, header: Header, metric: Metric, labels: LABELS, value: Value) -> Iterator[tuple[_Series, float]]:
        """The series of a metric's value, as /metrics names them: one, or several of a state set or a histogram."""
        shown = family(metric)
        add(shown, metric, (header.vm, header.scenario, header.campaign or "", *labels), value)
        own = {"job": JOB, "instance": header.host, "host": header.host}
        for sample in shown.samples:
            named = {"__name__": sample.name, **own, **sample.labels}
            key = tuple(sorted((name, word) for name, word in named.items() if word))
            series = self._known.get(key)
            if series is None:
                series = self._known[key] = _Series(labels=key)
            yield series, float(sample.value)

    def _put(self, series: _Series, time_ms: int, value: float) -> None:
        if time_ms > series.held_ms:
            self._send(series)
            series.held_ms, series.value = time_ms, value
            return
        self.collapsed += 1
        if series.holds and time_ms == series.held_ms:
            series.value = value

    def _send(self, series: _Series) -> None:
        if series.holds:
            self._out.append((series.labels, series.held_ms, series.value))
            series.sent_ms = series.held_ms

    def _release(self, until_ms: int) -> None:
        self._released_ms = self._now_ms
        repeat = self._now_ms >= self._repeated_ms + REPEAT_MS
        for series in self._known.values():
            if series.held_ms <= until_ms:
                self._send(series)
                if repeat and series.held_ms <= until_ms - REPEAT_MS and not math.isnan(series.value):
                    series.held_ms = until_ms
                    self._send(series)
        if repeat:
            self._repeated_ms = self._now_ms

    def _given(self) -> list[ExactValue]:
        out, self._out = self._out, []
        return out
