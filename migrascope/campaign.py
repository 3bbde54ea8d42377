"""Commands on campaigns: check, run, status, report."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dashboards.campaign_progress import CampaignProgress
from dashboards.campaign_tables import campaigns_table, plan_table, standing, state_table
from driver.campaign import run_campaign
from driver.campaign_cells import Cell, cells, named_comparisons
from driver.campaign_check import refused_cells
from driver.campaign_executor import Engine
from driver.campaign_file import read_campaign
from driver.campaign_plan import Campaign
from driver.campaign_state import CampaignState, read_state
from driver.datadir import CampaignDir, DataDir
from driver.lock import campaign_lives
from driver.record import OUTCOMES, read_record
from exporter import history
from exporter.mirror.destination import destinations_of
from migrascope.campaign_engine import add_engine_options, engine
from migrascope.command import Command
from migrascope.options import Parser, add_common_options, data_dir, note
from migrascope.output import print_json, print_table, view_console
from migrascope.running import interruptible
from workload.errors import BadValueError, MigrascopeError, UnsupportedError


def _check(arguments: argparse.Namespace) -> int:
    campaign = _read(arguments.file)
    planned = cells(campaign, _known_paces(data_dir(arguments).campaign(campaign.campaign)))
    refused = asyncio.run(refused_cells(planned))
    if arguments.json:
        print_json(_plan_json(campaign, planned, refused))
    else:
        print_table(plan_table(campaign, planned, refused))
        for name, _ in named_comparisons(campaign):
            note(f"comparison {name!r}: planned as for a guest of 1 GiB/s; `campaign run` measures it first")
    return UnsupportedError.exit_status if len(refused) == len(planned) else 0


def _run(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    campaign = _read(arguments.file)
    place = data.campaign(campaign.campaign)
    progress = CampaignProgress(view_console(), lambda run: _phase(data, run))

    async def work(cancel: asyncio.Event) -> CampaignState:
        async with engine(arguments, data) as chosen:
            paces = await _measured(campaign, _known_paces(place), chosen)
            planned = cells(campaign, paces)
            refused = await chosen.refused_cells(planned)
            with progress.shown():
                return await run_campaign(
                    campaign, planned, data, chosen, content=arguments.file.read_bytes(), paces=paces,
                    refused=refused, retry=arguments.retry, changed=progress.changed, cancel=cancel,
                )  # fmt: skip

    state = asyncio.run(interruptible(work))
    _show(arguments, state, alive=False)
    if state.stopped and not state.stopped.finished:
        return OUTCOMES["cancelled"]
    if not state.ended_runs:
        return UnsupportedError.exit_status
    return OUTCOMES["broken"] if {"broken", "abandoned"} & set(state.outcomes) else 0


def _status(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    if arguments.campaign:
        place = _found(data, arguments.campaign)
        _show(arguments, read_state(place), alive=campaign_lives(place))
        return 0
    states = [(read_state(place), campaign_lives(place)) for place in data.all_campaigns()]
    if arguments.json:
        print_json([state_json(state, alive) for state, alive in states])
    elif states:
        print_table(campaigns_table(states))
    else:
        note(f"no campaigns in {data.campaigns}; `migrascope campaign run FILE` makes one")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    # scipy would cost every other command a second
    from dashboards import campaign_report  # noqa: PLC0415

    if arguments.output is None and not arguments.json:
        raise BadValueError("campaign report: want -o FILE, or --json, or both")
    data = data_dir(arguments)
    place = _found(data, arguments.campaign)
    plan = read_campaign(place.plan)
    report = campaign_report.campaign_report(
        read_state(place), history.runs(data), alive=campaign_lives(place), order=plan.order, labels=plan.labels
    )
    if arguments.output is not None:
        campaign_report.write(report, arguments.output)
        note(f"report: {arguments.output}")
    if arguments.json:
        print_json(campaign_report.report_json(report))
    return 0


def _show(arguments: argparse.Namespace, state: CampaignState, *, alive: bool) -> None:
    if arguments.json:
        print_json(state_json(state, alive))
    else:
        print_table(state_table(state, alive))


def state_json(state: CampaignState, alive: bool) -> dict[str, Any]:
    """A campaign's state as `--json` prints it."""
    return {
        "campaign": state.campaign,
        "state": standing(state, alive),
        "planned_runs": state.planned_runs,
        "ended_runs": state.ended_runs,
        "runs_left": len(state.slots_left),
        "eta_seconds": state.eta_seconds(time.time_ns()),
        "outcomes": dict(state.outcomes),
        "cells": [asdict(cell) | {"parked": state.parked.get(cell.cell)} for cell in state.cells],
        "results": [asdict(result) for result in state.results()],
        "under_way": [asdict(begun) for begun in state.begun.values()] if alive else [],
    }


def _read(file: Path) -> Campaign:
    """Read a plan, and see that its mirrors can be used.

    Raises:
        BadValueError: what is wrong, and in which file.
    """
    campaign = read_campaign(file)
    try:
        destinations_of(campaign.sampling)
    except BadValueError as error:
        raise BadValueError(f"campaign {file}: sampling: {error}") from error
    return campaign


async def _measured(campaign: Campaign, known: Mapping[str, float], chosen: Engine) -> dict[str, float]:
    """The guests' paces that named comparisons are planned by; what an earlier start measured holds."""
    paces = {}
    for name, request in named_comparisons(campaign):
        if name not in known:
            note(f"measuring how fast a guest dirties memory, to plan the comparison {name!r}")
        paces[name] = known[name] if name in known else await chosen.measure_pace(request)
    return paces


def _known_paces(place: CampaignDir) -> Mapping[str, float]:
    return read_state(place).paces if place.state.exists() else {}


def _phase(data: DataDir, run: str) -> str:
    with suppress(MigrascopeError):
        return next((phase.name for phase in reversed(read_record(data.run(run)).phases)), "")
    return ""


def _found(data: DataDir, word: str) -> CampaignDir:
    """A campaign by its id, the beginning of it, `latest`, or its plan's file."""
    if word.endswith(".toml"):
        return data.find_campaign(read_campaign(Path(word)).campaign)
    return data.find_campaign(word)


def _plan_json(campaign: Campaign, planned: Sequence[Cell], refused: Mapping[str, str]) -> dict[str, Any]:
    runnable = [cell for cell in planned if cell.cell not in refused]
    return {
        "campaign": campaign.campaign,
        "repeats": campaign.repeats,
        "order": campaign.order,
        "runs": len(runnable) * campaign.repeats,
        "estimate_seconds": sum(cell.estimate_seconds for cell in runnable) * campaign.repeats,
        "cells": [
            {
                "cell": cell.cell,
                "name": cell.name,
                "comparison": cell.request.comparison,
                "scenario": asdict(cell.request.scenario),
                "hardware": asdict(cell.request.hardware),
                "workload": asdict(cell.request.workload),
                "estimate_seconds": cell.estimate_seconds,
                "deadline_seconds": cell.deadline_seconds(campaign),
                "unsupported": refused.get(cell.cell),
            }
            for cell in planned
        ],
    }


def _options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)

    def verb(name: str, said: str) -> argparse.ArgumentParser:
        child = verbs.add_parser(name, help=said, description=said)
        add_common_options(child)
        return child

    check = verb("check", "Print a plan, its time and what cannot run here, without booting anything.")
    check.add_argument("file", type=Path, metavar="FILE", help="the campaign's TOML file")
    check.set_defaults(verb=_check)
    run = verb("run", "Run a campaign; the same command goes on where it was cut.")
    run.add_argument("file", type=Path, metavar="FILE", help="the campaign's TOML file")
    run.add_argument("--retry", action="store_true", help="try parked cells again, and their failed runs with them")
    add_engine_options(run)
    run.set_defaults(verb=_run)
    status = verb("status", "Show how a campaign stands, or list all.")
    status.add_argument("campaign", nargs="?", metavar="CAMPAIGN", help="an id, the beginning of one, latest, or FILE")
    status.set_defaults(verb=_status)
    report = verb("report", "Report on a campaign: rates, figures, A/B verdicts and what to take.")
    report.add_argument("campaign", metavar="CAMPAIGN", help="an id, the beginning of one, latest, or FILE")
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="the HTML file to write")
    report.set_defaults(verb=_report)


COMMANDS = (
    Command(
        name="campaign",
        summary="Plan and run many migrations, and say what came of them.",
        options=_options,
        action=lambda arguments: int(arguments.verb(arguments)),
    ),
)
