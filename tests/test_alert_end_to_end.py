"""From a real migration to the webhook: the stack's own Prometheus and Alertmanager, and a real campaign."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboards import stack
from driver.datadir import DataDir
from driver.watch import find_exporter
from exporter import history
from tests.waiting import wait_until
from tests.webhook import Told, receiving

pytestmark = [pytest.mark.qemu, pytest.mark.server]

PLAN = """
name = "night"
warm_start = true

[scenario]
downtime_limit_ms = 300
max_time_seconds = 12
max_iterations = 1000

[hardware]
memory_mib = 128
accelerator = "tcg"

[workload]
working_set_mib = 16
granularity_mib = 4

[binaries]
qemu = "{qemu}"

[grid]
bandwidth_mib_s = [300, 32, 400]
"""
"""16 MiB that are written all the time need 53 MiB/s to be sent within 300 ms: the second cell can never finish."""

NOISE = frozenset({"TelemetryLate"})
"""What a busy host may rightly raise during a test."""


@dataclass(frozen=True, kw_only=True)
class Alerting:
    """The stack as it runs, and what its webhook is told."""

    data: DataDir
    servers: dict[str, stack.Running]
    told: Told


@pytest.fixture
def alerting(tmp_path: Path, prometheus_binary: Path, alertmanager_binary: Path) -> Iterator[Alerting]:
    assert prometheus_binary.parent == alertmanager_binary.parent
    data = DataDir.open(tmp_path / "data")
    with receiving() as told:
        try:
            servers = stack.up(data, prometheus_binary.parent.parent, webhook=told.url)
            yield Alerting(data=data, servers={each.name: each for each in servers}, told=told)
        finally:
            stack.down(data)
            if exporter := find_exporter(data):
                os.kill(exporter.info.pid, signal.SIGTERM)
                wait_until(lambda: find_exporter(data) is None, 20, "the exporter does not end")


@pytest.mark.timeout(300)
def test_of_a_campaigns_migrations_only_the_one_that_cannot_converge_is_told_and_resolved(
    alerting: Alerting, tmp_path: Path, qemu_binary: Path
) -> None:
    plan = tmp_path / "night.toml"
    plan.write_text(PLAN.format(qemu=qemu_binary))
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "migrascope.main",
        "campaign",
        "run",
        plan,
        "--data-dir",
        alerting.data.path,
    ]
    environment = os.environ | {"MIGRASCOPE_LINGER_SECONDS": "20"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    runs = {row.scenario: row.outcome for row in history.runs(alerting.data)}
    (never,) = [scenario for scenario, outcome in runs.items() if outcome == "not_converged"]
    assert sorted(runs.values(), key=str) == ["completed", "completed", "not_converged"]
    told = alerting.told
    wait_until(lambda: told.alerts("resolved"), 90, "nothing was resolved")
    firing = [alert for alert in told.alerts("firing") if alert["labels"]["alertname"] not in NOISE]
    assert {alert["labels"]["alertname"] for alert in firing} == {"MigrationNotConverging"}
    assert {alert["labels"]["scenario"] for alert in firing} == {never}
    assert all(alert["labels"]["campaign"].startswith("night") for alert in firing)
    assert all("unknown" not in alert["annotations"]["description"] for alert in firing)
    groups = {tuple(sorted(note["groupLabels"])) for _, note in told.notifications}
    assert ("alertname", "campaign") in groups


def test_a_run_that_has_failed_silences_its_own_not_converging_and_no_others(alerting: Alerting) -> None:
    run = {"job": "migrascope", "instance": "here:1", "vm": "vm0", "campaign": "night", "scenario": "pre-copy"}
    other = run | {"vm": "vm1"}
    manager = alerting.servers["alertmanager"]
    failed = run | {"migrascope_run_outcome": "failed"}
    raised = [("MigrationFailed", failed), ("MigrationNotConverging", run), ("MigrationNotConverging", other)]
    post(manager, [alert(name, labels) for name, labels in raised[:1]])
    wait_until(lambda: alerting.told.first("MigrationFailed"), 30, "the failure is not told")
    post(manager, [alert(name, labels) for name, labels in raised])
    wait_until(lambda: alerting.told.first("MigrationNotConverging"), 30, "the other run is not told")
    told = [each["labels"] for each in alerting.told.alerts("firing")]
    assert {each["vm"] for each in told if each["alertname"] == "MigrationNotConverging"} == {"vm1"}


def alert(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """An alert as Prometheus sends it."""
    ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    return {"labels": labels | {"alertname": name}, "annotations": {}, "endsAt": ends}


def post(manager: stack.Running, alerts: list[dict[str, Any]]) -> None:
    request = urllib.request.Request(
        f"{manager.url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200
