"""A run's samples as they were recorded, read back from its stored form: for whoever sends or writes them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from driver.datadir import RunDir
from driver.record import read_record
from exporter import compaction
from exporter.journal import Header
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.sample import Sample


def recorded_parts(run: RunDir) -> Iterator[tuple[Header, list[Sample]]]:
    """Yield a run's samples in the order of time, those of each header by themselves.

    A run has several headers where an exporter that followed another gave it another slot, or another host had a part.

    Raises:
        MigrascopeError: its record or its samples are damaged.
    """
    clock = read_record(run).clock
    found: dict[tuple[str, ...], list[Sample]] = {}
    for measurement in compaction.measurements_of(run):
        for tags, sample in _samples(run, measurement):
            found.setdefault(tags, []).append(sample)
    for tags, samples in found.items():
        labels = dict(zip(RUN_TAGS, tags, strict=True))
        header = Header(
            run=run.run, campaign=labels["campaign"] or None, scenario=labels["scenario"], host=labels["host"],
            vm=labels["vm"], clock=clock,
        )  # fmt: skip
        yield header, sorted(samples, key=lambda sample: sample.time_ns)


def _samples(run: RunDir, measurement: str) -> Iterator[tuple[tuple[str, ...], Sample]]:
    """A measurement's rows as samples again, each with its run's tags."""
    known = MEASUREMENTS.get(measurement)
    own = known.tags if known else ()
    for row in compaction.load(run, measurement).to_pylist():
        time_ns = row.pop("time_ns")
        labels = tuple([row.pop(name) or "" for name in RUN_TAGS])
        tags = {name: word for name in own if (word := row.pop(name)) is not None}
        fields = {name: value for name, value in row.items() if value is not None}
        yield labels, Sample(measurement, time_ns, fields, tags)
