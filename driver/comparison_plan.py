"""What a comparison is made of: members that are run side by side, each with its scenario, machine and workload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from driver.estimate import estimate_seconds
from driver.hardware import Hardware
from driver.scenario import Scenario
from workload.settings import Workload

NOMINAL_PACE = 1e9
"""The xor rate (bytes/s) by which a comparison is planned where none was measured."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of a comparison.

    `qemu` names both sides' binary where it is not the one asked for, `destination_qemu` the destination's where that
    is another one again.
    """

    scenario: Scenario
    hardware: Hardware
    workload: Workload
    qemu: str | None = None
    destination_qemu: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison runs, in its order."""

    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A named comparison; `plan` turns the guest's xor rate (bytes/s) into what is run.

    Where `by_pace`, the rate is to be measured first, on `hardware` and `workload`; else it makes no difference.
    """

    name: str
    summary: str
    varies: str
    hardware: Hardware
    workload: Workload
    plan: Callable[[float], Plan]
    by_pace: bool = False

    @property
    def seconds(self) -> float:
        """A guess at what the comparison takes, cold."""
        members = self.plan(NOMINAL_PACE).members
        return sum(estimate_seconds(each.scenario, each.hardware, each.workload, warm_start=False) for each in members)


def comparison(
    name: str, summary: str, varies: str, hardware: Hardware, workload: Workload, scenarios: Iterable[Scenario]
) -> Comparison:
    """A comparison of scenarios on one machine and workload."""
    members = tuple(Member(scenario=each, hardware=hardware, workload=workload) for each in scenarios)
    return of_members(name, summary, varies, members)


def of_members(name: str, summary: str, varies: str, members: tuple[Member, ...]) -> Comparison:
    """A comparison whose members differ in more than their scenario."""
    plan = Plan(members=members)
    return Comparison(
        name=name, summary=summary, varies=varies, hardware=members[0].hardware, workload=members[0].workload,
        plan=lambda _pace: plan,
    )  # fmt: skip
