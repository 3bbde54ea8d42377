"""A cancelled migration is tried again to a new destination: on real QEMUs, watched by a real exporter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from driver.datadir import DataDir
from driver.estimate import estimate_seconds
from driver.marks import ATTEMPT, read_marks
from driver.record import read_record
from driver.run import run_migration
from driver.scenario import Scenario
from driver.targets import read_targets
from exporter import history
from exporter.judged import judged_again
from exporter.start import start_exporter
from tests.driver_process import HARDWARE, WORKLOAD, a_request
from tests.real_runs import no_qemu_of
from workload.errors import BadValueError

EASY = Scenario(bandwidth_mib_s=64, downtime_limit_ms=1000, max_time_seconds=30)
TWICE = replace(EASY, attempts=2, schedule="0.3 s: cancel")


@pytest.fixture
def data(watched_data: DataDir) -> DataDir:
    return watched_data


def test_each_cancel_of_the_schedule_ends_one_attempt_and_other_steps_are_of_every_attempt() -> None:
    scenario = replace(EASY, attempts=3, schedule="1 s: cancel; iteration 2: downtime-limit-ms=50; 2 s: cancel")
    schedules = [scenario.attempt(number).schedule for number in (1, 2, 3)]
    assert schedules == [
        "1 s: cancel; iteration 2: downtime-limit-ms=50; 2 s: cancel",
        "iteration 2: downtime-limit-ms=50; 2 s: cancel",
        "iteration 2: downtime-limit-ms=50",
    ]


def test_attempts_are_told_by_the_name_and_reckoned_with() -> None:
    assert TWICE.name == "0.3s-cancel.64mib-s.1000ms.t30s.attempts-2"
    never = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, max_time_seconds=10)
    once, thrice = (
        estimate_seconds(each, HARDWARE, WORKLOAD, warm_start=True) for each in (never, replace(never, attempts=3))
    )
    assert thrice - once == pytest.approx(20)


def test_a_saved_guest_has_no_destination_to_try_anew() -> None:
    with pytest.raises(BadValueError, match=r"scenario.attempts=2: want 1 with transport=exec-file"):
        Scenario(attempts=2, transport="exec-file")


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("binary", "more"),
    [("qemu_binary", {"transport": "exec"}), ("qemu_10_binary", {"tls": "psk", "multifd_channels": 2})],
)
async def test_a_cancelled_migration_goes_to_a_new_destination_and_is_recorded_as_such(
    data: DataDir, binary: str, more: dict[str, object], request: pytest.FixtureRequest
) -> None:
    scenario = replace(TWICE, **more)  # type: ignore[arg-type]
    asked = a_request(scenario, binary=str(request.getfixturevalue(binary)))
    first: list[int] = []
    record = await run_migration(
        asked, data, start_exporter,
        started=lambda run, _: first.extend(each.pid for each in read_targets(run).targets if each.role != "source"),
    )  # fmt: skip
    run = data.run(record.run)
    assert record.outcome == "completed", record.reason
    assert record.reason is not None
    assert record.reason.startswith("completed in attempt 2; attempt 1: cancelled by its schedule in iteration ")
    assert record.final["status"] == "completed"
    assert read_record(run) == record
    assert no_qemu_of(run)
    assert not psutil.pid_exists(first[0])
    (attempt,) = [mark for mark in read_marks(run) if mark.name == ATTEMPT]
    assert (attempt.detail["attempt"], attempt.detail["limit"]) == (2, "schedule")

    (row,) = history.runs(data)
    migrate = record.phase("migrate")
    assert migrate
    assert migrate.start_ns < attempt.time_ns
    # QEMU's figures are of the last attempt, the blackout is that of its switchover
    assert row.figures["total_seconds"] == pytest.approx(record.final["total-time"] / 1000)
    assert row.figures["blackout_seconds"] is not None
    # the new destination was watched as the old one had been: by its monitor, its console and its threads
    told = history.load(data, run, "event").to_pylist()
    ends = [each["detail"] for each in told if (each["role"], each["name"]) == ("source", "MIGRATION")]
    gone = {"status=cancelled", "status=failed"}  # QEMU 10.0 says either of multifd over TLS that is cancelled
    assert gone & set(ends[: ends.index("status=completed")]), ends
    later = {
        (each["role"], each["name"]) for each in told if each["time_ns"] > attempt.time_ns and each["role"] != "driver"
    }
    assert {("source", "STOP"), ("destination", "RESUME")} <= later
    spent = [
        (each["time_ns"], each["cpu_seconds"])
        for each in history.load(data, run, "qemu_cpu").to_pylist()
        if (each["role"], each["kind"]) == ("destination", "process")
    ]
    assert spent == sorted(spent), "CPU seconds of the destination's role fall where another QEMU takes it"
    assert spent[-1][0] > attempt.time_ns
    # what was said of the first attempt does not hold for the second: today's rules say the same of the record
    verdicts = history.load(data, run, "verdict").to_pylist()
    assert [each["limit_reached"] for each in verdicts if each["time_ns"] < attempt.time_ns][-1] == 1
    later_limits = [each["limit_reached"] for each in verdicts if each["time_ns"] >= attempt.time_ns]
    assert later_limits == sorted(later_limits, reverse=True), "withdrawn once the mark was read, and never said again"
    assert later_limits[-1] == 0
    again = [each for each in judged_again(run, record) if each.time_ns > attempt.time_ns]
    assert not any(each.fields["not_converging"] for each in again)


@pytest.mark.qemu
async def test_attempts_end_when_the_last_one_has_been_cancelled(data: DataDir, qemu_binary: Path) -> None:
    scenario = Scenario(bandwidth_mib_s=32, downtime_limit_ms=50, max_time_seconds=30, max_iterations=2, attempts=2)
    record = await run_migration(a_request(scenario, binary=str(qemu_binary)), data, None)
    assert (record.outcome, record.limit_reached) == ("not_converged", "iterations")
    assert record.reason
    assert record.reason.startswith("not converged in attempt 2; attempt 1: iterations limit reached")
    assert record.phase("recover")
    assert no_qemu_of(data.run(record.run))
