"""What /metrics shows of live, lingering and ended runs, judged by promtool where it can be."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from driver.campaign_events import Planned, PlannedCell, append_event
from driver.datadir import DataDir
from driver.progress import Progress
from driver.scenario import Scenario
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks import exposition
from exporter.sinks.campaigns import CampaignReader
from exporter.sinks.host import HostReader, ProcessReader
from exporter.sinks.http import Listener, MetricsServer
from exporter.sinks.prometheus import PrometheusSink
from exporter.sinks.reader import Reader
from exporter.sinks.scrapes import Scrapes
from exporter.slots import Slots
from tests.golden import Golden
from tests.replay import MIB, Recording, recording

CAPTURE = "10.0-m-nonconverge-ws16-bw32-dl100"
RESCUE = Scenario(downtime_limit_ms=200, bandwidth_mib_s=32, auto_converge_initial=80, auto_converge_increment=19)


class Stage:
    """A sink with its registry and a clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.own = SelfMetrics()
        self.sink = PrometheusSink(self.own, linger=lambda: 30.0, clock=lambda: self.now)
        self.registry = CollectorRegistry()
        self.registry.register(self.sink)

    def play(self, run: Recording, *, to_its_end: bool = False) -> None:
        self.sink.attach(run.header, run.record)
        for batch in run.batches():
            self.sink.take(run.header.run, batch)
        if to_its_end:
            self.sink.detach(run.header.run)

    def series(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in text_string_to_metric_families(exposition.text(self.registry).decode()):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in found, f"twice: {key}"
                found[key] = sample.value
        return found

    def values(self, name: str, **labels: str) -> list[float]:
        wanted = set(labels.items())
        return [value for (series, found), value in self.series().items() if series == name and wanted <= set(found)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_exposition_of_a_recorded_migration_is_the_agreed_one(stage: Stage, golden: Golden) -> None:
    stage.play(recording(CAPTURE))
    golden.check("metrics.txt", exposition.text(stage.registry).decode())


@pytest.mark.server
def test_promtool_finds_no_fault_with_any_metric_of_the_catalogue(stage: Stage, promtool: Path, tmp_path: Path) -> None:
    stage.play(recording(CAPTURE))
    stage.play(recording("7.2-m-postcopy-rescue", vm="vm1", outcome="completed"), to_its_end=True)
    stage.play(recording("10.0-m-autoconverge-i80-s19", RESCUE, vm="vm2"))
    fields = Progress.parse({"status": "active", "postcopy-latency-dist": [1, 2], "new": 3, "vfio": {"transferred": 1}})
    stage.sink.take(f"run-{CAPTURE}", [Sample("migration", 1, dict(fields.fields), {"role": "destination"})])
    stage.own.lateness.observe("threads", value=0.003)
    campaign = DataDir.open(tmp_path).campaign("night")
    campaign.path.mkdir(parents=True)
    cell = PlannedCell(cell="a", name="a", strategy="none", estimate_seconds=1.0)
    append_event(campaign, Planned(time_ns=time.time_ns(), cells=(cell,), repeats=1))
    readers: list[Reader] = [HostReader(tmp_path), CampaignReader(DataDir.open(tmp_path)), ProcessReader()]
    stage.sink._readers = readers
    found = subprocess.run(
        [promtool, "check", "metrics"], input=exposition.text(stage.registry), capture_output=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_open_metrics_can_be_written_too_and_no_created_series_double_the_counters(stage: Stage) -> None:
    stage.play(recording(CAPTURE))
    text = exposition.openmetrics(stage.registry).decode()
    assert text.endswith("# EOF\n")
    assert "# TYPE migrascope_migration_status stateset" in text
    assert "_created" not in text + exposition.text(stage.registry).decode()


class Collected(Collector):
    """The same families at every scrape."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        return self.families


def the_clients_own(collector: Collector) -> tuple[bytes, bytes]:
    """What prometheus_client makes of it: text, OpenMetrics."""
    return generate_latest(collector), generate_open_metrics(collector)  # type: ignore[no-untyped-call]  # as it comes


def test_a_scrape_is_to_the_byte_what_prometheus_client_makes_of_it(stage: Stage) -> None:
    stage.play(recording(CAPTURE))
    stage.play(recording("10.0-m-postcopy-rescue", vm="vm1", outcome="completed"), to_its_end=True)
    stage.own.lateness.observe("threads", value=0.003)
    collected = Collected(list(stage.sink.collect()))
    assert {family.type for family in collected.families} == {"counter", "gauge", "histogram", "info", "stateset"}
    assert (exposition.text(collected), exposition.openmetrics(collected)) == the_clients_own(collected)


@given(st.text(), st.dictionaries(st.from_regex("[a-z_]{1,4}", fullmatch=True), st.text()), st.floats())
def test_so_it_is_whatever_the_words_and_the_number(help_text: str, labels: dict[str, str], value: float) -> None:
    family = GaugeMetricFamily("some_seconds", help_text, labels=list(labels), unit="seconds")
    family.add_metric(list(labels.values()), value)
    collected = Collected([family])
    assert (exposition.text(collected), exposition.openmetrics(collected)) == the_clients_own(collected)


def test_guest_counters_start_at_zero_and_add_up_to_what_the_guest_said(stage: Stage) -> None:
    run = recording(CAPTURE)
    stage.sink.attach(run.header, run.record)
    assert stage.values("migrascope_guest_xor_bytes_total") == [0.0, 0.0]
    for batch in run.batches():
        stage.sink.take(run.header.run, batch)
    lines = [sample for sample in run.samples if sample.measurement == "guest_xor" and sample.tags["vcpu"] == "1"]
    assert stage.values("migrascope_guest_xor_bytes_total", vcpu="1") == [len(lines) * 64.0 * MIB]
    assert stage.values("migrascope_guest_xor_seconds_total", vcpu="1") == [len(lines) * 0.0625]
    assert stage.values("migrascope_guest_xor_last_seconds_per_gib", vcpu="1") == [1.0]


def test_the_process_and_its_threads_are_two_metrics_so_that_a_sum_counts_nothing_twice(stage: Stage) -> None:
    stage.play(recording(CAPTURE))
    threads = sum(stage.values("migrascope_qemu_thread_cpu_seconds_total", role="source"))
    assert stage.values("migrascope_qemu_cpu_seconds_total", role="source") == [pytest.approx(threads)]


def test_what_qemu_no_longer_says_is_absent_but_a_counter_keeps_its_figure(stage: Stage) -> None:
    run = recording(CAPTURE)
    stage.play(run)
    before = stage.values("migrascope_migration_transferred_bytes_total", role="source")
    stage.sink.take(run.header.run, [Sample("migration", 1, {"status": "cancelled"}, {"role": "source"})])
    assert stage.values("migrascope_migration_remaining_bytes", role="source") == []
    assert stage.values("migrascope_migration_transferred_bytes_total", role="source") == before != []


def test_exactly_one_state_of_a_state_set_is_on_also_one_that_qemu_has_yet_to_invent(stage: Stage) -> None:
    run = recording(CAPTURE)
    stage.play(run)
    name = "migrascope_migration_status"
    assert sum(stage.values(name, role="source")) == 1.0
    assert stage.values(name, role="source", **{name: "active"}) == [1.0]
    stage.sink.take(run.header.run, [Sample("migration", 1, {"status": "teleporting"}, {"role": "source"})])
    assert sum(stage.values(name, role="source")) == 1.0
    assert stage.values(name, role="source", **{name: "teleporting"}) == [1.0]


def test_states_and_verdicts_go_at_once_at_a_runs_end_and_counters_linger(stage: Stage) -> None:
    stage.play(recording(CAPTURE))
    states = ("migrascope_verdict_not_converging", "migrascope_migration_status", "migrascope_run_phase")
    assert all(stage.values(name) for name in states)
    stage.sink.detach(f"run-{CAPTURE}")
    assert not any(stage.values(name) for name in states)
    assert stage.values("migrascope_guest_xor_bytes_total")
    assert stage.values("migrascope_migration_iteration")
    stage.now += 29.0
    assert stage.values("migrascope_run_info") == [1.0]
    stage.now += 2.0
    assert stage.values("migrascope_run_info") == []
    assert stage.sink.shown_runs == 0


def test_a_new_run_in_the_slot_of_a_lingering_one_takes_its_place(stage: Stage) -> None:
    stage.play(recording(CAPTURE), to_its_end=True)
    stage.play(recording("7.2-m-postcopy-rescue"))
    assert stage.values("migrascope_run_info", run=f"run-{CAPTURE}") == []
    assert stage.values("migrascope_run_info", vm="vm0") == [1.0]


def test_runs_that_end_are_counted_and_those_that_did_not_complete_a_second_time(stage: Stage) -> None:
    assert stage.values("migrascope_runs_total") == [0.0]
    stage.play(recording(CAPTURE, outcome="not_converged"), to_its_end=True)
    stage.play(recording("7.2-m-postcopy-rescue", vm="vm1", outcome="completed"), to_its_end=True)
    assert stage.values("migrascope_runs_total") == [2.0]
    assert stage.values("migrascope_runs_failed_total") == [1.0]
    assert stage.values("migrascope_exporter_attached_runs") == [0.0]


def test_a_part_that_fails_is_left_out_and_counted_and_the_scrape_goes_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.play(recording(CAPTURE))
    stage.own.samples.values[("guest_xor", "one label too many")] = 1.0
    assert stage.values("migrascope_guest_xor_bytes_total")
    assert stage.values("migrascope_runs_total") == [0.0]
    assert "left out" in caplog.text
    del stage.own.samples.values[("guest_xor", "one label too many")]
    assert stage.values("migrascope_scrape_errors_total", part="exporter") == [2.0]


def test_two_runs_of_one_scenario_at_once_never_make_a_series_twice(stage: Stage) -> None:
    for number in range(3):
        run = recording(CAPTURE, vm=f"vm{number}", outcome="not_converged")
        header = replace(run.header, run=f"run-{number}")
        stage.sink.attach(header, run.record)
        for batch in run.batches(1.0):
            stage.sink.take(header.run, batch)
        assert stage.values("migrascope_run_info", run=f"run-{number}") == [1.0]  # series() fails on a double one
    stage.sink.detach("run-1")
    assert len(stage.values("migrascope_guest_ticks_total")) == 3
    assert len(stage.values("migrascope_verdict_not_converging")) == 2


def test_a_stored_run_shows_its_figures_while_it_lingers(stage: Stage) -> None:
    stage.play(recording(CAPTURE, outcome="completed"), to_its_end=True)
    figures = {"blackout_seconds": 0.012, "settle_seconds_per_gib_mean": 0.3, "migrate_seconds_per_gib_mean": None,
               "cpu_seconds": {"source": {"process": 4.0}}, "why": {}}  # fmt: skip
    stage.sink.conclude(f"run-{CAPTURE}", figures)
    stage.sink.conclude("a run that has gone", figures)
    assert stage.values("migrascope_run_blackout_seconds") == [0.012]
    assert stage.values("migrascope_run_mean_seconds_per_gib", phase="settle") == [0.3]
    assert stage.values("migrascope_run_mean_seconds_per_gib", phase="migrate") == []
    assert stage.values("migrascope_run_cpu_seconds", role="source", kind="process") == [4.0]
    outcome = "migrascope_run_outcome"
    assert stage.values(outcome, **{outcome: "completed"}) == [1.0]
    assert stage.values("migrascope_run_baseline_seconds_per_gib") == []
    stage.now += 31.0
    assert stage.values("migrascope_run_blackout_seconds") == []


def test_the_settled_guest_s_pace_and_the_length_of_phases_are_told(stage: Stage) -> None:
    run = recording(CAPTURE)
    stage.sink.attach(run.header, run.record)
    start = 10**18

    def mark(name: str, seconds: float) -> Sample:
        return Sample(
            "event", start + round(seconds * 1e9), {"count": 1.0}, {"role": "driver", "name": f"phase.{name}"}
        )

    def line(seconds: float, taken: float) -> Sample:
        fields = {"bytes": float(1 << 30), "seconds": taken, "sequence": 1.0}
        return Sample("guest_xor", start + round(seconds * 1e9), fields, {"vcpu": "0"})

    stage.sink.take(run.header.run, [mark("boot", 0), line(1, 9.0), mark("settle", 2), line(3, 0.5), line(4, 0.7)])
    stage.sink.take(run.header.run, [mark("migrate", 5), line(6, 5.0)])
    assert stage.values("migrascope_run_baseline_seconds_per_gib", vcpu="0") == [pytest.approx(0.6)]
    assert stage.values("migrascope_run_phase_seconds", phase="settle") == [pytest.approx(3.0)]
    assert stage.values("migrascope_run_phase_start_timestamp_seconds", phase="migrate") == [pytest.approx(1e9 + 5)]


def test_what_qemu_10_1_tells_of_post_copy_s_faults_is_a_histogram_and_a_latency_a_vcpu(stage: Stage) -> None:
    run = recording(CAPTURE)
    stage.sink.attach(run.header, run.record)
    reply = {"status": "postcopy-active", "postcopy-blocktime": 12, "postcopy-vcpu-blocktime": [10, 12],
             "postcopy-latency": 250_000, "postcopy-latency-dist": [0, 0, 0, 0, 0, 0, 0, 3, 5, 2] + [0] * 14,
             "postcopy-vcpu-latency": [200_000, 300_000], "postcopy-non-vcpu-latency": 0,
             "ram": {"new-thing": 7}}  # fmt: skip
    progress = Progress.parse(reply)
    assert progress.unmapped == ("ram_new_thing",)
    stage.sink.take(run.header.run, [Sample("migration", 1, dict(progress.fields), {"role": "destination"})])
    histogram = "migrascope_migration_postcopy_fault_latency_seconds"
    assert stage.values(f"{histogram}_count", role="destination") == [10.0]
    assert stage.values(f"{histogram}_sum", role="destination") == [pytest.approx(10 * 250e-6)]
    assert stage.values(f"{histogram}_bucket", role="destination", le="0.000256") == [3.0]
    assert stage.values(f"{histogram}_bucket", role="destination", le="0.000512") == [8.0]
    latencies = [stage.values("migrascope_migration_postcopy_vcpu_latency_seconds", vcpu=vcpu) for vcpu in ("0", "1")]
    assert latencies == [[pytest.approx(200e-6)], [pytest.approx(300e-6)]]
    assert stage.values("migrascope_migration_unmapped", field="ram_new_thing") == [7.0]
    stage.sink.take(run.header.run, [Sample("migration", 2, {"status": "completed"}, {"role": "destination"})])
    assert stage.values("migrascope_migration_unmapped", field="ram_new_thing") == []


def test_a_qemu_that_invents_a_hundred_numbers_makes_no_more_than_thirty_two_series(stage: Stage) -> None:
    run = recording(CAPTURE)
    stage.sink.attach(run.header, run.record)
    for number in range(100):
        fields = {f"ram_invented_{number}": 1.0} | {f"ram_new_{other}": 1.0 for other in range(100)}
        stage.sink.take(run.header.run, [Sample("migration", number + 1, fields, {"role": "source"})])
    assert 0 < len(stage.values("migrascope_migration_unmapped")) <= 32


def test_slots_are_bounded_names_that_are_given_out_anew_once_their_run_has_lingered_out() -> None:
    now = 0.0
    slots = Slots(lambda: 30.0, lambda: now)
    assert [slots.take(), slots.take()] == ["vm0", "vm1"]
    slots.release("vm0")
    assert slots.take() == "vm2"
    now = 31.0
    assert slots.take() == "vm0"


@pytest.fixture
def served(stage: Stage) -> Iterator[MetricsServer]:
    server = MetricsServer(stage.registry, Listener(), Scrapes(), stage.own)
    yield server
    server.close()


def test_metrics_are_served_on_loopback_and_a_client_that_says_nothing_blocks_no_scrape(
    stage: Stage, served: MetricsServer
) -> None:
    stage.play(recording(CAPTURE))
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/metrics", timeout=5) as reply:
            assert reply.status == http.HTTPStatus.OK
            assert b"migrascope_run_info{" in reply.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/", timeout=5) as reply:
        assert b'href="/metrics"' in reply.read()
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/etc/passwd", timeout=5)
    refused.value.close()


def test_a_port_that_is_taken_is_an_error_that_passes_to_the_caller(served: MetricsServer, stage: Stage) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        MetricsServer(stage.registry, Listener(port=served.port), Scrapes(), stage.own)
