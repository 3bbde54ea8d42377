"""state.jsonl: what was written is read back, a torn line is left out, and the figures follow from the events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.campaign_events import (
    Begun,
    Cut,
    Ended,
    Event,
    Parked,
    Planned,
    PlannedCell,
    Released,
    Stopped,
    append_event,
    mend,
    read_events,
)
from driver.campaign_state import CampaignState, fold, read_state
from driver.datadir import CampaignDir, DataDir
from workload.errors import BadValueError, MigrascopeError

SECOND = 1_000_000_000
CELLS = tuple(
    PlannedCell(cell=cell, name=name, strategy=name, estimate_seconds=seconds)
    for cell, name, seconds in (("a1", "none", 10.0), ("b2", "post-copy", 20.0))
)
PLANNED = Planned(time_ns=SECOND, cells=CELLS, repeats=2)


def ended(cell: str, repeat: int, outcome: str = "completed", seconds: float = 5.0) -> list[Event]:
    run = f"run-{cell}-{repeat}"
    return [
        Begun(time_ns=2 * SECOND, cell=cell, repeat=repeat, run=run),
        Ended(time_ns=7 * SECOND, cell=cell, repeat=repeat, run=run, outcome=outcome, seconds=seconds),
    ]


def after(*events: Event) -> CampaignState:
    return fold(CampaignState(campaign="c"), [PLANNED, *events])


@pytest.fixture
def campaign(tmp_path: Path) -> CampaignDir:
    found = DataDir.open(tmp_path).campaign("c")
    found.path.mkdir(parents=True)
    return found


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
moments = st.integers(0, 2**62)
numbers = st.floats(0, 1e9)
events = st.one_of(
    st.builds(
        Planned, time_ns=moments, repeats=st.integers(1, 99), slots=st.integers(1, 9),
        cells=st.lists(st.builds(PlannedCell, cell=words, name=words, strategy=words, estimate_seconds=numbers),
                       max_size=3).map(tuple),
        paces=st.dictionaries(words, numbers, max_size=2),
    ),
    st.builds(Begun, time_ns=moments, cell=words, repeat=st.integers(1, 99), run=words),
    st.builds(Ended, time_ns=moments, cell=words, repeat=st.integers(1, 99), run=words, seconds=numbers,
              outcome=st.sampled_from(["completed", "not_converged", "broken"]), reason=st.none() | words),
    st.builds(Cut, time_ns=moments, cell=words, repeat=st.integers(1, 99), run=words, reason=words),
    st.builds(Parked, time_ns=moments, cell=words, reason=words),
    st.builds(Released, time_ns=moments, cell=words),
    st.builds(Stopped, time_ns=moments, finished=st.booleans()),
)  # fmt: skip


@settings(deadline=None, max_examples=40)  # each line is flushed to the disk
@given(st.lists(events, max_size=8))
def test_every_event_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event]
) -> None:
    place = CampaignDir(path=tmp_path_factory.mktemp("campaign"))
    place.state.touch()
    for event in told:
        append_event(place, event)
    assert read_events(place) == told


def test_a_line_that_a_crash_tore_is_left_out_and_mended_by_the_next_driver(campaign: CampaignDir) -> None:
    append_event(campaign, PLANNED)
    with campaign.state.open("ab") as file:
        file.write(b'{"event": "begun", "time_')
    assert read_events(campaign) == [PLANNED]
    mend(campaign)
    append_event(campaign, Stopped(time_ns=9, finished=False))
    assert read_events(campaign) == [PLANNED, Stopped(time_ns=9, finished=False)]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        '{"event": "eaten", "time_ns": 1}',
        '{"event": "stopped", "time_ns": 1}',
        '{"event": "stopped", "time_ns": 1, "finished": true, "colour": "red"}',
        "[1, 2]",
    ],
)
def test_a_damaged_line_is_an_error_that_names_it(campaign: CampaignDir, line: str) -> None:
    append_event(campaign, PLANNED)
    with campaign.state.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(MigrascopeError, match="line 2"):
        read_state(campaign)


def test_a_run_that_ended_is_not_left_and_one_that_was_cut_is() -> None:
    state = after(
        *ended("a1", 1),
        Begun(time_ns=8 * SECOND, cell="b2", repeat=1, run="r"),
        Cut(time_ns=9 * SECOND, cell="b2", repeat=1, run="r", reason="the driver died"),
    )
    assert state.planned_runs == 4
    assert state.ended_runs == 1
    assert state.slots_left == (("a1", 2), ("b2", 1), ("b2", 2))
    assert state.begun == {}
    assert (state.started_ns, state.changed_ns) == (SECOND, 9 * SECOND)


def test_a_parked_cell_has_nothing_left_until_it_is_released_and_then_its_failures_are_run_again() -> None:
    failed = [*ended("a1", 1, "broken"), *ended("a1", 2, "failed")]
    parked = after(*failed, Parked(time_ns=9 * SECOND, cell="a1", reason="2 failures in a row"))
    assert parked.failed_in_a_row["a1"] == 2
    assert parked.slots_left == (("b2", 1), ("b2", 2))
    assert parked.parked_cells == ((CELLS[0], "2 failures in a row"),)
    released = fold(parked, [Released(time_ns=10 * SECOND, cell="a1")])
    assert released.slots_left == (("a1", 1), ("a1", 2), ("b2", 1), ("b2", 2))
    assert released.failed_in_a_row["a1"] == 0


def test_an_answer_ends_a_row_of_failures() -> None:
    row = after(*ended("a1", 1, "failed"), *ended("a1", 2, "not_converged"))
    assert row.failed_in_a_row["a1"] == 0
    assert row.outcomes == {"failed": 1, "not_converged": 1}


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ([], 2 * 10 + 2 * 20),
        (ended("a1", 1, seconds=5), 5 + 2 * 20 * (5 / 10)),
        ([*ended("a1", 1, seconds=5), *ended("b2", 1, seconds=40)], 5 + 40),
    ],
)
def test_the_eta_learns_from_the_runs_that_ended(told: Sequence[Event], left: float) -> None:
    assert after(*told).eta_seconds(99 * SECOND) == pytest.approx(left)


def test_a_run_under_way_counts_for_what_it_still_needs_and_never_for_less_than_nothing() -> None:
    state = after(Begun(time_ns=10 * SECOND, cell="a1", repeat=1, run="r"))
    assert state.eta_seconds(14 * SECOND) == pytest.approx(6 + 10 + 40)
    assert state.eta_seconds(999 * SECOND) == pytest.approx(10 + 40)


def test_a_plan_that_lost_a_cell_or_a_repeat_no_longer_counts_its_results() -> None:
    state = after(*ended("a1", 1), *ended("b2", 2))
    less = fold(state, [Planned(time_ns=9 * SECOND, cells=CELLS[:1], repeats=1)])
    assert (less.planned_runs, less.ended_runs, less.slots_left) == (1, 1, ())


def test_campaigns_are_found_by_a_beginning_or_as_the_latest(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    with pytest.raises(BadValueError, match="no such campaign"):
        data.find_campaign("latest")
    for name in ("night-1", "night-2"):
        data.campaign(name).path.mkdir(parents=True)
        append_event(data.campaign(name), PLANNED)
    assert data.find_campaign("latest").campaign == "night-2"
    assert data.find_campaign("night-1") == data.campaign("night-1")
    with pytest.raises(BadValueError, match="2 campaigns match"):
        data.find_campaign("night")
