"""The live view of a run: one Rich block that is redrawn in place, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dashboards.colours import OUTCOME_SIGNS, TERMINAL_STYLES, outcome_meaning
from dashboards.units import UNKNOWN, duration, pace, percent, rate, size, times, whole
from driver.watch import LiveState

REDRAWS_PER_SECOND = 8
PLAIN_LINE_SECONDS = 1.0
LABEL_WIDTH = 10


async def follow(states: AsyncIterator[LiveState], console: Console) -> LiveState | None:
    """Show a run's states on `console` until they end; returns the last of them.

    On a terminal one block is redrawn in place and gives way to a single line at the end; elsewhere a line is written
    at each change of phase or verdict, and at iterations at most once a second.
    """
    last: LiveState | None = None
    if not console.is_terminal:
        plain = PlainLines()
        async for last in states:
            for line in plain.lines(last):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        return last
    with Live(console=console, refresh_per_second=REDRAWS_PER_SECOND, transient=True) as live:
        async for last in states:
            live.update(live_view(last))
    if last is not None:
        console.print(closing_line(last))
    return last


def live_view(state: LiveState) -> RenderableType:
    """Draw a state in seven lines of fixed height that fit into 80 columns."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    status = f" · QEMU {state.status}" if state.status else ""
    clock = f" · {duration(state.seconds)}" if state.seconds is not None else ""
    head.add_row(Text(state.scenario, style="bold"), Text.assemble((state.phase, "bold cyan"), status, clock))

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    grid.add_column(width=14, no_wrap=True)
    grid.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row("dirty rate", rate(state.dirty_bytes_per_second), "guest", _guest(state))
    grid.add_row("bandwidth", rate(state.bandwidth_bytes_per_second), "QEMU CPU", _cpu(state))
    throttle = None if state.throttle_percent is None else state.throttle_percent / 100
    grid.add_row("throttle", percent(throttle), "switchover", _switchover(state))
    grid.add_row("ends in", end_words(state), "held by", state.bottleneck or UNKNOWN)
    return Group(head, _remaining(state), grid, _verdict(state))


def closing_line(state: LiveState) -> Text:
    """Say in one line how a run ended, as far as its last state tells, and which it was."""
    return Text.assemble(ending(state), "  ", (state.scenario, "dim"))


def ending(state: LiveState) -> Text:
    """Say how a run ended, after how long and in which iteration."""
    meaning = outcome_meaning(state.outcome)
    outcome = (state.outcome or "ended").replace("_", " ")
    after = f" after {duration(state.seconds)}" if state.seconds is not None else ""
    iterations = f", iteration {state.iteration}" if state.iteration else ""
    ended = (f"{OUTCOME_SIGNS[meaning]} {outcome}", TERMINAL_STYLES[meaning])
    return Text.assemble(ended, f"{after}{iterations}")


@dataclass(kw_only=True)
class PlainLines:
    """Chooses which states are worth a line where lines stay: in a log or a pipe."""

    _before: LiveState | None = None
    _iteration_said_at: float = field(default=float("-inf"))

    def lines(self, state: LiveState) -> list[str]:
        """The lines (none, one or more) that a state adds."""
        before, self._before = self._before, state
        lines = []
        if before is None or before.phase != state.phase:
            lines.append(f"{state.scenario}: {state.phase}")
        if state.iteration and (before is None or before.iteration != state.iteration) and self._due(state):
            lines.append(f"{state.scenario}: {_iteration_words(state)}")
        if state.verdict and (before is None or before.verdict != state.verdict):
            lines.append(f"{state.scenario}: {state.verdict}")
        if state.outcome and (before is None or before.outcome != state.outcome):
            lines.append(closing_line(state).plain)
        return lines

    def _due(self, state: LiveState) -> bool:
        now = state.seconds or 0.0
        if now - self._iteration_said_at < PLAIN_LINE_SECONDS:
            return False
        self._iteration_said_at = now
        return True


def _iteration_words(state: LiveState) -> str:
    throttle = f", throttle {whole(state.throttle_percent)} %" if state.throttle_percent else ""
    return (
        f"{duration(state.seconds)}: iteration {state.iteration}, {size(state.remaining_bytes)} remaining,"
        f" dirty rate {rate(state.dirty_bytes_per_second)}, bandwidth {rate(state.bandwidth_bytes_per_second)}"
        f"{throttle}, guest {pace(state.guest_seconds_per_gib)}, ends in {end_words(state)}"
    )


def _remaining(state: LiveState) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    grid.add_column(width=36)
    grid.add_column(no_wrap=True)
    if state.remaining_bytes is None or not state.total_bytes:
        grid.add_row("remaining", Text(UNKNOWN), "")
        return grid
    done = max(state.total_bytes - state.remaining_bytes, 0.0)
    bar = ProgressBar(total=state.total_bytes, completed=done, width=36, complete_style="cyan", finished_style="green")
    iteration = f"  iteration {state.iteration}" if state.iteration else ""
    grid.add_row("remaining", bar, f"{size(state.remaining_bytes)}{iteration}")
    return grid


def _guest(state: LiveState) -> str:
    now, settled = state.guest_seconds_per_gib, state.baseline_seconds_per_gib
    slower = f" ({times(now / settled)} settled)" if now and settled else ""
    return f"{pace(now)}{slower}"


def end_words(state: LiveState) -> str:
    """When the switchover is expected; where only a range is known, the range."""
    if state.phase != "migrate":
        return UNKNOWN
    if state.eta_seconds is not None:
        return f"about {duration(state.eta_seconds)}"
    low, high = state.eta_low_seconds, state.eta_high_seconds
    if state.stalled or low is None or high is None:
        return UNKNOWN
    return f"{low:.0f} to {high:.0f} s"


def _switchover(state: LiveState) -> str:
    implied = state.implied_downtime_seconds
    return UNKNOWN if implied is None else f"would stop the guest for {duration(implied)}"


def _cpu(state: LiveState) -> str:
    return f"source {percent(state.source_cpu_cores)}, destination {percent(state.destination_cpu_cores)}"


def _verdict(state: LiveState) -> RenderableType:
    style = "red" if state.not_converging else "yellow" if state.stalled else "default"
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row("verdict", Text(state.verdict or UNKNOWN, style=style))
    return grid
