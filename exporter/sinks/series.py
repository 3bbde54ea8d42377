"""One run's series as Prometheus will see them: the latest values, the true counters, the state sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from driver.record import RunRecord
from exporter.catalogue import BY_NAME, CATALOGUE, Metric
from exporter.journal import Header
from exporter.sample import Sample

PLAN: dict[str, tuple[Metric, ...]] = {
    measurement: tuple(metric for metric in CATALOGUE if metric.measurement == measurement)
    for measurement in {metric.measurement for metric in CATALOGUE} - {"exporter", "run"}
}
"""Measurement -> the metrics that its samples feed."""

LATEST_ONLY = frozenset(name for name, metrics in PLAN.items() if not any(metric.tally for metric in metrics)) - {
    "event"
}
"""Measurements of which only a series' last sample matters: at 100 Hz most samples of a batch need not be looked at."""

LABELS = tuple[str, ...]


class RunSeries:
    """The series of one run, used under the sink's lock."""

    def __init__(self, header: Header, record: RunRecord) -> None:
        self.run = header.run
        self.vm = header.vm
        self.outcome: str | None = None
        self.until: float | None = None
        self._run_labels = (header.vm, header.scenario, header.campaign or "")
        self._values: dict[str, dict[LABELS, float | str]] = {}
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
            kind, _, name = sample.tags["name"].partition(".")
            if kind == "phase":
                self._values["migrascope_run_phase"] = {(): name}
            elif kind == "outcome":
                self.outcome = name
        for metric in PLAN.get(sample.measurement, ()):
            if (metric.only and sample.tags.get(metric.only[0]) != metric.only[1]) or (
                metric.omit and sample.tags.get(metric.omit[0]) == metric.omit[1]
            ):
                continue
            labels = tuple([sample.tags.get(label, "") for label in metric.labels])
            self._store(metric, labels, _value(metric, sample))

    def end(self, until: float) -> None:
        """End the run: what tells of its state goes at once, the rest stays until that moment."""
        self.until = until
        for name in [name for name in self._values if BY_NAME[name].passing]:
            del self._values[name]

    def rows(self) -> Iterator[tuple[Metric, LABELS, float | str]]:
        """Yield each series: metric, label values in the order of `all_labels`, number (a state set: its state)."""
        for name, values in self._values.items():
            for labels, value in values.items():
                yield BY_NAME[name], self._run_labels + labels, value

    def _describe(self, header: Header, record: RunRecord) -> None:
        """Store what is known before the first sample; counters of the guest start at 0, or increase() misses them."""
        scenario = record.scenario
        facts = (
            header.run, header.host, scenario.strategy if scenario else "", scenario.transport if scenario else "",
            record.accelerator or "", record.source_binary.version if record.source_binary else "",
            record.destination_binary.version if record.destination_binary else "",
        )  # fmt: skip
        self._values["migrascope_run_info"] = {facts: 1.0}
        if scenario:
            self._values["migrascope_run_downtime_limit_seconds"] = {(): scenario.downtime_limit_seconds}
            bandwidth = float(scenario.bandwidth_bytes_per_second)
            self._values["migrascope_run_bandwidth_limit_bytes_per_second"] = {(): bandwidth}
        for metric in PLAN["guest_xor"] + PLAN["guest_tick"]:
            if metric.tally:
                vcpus = [(str(n),) for n in range(record.hardware.vcpus if record.hardware else 0)]
                self._values[metric.name] = dict.fromkeys(vcpus if metric.labels else [()], 0.0)

    def _store(self, metric: Metric, labels: LABELS, value: float | str | None) -> None:
        values = self._values.setdefault(metric.name, {})
        if value is None:
            if metric.kind != "counter":
                values.pop(labels, None)
        elif metric.tally:
            values[labels] = float(values.get(labels, 0.0)) + float(value)
        else:
            values[labels] = value


def _value(metric: Metric, sample: Sample) -> float | str | None:
    """The number or state that a sample holds for a metric; None where it is absent."""
    if not metric.field:
        return metric.factor
    if metric.field == "time_ns":
        return sample.time_ns * metric.factor
    found = sample.fields.get(metric.field)
    if found is None or isinstance(found, str):
        return found
    if metric.over is None:
        return found * metric.factor
    over = sample.fields.get(metric.over)
    return found / float(over) * metric.factor if over else None
