"""Whole runs of workloads other than the worst: what only they can show, on a real QEMU and recorded by an exporter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.run import run_migration
from driver.scenario import Scenario
from exporter import history
from exporter.start import start_exporter
from tests.driver_process import WORKLOAD, a_request

pytestmark = pytest.mark.qemu

POST_COPY = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, post_copy_seconds=0.5, max_time_seconds=30)
"""Post-copy in the first pass, when most of the working set has not been sent yet."""


@pytest.fixture
def data(watched_data: DataDir, qemu_binary: Path) -> DataDir:
    assert qemu_binary
    return watched_data


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
