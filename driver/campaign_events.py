"""state.jsonl: what a campaign planned, began and ended, one fsynced line each: values, writer and strict reader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from driver.datadir import CampaignDir, append_line
from driver.record import OUTCOMES
from workload.errors import BadValueError, MigrascopeError
from workload.value import from_json


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One cell of the plan: its id (of its values), its name, and how long one of its runs may take before any has."""

    cell: str
    name: str
    strategy: str
    estimate_seconds: float


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The campaign was started or resumed with this plan; `slots` runs go at once.

    `paces` maps a named comparison to its guest's measured xor rate in bytes a second, so that a resumed campaign
    plans the same cells.
    """

    time_ns: int
    cells: tuple[PlannedCell, ...]
    repeats: int
    slots: int = 1
    paces: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run of a cell is about to start; `repeat` counts from 1."""

    time_ns: int
    cell: str
    repeat: int
    run: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run has an outcome; `seconds` is what it took, its process included (0 where a dead driver did not say)."""

    time_ns: int
    cell: str
    repeat: int
    run: str
    outcome: str
    reason: str | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise BadValueError(f"run {self.run}: outcome {self.outcome!r} is not known")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A run was cut off (the driver died, the user cancelled) and will be repeated."""

    time_ns: int
    cell: str
    repeat: int
    run: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A cell is left alone from now on."""

    time_ns: int
    cell: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Released:
    """A parked cell is tried again."""

    time_ns: int
    cell: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The campaign's driver ended in good order: everything ran (`finished`), or the user wanted no more."""

    time_ns: int
    finished: bool


Event = Planned | Begun | Ended | Cut | Parked | Released | Stopped

_KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind for kind in (Planned, Begun, Ended, Cut, Parked, Released, Stopped)
}


def append_event(campaign: CampaignDir, event: Event) -> None:
    """Append one line and return once it is on the disk; OSError passes through, and leaves no part of the line."""
    append_line(campaign.state, {"event": type(event).__name__.lower(), **asdict(event)})
    handle = os.open(campaign.state, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_events(campaign: CampaignDir) -> list[Event]:
    """Read every line strictly; a last line that was torn by a crash is left out.

    Raises:
        MigrascopeError: the file is missing or damaged; the message names the line.
    """
    try:
        *lines, _torn = campaign.state.read_bytes().split(b"\n")
    except OSError as error:
        raise MigrascopeError(f"campaign {campaign.campaign}: {campaign.state}: {error.strerror}") from error
    return [_parse(line, f"{campaign.state} line {number}") for number, line in enumerate(lines, start=1)]


def mend(campaign: CampaignDir) -> None:
    """Cut off a last line that was torn by a crash, so that the next one stands by itself; only the writer may."""
    try:
        content = campaign.state.read_bytes()
    except FileNotFoundError:
        return
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(campaign.state, whole)


def _parse(line: bytes, where: str) -> Event:
    try:
        data: dict[str, Any] = dict(orjson.loads(line))
        kind = _KINDS[data.pop("event")]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise MigrascopeError(f"{where}: is no event of a campaign ({error}); the file is damaged") from error
    if kind is Planned:
        cells = tuple(from_json(PlannedCell, cell, f"{where}: cells") for cell in data.get("cells", ()))
        data["cells"] = cells
    event: Event = from_json(kind, data, where)
    return event
