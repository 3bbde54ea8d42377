"""The live view of a campaign: what it shows fits a terminal, and where lines stay each run has one."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console

from dashboards.campaign_progress import CampaignProgress, event_line, progress_block
from driver.campaign_events import Begun, Cut, Ended, Event, Parked, Planned, PlannedCell, Stopped
from driver.campaign_state import CampaignState, fold

SECOND = 1_000_000_000
NAME = "auto-converge-20-10-99.32mib-s.300ms.t600s memory_mib=1024 source_qemu=qemu-system-x86_64-10.0"
CELLS = tuple(
    PlannedCell(cell=cell, name=name, strategy="none", estimate_seconds=20.0)
    for cell, name in (("a1", "pre-copy"), ("b2", NAME))
)
PLANNED = Planned(time_ns=SECOND, cells=CELLS, repeats=3)
BEGUN = Begun(time_ns=30 * SECOND, cell="b2", repeat=1, run="r2")
ENDED = Ended(time_ns=20 * SECOND, cell="a1", repeat=1, run="r1", outcome="not_converged", seconds=10.0,
              reason="time limit reached")  # fmt: skip


def state(*events: Event) -> CampaignState:
    return fold(CampaignState(campaign="night-1"), [PLANNED, *events])


def shown(console: Console, *renderables: object) -> list[str]:
    file = console.file
    assert isinstance(file, io.StringIO)
    for one in renderables:
        console.print(one)
    return file.getvalue().splitlines()


def drawn(now: CampaignState, seconds: int) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    return shown(console, progress_block(now, seconds * SECOND, lambda run: f"phase-of-{run}"))


def told(events: Sequence[Event]) -> list[str]:
    """What is printed where there is no terminal."""
    console = Console(file=io.StringIO(), width=40)
    progress = CampaignProgress(console, lambda _run: "")
    now = CampaignState(campaign="night-1")
    with progress.shown():
        for event in events:
            now = fold(now, [event])
            progress.changed(now, event)
    return shown(console)


def test_the_block_tells_runs_outcomes_the_run_under_way_and_what_is_left_in_80_columns() -> None:
    lines = drawn(state(ENDED, BEGUN), 35)
    assert max(len(line) for line in lines) <= 80
    assert lines[0] == "night-1"
    # 2 runs of 10 s, 2 of 10 s each by the correction, and one that has 5 of its 10 s behind it
    assert "1 of 6 runs" in lines[1]
    assert "45.0 s to go" in lines[1]
    assert lines[2].startswith("phase-of-r2 5.00 s  auto-converge-20-10-99")
    assert "✗ not converged 1" in lines[-1]


def test_parked_cells_are_counted() -> None:
    lines = drawn(state(ENDED, Parked(time_ns=40 * SECOND, cell="a1", reason="3 failures in a row")), 50)
    assert lines[-1] == "1 cell parked"


def test_where_lines_stay_each_end_cut_and_parking_has_one() -> None:
    cut = Cut(time_ns=40 * SECOND, cell="b2", repeat=1, run="r2", reason="cancelled by the user")
    parked = Parked(time_ns=41 * SECOND, cell="a1", reason="3 failures in a row")
    assert told([PLANNED, ENDED, BEGUN, cut, parked, Stopped(time_ns=42 * SECOND, finished=False)]) == [
        "1/6 ✗ not converged after 10.0 s  pre-copy #1, 50.0 s to go: time limit reached",
        f"cut, will be repeated: {NAME} #1 (cancelled by the user)",
        "parked: pre-copy: 3 failures in a row",
        "stopped; the same command goes on where it was",
    ]


def test_the_end_in_good_order_and_a_runs_start_are_worth_no_line() -> None:
    for event in (PLANNED, BEGUN, Stopped(time_ns=1, finished=True)):
        assert event_line(state(), event, SECOND) is None
