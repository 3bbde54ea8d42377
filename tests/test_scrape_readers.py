"""What is read at a scrape: the host, the exporter's process, the campaigns."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry

from driver.campaign_events import Begun, Ended, Event, Parked, Planned, PlannedCell, Stopped, append_event
from driver.datadir import CampaignDir, DataDir
from driver.lock import campaign_lock
from exporter.catalogue import CATALOGUE
from exporter.selfmetrics import SelfMetrics
from exporter.sinks import exposition
from exporter.sinks.campaigns import CampaignReader
from exporter.sinks.host import HostReader, ProcessReader
from exporter.sinks.prometheus import PrometheusSink
from exporter.sinks.reader import Reader

NOW_NS = time.time_ns()


def cell(name: str, strategy: str) -> PlannedCell:
    return PlannedCell(cell=name, name=name, strategy=strategy, estimate_seconds=10.0)


CELLS = (cell("a", "none"), cell("b", "post-copy"), cell("c", "post-copy"))


def ended(name: str, repeat: int, outcome: str) -> Event:
    return Ended(time_ns=NOW_NS, cell=name, repeat=repeat, run=f"{name}{repeat}", outcome=outcome, seconds=5.0)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir.open(tmp_path)


@pytest.fixture
def campaign(data: DataDir) -> CampaignDir:
    made = data.campaign("night")
    made.path.mkdir(parents=True)
    for event in (
        Planned(time_ns=NOW_NS - 10**9, cells=CELLS, repeats=2),
        ended("a", 1, "not_converged"),
        ended("a", 2, "completed"),
        ended("b", 1, "completed"),
        ended("c", 1, "broken"),
        Parked(time_ns=NOW_NS, cell="c", reason="failed"),
        Begun(time_ns=NOW_NS, cell="b", repeat=2, run="b2"),
    ):
        append_event(made, event)
    return made


def test_a_campaign_s_progress_follows_from_its_file(data: DataDir, campaign: CampaignDir) -> None:
    reader = CampaignReader(data)
    with campaign_lock(campaign):
        found = reader.read()
    assert found["planned"] == {("night", "none"): 2.0, ("night", "post-copy"): 4.0}
    assert found["finished"] == {("night", "none"): 2.0, ("night", "post-copy"): 2.0}
    assert found["completed"] == {("night", "none"): 1.0, ("night", "post-copy"): 1.0}
    assert found["not_converged"] == {("night", "none"): 1.0, ("night", "post-copy"): 0.0}
    assert found["failed"] == {("night", "none"): 0.0, ("night", "post-copy"): 1.0}
    assert found["left"] == {("night",): 1.0}
    assert found["parked"] == {("night",): 1.0}
    assert found["active"] == {("night",): 1.0}
    assert 0 <= found["eta"]["night",] <= 5.0
    assert found["last_change"]["night",] == pytest.approx(NOW_NS / 1e9)


def test_a_campaign_whose_driver_is_gone_is_not_active_and_a_new_line_is_seen(
    data: DataDir, campaign: CampaignDir
) -> None:
    reader = CampaignReader(data)
    assert reader.read()["active"] == {("night",): 0.0}
    assert "eta" not in reader.read()
    append_event(campaign, ended("b", 2, "completed"))
    append_event(campaign, Stopped(time_ns=NOW_NS, finished=True))
    assert reader.read()["completed"]["night", "post-copy"] == 2.0
    assert reader.read()["active"] == {("night",): 0.0}


def test_an_old_campaign_is_not_shown_and_a_damaged_one_hides_no_other(data: DataDir, campaign: CampaignDir) -> None:
    damaged = data.campaign("damaged")
    damaged.path.mkdir()
    damaged.state.write_text("nonsense\n")
    assert set(CampaignReader(data).read()["left"]) == {("night",)}
    two_days_on = NOW_NS + 2 * 86_400 * 10**9
    assert not CampaignReader(data, lambda: two_days_on).read()
    assert campaign.state.exists()


def test_the_host_is_told_with_its_pressure_where_the_kernel_has_it(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n")
    (tmp_path / "memory").write_text("some avg10=0.00 total=2\nfull avg10=0.00 total=1000000\n")
    found = HostReader(tmp_path, tmp_path).read()
    assert found["pressure_waiting"] == {("cpu",): 1.5, ("memory",): pytest.approx(2e-6)}
    assert found["pressure_stalled"] == {("memory",): 1.0}
    assert found["cpus"][()] == psutil.cpu_count()
    assert found["cpu_seconds"]["user",] > 0
    assert 0 < found["data_free_bytes"][()] <= found["data_size_bytes"][()]
    assert not HostReader(tmp_path, tmp_path / "absent").read()["pressure_waiting"]


def test_every_metric_that_is_read_at_a_scrape_has_its_reader_and_the_other_way_round(
    data: DataDir, campaign: CampaignDir
) -> None:
    readers: list[Reader] = [HostReader(data.path), CampaignReader(data), ProcessReader()]
    with campaign_lock(campaign):
        read = {reader.measurement: set(reader.read()) for reader in readers}
    for measurement, fields in read.items():
        assert fields == {metric.field for metric in CATALOGUE if metric.measurement == measurement}


def test_a_reader_that_fails_is_left_out_counted_and_harms_no_other(data: DataDir, tmp_path: Path) -> None:
    own, registry = SelfMetrics(), CollectorRegistry()
    registry.register(PrometheusSink(own, lambda: 30.0, [HostReader(tmp_path / "gone"), CampaignReader(data)]))
    text = exposition.text(registry).decode()
    assert "migrascope_exporter_attached_runs" in text
    assert "migrascope_host_cpus" not in text
    assert {part: errors for part, errors in own.scrape_errors.values.items() if errors} == {("host",): 1.0}
