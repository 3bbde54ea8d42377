"""One run in every store: journal, Parquet, InfluxDB, VictoriaMetrics and Prometheus hold the same, by one mapping."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from driver.datadir import DataDir, RunDir
from driver.record import write_record
from exporter import compaction, history
from exporter.journal import Batch, Header, JournalReader, JournalWriter
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.metric import RUN_LABELS, Metric
from exporter.mirror.again import spool_again
from exporter.mirror.destination import INFLUXDB, REMOTE_WRITE, Destination
from exporter.mirror.exact import JOB
from exporter.mirror.spool import Spool, spool_for
from exporter.mirror.status import standing
from exporter.sample import Sample
from exporter.sinks.families import add, family
from exporter.sinks.mapping import LABELS, Value, series_of
from exporter.sinks.series import RunSeries
from tests.influx_shim import influx_rows, influx_shim
from tests.mirroring import sent
from tests.replay import recording
from tests.servers import Server, running_influxdb, running_prometheus, running_victoria_metrics

pytestmark = pytest.mark.server

CAPTURE = "10.0-m-postcopy-rescue"
BUCKET = "runs"
MILLISECOND = 1_000_000
ALL = f'{{job="{JOB}"}}'

Series = frozenset[tuple[str, str]]
Row = tuple[int, frozenset[tuple[str, str]], frozenset[tuple[str, float | str]]]
Exact = dict[Series, dict[int, float]]


@dataclass(kw_only=True)
class Stores:
    """A run of a real QEMU's capture, mirrored while it was journalled and compacted, and the servers that hold it."""

    run: RunDir
    header: Header
    samples: list[Sample]
    spools: Mapping[str, Spool]
    influx: Server
    victoria: Server
    prometheus: Server


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory,
    influxdb_binary: Path,
    victoria_metrics_binary: Path,
    prometheus_binary: Path,
) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("stores")
    data = DataDir.open(folder / "data")
    taken = recording(CAPTURE, outcome="completed")
    run = data.run(taken.header.run)
    run.path.mkdir()
    write_record(run, replace(taken.record, outcome="completed"))
    with ExitStack() as stack:
        influx = stack.enter_context(running_influxdb(influxdb_binary, folder / "influx"))
        influx.post("/query?q=CREATE%20DATABASE%20runs")
        victoria = stack.enter_context(running_victoria_metrics(victoria_metrics_binary, folder / "victoria"))
        prometheus = stack.enter_context(
            running_prometheus(prometheus_binary, folder / "prometheus", remote_write_receiver=True)
        )
        shim = stack.enter_context(influx_shim(influx))
        places = {
            "influx": Destination(kind=INFLUXDB, url=shim.url, bucket=BUCKET),
            "victoria": Destination(kind=INFLUXDB, url=victoria.url, bucket=BUCKET),
            "victoria exact": Destination(kind=REMOTE_WRITE, url=f"{victoria.url}/api/v1/write"),
            "prometheus": Destination(kind=REMOTE_WRITE, url=f"{prometheus.url}/api/v1/write"),
        }
        spools = {name: spool_for(data, place) for name, place in places.items()}
        with JournalWriter(run.new_journal(), taken.header) as journal:
            for spool in spools.values():
                spool.follow(run)
            for samples in taken.batches():
                journal.append(Batch(samples=samples))
        reader = JournalReader(path=run.journals()[0])
        recorded = [sample for batch in reader.batches() for sample in batch.samples]
        history.store_run(data, run)
        assert not run.journals()
        for spool in spools.values():
            spool.release(run)
            sent(data, spool)
        victoria.post("/internal/force_flush")
        assert reader.header is not None
        yield Stores(
            run=run, header=reader.header, samples=recorded, spools=spools, influx=influx, victoria=victoria,
            prometheus=prometheus,
        )  # fmt: skip


def rows_of(header: Header, samples: list[Sample], measurement: str) -> set[Row]:
    """What a store of rows must hold: nanoseconds, tags that are not empty, numbers as floats and words."""
    found = set()
    for sample in samples:
        if sample.measurement == measurement:
            tags = frozenset((name, word) for name, word in (header.tags() | dict(sample.tags)).items() if word)
            fields = {name: value if isinstance(value, str) else float(value) for name, value in sample.fields.items()}
            found.add((sample.time_ns, tags, frozenset(fields.items())))
    return found


def row_from(measurement: str, row: dict[str, Any], time: str) -> Row:
    time_ns = row.pop(time)
    tags = {name: row.pop(name) for name in (*RUN_TAGS, *MEASUREMENTS[measurement].tags) if name in row}
    fields = frozenset((name, value if isinstance(value, str) else float(value)) for name, value in row.items())
    return time_ns, frozenset((name, word) for name, word in tags.items() if word), fields


def test_no_sample_was_refused_dropped_or_retried(stores: Stores) -> None:
    assert len(stores.samples) > 300
    for spool in stores.spools.values():
        found = standing(spool)
        assert (found.samples, found.dropped, found.dead_letters, found.retries) == (len(stores.samples), 0, 0, 0)


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_parquet_and_influxdb_hold_exactly_the_journals_rows(stores: Stores, measurement: str) -> None:
    wanted = rows_of(stores.header, stores.samples, measurement)
    table = compaction.load(stores.run, measurement).to_pylist()
    kept = [{name: value for name, value in row.items() if value is not None} for row in table]
    assert {row_from(measurement, row, "time_ns") for row in kept} == wanted
    there = influx_rows(stores.influx, BUCKET, f'SELECT * FROM "{measurement}"')
    assert len(there) == len(wanted)
    assert {row_from(measurement, row, "time") for row in there} == wanted


def test_influxdb_answers_questions_about_the_run(stores: Stores) -> None:
    [row] = influx_rows(stores.influx, BUCKET, "SELECT MAX(transferred_bytes) FROM migration WHERE role = 'source'")
    polls = [s.fields for s in stores.samples if s.measurement == "migration" and s.tags["role"] == "source"]
    assert row["max"] == max(fields["transferred_bytes"] for fields in polls if "transferred_bytes" in fields)


def test_victoria_metrics_holds_every_number_of_the_influxdb_mirror_by_the_millisecond(stores: Stores) -> None:
    found: dict[tuple[Series, int], set[float]] = {}
    for series in exported(stores.victoria, f'{{run="{stores.run.run}",job=""}}'):
        for time_ms, number in zip(series["timestamps"], series["values"], strict=True):
            found.setdefault((frozenset(series["metric"].items()), time_ms), set()).add(number)
    # it calls them measurement_field; words become 0, nanoseconds milliseconds, an empty tag is no tag
    wanted: dict[tuple[Series, int], set[float]] = {}
    for sample in stores.samples:
        for field, value in sample.fields.items():
            names = {"__name__": f"{sample.measurement}_{field}"} | stores.header.tags() | dict(sample.tags)
            key = frozenset((name, word) for name, word in names.items() if word)
            place = key, sample.time_ns // MILLISECOND
            wanted.setdefault(place, set()).add(0.0 if isinstance(value, str) else value)
    assert found.keys() == wanted.keys()
    for place, values in wanted.items():
        assert sorted(found[place]) == pytest.approx(sorted(values), rel=1e-12), place  # it keeps about 15 digits


def exported(victoria: Server, match: str) -> list[dict[str, Any]]:
    return [json.loads(row) for row in victoria.get("/api/v1/export", **{"match[]": match}).splitlines()]


def shown_by(header: Header, metric: Metric, labels: LABELS, value: Value) -> dict[Series, float]:
    """The series of a metric's value as /metrics names them, with the job and the instance of remote write."""
    shown, found = family(metric), {}
    add(shown, metric, (header.vm, header.scenario, header.campaign or "", *labels), value)
    for one in shown.samples:
        names = {"__name__": one.name, "job": JOB, "instance": header.host, "host": header.host, **one.labels}
        found[frozenset((name, word) for name, word in names.items() if word)] = float(one.value)
    return found


def mapped(stores: Stores) -> Exact:
    """The documented mapping: what each sample feeds by the catalogue, per series the last value of a millisecond."""
    found: Exact = {}
    sums: dict[tuple[Metric, LABELS], float] = {}
    for sample in stores.samples:
        for metric, labels, value in series_of(sample):
            if value is None:
                continue
            shown = value
            if metric.tally and isinstance(value, float):
                shown = sums[metric, labels] = sums.get((metric, labels), 0.0) + value
            for key, number in shown_by(stores.header, metric, labels, shown).items():
                found.setdefault(key, {})[sample.time_ns // MILLISECOND] = number
    return found


def started(stores: Stores) -> Exact:
    """The series that a run starts with, at its first sample: counters at 0, what is known of it."""
    start, found = stores.samples[0].time_ns // MILLISECOND, {}
    for metric, labels, value in RunSeries(stores.header, recording(CAPTURE, outcome="completed").record).rows():
        for key, number in shown_by(stores.header, metric, labels[len(RUN_LABELS) :], value).items():
            found[key] = {start: number}
    return found


MARKED = ("migrascope_run_", "migrascope_guest_baseline")
"""Series that follow from the marks, not from one field of one sample; /metrics' own test looks at them."""


def assert_mapped(stores: Stores, found: Exact, *, digits: float) -> None:
    wanted = {key: dict(rows) for key, rows in started(stores).items()}
    for key, rows in mapped(stores).items():
        wanted.setdefault(key, {}).update(rows)
    plain = {key: rows for key, rows in found.items() if not dict(key)["__name__"].startswith(MARKED)}
    wanted = {key: rows for key, rows in wanted.items() if not dict(key)["__name__"].startswith(MARKED)}
    assert plain.keys() == wanted.keys()
    assert sum(map(len, plain.values())) > 2500
    for key, rows in wanted.items():
        kept = {time_ms: value for time_ms, value in plain[key].items() if not math.isnan(value)}
        assert kept.keys() == rows.keys(), dict(key)
        for time_ms, value in rows.items():
            assert kept[time_ms] == (pytest.approx(value, rel=digits) if digits else value), dict(key)


def test_prometheus_holds_exactly_what_the_mapping_says_and_nothing_after_the_end(stores: Stores) -> None:
    end = max(sample.time_ns for sample in stores.samples) / 1e9
    rows = stores.prometheus.query(f"{ALL}[1h]", end + 60)
    found = {
        frozenset(row["metric"].items()): {round(moment * 1000): float(value) for moment, value in row["values"]}
        for row in rows
    }
    assert_mapped(stores, found, digits=0.0)
    assert stores.prometheus.query(ALL, end - 0.5)
    assert stores.prometheus.query(ALL, end + 1) == [], "stale markers end every series"


def test_victoria_metrics_holds_what_the_mapping_says_of_remote_write_too(stores: Stores) -> None:
    found = {
        frozenset(row["metric"].items()): dict(
            zip(row["timestamps"], (math.nan if value is None else value for value in row["values"]), strict=True)
        )
        for row in exported(stores.victoria, ALL)
    }
    assert_mapped(stores, found, digits=1e-12)
    polled = {sample.time_ns // MILLISECOND for sample in stores.samples if sample.measurement == "migration"}
    for rows in found.values():
        times = sorted(rows)
        assert math.isnan(rows[times[-1]])
        assert times[-1] == times[-2] + 1 or times[-1] in polled, "it ends with the run, or where a reply lacks it"


def test_a_type_that_changes_is_a_dead_letter_with_influxdbs_own_reason_and_the_rest_arrives(
    stores: Stores, tmp_path: Path
) -> None:
    data = DataDir.open(tmp_path / "data")
    run = data.run("20261123-000000-eeee")
    run.path.mkdir()
    write_record(run, replace(recording(CAPTURE).record, run=run.run, outcome="completed"))
    spool = spool_for(data, stores.spools["influx"].destination)
    stamps = itertools.count(stores.samples[-1].time_ns, 1000)
    good = [Sample("qemu_memory", next(stamps), {"resident_bytes": 1.0 * n}, {"role": "source"}) for n in range(20)]
    bad = Sample("qemu_memory", next(stamps), {"resident_bytes": "much"}, {"role": "source"})
    with JournalWriter(run.new_journal(), replace(stores.header, run=run.run)) as journal:
        spool.follow(run)
        journal.append(Batch(samples=[*good[:10], bad, *good[10:]]))
    spool.release(run)
    sent(data, spool)
    [letter] = [json.loads(text) for text in spool.dead_letters.read_text().splitlines()]
    assert "field type conflict" in letter["reason"]
    assert '"much"' in letter["row"]
    rows = influx_rows(stores.influx, BUCKET, f"SELECT resident_bytes FROM qemu_memory WHERE run = '{run.run}'")
    assert [row["resident_bytes"] for row in rows] == [sample.fields["resident_bytes"] for sample in good]


def test_what_is_sent_a_second_time_changes_nothing(stores: Stores) -> None:
    data = DataDir.open(stores.run.path.parent.parent)
    end = max(sample.time_ns for sample in stores.samples) / 1e9
    question = f"{ALL}[1h]"
    before = sorted(map(repr, stores.prometheus.query(question, end + 60)))
    count = influx_rows(stores.influx, BUCKET, "SELECT COUNT(guest_seconds) FROM guest_tick")
    for name in ("influx", "prometheus"):
        spool_again(stores.spools[name], stores.run)
        sent(data, stores.spools[name])
        assert standing(stores.spools[name]).dead_letters == 0
    assert influx_rows(stores.influx, BUCKET, "SELECT COUNT(guest_seconds) FROM guest_tick") == count
    assert sorted(map(repr, stores.prometheus.query(question, end + 60))) == before
