"""A recorded run second by second as /metrics would have shown it, from its start to some seconds after its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from prometheus_client import Metric as ClientMetric

from exporter.catalogue import CATALOGUE
from exporter.metric import OWN
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.prometheus import PrometheusSink
from tests.replay import Recording

LINGER_SECONDS = 15.0
OWN_FAMILIES = frozenset(metric.family for metric in CATALOGUE if metric.measurement in OWN)

Step = tuple[float, list[ClientMetric]]


def steps(
    recordings: Sequence[Recording], figures: Mapping[str, Mapping[str, object]], start: float, step_seconds: float
) -> Iterator[Step]:
    """Yield (Unix time, families of runs) as if all recordings had begun at `start`.

    `figures` maps a run to its summary's, which it is shown when its samples have come to their end.
    """
    now = start
    sink = PrometheusSink(SelfMetrics(), linger=lambda: 4 * LINGER_SECONDS, clock=lambda: now)
    left = {each.header.run: moved(each, start) for each in recordings}
    for each in recordings:
        sink.attach(each.header, each.record)
    ended: set[str] = set()
    end = max(samples[-1].time_ns for samples in left.values()) / 1e9 + LINGER_SECONDS
    while now < end:
        now += step_seconds
        for run, samples in left.items():
            due = [sample for sample in samples if sample.time_ns <= now * 1e9]
            left[run] = samples[len(due) :]
            if due:
                sink.take(run, due)
            elif not left[run] and run not in ended:
                ended.add(run)
                sink.conclude(run, figures.get(run, {}))
                sink.detach(run)
        yield now, [family for family in sink.collect() if family.name not in OWN_FAMILIES]


def moved(recording: Recording, start: float) -> list[Sample]:
    """The recording's samples as if it had begun at `start`."""
    shift = round(start * 1e9) - recording.samples[0].time_ns
    return [_moved(sample, shift) for sample in recording.samples]


def _moved(sample: Sample, shift_ns: int) -> Sample:
    fields = {
        name: value + shift_ns / 1e9 if name.endswith("timestamp_seconds") and isinstance(value, float) else value
        for name, value in sample.fields.items()
    }
    return replace(sample, time_ns=sample.time_ns + shift_ns, fields=fields)
