"""A plan's cells: each a request that is run several times, with a name and an id that follow from its values."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from driver.campaign_plan import BINARIES, FIELDS, SECTIONS, STRATEGY, Campaign, Condition
from driver.comparison import find_comparison
from driver.comparison_plan import NOMINAL_PACE
from driver.estimate import estimate_seconds
from driver.hardware import Hardware
from driver.request import Request, on_hosts
from driver.scenario import STRATEGIES, Scenario, strategy_fields
from driver.settle import Settle
from workload.errors import BadValueError
from workload.settings import Workload
from workload.value import settings_of

DEADLINE_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One experiment of a plan. Equal values have equal ids, whatever the cell is called."""

    name: str
    request: Request

    @property
    def cell(self) -> str:
        """The id: a digest of every value that is not its default, so that fields to come do not change it."""
        return hashlib.sha256(repr(sorted(_set_fields(self.request).items())).encode()).hexdigest()[:12]

    @property
    def estimate_seconds(self) -> float:
        """A guess at what a run takes, before any has."""
        asked = self.request
        return estimate_seconds(asked.scenario, asked.hardware, asked.workload, warm_start=asked.warm_start)

    def deadline_seconds(self, campaign: Campaign) -> float:
        """When a run that has not ended is taken for hung: well behind every bound that it has itself."""
        settle, scenario = self.request.settle, self.request.scenario
        own = DEADLINE_SECONDS + 2 * scenario.max_time_seconds * scenario.attempts * scenario.convoy_guests
        own += DEADLINE_SECONDS * (scenario.convoy_guests > 1)  # its guests have bounds of their own
        return campaign.deadline_seconds or own + settle.settle_seconds + settle.recover_seconds


def cells(campaign: Campaign, paces: Mapping[str, float]) -> tuple[Cell, ...]:
    """Every cell in the plan's order; of equal ones only the first.

    `paces` maps each named comparison to its guest's xor rate in bytes a second (missing: `NOMINAL_PACE`).

    Raises:
        BadValueError: values that are good by themselves do not go together, or a comparison is not known.
    """
    requests = []
    for comparison, planned, member in _starts(campaign, paces):
        for point in itertools.product(*(axis.values for axis in campaign.grid)):
            condition = dict(zip((axis.field for axis in campaign.grid), point, strict=True))
            if twice := sorted(condition.keys() & member.keys()):
                raise BadValueError(f"grid: {twice[0]} stands in a member of comparison {comparison!r} as well")
            requests.append(_request(campaign, comparison, planned, member | condition))
    found: dict[str, Cell] = {}
    for name, request in zip(_names(requests), requests, strict=True):
        cell = Cell(name=name, request=request)
        found.setdefault(cell.cell, cell)
    return tuple(found.values())


def named_comparisons(campaign: Campaign) -> list[tuple[str, Request]]:
    """The named comparisons whose guest's pace is measured before they are planned, each with what is booted."""
    found = []
    for planned in campaign.comparisons:
        comparison = None if planned.members else find_comparison(planned.name)
        if comparison and comparison.by_pace:
            start = _fields_of(comparison.hardware, comparison.workload)
            found.append((planned.name, _request(campaign, planned.name, start, {})))
    return found


def _starts(
    campaign: Campaign, paces: Mapping[str, float]
) -> Iterator[tuple[str | None, dict[str, Any], dict[str, Any]]]:
    """Every comparison's members: (its name, what the named comparison plans, what the member sets)."""
    if not campaign.comparisons:
        yield None, {}, {}
    for planned in campaign.comparisons:
        for member in planned.members:
            yield planned.name, {}, dict(member)
        if not planned.members:
            plan = find_comparison(planned.name).plan(paces.get(planned.name, NOMINAL_PACE))
            for each in plan.members:
                binaries = {"qemu": each.qemu, "destination_qemu": each.destination_qemu}
                own = {name: binary for name, binary in binaries.items() if binary}
                yield planned.name, _fields_of(each.hardware, each.workload, each.scenario) | own, {}


def _request(campaign: Campaign, comparison: str | None, planned: Condition, own: Condition) -> Request:
    """Lay what a cell sets itself over the plan's base over what a named comparison plans."""
    under = dict(planned) | dict(campaign.base)
    strategy = own.get(STRATEGY, under.get(STRATEGY))
    if strategy is not None:
        # a base tells how strategies are set, a strategy's name which are on: what is of others is left out
        usual: dict[str, Any] = dict(strategy_fields(strategy))
        wanted = set(Scenario(**usual).strategies)
        under = usual | {name: value for name, value in under.items() if _strategies_of(name, value) <= wanted}
    fields = under | dict(own)

    def of(kind: type[Any]) -> Any:
        return kind(**{name: value for name, value in fields.items() if FIELDS.get(name) is kind})

    kernel = fields.get("kernel")
    host = campaign.destination_host or None
    return Request(
        scenario=on_hosts(of(Scenario), host),
        hardware=of(Hardware),
        workload=of(Workload),
        settle=of(Settle),
        source_binary=fields.get("qemu", "qemu-system-x86_64"),
        destination_binary=fields.get("destination_qemu"),
        destination_host=host,
        destination_address=campaign.destination_address or None,
        kernel=Path(kernel) if kernel else None,
        warm_start=campaign.warm_start,
        sampling=campaign.sampling,
        campaign=campaign.campaign,
        comparison=comparison,
    )


def _strategies_of(name: str, value: Any) -> set[str]:
    """The strategies that a field of a scenario turns on or sets; none where it is of no strategy."""
    if FIELDS.get(name) is not Scenario:
        return set()
    if owners := {strategy for strategy in STRATEGIES if name.startswith(f"{strategy.replace('-', '_')}_")}:
        return owners
    with contextlib.suppress(BadValueError):  # it cannot stand by itself, and so is no switch
        return set(Scenario(**{name: value}).strategies) - {"none"}
    return set()


def _fields_of(*values: Any) -> dict[str, Any]:
    return {name: value for one in values for name, value in asdict(one).items()}


def _names(requests: Sequence[Request]) -> list[str]:
    """Name each cell by its scenario, and by every other field in which the cells differ."""
    described = [_described(request) for request in requests]
    differing = [name for name in described[0] if len({str(facts[name]) for facts in described}) > 1]
    return [
        " ".join([request.scenario.name, *(f"{name}={facts[name]}" for name in differing)])
        for request, facts in zip(requests, described, strict=True)
    ]


def _described(request: Request) -> dict[str, Any]:
    """Everything of a request beside its scenario, by field."""
    facts = _fields_of(request.hardware, request.workload, request.settle)
    return facts | dict(
        zip(BINARIES, (request.source_binary, request.destination_binary or "the same", request.kernel), strict=True)
    )


def _set_fields(request: Request) -> dict[str, Any]:
    """The values that are not their fields' defaults, and the binaries."""
    values = (request.scenario, request.hardware, request.workload, request.settle)
    found: dict[str, Any] = {
        f"{section}.{name}": getattr(value, name)
        for (section, kind), value in zip(SECTIONS.items(), values, strict=True)
        for name, (_, default, _) in settings_of(kind).items()
        if getattr(value, name) != default
    }
    if request.destination_host:
        found["destination_host"] = request.destination_host
    if request.destination_address:
        found["destination_address"] = request.destination_address
    return found | {
        "qemu": request.source_binary,
        "destination_qemu": request.destination_binary,
        "kernel": str(request.kernel),
        "warm_start": request.warm_start,
    }
