"""The latency of the guest's memory accesses: from the probe's counts to samples and Prometheus' histogram."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from driver.clock import Clock
from exporter.measurements import MEASUREMENTS
from exporter.metrics.guest import LATENCY_BUCKETS
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.prometheus import PrometheusSink
from exporter.sources.console import ConsoleSource, Resume
from tests.native_guest import build_native, run_native
from tests.replay import recording
from workload.console import BUCKETS, Latency, Parser, Phase, write

LINE = Latency(
    line=1, sequence=4, guest_ns=5_000_000_000, taken_ns=100_000_000, sum_ns=1_030_000, most_ns=1_000_000,
    counts={0: 8, 2: 1, 10: 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_native(tmp_path_factory.mktemp("native"))


@pytest.mark.parametrize(
    ("ns", "bucket"),
    [
        (0, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 2), (1_024_000, 10), (1_024_001, 11),
        (1000 << 25, 25), ((1000 << 25) + 1, 26), (2**63, 26),
    ],
)  # fmt: skip
def test_an_access_falls_into_the_bucket_whose_bound_it_does_not_pass(native: Path, ns: int, bucket: int) -> None:
    [record] = Parser().feed(run_native(native, "buckets", str(ns)))
    assert isinstance(record, Latency)
    assert (record.counts, record.sum_ns, record.most_ns) == ({bucket: 1}, ns, ns)
    bounds_ns = [0, *(round(bound * 1e9) for bound in LATENCY_BUCKETS), 2**64]
    assert bounds_ns[bucket] * (bucket > 0) - (bucket == 0) < ns <= bounds_ns[bucket + 1]


def test_the_guests_line_counts_each_access_once(native: Path) -> None:
    [record] = Parser().feed(run_native(native, "buckets", "900", "800", "1500", "70000", "1000"))
    assert isinstance(record, Latency)
    assert record.counts == {0: 3, 1: 1, 7: 1}
    assert (record.sum_ns, record.most_ns, record.sequence, record.taken_ns) == (74_200, 70_000, 7, 8)


def test_the_fullest_line_fits_into_the_guests_longest(native: Path) -> None:
    [record] = Parser().feed(run_native(native, "buckets", *(str(1000 << n) for n in range(BUCKETS)), "9" * 19))
    assert isinstance(record, Latency)
    assert sum(record.counts.values()) == BUCKETS + 1


async def test_a_latency_line_becomes_one_sample_and_a_phase_an_event(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.touch()
    async with ConsoleSource("destination", console, Clock.now(), Resume(), SelfMetrics()) as source:
        console.write_text(write(LINE) + write(Phase(line=2, number=3, guest_ns=5_000_000_001)))
        latency, phase = (await source.rest()).samples
    assert (latency.measurement, latency.tags) == ("guest_latency", {"role": "destination"})
    assert set(latency.fields) <= set(MEASUREMENTS["guest_latency"].fields or ())
    assert latency.fields == {
        "accesses": 10.0, "seconds": pytest.approx(0.1), "mean_seconds": pytest.approx(0.000103),
        "most_seconds": pytest.approx(0.001), "sequence": 4.0, "bucket0": 8.0, "bucket2": 1.0, "bucket10": 1.0,
    }  # fmt: skip
    assert (phase.measurement, phase.tags) == ("event", {"role": "destination", "name": "guest-phase.3"})


def test_the_histogram_adds_up_what_the_lines_say() -> None:
    run = recording("10.0-m-nonconverge-ws16-bw32-dl100")
    sink = PrometheusSink(SelfMetrics(), linger_seconds=30.0)
    registry = CollectorRegistry()
    registry.register(sink)
    sink.attach(run.header, run.record)
    fields: dict[str, float | str] = {"accesses": 3.0, "seconds": 0.1, "mean_seconds": 0.5, "most_seconds": 1.0}
    for role, counts in (
        ("source", {"bucket0": 2.0, "bucket20": 1.0}),
        ("destination", {"bucket0": 1.0, "bucket26": 2.0}),
    ):
        sink.take(run.header.run, [Sample("guest_latency", 1, fields | counts, {"role": role})])
    [family] = [f for f in text_string_to_metric_families(generate_latest(registry).decode())
                if f.name == "migrascope_guest_access_latency_seconds"]  # fmt: skip
    found = {(s.name.removeprefix(family.name), s.labels.get("le")): s.value for s in family.samples}
    assert found["_count", None] == 6.0
    assert found["_sum", None] == pytest.approx(3.0)
    assert found["_bucket", "1e-06"] == found["_bucket", "0.524288"] == 3.0
    assert found["_bucket", "1.048576"] == found["_bucket", "33.554432"] == 4.0
    assert found["_bucket", "+Inf"] == 6.0
