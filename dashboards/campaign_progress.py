"""The live view of a campaign: a block that is redrawn in place, or a plain line for each run where lines stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dashboards.campaign_tables import outcomes_text
from dashboards.colours import OUTCOME_SIGNS, TERMINAL_STYLES, outcome_meaning
from dashboards.units import counted, duration
from driver.campaign_events import Begun, Cut, Ended, Event, Parked, Stopped
from driver.campaign_state import CampaignState

REDRAWS_PER_SECOND = 4
BAR_WIDTH = 40

Phase = Callable[[str], str]
"""What a run does just now, by its id; an empty word where it is not known."""


class CampaignProgress:
    """Follows a campaign's events on a console; `changed` is what the campaign is given."""

    def __init__(self, console: Console, phase: Phase) -> None:
        self._console = console
        self._phase = phase
        self._state: CampaignState | None = None
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the campaign for as long as the context lasts."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            console=self._console, refresh_per_second=REDRAWS_PER_SECOND, transient=True, get_renderable=self._block
        ) as self._live:
            yield
        self._live = None

    def changed(self, state: CampaignState, event: Event) -> None:
        """Take an event; a run's end and a cell's parking are worth a line that stays."""
        self._state = state
        if line := event_line(state, event, time.time_ns()):
            self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _block(self) -> RenderableType:
        if self._state is None:
            return Text("")
        return progress_block(self._state, time.time_ns(), self._phase)


def progress_block(state: CampaignState, now_ns: int, phase: Phase) -> RenderableType:
    """Draw a campaign in a few lines that fit into 80 columns."""
    gone = sum(cell.cell in state.parked for cell in state.cells) * state.repeats
    done = state.planned_runs - len(state.slots_left)
    head = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        head.add_column(no_wrap=True)
    head.add_row(
        ProgressBar(total=max(1, state.planned_runs), completed=done, width=BAR_WIDTH),
        f"{state.ended_runs} of {state.planned_runs} runs",
        f"{duration(state.eta_seconds(now_ns))} to go" if state.slots_left else "",
    )
    lines: list[RenderableType] = [Text(state.campaign, style="bold"), head]
    names = {cell.cell: cell.name for cell in state.cells}
    for begun in state.begun.values():
        seconds = duration(max(0.0, (now_ns - begun.time_ns) / 1e9))
        line = Text.assemble(
            (phase(begun.run) or "start", "bold cyan"), f" {seconds}  ", f"{names.get(begun.cell, '')} #{begun.repeat}"
        )
        line.truncate(200, overflow="ellipsis")
        lines.append(line)
    lines.append(outcomes_text(state.outcomes))
    if gone:
        lines.append(Text(f"{counted(len(state.parked_cells), 'cell')} parked", style="yellow"))
    return Group(*lines)


def event_line(state: CampaignState, event: Event, now_ns: int) -> Text | None:
    """Say in one line what an event means; None where it is not worth one."""
    names = {cell.cell: cell.name for cell in state.cells}
    match event:
        case Ended():
            meaning = outcome_meaning(event.outcome)
            left = f", {duration(state.eta_seconds(now_ns))} to go" if state.slots_left else ""
            reason = f": {event.reason}" if event.reason else ""
            return Text.assemble(
                f"{state.ended_runs}/{state.planned_runs} ",
                (f"{OUTCOME_SIGNS[meaning]} {event.outcome.replace('_', ' ')}", TERMINAL_STYLES[meaning]),
                f" after {duration(event.seconds)}  {names.get(event.cell, event.cell)} #{event.repeat}",
                (f"{left}{reason}", "dim"),
            )
        case Cut():
            return Text(f"cut, will be repeated: {names.get(event.cell, event.cell)} #{event.repeat} ({event.reason})")
        case Parked():
            return Text(f"parked: {names.get(event.cell, event.cell)}: {event.reason}", style="yellow")
        case Stopped() if not event.finished:
            return Text("stopped; the same command goes on where it was")
        case Begun() | _:
            return None
