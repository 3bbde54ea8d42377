"""The real servers that other tests rely on: they start, take data, give it back, and end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from tests.servers import Server, running_prometheus, running_victoria_metrics

pytestmark = pytest.mark.server


class OneGauge(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"house_gauge 42\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class names it so
        """Say nothing."""


@pytest.fixture
def target() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), OneGauge) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def value_of(server: Server, promql: str) -> float | None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if rows := server.query(promql):
            return float(rows[0]["value"][1])
        time.sleep(0.1)
    return None


def test_prometheus_scrapes_its_target_fires_its_rule_and_ends(
    prometheus_binary: Path, tmp_path: Path, target: str
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text('{"groups": [{"name": "g", "rules": [{"alert": "GaugeHigh", "expr": "house_gauge > 41"}]}]}')
    with running_prometheus(prometheus_binary, tmp_path / "p", targets=[target], rule_files=[rules]) as server:
        assert value_of(server, "house_gauge") == 42
        assert value_of(server, 'ALERTS{alertstate="firing"}') == 1
        assert [alert["labels"]["alertname"] for alert in server.alerts()] == ["GaugeHigh"]
    assert not psutil.pid_exists(server.process_id)


def test_prometheus_that_cannot_read_its_rules_tells_what_it_said(prometheus_binary: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: 1")
    with (
        pytest.raises(AssertionError, match=r"prometheus: exited with 1 before it was ready:(.|\n)*rules\.yml"),
        running_prometheus(prometheus_binary, tmp_path / "p", rule_files=[rules]),
    ):
        pass


def test_victoria_metrics_takes_an_influxdb_line_and_gives_it_back(
    victoria_metrics_binary: Path, tmp_path: Path
) -> None:
    with running_victoria_metrics(victoria_metrics_binary, tmp_path / "v") as server:
        server.post("/api/v2/write", f"house,room=1 gauge=42.5 {time.time_ns()}".encode())
        server.post("/internal/force_flush")
        assert value_of(server, 'house_gauge{room="1"}') == 42.5
    assert not psutil.pid_exists(server.process_id)
