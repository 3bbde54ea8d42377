"""Commands that run migrations: run, compare."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from dashboards.document import check_output
from dashboards.tables import convoy_table, outcome_table
from driver.comparison import COMPARISONS, find_comparison
from driver.comparison_plan import NOMINAL_PACE, Plan
from driver.datadir import DataDir
from driver.hardware import Hardware
from driver.lock import driver_lock
from driver.pace import measure_pace
from driver.record import OUTCOMES, RunRecord
from driver.request import Request, on_hosts
from driver.scenario import STRATEGIES, Scenario
from driver.seat import Seat
from driver.settle import Settle
from driver.watch import Sampling
from exporter import history
from exporter.convoys import convoys
from migrascope.command import Command
from migrascope.options import (
    add_common_options,
    add_run_options,
    data_dir,
    idle_settings,
    mirroring_from,
    note,
    scenario_from,
    strategies_in_words,
    value_from,
)
from migrascope.output import print_json, print_table, view_console
from migrascope.running import run_all
from workload.errors import BadValueError
from workload.settings import Workload
from workload.suggestion import nearest

Value = TypeVar("Value", Hardware, Workload, Scenario)


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [--strategy NAME[+NAME]] [options]"  # all of them would fill a screen
    add_common_options(parser)
    parser.add_argument(
        "--strategy",
        default="none",
        metavar="NAME[+NAME]",
        help=f"what is done so that it finishes: {strategies_in_words()} (default none)",
    )
    add_run_options(parser)
    group = parser.add_argument_group("campaign", "what a campaign or a convoy says to each of its runs")
    group.add_argument("--run-id", metavar="ID", help="the id that the run is to have (default: a new one)")
    group.add_argument("--campaign", metavar="ID", help="the campaign that the run belongs to")
    group.add_argument("--convoy", metavar="ID", help="the convoy that the run belongs to")
    group.add_argument("--seat", metavar="DIRECTORY:N", help="its place in the convoy, which waits for the others")
    group.add_argument("--comparison", metavar="NAME", help="the comparison that the run belongs to")


def _run(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    request = request_of(arguments)
    if request.run is None:  # a campaign's cells share what only some of them use
        for line in idle_settings(arguments, request.scenario):
            note(f"run: {line}")
    records = asyncio.run(run_all([request], data, view_console()))
    _show(arguments, data, records)
    return max(OUTCOMES[record.outcome or "broken"] for record in records)


def request_of(arguments: argparse.Namespace) -> Request:
    """The run that the options of `run` ask for.

    Raises:
        BadValueError: a value is out of its bounds.
    """
    return replace(
        _request(arguments, scenario_from(arguments, arguments.strategy)),
        run=arguments.run_id,
        campaign=arguments.campaign,
        comparison=arguments.comparison,
        convoy=arguments.convoy,
        seat=Seat.parse(arguments.seat) if arguments.seat else None,
    )


def _compare_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s NAME [options]\n       %(prog)s STRATEGY[:field=value,...] STRATEGY[:...] ... [options]"
    add_common_options(parser)
    parser.add_argument(
        "members",
        nargs="+",
        metavar="NAME|SCENARIO",
        help="a named comparison (`migrascope list`), or scenarios as STRATEGY[:field=value,...] over the options",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report here (default: in the data dir)")
    add_run_options(parser)


def _compare(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    if arguments.report is not None:
        check_output(arguments.report)
    named = _named_comparison(arguments.members)
    requests = [] if named else [_request(arguments, scenario_from(arguments, word)) for word in arguments.members]
    with driver_lock():
        if named:
            requests = asyncio.run(_planned(arguments, named))
        records = asyncio.run(run_all(requests, data, view_console()))
    from dashboards import report  # noqa: PLC0415 - Plotly and Arrow take half a second: not before the guest boots

    page = arguments.report or data.path / "reports" / f"{records[0].run}.html"
    report.write(data, [data.run(record.run) for record in records], page)
    _show(arguments, data, records, page)
    if any(record.outcome == "cancelled" for record in records):
        return OUTCOMES["cancelled"]
    bad = [record for record in records if record.outcome in ("broken", "abandoned", None)]
    return OUTCOMES["broken"] if bad else 0


def _named_comparison(members: Sequence[str]) -> str | None:
    """Check the members of `compare`; the named comparison that they are, or None where they are scenarios.

    Raises:
        BadValueError: an unknown name, or a named comparison among others.
    """
    named = next((word for word in members if word in COMPARISONS), None)
    if named and len(members) > 1:
        raise BadValueError(f"compare: {named!r} is a named comparison and stands alone")
    for word in members:
        name = word.partition(":")[0]
        if not named and any(part not in STRATEGIES for part in name.split("+")):
            raise BadValueError(f"strategy or comparison {name!r} is not known{nearest(name, _known())}")
    return named


async def _planned(arguments: argparse.Namespace, named: str) -> list[Request]:
    """Plan the runs of a named comparison; one that goes by its guest's pace measures it first."""
    comparison = find_comparison(named)
    asked = replace(
        _request(arguments, Scenario()),
        hardware=_over(arguments, comparison.hardware),
        workload=_over(arguments, comparison.workload),
        comparison=comparison.name,
    )
    pace = NOMINAL_PACE
    if comparison.by_pace:
        note(f"measuring how fast a guest dirties memory here, to plan the comparison {comparison.name!r}")
        pace = await measure_pace(asked)
    plan = comparison.plan(pace)
    if comparison.by_pace:
        note(_plan_in_words(plan, pace))
    return [
        replace(
            asked,
            scenario=on_hosts(_over(arguments, member.scenario), arguments.destination_host),
            hardware=_over(arguments, member.hardware),
            workload=_over(arguments, member.workload),
            source_binary=member.qemu or asked.source_binary,
            destination_binary=member.destination_qemu or member.qemu or asked.destination_binary,
        )
        for member in plan.members
    ]


def _over(arguments: argparse.Namespace, value: Value) -> Value:
    return value_from(type(value), arguments, **asdict(value))


def _plan_in_words(plan: Plan, measured: float) -> str:
    scenario, workload = plan.members[0].scenario, plan.members[0].workload
    return (
        f"the guest xors {measured / (1 << 20):,.0f} MiB/s: a working set of {workload.working_set_mib} MiB over"
        f" {scenario.bandwidth_mib_s} MiB/s takes {workload.working_set_mib / scenario.bandwidth_mib_s:.2f} s,"
        f" more than the downtime limit of {scenario.downtime_limit_ms} ms"
    )


def _known() -> list[str]:
    return [*dict.fromkeys([*COMPARISONS, *STRATEGIES])]


def _request(arguments: argparse.Namespace, scenario: Scenario) -> Request:
    if arguments.destination_address and not arguments.destination_host:
        raise BadValueError("--destination-address: want --destination-host beside it, the host that has the address")
    return Request(
        scenario=on_hosts(scenario, arguments.destination_host),
        hardware=value_from(Hardware, arguments),
        workload=value_from(Workload, arguments),
        source_binary=arguments.qemu,
        destination_binary=arguments.destination_qemu,
        destination_host=arguments.destination_host,
        destination_address=arguments.destination_address,
        kernel=arguments.kernel,
        warm_start=arguments.warm_start,
        settle=value_from(Settle, arguments),
        sampling=mirroring_from(Sampling, arguments),
    )


def _show(arguments: argparse.Namespace, data: DataDir, records: Sequence[RunRecord], page: Path | None = None) -> None:
    rows = [row for row in history.runs(data) if row.run in {record.run for record in records}]
    if arguments.json:
        objects = [row.to_json() for row in rows]
        print_json(objects if page or len(objects) > 1 else objects[0])
        return
    print_table(outcome_table(rows))
    if found := convoys(rows):
        print_table(convoy_table(found))
    for record in records:
        if record.reason:
            note(f"{record.run}: {record.outcome}: {record.reason}")
    note(f"records: {data.runs}/{records[0].run}" + (f" and {len(records) - 1} more" if len(records) > 1 else ""))
    if page:
        note(f"report:  {page}")


COMMANDS = (
    Command(
        name="run",
        summary="Run one migration and measure it; the exit status tells its outcome.",
        options=_run_options,
        action=_run,
    ),
    Command(
        name="compare",
        summary="Run several scenarios side by side and report on them.",
        options=_compare_options,
        action=_compare,
    ),
)
