"""One run's series as Prometheus will see them: the latest values, the true counters, the state sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from driver.record import RunRecord
from exporter.catalogue import BY_KEY, CATALOGUE
from exporter.journal import Header
from exporter.metric import Metric
from exporter.sample import Sample
from exporter.selfmetrics import Histogram
from exporter.sinks.mapping import LABELS, PLAN, Value, series_of

LATEST_ONLY = frozenset(name for name, metrics in PLAN.items() if not any(metric.tally for metric in metrics))
"""Measurements of which only a series' last sample matters: at 100 Hz most samples of a batch need not be looked at."""

Changed = Callable[[Metric, LABELS, Value | None], None]

GIB = 1 << 30
NANO = 1e-9
BASELINE_PHASE = "settle"

MOST_UNMAPPED = 32
"""So many numbers that nobody mapped are shown of one run; they are all counted and recorded."""

_OPEN = {
    name: frozenset(metric.key for metric in metrics if metric.pattern or metric.field == "*")
    for name, metrics in PLAN.items()
}


class RunSeries:
    """The series of one run, used under the sink's lock.

    `changed`, where it is given, is told of every value as it is stored, also of one that is what it was, and of every
    series that goes (None): metric, values of its own labels, value.
    """

    def __init__(self, header: Header, record: RunRecord, changed: Changed | None = None) -> None:
        self._changed = changed
        self.run = header.run
        self.vm = header.vm
        self.outcome: str | None = None
        self.until: float | None = None
        self._run_labels = (header.vm, header.scenario, header.campaign or "")
        self._values: dict[str, dict[LABELS, Value]] = {}
        self._phase: tuple[str, int] | None = None
        self._settled: dict[str, tuple[float, float]] = {}
        self._describe(header, record)

    def take_all(self, samples: Sequence[Sample]) -> None:
        """Take a batch."""
        latest: dict[tuple[str, ...], Sample] = {}
        for sample in samples:
            if sample.measurement in LATEST_ONLY:
                latest[sample.measurement, *sample.tags.values()] = sample
            else:
                self.take(sample)
        for sample in latest.values():
            self.take(sample)

    def take(self, sample: Sample) -> None:
        """Take one sample into every metric that it feeds; a field that is absent now takes its gauge away."""
        if sample.measurement == "event" and sample.tags["role"] == "driver":
            self._marked(sample.tags["name"], sample.time_ns)
        elif sample.measurement == "guest_xor" and self._phase and self._phase[0] == BASELINE_PHASE:
            self._settle(sample)
        seen: set[tuple[str, LABELS]] = set()
        for metric, labels, value in series_of(sample):
            self._store(metric, labels, value)
            seen.add((metric.key, labels))
        for key in _OPEN.get(sample.measurement, ()):
            self._drop_unseen(key, sample, seen)

    def conclude(self, figures: Mapping[str, object]) -> None:
        """Take the figures of the run's summary, once it is stored."""
        for metric in CATALOGUE:
            if metric.measurement != "summary":
                continue
            found: dict[LABELS, object]
            if metric.pattern:
                found = {(match[1],): value for name, value in figures.items()
                         if (match := metric.pattern.fullmatch(name))}  # fmt: skip
            elif isinstance(nested := figures.get(metric.field), Mapping):
                found = {(role, kind): value for role, kinds in nested.items() for kind, value in kinds.items()}
            else:
                found = {(): figures.get(metric.field)}
            for labels, value in found.items():
                self._store(metric, labels, float(value) if isinstance(value, int | float) else None)

    def end(self, until: float) -> None:
        """End the run: what tells of its state goes at once, the rest stays until that moment."""
        self.until = until
        for key in [key for key in self._values if BY_KEY[key].passing]:
            del self._values[key]

    def rows(self) -> Iterator[tuple[Metric, LABELS, Value]]:
        """Yield each series: metric, label values in the order of `all_labels`, value (a state set: its state)."""
        for key, values in self._values.items():
            for labels, value in values.items():
                yield BY_KEY[key], self._run_labels + labels, value

    def _describe(self, header: Header, record: RunRecord) -> None:
        """Store what is known before the first sample; counters start at 0, or increase() misses what comes first."""
        scenario = record.scenario
        facts = (
            header.run, header.host, scenario.strategy if scenario else "",
            str(scenario.bandwidth_mib_s) if scenario else "", scenario.transport if scenario else "",
            record.accelerator or "", record.source_binary.version if record.source_binary else "",
            record.destination_binary.version if record.destination_binary else "",
        )  # fmt: skip
        self._set("run.info", 1.0, *facts)
        if scenario:
            self._set("run.downtime_limit_seconds", scenario.downtime_limit_seconds)
            bandwidth = float(scenario.bandwidth_bytes_per_second)
            self._set("run.bandwidth_bytes_per_second", bandwidth)
            if scenario.auto_converge_increment:
                self._set("run.throttle_limit_ratio", scenario.auto_converge_max / 100)
            self._set("run.max_iterations", float(scenario.max_iterations))
            self._set("run.max_time_seconds", float(scenario.max_time_seconds))
        vcpus = [(str(number),) for number in range(record.hardware.vcpus if record.hardware else 0)]
        for metrics in PLAN.values():
            for metric in metrics:
                if metric.kind == "counter" and (zero := vcpus if metric.labels == ("vcpu",) else metric.zero):
                    for labels in zero:
                        self._set(metric.key, 0.0, *labels)

    def _marked(self, name: str, time_ns: int) -> None:
        kind, _, word = name.partition(".")
        if kind == "phase":
            if self._phase:
                before, began_ns = self._phase
                self._set("run.phase_seconds", (time_ns - began_ns) * NANO, before)
            self._phase = word, time_ns
            self._set("run.phase", word)
            self._set("run.phase_start", time_ns * NANO, word)
        elif kind == "outcome":
            self.outcome = word
            self._set("run.outcome", word)

    def _settle(self, sample: Sample) -> None:
        """Add one line of the settled guest to its vCPU's baseline."""
        vcpu = sample.tags["vcpu"]
        amount, seconds = self._settled.get(vcpu, (0.0, 0.0))
        amount, seconds = amount + float(sample.fields["bytes"]), seconds + float(sample.fields["seconds"])
        self._settled[vcpu] = amount, seconds
        if amount:
            self._set("run.baseline", seconds / amount * GIB, vcpu)

    def _set(self, key: str, value: Value, *labels: str) -> None:
        self._values.setdefault(key, {})[labels] = value
        if self._changed:
            self._changed(BY_KEY[key], labels, value)

    def _store(self, metric: Metric, labels: LABELS, value: Value | None) -> None:
        values = self._values.setdefault(metric.key, {})
        if value is None:
            if metric.kind != "counter" and labels in values:
                self._drop(metric, labels)
            return
        if metric.tally and isinstance(value, float):
            before = values.get(labels, 0.0)
            value += before if isinstance(before, float) else 0.0
        elif metric.tally and isinstance(value, Histogram):
            earlier = values.get(labels)
            value = earlier + value if isinstance(earlier, Histogram) else value
        elif metric.field == "*" and labels not in values and len(values) >= MOST_UNMAPPED:
            return
        values[labels] = value
        if self._changed:
            self._changed(metric, labels, value)

    def _drop(self, metric: Metric, labels: LABELS) -> None:
        del self._values[metric.key][labels]
        if self._changed:
            self._changed(metric, labels, None)

    def _drop_unseen(self, key: str, sample: Sample, seen: set[tuple[str, LABELS]]) -> None:
        """Take away the series of an open metric, of this sample's tags, that the sample no longer feeds."""
        values = self._values.get(key)
        if not values:
            return
        metric = BY_KEY[key]
        tags = tuple(sample.tags[label] for label in metric.labels if label in sample.tags)
        for labels in [found for found in values if found[: len(tags)] == tags and (key, found) not in seen]:
            if metric.kind == "gauge":
                self._drop(metric, labels)
