"""The stack: real servers of the cache, started and stopped by the command as a person would."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboards import stack
from dashboards.stack_config import COMPOSE, configurations
from dashboards.stack_services import ALERTMANAGER, GRAFANA, PROMETHEUS
from driver.datadir import DataDir, write_json
from migrascope.main import main
from workload.errors import BrokenError, MigrascopeError

pytestmark = pytest.mark.server


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    data = DataDir.open(tmp_path / "data")
    yield data
    stack.down(data)


@pytest.fixture
def programs(prometheus_binary: Path, alertmanager_binary: Path, victoria_metrics_binary: Path) -> Path:
    """The cache that holds the servers' programs."""
    assert alertmanager_binary.parent == victoria_metrics_binary.parent
    return prometheus_binary.parent.parent


def get(server: stack.Running, path: str) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=10) as reply:
        body: bytes = reply.read()
        return body


def by_name(servers: list[stack.Running]) -> dict[str, stack.Running]:
    return {server.name: server for server in servers}


def test_up_starts_servers_that_know_each_other_and_down_leaves_none(data: DataDir, programs: Path) -> None:
    servers = by_name(stack.up(data, programs, long_term=True))
    assert {"prometheus", "alertmanager", "victoria-metrics"} <= set(servers)
    assert {server.state for server in servers.values()} == {"up"}
    prometheus = servers["prometheus"]
    groups = json.loads(get(prometheus, "/api/v1/rules"))["data"]["groups"]
    assert any(rule["name"] == "MigrationNotConverging" for group in groups for rule in group["rules"])
    managers: list[str] = []
    deadline = time.monotonic() + 20
    while not managers and time.monotonic() < deadline:
        found = json.loads(get(prometheus, "/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
        managers = [each["url"] for each in found]
        time.sleep(0.1)
    assert managers == [f"{servers['alertmanager'].url}/api/v2/alerts"]
    again = by_name(stack.up(data, programs, long_term=True))
    assert {name: each.pid for name, each in again.items()} == {name: each.pid for name, each in servers.items()}
    stack.down(data)
    assert [server.state for server in servers.values()] == ["down"] * len(servers)
    assert stack.running(data) == []


def test_what_the_exporters_announce_is_scraped(data: DataDir, programs: Path, free_port: int) -> None:
    stack.up(data, programs)
    write_json(data.file_sd, [{"targets": [f"127.0.0.1:{free_port}"], "labels": {"host": "here"}}])
    prometheus = by_name(stack.running(data))["prometheus"]
    deadline = time.monotonic() + 30
    targets: list[str] = []
    while not targets and time.monotonic() < deadline:
        active = json.loads(get(prometheus, "/api/v1/targets"))["data"]["activeTargets"]
        targets = [each["scrapeUrl"] for each in active]
        time.sleep(0.1)
    assert targets == [f"http://127.0.0.1:{free_port}/metrics"]


def test_a_usual_port_that_is_taken_is_not_fought_for(
    data: DataDir, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        elsewhere = dataclasses.replace(PROMETHEUS, port=port)
        monkeypatch.setattr(stack, "services", lambda *, long_term: [  # noqa: ARG005 - its shape
            ALERTMANAGER, elsewhere
        ])  # fmt: skip
        prometheus = by_name(stack.up(data, programs))["prometheus"]
        assert prometheus.port != port
        assert prometheus.state == "up"


def test_a_server_that_was_killed_is_told_and_started_again(
    data: DataDir, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = by_name(stack.up(data, programs))["alertmanager"]
    os.kill(before.pid, 9)
    deadline = time.monotonic() + 10
    while before.state != "down" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert main(["stack", "status", "--json", "--data-dir", str(data.path)]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert {row["server"]: row["state"] for row in rows}["alertmanager"] == "down"
    after = by_name(stack.up(data, programs))["alertmanager"]
    assert (after.state, after.pid != before.pid) == ("up", True)
    assert main(["stack", "down", "--data-dir", str(data.path)]) == 0
    assert main(["stack", "status", "--data-dir", str(data.path)]) == 1
    assert "no server runs" in capsys.readouterr().err


def test_a_server_that_is_nowhere_is_named_and_nothing_is_started(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MigrascopeError, match=r"stack: alertmanager, prometheus: neither in PATH nor in .*make stack"):
        stack.up(data, tmp_path)
    assert stack.running(data) == []


def test_a_server_that_does_not_come_up_takes_those_before_it_down_again(
    data: DataDir, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake = tmp_path / "prometheus"
    fake.write_text("#!/bin/sh\necho no disk, no metrics >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(BrokenError, match="prometheus ended before it answered: no disk, no metrics"):
        stack.up(data, programs)
    assert stack.running(data) == []


def test_grafana_is_told_by_its_environment_where_everything_is(
    data: DataDir, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Grafana can be had here: a stand-in answers its health page and keeps the environment that it was given."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake = tmp_path / "grafana"
    fake.write_text(
        f"#!/bin/sh\nenv > {tmp_path}/environment\nmkdir -p {tmp_path}/api; echo ok > {tmp_path}/api/health\n"
        f'cd {tmp_path} && exec python3 -m http.server --bind 127.0.0.1 "$GF_SERVER_HTTP_PORT"\n'
    )
    fake.chmod(0o755)
    grafana = by_name(stack.up(data, programs))[GRAFANA.name]
    assert grafana.state == "up"
    told = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line)
    provisioning = Path(told["GF_PATHS_PROVISIONING"])
    assert told["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert Path(told["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
    assert {path.name for path in provisioning.rglob("*.yml")} == {"migrascope.yml"}


def test_a_webhook_that_is_no_address_is_refused(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stack", "up", "--webhook", "pager", "--data-dir", str(data.path)]) == 2
    assert "--webhook 'pager': want http://HOST" in capsys.readouterr().err


def test_the_servers_own_tools_find_no_fault_with_the_configuration(
    tmp_path: Path, promtool: Path, amtool: Path
) -> None:
    for name, text in configurations(COMPOSE, webhook="http://127.0.0.1:1/hook").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commands: tuple[list[str | Path], ...] = (
        [promtool, "check", "config", "--syntax-only", tmp_path / "prometheus" / "prometheus.yml"],
        [amtool, "check-config", tmp_path / "alertmanager" / "alertmanager.yml"],
    )
    for command in commands:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
