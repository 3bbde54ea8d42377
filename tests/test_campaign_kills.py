"""A real campaign of real runs, killed with -9 in the phases of its runs and started again: each run is there once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.campaign_kills import PLAN, faults, kill, start
from driver.campaign_events import Begun, read_events
from driver.campaign_state import read_state
from driver.datadir import DataDir
from driver.lock import VARIABLE, campaign_lives
from driver.record import read_record
from driver.watch import find_exporter
from exporter import history
from exporter.start import LINGER_VARIABLE
from workload.errors import MigrascopeError

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(400)]  # bounds that a host under load keeps as well

WAIT_SECONDS = 90.0
RUNS = 6


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataDir]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    monkeypatch.setenv(LINGER_VARIABLE, "1")
    data = DataDir.open(tmp_path / "data")
    yield data
    deadline = time.monotonic() + WAIT_SECONDS
    while find_exporter(data):
        assert time.monotonic() < deadline, "an exporter whose runs' drivers died ends by itself"
        time.sleep(0.1)


def the_phase(data: DataDir) -> tuple[str, str] | None:
    """The last run that was begun, and its phase; an empty word while it has no record."""
    campaigns = data.all_campaigns()
    begun = [event for event in read_events(campaigns[-1]) if isinstance(event, Begun)] if campaigns else []
    if not begun:
        return None
    try:
        record = read_record(data.run(begun[-1].run))
    except MigrascopeError:
        return begun[-1].run, ""
    return begun[-1].run, record.outcome or (record.phases[-1].name if record.phases else "")


def in_phase(data: DataDir, phase: str, *, not_of: str) -> Callable[[], bool]:
    """Whether a run other than `not_of` is in a phase."""

    def is_there() -> bool:
        now = the_phase(data)
        return now is not None and now[0] != not_of and now[1] == phase

    return is_there


def until(true: Callable[[], bool], campaign: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert campaign.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)


def test_a_campaign_killed_in_mid_run_and_resumed_has_every_run_once_and_leaves_nothing(
    data: DataDir, tmp_path: Path
) -> None:
    plan, log = tmp_path / "kills.toml", tmp_path / "log"
    plan.write_text(PLAN.format(repeats=RUNS // 2))
    killed_in: list[str] = []
    for phase in ("", "migrate", "completed"):
        before = (the_phase(data) or ("", ""))[0]
        campaign = start(plan, data.path, log)
        until(in_phase(data, phase, not_of=before), campaign, log)
        assert kill(campaign, data.path) == []
        killed_in.append((the_phase(data) or ("", ""))[1])
    assert killed_in[-1] == "completed"
    done = start(plan, data.path, log)
    assert done.wait(RUNS * WAIT_SECONDS / 2) == 0, log.read_text()
    (place,) = data.all_campaigns()
    assert faults(place, data, RUNS) == []
    assert not campaign_lives(place)
    state = read_state(place)
    assert state.outcomes == {"completed": RUNS}
    rows = [row for row in history.runs(data) if row.campaign == place.campaign]
    assert sorted(row.run for row in rows if row.outcome == "completed") == sorted(one.run for one in state.results())
    assert {row.outcome for row in rows} <= {"completed", "abandoned"}
    assert not [process for process in psutil.process_iter(["name"]) if "migrascope-kills" in str(process.info)]
