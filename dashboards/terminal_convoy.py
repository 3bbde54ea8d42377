"""The live view of a convoy: a line a guest, redrawn in place, or plain lines that name the guest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dashboards.colours import OUTCOME_SIGNS, TERMINAL_STYLES, outcome_meaning
from dashboards.terminal import REDRAWS_PER_SECOND, PlainLines, end_words, ending
from dashboards.units import UNKNOWN, duration, percent, rate, size, times
from driver.watch import LiveState

COLUMNS = ("guest", "phase", "iteration", "remaining", "dirty rate", "throttle", "slower", "ends in")


async def follow_convoy(guests: Sequence[AsyncIterator[LiveState]], console: Console) -> None:
    """Show the states of a convoy's guests, by seat, until all have ended.

    On a terminal a table with a line a guest is redrawn in place, and gives way to a line a guest at the end; elsewhere
    each guest writes the lines that a single run does, with its number before them.
    """
    last: list[LiveState | None] = [None] * len(guests)

    async def follow_each(seat: int, taken: Callable[[int, LiveState], None]) -> None:
        async for state in guests[seat]:
            last[seat] = state
            taken(seat, state)

    if not console.is_terminal:
        plain = [PlainLines() for _ in guests]

        def write(seat: int, state: LiveState) -> None:
            for line in plain[seat].lines(state):
                console.print(f"guest {seat + 1}: {line}", markup=False, highlight=False, soft_wrap=True)

        await asyncio.gather(*(follow_each(seat, write) for seat in range(len(guests))))
        return
    with Live(convoy_view(last), console=console, refresh_per_second=REDRAWS_PER_SECOND, transient=True) as live:
        await asyncio.gather(
            *(follow_each(seat, lambda *_: live.update(convoy_view(last))) for seat in range(len(guests)))
        )
    for seat, state in enumerate(last, start=1):
        if state is not None:
            console.print(Text.assemble((f"guest {seat}  ", "dim"), ending(state)))


def convoy_view(states: Sequence[LiveState | None]) -> RenderableType:
    """Draw a line a guest, by seat, within 80 columns; None: nothing is known of it yet."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in COLUMNS:
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify="right" if name == "guest" else "left")
    for seat, state in enumerate(states, start=1):
        table.add_row(str(seat), *(_cells(state) if state else [Text("start", style="dim"), *[UNKNOWN] * 6]))
    name = next((state.scenario for state in states if state), "")
    return Group(Text(name, style="bold", no_wrap=True, overflow="ellipsis"), table)


def _cells(state: LiveState) -> list[Text | str]:
    phase = Text(state.phase, style="bold cyan")
    if state.outcome:
        meaning = outcome_meaning(state.outcome)
        words = f"{OUTCOME_SIGNS[meaning]} {state.outcome.replace('_', ' ')}"
        phase = Text(words, style=TERMINAL_STYLES[meaning])
    now, settled = state.guest_seconds_per_gib, state.baseline_seconds_per_gib
    ends = "after " + duration(state.seconds) if state.outcome and state.seconds is not None else end_words(state)
    return [
        phase,
        str(state.iteration) if state.iteration else UNKNOWN,
        size(state.remaining_bytes),
        rate(state.dirty_bytes_per_second),
        percent(None if state.throttle_percent is None else state.throttle_percent / 100),
        times(now / settled) if now and settled else UNKNOWN,
        Text(ends, style="red" if state.not_converging else "yellow" if state.stalled else "default"),
    ]
