"""Convoys: guests that share host and link migrate at once or one by one, each a run, together one experiment."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dashboards.campaign_report import campaign_report
from dashboards.terminal_convoy import convoy_view, follow_convoy
from driver.campaign import run_campaign
from driver.campaign_cells import cells
from driver.campaign_check import refused_cells
from driver.campaign_executor import LocalExecutor
from driver.campaign_plan import Axis, Campaign
from driver.convoy import run_convoy
from driver.convoy_runs import convoy_runs, deciding_record, free_runs
from driver.datadir import DataDir
from driver.homecoming import bring_home, pack
from driver.record import RunRecord, read_record, write_record
from driver.request import RUN_ID
from driver.scenario import Scenario
from driver.scenario_settings import AT_ONCE, CONVOY_MOST, ONE_BY_ONE
from driver.seat import HOME, READY, Seat
from exporter import history
from exporter.convoys import convoys
from exporter.index import RunRow
from migrascope.campaign_engine import request_words, run_words
from tests.driver_process import a_request
from tests.real_runs import no_qemu_of
from tests.recorded import a_record
from tests.test_terminal import STATE, printed, stream
from tests.test_transports import namespaces, needs_namespaces
from workload.errors import BadValueError, BrokenError

EASY = Scenario(bandwidth_mib_s=64, downtime_limit_ms=1000, max_time_seconds=30, convoy_guests=2)


def seats(place: Path, count: int) -> list[Seat]:
    return [Seat(place=place, number=number) for number in range(1, count + 1)]


def test_a_seat_is_written_as_it_is_read() -> None:
    seat = Seat(place=Path("/run/a:b"), number=3)
    assert Seat.parse(str(seat)) == seat
    with pytest.raises(BadValueError, match="seat '/run/x': want DIRECTORY:NUMBER"):
        Seat.parse("/run/x")


@pytest.mark.parametrize(("order", "wanted"), [(ONE_BY_ONE, [1, 1, 2, 2, 3, 3]), (AT_ONCE, None)])
async def test_guests_go_in_their_order_once_all_have_settled(
    tmp_path: Path, order: str, wanted: list[int] | None
) -> None:
    told: list[int] = []

    async def go(seat: Seat) -> None:
        await seat.turn(3, order, 10.0)
        told.append(seat.number)
        await asyncio.sleep(0.05)
        told.append(seat.number)
        await seat.all_home(3, 10.0)

    first, *others = (asyncio.create_task(go(seat)) for seat in seats(tmp_path, 3))
    await asyncio.wait({first, *others})
    assert wanted is None or told == wanted
    assert wanted or set(told[:3]) == {1, 2, 3}


async def test_nobody_waits_for_a_run_whose_process_has_ended(tmp_path: Path) -> None:
    one, two = seats(tmp_path, 2)
    waiting = asyncio.create_task(two.turn(2, ONE_BY_ONE, 10.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    for what in (READY, HOME):
        one.say(what)
    await asyncio.wait_for(waiting, 10)


def test_the_ids_of_a_convoy_follow_its_first_and_meet_no_run_that_is_there(data: DataDir) -> None:
    assert convoy_runs("20261124-000000-00fe", 3) == [f"20261124-000000-{n:04x}" for n in (0xFE, 0xFF, 0x100)]
    for _ in range(200):
        runs = free_runs(data, CONVOY_MOST)
        assert all(RUN_ID.fullmatch(run) for run in runs)
        assert runs == sorted(runs)
    data.run(runs[3]).path.mkdir()
    assert runs[3] not in free_runs(data, CONVOY_MOST)


def test_a_convoy_ended_as_the_guest_that_fared_worst(data: DataDir) -> None:
    first, second, third = convoy_runs("20261124-000000-0001", 3)
    assert deciding_record(data, first) is None
    alone = replace(a_record(first, outcome="failed"), reason="so it was")
    scenario = replace(EASY, convoy_guests=3)

    def leave(run: str, outcome: str | None, reason: str | None = None) -> None:
        data.run(run).path.mkdir(exist_ok=True)
        record = replace(alone, run=run, outcome=outcome, reason=reason, convoy=first, scenario=scenario)
        write_record(data.run(run), record)

    data.run(first).path.mkdir()
    write_record(data.run(first), alone)
    assert deciding_record(data, first) == alone
    leave(first, "completed")
    leave(second, "not_converged", "time limit reached")
    missing = deciding_record(data, first)
    assert missing
    assert (missing.outcome, missing.reason) == ("abandoned", None)
    leave(third, "completed")
    worst = deciding_record(data, first)
    assert worst
    assert (worst.run, worst.outcome, worst.reason) == (second, "not_converged", "guest 2 of 3: time limit reached")
    leave(third, None)
    unfinished = deciding_record(data, first)
    assert unfinished
    assert unfinished.outcome is None


def test_a_convoys_runs_come_home_together_or_not_at_all(data: DataDir, tmp_path: Path) -> None:
    there, runs = DataDir.open(tmp_path / "there"), convoy_runs("20261124-000000-0001", 2)
    for run in runs:
        there.run(run).path.mkdir()
        there.run(run).log("source").write_text(run)
    packed = pack([there.run(run) for run in runs])
    with pytest.raises(BrokenError, match="what its worker sent is not this run's directory"):
        bring_home(packed, data, runs[:1])
    assert data.all_runs() == []
    bring_home(packed, data, runs)
    assert [data.run(run).log("source").read_text() for run in runs] == runs


def a_row(run: str, outcome: str, migrate_ns: int, recover_ns: int, blackout: float, slow: float) -> RunRow:
    figures = {
        "blackout_seconds": blackout, "total_seconds": 1.0, "settle_seconds_per_gib_mean": 2.0,
        "migrate_seconds_per_gib_mean": 2.0 * slow,
    }  # fmt: skip
    phases = {"migrate": migrate_ns, "recover": recover_ns}
    return RunRow(run=run, convoy="a", scenario="s", outcome=outcome, phases=phases, conditions={}, figures=figures)


def test_a_convoy_is_home_when_its_last_guest_is() -> None:
    second = 1_000_000_000
    rows = [
        a_row("a", "completed", 5 * second, 7 * second, 0.1, 1.5),
        a_row("b", "completed", 6 * second, 9 * second, 0.3, 2.5),
    ]
    (found,) = convoys([*rows, replace(rows[0], run="alone", convoy=None)])
    assert (found.guests, found.completed, found.all_home_seconds) == (2, 2, 4.0)
    assert found.median_blackout_seconds == pytest.approx(0.2)
    assert found.worst_blackout_seconds == 0.3
    assert found.slowdown == pytest.approx(2.0)
    (lost,) = convoys([rows[0], replace(rows[1], outcome="not_converged")])
    assert (lost.completed, lost.all_home_seconds) == (1, None)


async def test_a_convoys_live_view_has_a_line_a_guest_within_80_columns() -> None:
    states = [replace(STATE, run="a"), replace(STATE, run="b", phase="settle", iteration=None, eta_seconds=None), None]
    lines = printed(convoy_view(states))
    assert [line.split()[:2] for line in lines[2:]] == [["1", "migrate"], ["2", "settle"], ["3", "start"]]
    for words in ("31.2 MiB", "33.1 MiB/s", "99 %", "279 x", "about 12.4 s"):
        assert words in lines[2]
    assert max(map(len, lines)) <= 80
    console = Console(record=True, width=80, file=io.StringIO())
    ended = replace(STATE, outcome="completed", phase="end")
    await follow_convoy([stream([STATE, ended]), stream([replace(STATE, verdict=None)])], console)
    told = console.export_text().splitlines()
    assert {line[:8] for line in told} == {"guest 1:", "guest 2:"}
    assert any(line.startswith("guest 1: ✓ completed after 7.40 s") for line in told)


def span(record: RunRecord) -> tuple[int, int]:
    """From the migration's start until the guest ran at its destination."""
    migrate, recover = record.phase("migrate"), record.phase("recover")
    assert migrate
    assert recover
    return migrate.start_ns, recover.start_ns


@pytest.mark.qemu
async def test_one_by_one_a_guest_sets_out_when_the_one_before_is_home(
    watched_data: DataDir, qemu_binary: Path
) -> None:
    assert qemu_binary
    plan = Campaign(
        name="convoy", warm_start=True, grid=(Axis(field="convoy_order", values=(ONE_BY_ONE,)),),
        base={"convoy_guests": 2, "bandwidth_mib_s": 64, "downtime_limit_ms": 1000, "max_time_seconds": 30,
              "memory_mib": 128, "working_set_mib": 16, "granularity_mib": 4},
    )  # fmt: skip
    planned = cells(plan, {})
    assert await refused_cells(planned) == {}
    state = await run_campaign(
        plan, planned, watched_data, LocalExecutor(run_words), content=b"", paces={}, refused={}, retry=False,
        changed=lambda _state, _event: None, cancel=asyncio.Event(),
    )  # fmt: skip
    ((_, end),) = state.ended.items()
    assert (end.outcome, end.reason) == ("completed", None)
    first, second = (read_record(watched_data.run(run)) for run in convoy_runs(end.run, 2))
    assert [record.outcome for record in (first, second)] == ["completed"] * 2
    assert {(record.convoy, record.campaign) for record in (first, second)} == {(end.run, plan.campaign)}
    assert all(no_qemu_of(watched_data.run(record.run)) for record in (first, second))
    assert span(first)[1] <= span(second)[0]
    # the first one has run on at its destination until the second was home
    assert first.phases[-1].start_ns >= span(second)[1]
    rows = history.runs(watched_data)
    report = campaign_report(state, rows, alive=False, order="sequential", labels={})
    assert {row.run for row in report.rows} == {first.run, second.run}
    (found,) = convoys(rows)
    assert found.all_home_seconds == pytest.approx((span(second)[1] - span(first)[0]) / 1e9)


@pytest.mark.qemu
@pytest.mark.usefixtures("cached_tools")
@needs_namespaces
async def test_at_once_all_guests_share_one_link(watched_data: DataDir, qemu_10_binary: Path) -> None:
    before = namespaces()
    scenario = replace(EASY, bandwidth_mib_s=1000, transport="tcp", hosts="namespaces", link_mbit_s=400)
    asked = replace(a_request(scenario), source_binary=str(qemu_10_binary))
    records = await run_convoy(asked, watched_data, request_words, asyncio.Event())
    assert [record.outcome for record in records] == ["completed"] * 2, [record.reason for record in records]
    (one, two) = map(span, records)
    assert max(one[0], two[0]) < min(one[1], two[1])
    # 47.7 MiB/s carry what both have sent, in all their time together and not in less
    sent = sum(float(row.figures["transferred_bytes"] or 0) for row in history.runs(watched_data))
    seconds = (max(one[1], two[1]) - min(one[0], two[0])) / 1e9
    assert sent / seconds < 1.15 * 400e6 / 8
    assert namespaces() == before
