"""Convoys: guests that share host and link migrate at once or one by one, each a run, together one experiment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from driver.campaign_cells import cells
from driver.campaign_plan import Campaign
from driver.convoy import run_convoy
from driver.datadir import DataDir
from driver.record import RunRecord
from driver.scenario import Scenario
from driver.scenario_settings import AT_ONCE, ONE_BY_ONE
from driver.seat import HOME, READY, Seat
from exporter import history
from exporter.convoys import convoys
from exporter.index import RunRow
from migrascope.campaign_engine import request_words
from tests.driver_process import a_request
from tests.real_runs import no_qemu_of
from tests.test_transports import namespaces, needs_namespaces
from workload.errors import BadValueError

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


def test_a_campaigns_cell_is_one_run() -> None:
    with pytest.raises(BadValueError, match="convoy_guests: a campaign's cell is one run"):
        cells(Campaign(name="c", base={"convoy_guests": 2}), {})


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


async def sailed(scenario: Scenario, data: DataDir) -> list[RunRecord]:
    records = await run_convoy(a_request(scenario), data, request_words, asyncio.Event())
    assert [record.outcome for record in records] == ["completed"] * 2, [record.reason for record in records]
    assert {record.convoy for record in records} == {records[0].run}
    assert all(no_qemu_of(data.run(record.run)) for record in records)
    return records


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
    first, second = await sailed(replace(EASY, convoy_order=ONE_BY_ONE), watched_data)
    assert span(first)[1] <= span(second)[0]
    # the first one has run on at its destination until the second was home
    assert first.phases[-1].start_ns >= span(second)[1]
    (found,) = convoys(history.runs(watched_data))
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
