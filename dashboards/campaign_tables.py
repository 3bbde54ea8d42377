"""The terminal's tables of campaigns: the plan before it runs, and how one stands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dashboards.tables import outcome_text
from dashboards.units import UNKNOWN, counted, duration
from driver.campaign_cells import Cell
from driver.campaign_plan import Campaign
from driver.campaign_state import CampaignState


def plan_table(campaign: Campaign, cells: Sequence[Cell], refused: Mapping[str, str]) -> RenderableType:
    """What `campaign check` prints: each cell with the time that it may take, and why it cannot run here."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("about", justify="right", no_wrap=True)
    for cell in cells:
        reason = refused.get(cell.cell)
        name = Text(cell.name)
        if reason:
            name.append(f"\nunsupported here: {reason}", style="yellow")
            table.add_row(name, "0", UNKNOWN)
        else:
            table.add_row(name, str(campaign.repeats), duration(cell.estimate_seconds * campaign.repeats))
    return Group(table, Text(plan_words(campaign, cells, refused), style="dim"))


def plan_words(campaign: Campaign, cells: Sequence[Cell], refused: Mapping[str, str]) -> str:
    """The plan in one sentence."""
    runnable = [cell for cell in cells if cell.cell not in refused]
    seconds = sum(cell.estimate_seconds for cell in runnable) * campaign.repeats
    order = f"{campaign.order}, seed {campaign.seed}" if campaign.order == "shuffled" else campaign.order
    each = f"{counted(len(runnable), 'cell')} x {counted(campaign.repeats, 'run')}"
    runs = f"{each} = {counted(len(runnable) * campaign.repeats, 'run')}"
    left_out = f"; {len(refused)} of {counted(len(cells), 'cell')} cannot run here" if refused else ""
    return f"{campaign.campaign}: {runs} ({order}), about {duration(seconds)} (a guess until some have run){left_out}"


def campaigns_table(states: Sequence[tuple[CampaignState, bool]]) -> RenderableType:
    """What `campaign status` lists: one line a campaign, the latest last."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("campaign", "state"):
        table.add_column(name, overflow="fold")
    for name in ("runs", "parked", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for state, alive in states:
        table.add_row(
            state.campaign,
            standing(state, alive),
            f"{state.ended_runs} of {state.planned_runs}",
            counted(len(state.parked_cells), "cell") if state.parked_cells else "",
            duration(state.eta_seconds(time.time_ns())) if state.slots_left else "",
        )
    return table


def state_table(state: CampaignState, alive: bool) -> RenderableType:
    """What `campaign status CAMPAIGN` prints: each cell with its outcomes, what is parked and why, what is left."""
    expected = state.expected_seconds()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("outcomes", overflow="fold")
    table.add_column("a run takes", justify="right", no_wrap=True)
    for cell in state.cells:
        results = [result for result in state.results() if result.cell == cell.cell]
        name = Text(cell.name)
        if cell.cell in state.parked:
            name.append(f"\nparked: {state.parked[cell.cell]}", style="yellow")
        table.add_row(
            name,
            f"{len(results)} of {state.repeats}",
            outcomes_text({outcome: sum(r.outcome == outcome for r in results) for outcome in state.outcomes}),
            duration(expected[cell.cell]) if results else f"about {duration(expected[cell.cell])}",
        )
    return Group(table, Text(status_words(state, alive), style="dim"))


def status_words(state: CampaignState, alive: bool) -> str:
    """How a campaign stands, in one sentence."""
    said = f"{state.campaign}: {standing(state, alive)}, {state.ended_runs} of {state.planned_runs} runs have ended"
    if state.parked_cells:
        said += f", {counted(len(state.parked_cells), 'cell')} parked"
    if state.slots_left:
        said += f", {duration(state.eta_seconds(time.time_ns()))} to go"
    return said


def standing(state: CampaignState, alive: bool) -> str:
    """A campaign's state in a word: running, finished, stopped (by the user) or died."""
    if alive:
        return "running"
    if state.stopped is None:
        return "died"
    return "finished" if state.stopped.finished and not state.slots_left else "stopped"


def outcomes_text(counts: Mapping[str, int]) -> Text:
    """How many runs ended in which way: `✓ completed 12  ✗ not converged 3`."""
    parts = [outcome_text(outcome).append(f" {count}") for outcome, count in counts.items() if count]
    return Text("  ").join(parts)
