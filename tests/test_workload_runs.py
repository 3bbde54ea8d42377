"""Whole runs of workloads other than the worst: what only they can show, on a real QEMU and recorded by an exporter."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.lock import VARIABLE
from driver.run import run_migration
from driver.scenario import Scenario
from driver.watch import find_exporter
from exporter import history
from exporter.start import LINGER_VARIABLE, start_exporter
from tests.driver_process import WORKLOAD, a_request

pytestmark = pytest.mark.qemu

POST_COPY = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, post_copy_seconds=0.5, max_time_seconds=30)
"""Post-copy in the first pass, when most of the working set has not been sent yet."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu_binary: Path) -> Iterator[DataDir]:
    assert qemu_binary
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    data = DataDir.open(tmp_path / "data")
    yield data
    if client := find_exporter(data):
        os.kill(client.info.pid, signal.SIGTERM)


async def test_an_access_that_waits_for_its_page_in_post_copy_is_seen_to_wait(data: DataDir) -> None:
    workload = replace(WORKLOAD, pattern="idle", working_set_mib=48, probe_hz=500)  # nobody else waits for pages
    record = await run_migration(replace(a_request(POST_COPY), workload=workload), data, start_exporter)
    assert record.outcome == "completed", record.reason
    run = data.run(record.run)
    rows = history.load(data, run, "guest_latency").to_pylist()
    assert {row["role"] for row in rows} == {"source", "destination"}
    for row in rows:
        assert sum(row[name] or 0 for name in row if name.startswith("bucket")) == row["accesses"]
    found = history.summary(run)
    before, waiting = found.before_access_seconds_p50, found.post_copy_access_seconds_max
    assert before is not None
    assert waiting is not None
    assert before < 0.0005 < waiting < 30, "a page that is not there yet comes over the link"
    assert found.after_access_seconds_p50 is not None
    assert found.after_access_seconds_p50 < 0.0005
