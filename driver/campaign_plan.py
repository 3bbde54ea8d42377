"""A campaign's plan as a value: which conditions are crossed, how often, in which order, and when to give up."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from driver.hardware import Hardware
from driver.scenario import Scenario, strategy_fields
from driver.settle import Settle
from driver.ssh import check_destination
from driver.watch import Sampling
from workload.errors import BadValueError
from workload.settings import Workload
from workload.suggestion import nearest
from workload.value import check_field, check_settings, setting, settings_of

ORDERS = ("sequential", "shuffled", "interleaved")
SECTIONS: dict[str, type[Any]] = {
    "scenario": Scenario,
    "hardware": Hardware,
    "workload": Workload,
    "settle": Settle,
}
"""The tables of a plan that hold the fields of a value."""

STRATEGY = "strategy"
BINARIES = ("qemu", "destination_qemu", "kernel")
FIELDS: dict[str, type[Any]] = {name: kind for kind in SECTIONS.values() for name in settings_of(kind)}
"""Every field of a value, with the value's class: no two of these share a name."""

CONDITIONS = (*FIELDS, STRATEGY, *BINARIES)
"""What a grid may cross and a member may set."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")

Condition = Mapping[str, Any]
"""What one cell, member or point of the grid sets: names of `CONDITIONS` with their values."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One field of the grid with the values that it takes."""

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedComparison:
    """A comparison of the plan: its members, or, where it has none, the named comparison of that name."""

    name: str
    members: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A plan. `base` holds for every cell; each member of each comparison is crossed with each point of the grid."""

    name: str
    repeats: int = setting(1, unit="runs", help="how often each cell is run", group="campaign", low=1, high=100_000)
    order: str = setting(
        "sequential", unit="", help="cell after cell; all runs shuffled; or to and fro (ABBA)", group="campaign",
        choices=ORDERS,
    )  # fmt: skip
    seed: int = setting(0, unit="", help="what a shuffled order is drawn with", group="campaign", low=0, high=1 << 32)
    warm_start: bool = setting(
        False, unit="", help="boot and settle once, then restore the saved guest for each run", group="campaign"
    )
    max_failures: int = setting(
        3, unit="runs", help="park a cell after so many failures in a row", group="campaign", low=1, high=1000
    )
    deadline_seconds: int = setting(
        0, unit="s", help="kill a run that takes longer; 0 = by its own limits", group="campaign", low=10,
        high=1_209_600, zero=True,
    )  # fmt: skip
    destination_host: str = setting(
        "", unit="HOST", help="run every destination there, over ssh; empty = here", group="campaign"
    )
    destination_address: str = setting(
        "", unit="ADDRESS", help="where sources reach it; empty = where ssh does", group="campaign"
    )
    labels: Mapping[str, str] = field(default_factory=dict)
    base: Condition = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    grid: tuple[Axis, ...] = ()
    comparisons: tuple[PlannedComparison, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        if not NAME.fullmatch(self.name):
            raise BadValueError(
                f"campaign.name={self.name!r}: want lower-case letters, digits and dashes, 48 of them at most"
            )
        if self.destination_host:
            check_destination(self.destination_host)

    @property
    def campaign(self) -> str:
        """The campaign's id: its name and a digest of what it measures.

        How often, in which order and with how much patience are no part of it: these may be changed between starts.
        """
        measured = (
            self.warm_start,
            sorted(self.labels.items()),
            sorted(self.base.items()),
            [(axis.field, axis.values) for axis in self.grid],
            [(one.name, [sorted(member.items()) for member in one.members]) for one in self.comparisons],
            *([self.destination_host] * bool(self.destination_host)),
            *([self.destination_address] * bool(self.destination_address)),
        )
        return f"{self.name}-{hashlib.sha256(repr(measured).encode()).hexdigest()[:8]}"


def check_condition(name: str, value: Any, known: Collection[str] = CONDITIONS) -> None:
    """Check that a field may be set, and to this value, by itself.

    Raises:
        BadValueError: it is not known (the nearest one is named), or the value is out of its bounds.
    """
    if name not in known:
        raise BadValueError(f"{name} is not known{nearest(name, sorted(known))}")
    if name in FIELDS:
        check_field(FIELDS[name], name, value)
    elif not isinstance(value, str) or not value:
        raise BadValueError(f"{name}={value!r}: want a word")
    elif name == STRATEGY:
        strategy_fields(value)
