"""The rule files: as committed, as promtool reads them, and as a real Prometheus fires them."""

from __future__ import annotations

import subprocess
import time
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dashboards.alert import RUNBOOKS
from dashboards.rules import FOLDER, alerts, rule_files
from driver.scenario import Scenario
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.http import Listener, MetricsServer
from exporter.sinks.prometheus import PrometheusSink
from exporter.sinks.scrapes import Scrapes
from tests.promtool import Told, check_rule, selector, write_rules
from tests.replay import NEVER, recording
from tests.servers import running_prometheus, scraping

ROOT = Path(__file__).parent.parent
ALERT = alerts()[0]
RUN = {"vm": "vm0", "scenario": "pre-copy"}


def test_the_committed_rule_files_are_those_that_the_catalogue_generates() -> None:
    committed = {path.name: path.read_text() for path in (ROOT / FOLDER).iterdir()}
    assert committed == rule_files(), "run python -m dashboards.build"


def test_every_alert_has_a_runbook_and_a_summary_that_is_static() -> None:
    for alert in alerts():
        assert (ROOT / RUNBOOKS / f"{alert.name}.md").read_text().startswith(f"# {alert.name}\n")
        assert "{{" not in alert.summary
        assert "{{" in alert.description


def told(description: str) -> Told:
    return Told(labels=RUN, description=f"Scenario pre-copy on vm0 of localhost:9742: {description}")


@pytest.mark.server
def test_the_alert_fires_after_its_hold_with_numbers_and_units_and_ends_after_its_keep(
    tmp_path: Path, promtool: Path
) -> None:
    values = {
        selector("migrascope_verdict_not_converging", RUN): "0 0 1x5 stale",
        selector("migrascope_verdict_iteration", RUN): "11+0x60",
        selector("migrascope_verdict_iteration_remaining_bytes", RUN): "17825792+0x60",
        selector("migrascope_verdict_implied_downtime_seconds", RUN): "0.5+0x60",
        selector("migrascope_run_downtime_limit_seconds", RUN): "0.1+0x60",
    }
    alert = told(
        "17MiB remained at the boundary of iteration 11. To send that at the measured bandwidth takes 500ms;"
        " the downtime limit is 100ms."
    )
    check_rule(promtool, tmp_path, ALERT, values, {3: [], 4: [alert], 22: [alert], 23: []})


@pytest.mark.server
def test_a_verdict_that_is_withdrawn_within_the_hold_fires_nothing_nor_does_another_job(
    tmp_path: Path, promtool: Path
) -> None:
    values = {
        selector("migrascope_verdict_not_converging", RUN): "0 1 0x10 1 0x10",
        selector("migrascope_verdict_not_converging", RUN | {"job": "migrascope_remote_write"}): "1x30",
    }
    check_rule(promtool, tmp_path, ALERT, values, {3: [], 5: [], 15: [], 25: []})


@pytest.mark.server
def test_a_run_that_ended_not_converged_is_told_for_a_while_with_its_last_figures(
    tmp_path: Path, promtool: Path
) -> None:
    alert = told(
        "16MiB remained at the boundary of iteration 9. To send that at the measured bandwidth takes 500ms;"
        " the downtime limit is unknown."
    )
    ended = RUN | {"role": "driver", "name": "outcome.not_converged"}
    values = {
        selector("migrascope_event_timestamp_seconds", ended): "_ 1+0x60",
        selector("migrascope_verdict_iteration", RUN): "9 stale",
        selector("migrascope_verdict_iteration_remaining_bytes", RUN): "16777216 stale",
        selector("migrascope_verdict_implied_downtime_seconds", RUN): "0.5 stale",
    }
    check_rule(promtool, tmp_path, ALERT, values, {2: [], 4: [alert], 25: [alert], 26: []})


@pytest.mark.server
def test_promtool_finds_no_fault_with_the_rules(tmp_path: Path, promtool: Path) -> None:
    found = subprocess.run(
        [promtool, "check", "rules", *write_rules(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "9 rules found" in found.stdout


RUNS = {
    "never": ("10.0-m-nonconverge-ws16-bw32-dl100", NEVER),
    "auto-converge": (
        "7.2-m-autoconverge-i80-s19",
        Scenario(downtime_limit_ms=200, bandwidth_mib_s=32, auto_converge_initial=80, auto_converge_increment=19),
    ),
    "post-copy": (
        "10.0-m-postcopy-rescue",
        Scenario(downtime_limit_ms=100, bandwidth_mib_s=32, post_copy_iterations=3),
    ),
    "pause": ("7.2-m-pause-rescue", Scenario(downtime_limit_ms=100, bandwidth_mib_s=32, pause_iterations=3)),
}


@pytest.mark.server
def test_a_real_prometheus_fires_on_the_run_that_does_not_converge_and_on_none_that_is_rescued(
    tmp_path: Path, prometheus_binary: Path
) -> None:
    """Four recorded migrations at their own pace, scraped and evaluated once a second.

    The capture of the one that never converges ends while it is active: it stays so for some seconds more.
    """
    sink, registry = PrometheusSink(SelfMetrics(), lambda: 30.0), CollectorRegistry()
    registry.register(sink)
    server = MetricsServer(registry, Listener(), Scrapes(), SelfMetrics())
    runs = {name: recording(capture, scenario, vm=name) for name, (capture, scenario) in RUNS.items()}
    fired: dict[str, str] = {}
    try:
        with running_prometheus(
            prometheus_binary,
            tmp_path,
            targets=[f"127.0.0.1:{server.port}"],
            rule_files=write_rules(tmp_path / "rules"),
            scrape_interval_seconds=1.0,
        ) as prometheus:
            scraping(prometheus)
            streams = {}
            for name, run in runs.items():
                sink.attach(run.header, run.record)
                more: list[list[Sample]] = [[]] * 60 if name == "never" else []
                streams[name] = chain(run.batches(0.1), more)
            while streams:
                time.sleep(0.1)
                for name, stream in list(streams.items()):
                    batch = next(stream, None)
                    if batch is None:
                        sink.detach(runs[name].header.run)
                        del streams[name]
                    else:
                        sink.take(runs[name].header.run, batch)
                for alert in prometheus.alerts():
                    # the recording's clock is not ours: what compares times is not for this test
                    if alert["state"] == "firing" and alert["labels"]["alertname"] == ALERT.name:
                        fired[alert["labels"]["vm"]] = alert["annotations"]["description"]
    finally:
        server.close()
    assert list(fired) == ["never"]
    assert "unknown" not in fired["never"]
