"""Real servers for tests: each on a free port of loopback, ready when its context opens, ended when it closes."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_SECONDS = 30.0
REQUEST_SECONDS = 10.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers at `url` (no slash at the end); what it printed is in `log`."""

    name: str
    url: str
    port: int
    process_id: int
    log: Path

    def get(self, path: str, **parameters: str) -> bytes:
        """GET `path` and return the body; blocks for at most 10 s, so from a coroutine use `asyncio.to_thread`.

        Raises:
            urllib.error.HTTPError: the server refused.
        """
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"{self.url}{path}{query}", timeout=REQUEST_SECONDS) as reply:
            body: bytes = reply.read()
            return body

    def post(self, path: str, body: bytes = b"") -> bytes:
        """POST `body` to `path` and return the reply's; blocks like `get`."""
        with urllib.request.urlopen(f"{self.url}{path}", data=body, timeout=REQUEST_SECONDS) as reply:
            answer: bytes = reply.read()
            return answer

    def query(self, promql: str, at_seconds: float | None = None) -> list[dict[str, Any]]:
        """Evaluate a PromQL expression, now or at a time; each result holds `metric` and `value` or `values`."""
        moment = {} if at_seconds is None else {"time": repr(at_seconds)}
        return list(json.loads(self.get("/api/v1/query", query=promql, **moment))["data"]["result"])

    def query_range(
        self, promql: str, start_seconds: float, end_seconds: float, step_seconds: float
    ) -> list[dict[str, Any]]:
        """Evaluate a PromQL expression over a span of wall time; each result holds `metric` and `values`."""
        span = {"start": repr(start_seconds), "end": repr(end_seconds), "step": repr(step_seconds)}
        return list(json.loads(self.get("/api/v1/query_range", query=promql, **span))["data"]["result"])

    def alerts(self) -> list[dict[str, Any]]:
        """Return Prometheus' pending and firing alerts."""
        return list(json.loads(self.get("/api/v1/alerts"))["data"]["alerts"])


@contextmanager
def running_prometheus(
    binary: Path,
    folder: Path,
    *,
    targets: Sequence[str] = (),
    file_sd: Sequence[Path] = (),
    rule_files: Sequence[Path] = (),
    scrape_interval_seconds: float = 0.1,
    job: str = "migrascope",
    remote_write_receiver: bool = False,
    access: Mapping[str, Any] | None = None,
) -> Iterator[Server]:
    """Start Prometheus that scrapes `targets` (host:port) and those of the service discovery files `file_sd`.

    `access` holds further keys of the scrape configuration, such as `scheme`, `tls_config` and `basic_auth`. Rules are
    evaluated once a second. Data, configuration and log go below `folder`, which is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = unused_port()
    # JSON is YAML, and needs no YAML library to be quoted rightly
    scrape: dict[str, Any] = {"job_name": job, "static_configs": [{"targets": list(targets)}]} | dict(access or {})
    if file_sd:
        scrape["file_sd_configs"] = [{"files": [str(path) for path in file_sd], "refresh_interval": "1s"}]
    interval = f"{round(scrape_interval_seconds * 1000)}ms"
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "1s"},
                "rule_files": [str(path) for path in rule_files],
                "scrape_configs": [scrape],
                "storage": {"tsdb": {"out_of_order_time_window": "1h"}},
            }
        )
    )
    command = [
        str(binary),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    if remote_write_receiver:
        command.append("--web.enable-remote-write-receiver")
    with _running("prometheus", command, port, "/-/ready", folder) as server:
        yield server


@contextmanager
def running_victoria_metrics(binary: Path, folder: Path) -> Iterator[Server]:
    """Start VictoriaMetrics, which takes InfluxDB's v2 writes at /api/v2/write; data and log go below `folder`.

    What was written can be queried after `post("/internal/force_flush")`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = unused_port()
    command = [
        str(binary),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-search.latencyOffset=0s",
        "-search.disableCache",
    ]
    with _running("victoria-metrics", command, port, "/health", folder) as server:
        yield server


@contextmanager
def running_influxdb(binary: Path, folder: Path) -> Iterator[Server]:
    """Start InfluxDB 1.6, which takes lines at /write?db=NAME and answers InfluxQL at /query; all is below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = unused_port()
    settings = {
        "REPORTING_DISABLED": "true",
        "BIND_ADDRESS": f"127.0.0.1:{unused_port()}",
        "META_DIR": str(folder / "meta"),
        "DATA_DIR": str(folder / "data"),
        "DATA_WAL_DIR": str(folder / "wal"),
        "DATA_QUERY_LOG_ENABLED": "false",
        "HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
        "HTTP_LOG_ENABLED": "false",
        "MONITOR_STORE_ENABLED": "false",
    }
    (folder / "influxdb.conf").write_text("")
    variables = [f"INFLUXDB_{name}={value}" for name, value in settings.items()]
    command = ["env", *variables, str(binary), "-config", str(folder / "influxdb.conf")]
    with _running("influxdb", command, port, "/ping", folder) as server:
        yield server


def scraping(prometheus: Server) -> None:
    """Wait until Prometheus scrapes: it takes up to 5 s to look at its targets for the first time."""
    deadline = time.monotonic() + READY_SECONDS
    while not prometheus.query("up == 1"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def unused_port() -> int:
    """Return a TCP port of loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(name: str, command: list[str], port: int, ready_path: str, folder: Path) -> Iterator[Server]:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        # setpriv: the server must not outlive a pytest that is killed
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Server(name=name, url=f"http://127.0.0.1:{port}", port=port, process_id=process.pid, log=log)
        _wait_until_ready(server, process, ready_path)
        yield server
    finally:
        _end(process)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], ready_path: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            server.get(ready_path)
        except urllib.error.HTTPError as error:  # it answers, and says that it is not ready yet
            last = f"status {error.code}"
            error.close()
        except OSError as error:  # refused, reset or timed out: urllib's errors are of this class too
            last = str(error)
        else:
            return
        if process.poll() is not None:
            tail = server.log.read_text(errors="replace")[-2000:]
            raise AssertionError(f"{server.name}: exited with {process.returncode} before it was ready:\n{tail}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{server.name}: not ready within {READY_SECONDS:.0f} s: {last} (log: {server.log})")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
