"""How a campaign stands: a value folded from its events, with the figures that status, exporter and progress show."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

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
    read_events,
)
from driver.datadir import CampaignDir

NANO = 1e-9

FAILURES = ("failed", "guest_lost", "broken", "abandoned")
"""Outcomes that count towards parking a cell: no answer to what was asked. `not_converged` is an answer."""

Slot = tuple[str, int]
"""One run that the plan asks for: a cell's id and which of its repeats."""


@dataclass(frozen=True, kw_only=True)
class CampaignState:
    """A campaign as its state.jsonl tells.

    `ended` maps each finished slot to its result, in the order of ending; `begun` those under way, or cut off by a
    crash that nobody has noticed yet; `parked` maps a cell to the reason, `failed_in_a_row` to how many of its last
    runs failed one after another. Cells that an earlier plan had and the last one has not are left out of every figure.
    """

    campaign: str
    cells: tuple[PlannedCell, ...] = ()
    repeats: int = 0
    slots: int = 1
    paces: Mapping[str, float] = field(default_factory=dict)
    begun: Mapping[Slot, Begun] = field(default_factory=dict)
    ended: Mapping[Slot, Ended] = field(default_factory=dict)
    parked: Mapping[str, str] = field(default_factory=dict)
    failed_in_a_row: Mapping[str, int] = field(default_factory=dict)
    stopped: Stopped | None = None
    started_ns: int = 0
    changed_ns: int = 0

    @property
    def planned_runs(self) -> int:
        """How many runs the plan asks for, parked cells' included."""
        return len(self.cells) * self.repeats

    @property
    def ended_runs(self) -> int:
        """How many of them have an outcome."""
        return sum(1 for _ in self.results())

    @property
    def slots_left(self) -> tuple[Slot, ...]:
        """What is still to run, cell by cell: neither ended nor of a parked cell; runs under way are among them."""
        return tuple(
            (cell.cell, repeat)
            for cell in self.cells
            if cell.cell not in self.parked
            for repeat in range(1, self.repeats + 1)
            if (cell.cell, repeat) not in self.ended
        )

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many runs ended with each outcome."""
        return Counter(result.outcome for result in self.results())

    @property
    def parked_cells(self) -> tuple[tuple[PlannedCell, str], ...]:
        """The plan's parked cells, each with the reason."""
        return tuple((cell, self.parked[cell.cell]) for cell in self.cells if cell.cell in self.parked)

    def results(self) -> Iterator[Ended]:
        """Every result that the present plan asks for, in the order of ending."""
        known = {cell.cell for cell in self.cells}
        return (result for (cell, repeat), result in self.ended.items() if cell in known and repeat <= self.repeats)

    def expected_seconds(self) -> dict[str, float]:
        """How long a run of each cell should take: the median of its own runs.

        Where it has none, its estimate times the median of (taken / estimated) over all runs that ended.
        """
        taken: dict[str, list[float]] = defaultdict(list)
        for result in self.results():
            if result.seconds > 0:
                taken[result.cell].append(result.seconds)
        estimates = {cell.cell: cell.estimate_seconds for cell in self.cells}
        ratios = [seconds / estimates[cell] for cell, runs in taken.items() for seconds in runs if estimates[cell] > 0]
        correction = statistics.median(ratios) if ratios else 1.0
        return {
            cell: statistics.median(taken[cell]) if taken[cell] else estimate * correction
            for cell, estimate in estimates.items()
        }

    def eta_seconds(self, now_ns: int) -> float:
        """How long what is left should take; a run under way counts for what it should still need."""
        expected = self.expected_seconds()
        left = 0.0
        for slot in self.slots_left:
            since = self.begun.get(slot)
            gone = max(0.0, (now_ns - since.time_ns) * NANO) if since and self.stopped is None else 0.0
            left += max(0.0, expected[slot[0]] - gone)
        return left / self.slots


def read_state(campaign: CampaignDir) -> CampaignState:
    """Read how a campaign stands.

    Raises:
        MigrascopeError: state.jsonl is missing or damaged.
    """
    return fold(CampaignState(campaign=campaign.campaign), read_events(campaign))


def fold(state: CampaignState, events: Iterable[Event]) -> CampaignState:
    """Carry a state on by events."""
    for event in events:
        state = _after(state, event)
    return state


def _after(state: CampaignState, event: Event) -> CampaignState:
    state = replace(state, started_ns=state.started_ns or event.time_ns, changed_ns=event.time_ns)
    match event:
        case Planned():
            return replace(
                state, cells=event.cells, repeats=event.repeats, slots=event.slots, paces=event.paces, stopped=None
            )
        case Begun():
            return replace(state, begun={**state.begun, (event.cell, event.repeat): event})
        case Ended():
            slot = (event.cell, event.repeat)
            failed = state.failed_in_a_row.get(event.cell, 0) + 1 if event.outcome in FAILURES else 0
            return replace(
                state,
                begun=_without(state.begun, slot),
                ended={**state.ended, slot: event},
                failed_in_a_row={**state.failed_in_a_row, event.cell: failed},
            )
        case Cut():
            return replace(state, begun=_without(state.begun, (event.cell, event.repeat)))
        case Parked():
            return replace(state, parked={**state.parked, event.cell: event.reason})
        case Released():
            return _released(state, event.cell)
        case Stopped():
            return replace(state, stopped=event)


def _released(state: CampaignState, cell: str) -> CampaignState:
    """A cell that is tried again: its failures are forgotten, so that those runs are made once more."""
    return replace(
        state,
        parked={known: reason for known, reason in state.parked.items() if known != cell},
        failed_in_a_row={**state.failed_in_a_row, cell: 0},
        ended={
            slot: result for slot, result in state.ended.items()
            if result.cell != cell or result.outcome not in FAILURES
        },
    )  # fmt: skip


def _without(begun: Mapping[Slot, Begun], slot: Slot) -> dict[Slot, Begun]:
    return {known: event for known, event in begun.items() if known != slot}
