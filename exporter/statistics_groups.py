"""Runs put into groups that are compared: which way was taken (strategy and its like), and under which condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.scenario import Scenario
from exporter.index import CONDITIONS, RunRow
from workload.errors import BadValueError
from workload.value import settings_of

Value = float | str | None

LIMITS = tuple(name for name, (_, _, facts) in settings_of(Scenario).items() if facts.group == "limits")
WAY = tuple(name for name in settings_of(Scenario) if name not in LIMITS)
"""What of a scenario is a way to do it: strategy, its settings, transport, encryption. The rest is its conditions."""

GIVEN = tuple(name for name in CONDITIONS if name not in WAY)
"""What is given to a migration: limits, guest, machine, QEMU versions."""

STRATEGY = "strategy"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one way under one condition; `condition` holds only what differs between the groups' conditions."""

    way: str
    condition: Mapping[str, Value]
    rows: tuple[RunRow, ...]

    @property
    def plain(self) -> bool:
        """Whether nothing was done to make it converge: pre-copy as it is."""
        return bool(self.rows) and self.rows[0].strategy == "none"

    @property
    def stays(self) -> bool:
        """Whether its guests were only snapshotted, and moved nowhere."""
        return bool(self.rows) and self.rows[0].kind == "snapshot"


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """All groups, condition by condition; `versus` says what is compared: `strategy`, or the one field that differs.

    `common` holds what is given to all runs alike.
    """

    versus: str
    common: Mapping[str, Value]
    groups: tuple[Group, ...]

    @property
    def conditions(self) -> list[Mapping[str, Value]]:
        """Every condition once, in order."""
        found: list[Mapping[str, Value]] = []
        for group in self.groups:
            if group.condition not in found:
                found.append(group.condition)
        return found

    def under(self, condition: Mapping[str, Value]) -> list[Group]:
        """The groups of one condition."""
        return [group for group in self.groups if group.condition == condition]


def grouped(rows: Sequence[RunRow]) -> Grouping:
    """Group runs by way and condition.

    Where all runs went the same way and exactly one given field differs, that field is what is compared (two QEMU
    versions, say): each of its values is a way then.
    """
    ways = {row.run: way_of(row) for row in rows}
    differing = [name for name in GIVEN if len({row.conditions.get(name) for row in rows}) > 1]
    versus = STRATEGY
    if len(set(ways.values())) == 1 and len(differing) == 1:
        versus = differing[0]
        ways = {row.run: f"{versus}={row.conditions.get(versus)}" for row in rows}
        differing = []
    members: dict[tuple[tuple[Value, ...], str], list[RunRow]] = {}
    for row in rows:
        condition = tuple(row.conditions.get(name) for name in differing)
        members.setdefault((condition, ways[row.run]), []).append(row)
    order = list(dict.fromkeys(ways.values()))
    keys = sorted(members, key=lambda key: ([_rank(value) for value in key[0]], order.index(key[1])))
    return Grouping(
        versus=versus,
        common={name: rows[0].conditions.get(name) for name in GIVEN if name not in {*differing, versus}}
        if rows
        else {},
        groups=tuple(
            Group(way=way, condition=dict(zip(differing, condition, strict=True)), rows=tuple(members[condition, way]))
            for condition, way in keys
        ),
    )


def way_of(row: RunRow) -> str:
    """Name the way of a run: its scenario's name without its limits."""
    usual = Scenario()
    known = {name: row.conditions[name] for name in WAY if row.conditions.get(name) is not None}
    try:
        name = Scenario(**known).name  # type: ignore[arg-type] # each field's own value, as it was recorded
    except BadValueError:
        return row.scenario or "unknown"
    if not known:
        return row.scenario or "unknown"
    return name.replace(f".{usual.bandwidth_mib_s}mib-s.{usual.downtime_limit_ms}ms", "")


def _rank(value: Value) -> tuple[bool, float, str]:
    """Numbers by size, then words, then what is not known."""
    number = value if isinstance(value, int | float) else 0.0
    return isinstance(value, str) or value is None, number, str(value)
