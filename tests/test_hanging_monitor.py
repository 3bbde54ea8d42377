"""A QEMU that answers nothing: scrapes, queries and the mirror go on, and its own source is told to be down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.watch import ExporterClient, Sampling, find_exporter
from exporter.start import LINGER_VARIABLE, start_exporter
from tests.live_pair import LivePair
from tests.servers import Server, running_victoria_metrics
from tests.waiting import wait_until

pytestmark = [pytest.mark.qemu, pytest.mark.server]

TRIES = 'migrascope_source_errors_total{source="monitor"}'


def series(port: int) -> dict[str, float]:
    """/metrics as it is now, name and labels -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def up(port: int, role: str) -> bool:
    return series(port)[f'migrascope_source_up{{role="{role}",source="monitor",vm="vm0"}}'] == 1.0


def scrapes_within_a_try(port: int) -> int:
    """How many scrapes are answered from one vain try of the monitor's source to its next."""
    counted: list[float] = []

    def begun_and_ended() -> bool:
        counted.append(series(port)[TRIES])
        return counted[-1] >= counted[0] + 2

    wait_until(begun_and_ended)
    return counted.count(counted[0] + 1)


def mirrored(victoria: Server) -> float:
    """How many sweeps over the destination's threads VictoriaMetrics holds."""
    victoria.post("/internal/force_flush")
    rows = victoria.query('sum(count_over_time(qemu_memory_resident_bytes{role="destination"}[5m]))')
    return float(rows[0]["value"][1]) if rows else 0.0


async def test_scrapes_queries_and_the_mirror_go_on_while_a_qemu_is_stopped(
    tmp_path: Path,
    qemu_binary: Path,
    cache: Path,
    sockets: Path,
    victoria_metrics_binary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    data = DataDir.open(tmp_path / "data")
    with running_victoria_metrics(victoria_metrics_binary, tmp_path / "victoria") as victoria:
        exporter = await start_exporter(data)
        port = exporter.info.port
        try:
            with LivePair(data, qemu_binary, cache, sockets) as pair:
                await exporter.attach(pair.run, Sampling(influx_url=victoria.url))
                pair.boot()
                os.kill(pair.processes["source"].pid, signal.SIGSTOP)
                wait_until(lambda: not up(port, "source"))
                assert scrapes_within_a_try(port) > 1, "no scrape waits until the monitor is given up"
                before, already = series(port), mirrored(victoria)
                wait_until(lambda: mirrored(victoria) > already)
                swept = 'migrascope_samples_total{measurement="qemu_memory"}'
                wait_until(lambda: series(port)[swept] > before[swept])  # the mirror may have had arrears to send
                assert up(port, "destination")
                assert not up(port, "source")
                assert queried(data) == "1"
                assert (await exporter.status())["runs"] == [pair.run]
                os.kill(pair.processes["source"].pid, signal.SIGCONT)
                wait_until(lambda: up(port, "source"))
                pair.end("broken")
                await exporter.detach(pair.run)
                await exporter.stored(pair.run)
        finally:
            end(exporter, data)


def queried(data: DataDir) -> str:
    """What `migrascope query` says of how many runs there are."""
    command = [sys.executable, "-m", "migrascope.main", "query", "--csv", "--data-dir", str(data.path)]
    found = subprocess.run(
        [*command, "SELECT count(*) FROM runs"], capture_output=True, text=True, timeout=30, check=True
    )
    return found.stdout.splitlines()[-1]


def end(exporter: ExporterClient, data: DataDir) -> None:
    if find_exporter(data):
        os.kill(exporter.info.pid, signal.SIGTERM)
    os.waitpid(exporter.info.pid, 0)
