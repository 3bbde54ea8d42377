"""Faults while runs are recorded and mirrored: exporter and InfluxDB are killed, refuse, are away; nothing is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.start import LINGER_VARIABLE
from tests.mirror_faults import Fleet, campaign

pytestmark = pytest.mark.server


async def test_not_one_sample_is_lost_to_kills_outages_and_refusals(
    tmp_path: Path, influxdb_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    with Fleet(influxdb_binary, tmp_path) as fleet:
        told = await campaign(
            fleet,
            runs=6,
            seconds=1.5,
            away=range(2, 4),
            killed={1, 4},
            refusing={5: 1.0},
            exporter_killed={0, 2, 3, 4, 5},
        )
    assert told.whole, told
    assert told.samples > 6 * 500
    assert told.retries > 0
    assert (told.dropped, told.dead_letters) == (0, 0)


async def test_a_full_disk_costs_no_sample_and_the_mirror_goes_on(tmp_path: Path) -> None:
    unshare = ["unshare", "--map-root-user", "--mount", "--"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, check=False)  # noqa: ASYNC221 - a moment
    if probe.returncode:
        pytest.skip(f"unshare: {probe.stderr.decode().strip()}: no mount namespace can be made here")
    command = [*unshare, sys.executable, "-m", "tests.full_disk", str(tmp_path), "3"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    told = json.loads(done.stdout)
    assert told["full_seconds"] >= 3
    assert told["journal_errors"] > 0, "the disk was not full"
    assert told["lost_lines"] == 0
    assert told["missing"] == 0
    assert told["lines"] > 1000
