"""The latency of the guest's memory accesses: from the probe's counts to samples and Prometheus' histogram."""

from __future__ import annotations

import bisect
import math
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from dashboards.report_tables import access_table
from dashboards.tables import run_tables
from driver.clock import Clock
from driver.datadir import RunDir
from exporter import compaction
from exporter.compaction import Compaction
from exporter.derivation import summarise
from exporter.latency import Latencies, latencies_by_window
from exporter.measurements import MEASUREMENTS
from exporter.metrics.guest import LATENCY_BUCKETS
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks import exposition
from exporter.sinks.prometheus import PrometheusSink
from exporter.sources.console import ConsoleSource, Resume
from exporter.summary import Summary
from exporter.timeline import Event, Span, Timeline
from tests import recorded
from tests.native_guest import run_native
from tests.replay import recording
from workload.console import BUCKETS, Latency, Parser, Phase, write
from workload.settings import Workload

LINE = Latency(
    line=1, sequence=4, guest_ns=5_000_000_000, taken_ns=100_000_000, sum_ns=1_030_000, most_ns=1_000_000,
    counts={0: 8, 2: 1, 10: 1},
)  # fmt: skip


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


SECOND = 1_000_000_000
TIMES = Timeline(
    settle=Span(start_ns=0, end_ns=10 * SECOND),
    migration=Span(start_ns=10 * SECOND, end_ns=16 * SECOND),
    recover=Span(start_ns=14 * SECOND, end_ns=20 * SECOND),
    stop_ns=13 * SECOND,
    resume_ns=14 * SECOND,
)
POST_COPY = [Event(time_ns=13 * SECOND, role="source", name="MIGRATION", detail="status=postcopy-active")]


def lines(*rows: tuple[str, float, dict[int, float], float]) -> pa.Table:
    """A table of lines of 100 ms each: role, seconds at their end, counts by bucket, longest access."""
    named = [
        {
            "time_ns": round(seconds * SECOND), "role": role, "accesses": sum(counts.values()), "seconds": 0.1,
            "most_seconds": most, **{f"bucket{number}": counts.get(number) for number in range(BUCKETS)},
        }
        for role, seconds, counts, most in rows
    ]  # fmt: skip
    return pa.Table.from_pylist(named)


TOLD = lines(
    ("source", 5.0, {0: 90, 1: 9, 3: 1}, 7e-6),
    ("source", 10.04, {4: 1}, 16e-6),  # the most of it lies before the start
    ("source", 10.06, {5: 98, 6: 2}, 60e-6),
    ("destination", 14.02, {6: 9, 17: 1}, 0.1),  # tells of both sides of the switchover
    ("destination", 16.05, {10: 1}, 1e-3),  # printed after the last page came, of the time before
    ("destination", 19.0, {0: 3}, 9e-7),
)


def test_a_line_belongs_to_the_window_that_it_tells_of() -> None:
    found = latencies_by_window(TOLD, TIMES, POST_COPY)
    assert {name: window.accesses for name, window in found.items()} == {
        "before": 101, "during": 100, "post_copy": 11, "after": 3,
    }  # fmt: skip
    assert [window.most_seconds for window in found.values()] == [16e-6, 60e-6, 0.1, 9e-7]


def test_without_post_copy_all_that_the_destination_tells_of_is_after() -> None:
    found = latencies_by_window(TOLD, TIMES, [])
    assert {name: window.accesses for name, window in found.items()} == {"before": 101, "during": 100, "after": 14}


def test_a_guest_that_stayed_on_its_source_has_an_after_too() -> None:
    table = lines(("source", 5.0, {0: 1}, 1e-6), ("source", 12.0, {1: 1}, 2e-6), ("source", 17.0, {2: 1}, 4e-6))
    stayed = replace(TIMES, stop_ns=None, resume_ns=None, recover=None)
    found = latencies_by_window(table, stayed, [])
    assert {name: window.most_seconds for name, window in found.items()} == {
        "before": 1e-6, "during": 2e-6, "after": 4e-6,
    }  # fmt: skip


def test_a_percentile_is_its_buckets_bound_but_never_above_the_longest_access() -> None:
    before = latencies_by_window(TOLD, TIMES, POST_COPY)["before"]
    assert [before.percentile(percent) for percent in (50, 89, 90, 98, 99, 100)] == [
        1e-6,
        1e-6,
        2e-6,
        2e-6,
        8e-6,
        16e-6,
    ]


@given(st.lists(st.floats(1e-7, 100), min_size=1), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_at_most_twice_the_true_one(taken: list[float], percent: int) -> None:
    window = Latencies(most_seconds=max(taken))
    for seconds in taken:
        window.counts[bisect.bisect_left(LATENCY_BUCKETS, seconds)] += 1
    true = sorted(taken)[max(1, math.ceil(len(taken) * percent / 100)) - 1]
    assert true <= window.percentile(percent) <= max(2 * true, 1e-6) or true > LATENCY_BUCKETS[-1]


def summary_of(place: Path, more: list[Sample], workload: Workload) -> Summary:
    run = RunDir(path=place / "r1")
    recorded.write_journal(run, [*recorded.samples(), *more])
    record = replace(recorded.a_record("r1"), workload=workload)
    return summarise(record, Compaction(), lambda measurement: compaction.load(run, measurement))


def test_the_summary_has_each_windows_figures_and_for_a_window_without_accesses_the_reason(tmp_path: Path) -> None:
    fields: dict[str, float | str] = {"accesses": 3.0, "seconds": 0.1, "mean_seconds": 2e-6, "most_seconds": 5e-6}
    counts: dict[str, float | str] = {"bucket1": 2.0, "bucket3": 1.0}
    found = summary_of(
        tmp_path,
        [
            Sample("guest_latency", recorded.at(1.5), fields | counts, {"role": "source"}),
            Sample("guest_latency", recorded.at(6.5), fields | counts, {"role": "destination"}),
        ],
        Workload(probe_hz=30),
    )
    for figures in (
        (found.before_access_seconds_p50, found.before_access_seconds_p99, found.before_access_seconds_max),
        (found.after_access_seconds_p50, found.after_access_seconds_p99, found.after_access_seconds_max),
    ):
        assert figures == (2e-6, 5e-6, 5e-6)
    assert (found.during_access_seconds_p50, found.post_copy_access_seconds_p50) == (None, None)
    assert found.why["during_access_seconds_p50"] == "the guest was not probed in that time"


def test_the_summary_of_a_workload_without_probe_says_so(tmp_path: Path) -> None:
    found = summary_of(tmp_path, [], Workload())
    assert {why for name, why in found.why.items() if "_access_seconds_" in name} == {
        "the workload probes no accesses (probe_hz=0)"
    }


SHOWN = Summary(
    run="r1",
    before_access_seconds_p50=1e-6, before_access_seconds_p99=2e-6, before_access_seconds_max=7.25e-6,
    post_copy_access_seconds_p50=0.001024, post_copy_access_seconds_p99=0.016384, post_copy_access_seconds_max=0.0123,
)  # fmt: skip


def test_the_accesses_are_a_table_of_show_and_of_the_report() -> None:
    record = recorded.a_record("r1")
    screen = Console(width=100, record=True, file=StringIO())
    for table in run_tables(record, SHOWN):
        screen.print(table)
    page = access_table(SHOWN)
    for words in (
        ["before", "≤ 1.00 µs", "≤ 2.00 µs", "7.25 µs"], ["in post-copy", "≤ 1.02 ms", "≤ 16.4 ms", "12.3 ms"]
    ):  # fmt: skip
        assert re.search(r"\s+".join(map(re.escape, words)), screen.export_text(clear=False))
        assert f"<tr><th>{words[0]}</th>" + "".join(f"<td>{word}</td>" for word in words[1:]) in page


def test_without_a_probe_neither_has_such_a_table() -> None:
    assert access_table(Summary(run="r1")) == ""
    assert len(run_tables(recorded.a_record("r1"), SHOWN)) == 1 + len(run_tables(recorded.a_record("r1"), None))


def test_the_histogram_adds_up_what_the_lines_say() -> None:
    run = recording("10.0-m-nonconverge-ws16-bw32-dl100")
    sink = PrometheusSink(SelfMetrics(), linger=lambda: 30.0)
    registry = CollectorRegistry()
    registry.register(sink)
    sink.attach(run.header, run.record)
    fields: dict[str, float | str] = {"accesses": 3.0, "seconds": 0.1, "mean_seconds": 0.5, "most_seconds": 1.0}
    for role, counts in (
        ("source", {"bucket0": 2.0, "bucket20": 1.0}),
        ("destination", {"bucket0": 1.0, "bucket26": 2.0}),
    ):
        sink.take(run.header.run, [Sample("guest_latency", 1, fields | counts, {"role": role})])
    [family] = [f for f in text_string_to_metric_families(exposition.text(registry).decode())
                if f.name == "migrascope_guest_access_latency_seconds"]  # fmt: skip
    found = {(s.name.removeprefix(family.name), s.labels.get("le")): s.value for s in family.samples}
    assert found["_count", None] == 6.0
    assert found["_sum", None] == pytest.approx(3.0)
    assert found["_bucket", "1e-06"] == found["_bucket", "0.524288"] == 3.0
    assert found["_bucket", "1.048576"] == found["_bucket", "33.554432"] == 4.0
    assert found["_bucket", "+Inf"] == 6.0
