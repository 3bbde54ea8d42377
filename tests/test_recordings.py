"""The recorded real runs are whole: every strategy on both versions, small, and read as their exporter left them."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.scenario import STRATEGIES
from exporter import history
from tests import recordings
from tests.make_recordings import LARGEST_BYTES, SCENARIOS

ONLY = {"compress": "7.2", "guest-lost": "7.2", "switchover-ack": "10.0", "downtime-over-limit": "10.0"}
"""What only one QEMU does: compression went with 9.1, 7.2 loses pages, settings of the switchover are new."""
NAMES = recordings.names()


def test_every_recording_that_a_version_can_make_is_there() -> None:
    wanted = {
        f"{version}-{name}" for name in SCENARIOS for version in ("7.2", "10.0") if ONLY.get(name, version) == version
    }
    assert set(NAMES) == wanted


def test_every_strategy_that_this_kind_of_machine_can_run_was_recorded() -> None:
    recorded = {strategy for scenario in SCENARIOS.values() for strategy in scenario.strategies}
    assert recorded == set(STRATEGIES) - {"dirty-limit"}  # which needs KVM's dirty ring


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_small_and_its_figures_are_those_of_its_record(name: str, tmp_path: Path) -> None:
    data = DataDir.open(tmp_path / "data")
    assert sum(path.stat().st_size for path in (recordings.RECORDINGS / name).iterdir()) <= LARGEST_BYTES
    run = recordings.install(name, data)
    record = recordings.record_of(name)
    (row,) = history.runs(data)
    assert record.scenario is not None
    assert (row.run, row.outcome, row.strategy) == (run.run, record.outcome, record.scenario.strategy)
    summary = history.summary(run)
    assert summary.damaged_lines == 0
    assert summary.samples == len(recordings.load(name).samples)
    if record.outcome == "completed":
        assert summary.stop_resume_seconds is not None
        assert summary.blackout_seconds == pytest.approx(summary.stop_resume_seconds, abs=0.008)
        assert summary.total_seconds is not None
