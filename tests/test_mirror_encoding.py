"""What mirrors are sent: InfluxDB's lines, and values of Prometheus' series with exact milliseconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from exporter.mirror.exact import HELD_MS, JOB, REPEAT_MS, ExactEncoder, ExactValue
from exporter.mirror.line_protocol import line, tag_set
from exporter.mirror.prompb import Labels, write_request, write_request_class
from exporter.sample import Sample
from exporter.sinks.families import add, family
from exporter.sinks.series import RunSeries
from tests.recorded import START_NS, a_record, header, samples
from tests.replay import recording

PLAIN = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\\"), min_size=1)
MILLISECOND = 1_000_000
RUN = "20261123-000000-aaaa"
SAMPLES = samples()


@given(PLAIN, st.text(st.characters(exclude_categories=("Cc", "Cs"))))
def test_tags_and_words_are_escaped_as_the_client_library_would(name: str, detail: str) -> None:
    point = Point("event").tag("name", name).field("detail", detail).time(7)  # type: ignore[no-untyped-call]  # as it comes
    assert line(Sample("event", 7, {"detail": detail}, {"name": name}), "") == point.to_line_protocol()


@given(st.text(), st.text())
def test_no_text_whatever_breaks_a_line_in_two(tag: str, word: str) -> None:
    found = line(Sample("event", 7, {"detail": word}, {"name": tag}), tag_set({"scenario": tag}))
    assert found is not None
    assert found.endswith('" 7')
    assert "\n" not in found
    assert "\r" not in found


def test_every_number_is_a_float_and_one_that_is_not_finite_is_left_out() -> None:
    sample = Sample("migration", 5, {"iteration": 3, "a": float("nan"), "status": 'a "b" \\'}, {"role": "source"})
    assert line(sample, ",vm=vm0") == 'migration,vm=vm0,role=source iteration=3.0,status="a \\"b\\" \\\\" 5'
    assert line(Sample("migration", 5, {"a": float("inf")}), ",vm=vm0") is None


def encoded(parts: Sequence[Sequence[Sample]]) -> list[ExactValue]:
    """All values of a run that comes in these parts."""
    encoder = ExactEncoder(RUN, a_record(RUN))
    return [value for part in parts for value in encoder.rows(header(RUN), part)] + encoder.last()


def by_series(values: Sequence[ExactValue]) -> dict[Labels, list[tuple[int, float]]]:
    found: dict[Labels, list[tuple[int, float]]] = {}
    for labels, time_ms, value in values:
        found.setdefault(labels, []).append((time_ms, value))
    return found


def named(values: Sequence[ExactValue], name: str, **labels: str) -> list[tuple[int, float]]:
    """The one series of this name that has these labels."""
    wanted = {"__name__": name, **labels}
    [found] = [rows for key, rows in by_series(values).items() if wanted.items() <= dict(key).items()]
    return found


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=30))
def test_which_values_are_sent_does_not_depend_on_how_samples_are_batched(sizes: list[int]) -> None:
    parts, start = [], 0
    for size in sizes:
        parts.append(SAMPLES[start : start + size])
        start += size
    parts.append(SAMPLES[start:])
    assert repr(encoded(parts)) == repr(encoded([SAMPLES]))


@settings(max_examples=8, deadline=None)
@given(st.integers(min_value=0, max_value=len(SAMPLES)))
def test_a_mirror_that_goes_on_anywhere_sends_what_it_would_have_sent(cut: int) -> None:
    encoder = ExactEncoder(RUN, a_record(RUN))
    before = encoder.rows(header(RUN), SAMPLES[:cut])
    again = ExactEncoder(RUN, a_record(RUN))
    again.rows(header(RUN), SAMPLES[:cut])
    rest = again.rows(header(RUN), SAMPLES[cut:]) + again.last()
    assert repr(before + rest) == repr(encoded([SAMPLES]))


def test_milliseconds_rise_in_every_series_and_each_ends_with_a_stale_marker_1_ms_after_its_last_value() -> None:
    found = by_series(encoded([SAMPLES]))
    assert len(found) > 50
    for rows in found.values():
        times = [time_ms for time_ms, _ in rows]
        assert times == sorted(set(times))
        assert math.isnan(rows[-1][1])
        assert rows[-1][0] == rows[-2][0] + 1


def test_what_is_sent_at_a_runs_end_is_what_metrics_shows() -> None:
    series = RunSeries(header(RUN), a_record(RUN))
    for sample in SAMPLES:
        series.take(sample)
    shown: dict[Labels, float] = {}
    for metric, labels, value in series.rows():
        one = family(metric)
        add(one, metric, labels, value)
        for row in one.samples:
            names = {"__name__": row.name, "job": JOB, "instance": "h1", "host": "h1", **row.labels}
            shown[tuple(sorted((name, word) for name, word in names.items() if word))] = float(row.value)
    sent = {labels: rows[-2][1] for labels, rows in by_series(encoded([SAMPLES])).items()}
    live = {labels: value for labels, value in sent.items() if not math.isnan(value)}
    assert live == shown


def test_the_last_value_of_a_millisecond_wins_and_the_others_are_counted() -> None:
    stamps = [0, 100_000, 900_000, MILLISECOND, 5 * MILLISECOND]
    ticks = [Sample("guest_tick", START_NS + t, {"guest_seconds": 1.0, "offset_seconds": float(t)}) for t in stamps]
    encoder = ExactEncoder(RUN, a_record(RUN))
    values = encoder.rows(header(RUN), ticks) + encoder.last()
    start = START_NS // MILLISECOND
    rows = named(values, "migrascope_guest_clock_offset_seconds")[:-1]
    assert rows == [(start, 900_000.0), (start + 1, 1_000_000.0), (start + 5, 5_000_000.0)]
    assert [value for _, value in named(values, "migrascope_guest_ticks_total")[:-1]] == [3.0, 4.0, 5.0]
    assert encoder.collapsed >= 2 * 2


def test_a_value_waits_no_longer_than_a_second_of_its_run() -> None:
    encoder = ExactEncoder(RUN, a_record(RUN))
    mark = Sample("event", START_NS, {"count": 1.0}, {"role": "driver", "name": "phase.boot"})
    assert not encoder.rows(header(RUN), [mark])
    later = Sample("guest_tick", START_NS + (HELD_MS + 1) * MILLISECOND, {"guest_seconds": 1.0})
    sent = encoder.rows(header(RUN), [later])
    assert named(sent, "migrascope_run_phase", migrascope_run_phase="boot") == [(START_NS // MILLISECOND, 1.0)]


def test_a_gauge_that_a_sample_no_longer_holds_ends_at_that_moment() -> None:
    first = Sample("migration", START_NS, {"status": "active", "throttle_percent": 20.0}, {"role": "source"})
    second = Sample("migration", START_NS + MILLISECOND, {"status": "active"}, {"role": "source"})
    rows = named(encoded([[first, second]]), "migrascope_migration_throttle_ratio")
    assert [time_ms - START_NS // MILLISECOND for time_ms, _ in rows] == [0, 1]
    assert [round(value, 9) for _, value in rows if not math.isnan(value)] == [0.2]


def test_a_series_that_says_nothing_for_a_minute_is_repeated_so_that_prometheus_keeps_it() -> None:
    minutes = 7
    ticks = [
        Sample("guest_tick", START_NS + second * 1_000_000_000, {"guest_seconds": float(second)})
        for second in range(minutes * 60)
    ]
    rows = named(encoded([ticks]), "migrascope_run_info")[:-1]
    times = [time_ms for time_ms, _ in rows]
    assert len(times) >= minutes - 2
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 2 * REPEAT_MS
    assert {value for _, value in rows} == {1.0}


def test_a_run_that_goes_on_in_another_slot_ends_its_old_series_and_keeps_its_counters() -> None:
    encoder = ExactEncoder(RUN, a_record(RUN))
    half = len(SAMPLES) // 2
    values = encoder.rows(header(RUN), SAMPLES[:half])
    values += encoder.rows(replace(header(RUN), vm="vm1"), SAMPLES[half:]) + encoder.last()
    old = named(values, "migrascope_guest_ticks_total", vm="vm0")
    new = named(values, "migrascope_guest_ticks_total", vm="vm1")
    assert math.isnan(old[-1][1])
    assert new[-2][1] == 700.0
    assert old[-2][1] == new[0][1] or old[-2][1] + 1 == new[0][1]
    assert named(values, "migrascope_run_info", vm="vm1")[0][1] == 1.0


def test_a_recorded_migration_of_a_real_qemu_has_all_its_numbers_in_remote_write() -> None:
    run = recording("10.0-m-postcopy-rescue", outcome="completed")
    encoder = ExactEncoder(run.header.run, run.record)
    found = by_series(encoder.rows(run.header, run.samples) + encoder.last())
    polls = [s for s in run.samples if s.measurement == "migration" and s.tags["role"] == "source"]
    wanted = {s.time_ns // MILLISECOND: s.fields["transferred_bytes"] for s in polls if "transferred_bytes" in s.fields}
    name = {"__name__": "migrascope_migration_transferred_bytes_total", "role": "source"}
    [rows] = [rows for labels, rows in found.items() if name.items() <= dict(labels).items()]
    assert {time_ms: value for time_ms, value in rows[:-1] if time_ms in wanted} == wanted


def test_a_write_request_holds_what_was_put_into_it() -> None:
    labels = (("__name__", "up"), ("job", "ü"))
    request = write_request_class()()
    request.ParseFromString(write_request([(labels, 5, 1.5), ((("__name__", "b"),), 6, -0.0), (labels, 7, 1e300)]))
    found = [
        ([(label.name, label.value) for label in one.labels], [(s.timestamp, s.value) for s in one.samples])
        for one in request.timeseries
    ]
    assert found == [(list(labels), [(5, 1.5), (7, 1e300)]), ([("__name__", "b")], [(6, -0.0)])]
