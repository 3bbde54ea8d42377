"""The report of a campaign: one self-contained HTML page, and the same as plain data for `--json`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from dashboards.campaign_report_tables import (
    Ways,
    common_table,
    contests_table,
    figures_table,
    overview_table,
    runs_table,
    strips,
    unanswered_table,
)
from dashboards.campaign_tables import standing
from dashboards.campaign_words import advice, condition_words, field_words
from dashboards.document import document, write_document
from dashboards.units import counted, duration
from driver.campaign_state import CampaignState
from exporter.index import RunRow
from exporter.statistics import RESAMPLES, statistics_of
from exporter.statistics_contests import least_runs
from exporter.statistics_groups import STRATEGY, grouped
from exporter.statistics_recommendation import Findings, Recommendation, findings

STYLE = Path(__file__).with_name("campaign_report.css")
SECTIONS_OPEN = 4
"""With more conditions than this the sections of the conditions are folded up."""

MEANINGS = {"clear": "good", "leaning": "undecided"}

NOTES = f"""\
Completed: of the runs that answer (completed, not converged, failed, guest lost); runs that broke on our side, were
cancelled or cannot run here are shown and not counted. The interval is Wilson's, at 95 %.

Figures are medians over the completed runs. Their intervals at 95 % are bootstrap intervals (percentile, {RESAMPLES:,}
resamples, fixed seed); under three runs there is none. p95 is the nearest rank: of fewer than 20 runs the greatest
value. In the strips each dot is a run, the tick the median, the bar its interval.

A against B: Mann and Whitney's rank test of each figure, Fisher's exact test of completion; q is the chance of such a
difference where there is none, corrected over all pairs and conditions of a figure (Benjamini and Hochberg). Better or
worse is said from q of 5 % down. With fewer than {least_runs()} runs a side no test can say anything.

The guest's work lost is what it would have done at its settled pace and did not: over the migration and recovery the
share by which its pace fell short, and the whole of the blackout.

The recommendation: of the ways that complete as often as the best one, the one that costs the guest least work; plain
pre-copy where it cannot be told from that, or costs less than a tenth of a second more.
""".split("\n\n")
"""How each figure was come by, a paragraph each."""


@dataclass(frozen=True, kw_only=True)
class CampaignReport:
    """Everything that is reported of a campaign. `labels` and `order` are the plan's own."""

    state: CampaignState
    alive: bool
    order: str
    labels: Mapping[str, str]
    rows: Sequence[RunRow]
    findings: Findings


def campaign_report(
    state: CampaignState, history: Sequence[RunRow], *, alive: bool, order: str, labels: Mapping[str, str]
) -> CampaignReport:
    """Draw a campaign's conclusions from the history: of its runs those that its state counts."""
    counted = {result.run for result in state.results()}
    rows = [row for row in history if (row.convoy or row.run) in counted]
    grouping = grouped(rows)
    found = findings(grouping, [statistics_of(group) for group in grouping.groups])
    return CampaignReport(state=state, alive=alive, order=order, labels=labels, rows=rows, findings=found)


def write(report: CampaignReport, output: Path) -> None:
    """Write the page; see `write_document` for its errors."""
    write_document(output, page(report))


def page(report: CampaignReport) -> str:
    """The whole page."""
    state, found = report.state, report.findings
    ways = _ways(found)
    parts = [f"<h1>Campaign {escape(state.campaign)}</h1>", f'<p class="lead">{escape(lead(report))}</p>']
    parts += [f"<p class=quiet>{escape(' · '.join(f'{name}: {value}' for name, value in report.labels.items()))}</p>"]
    if found.groups:
        parts += ["<h2>What to take</h2>", _recommendations(found.recommendations)]
        if len(found.recommendations) > 1:
            parts += ["<h2>Everything at a glance</h2>", overview_table(found, ways)]
        parts += [_condition_section(found, one, ways) for one in found.recommendations]
    else:
        parts.append("<p>No run has ended yet: there is nothing to report.</p>")
    if unanswered := unanswered_table(state):
        parts += ["<h2>What gave no answer</h2>", unanswered]
    parts += ["<h2>How it was run</h2>", runs_table(state)]
    common = {name: value for name, value in found.grouping.common.items() if value is not None}
    parts.append(common_table(common, {name: field_words(name, value) for name, value in common.items()}))
    parts.append(f"<footer>{''.join(f'<p>{escape(note)}</p>' for note in NOTES)}</footer>")
    return document(f"Campaign {state.campaign}", "\n".join(filter(None, parts)), style=STYLE.read_text())


def lead(report: CampaignReport) -> str:
    """What was run, in one or two sentences."""
    state, found = report.state, report.findings
    started = dt.datetime.fromtimestamp(state.started_ns / 1e9, dt.UTC).strftime("%-d %B %Y, %H:%M UTC")
    took = duration((state.changed_ns - state.started_ns) / 1e9)
    said = (
        f"{state.ended_runs} of {counted(state.planned_runs, 'run')}: {counted(len(state.cells), 'cell')},"
        f" {counted(state.repeats, 'run')} each, {report.order}; begun {started},"
        f" {standing(state, report.alive)} {took} later."
    )
    if not found.groups:
        return said
    common = found.grouping.common
    versions = sorted({str(row.conditions.get("source_qemu") or "").split(" (")[0] for row in report.rows} - {""})
    guest = [field_words(name, common[name]) for name in ("vcpus", "memory_mib", "working_set_mib") if name in common]
    accelerator = common.get("accelerator")
    under = f" under {str(accelerator).upper()}" if accelerator else ""
    return f"{said} QEMU {' and '.join(versions)}{under}; guest: {', '.join(guest)}."


def report_json(report: CampaignReport) -> dict[str, Any]:
    """The report as `--json` prints it: groups with their figures, contests, recommendations with their words."""
    found = report.findings
    return {
        "campaign": report.state.campaign,
        "state": standing(report.state, report.alive),
        "labels": dict(report.labels),
        "planned_runs": report.state.planned_runs,
        "ended_runs": report.state.ended_runs,
        "versus": found.grouping.versus,
        "common": dict(found.grouping.common),
        "groups": [
            {
                "way": one.group.way,
                "condition": dict(one.group.condition),
                "outcomes": dict(one.outcomes),
                "convergence": asdict(one.convergence) | {"share": one.convergence.share},
                "figures": {name: asdict(figure) for name, figure in one.figures.items()},
                "runs": [row.run for row in one.group.rows],
            }
            for one in found.groups
        ],
        "contests": [asdict(contest) for contest in found.contests],
        "recommendations": [
            {
                "condition": dict(one.condition),
                "way": one.way,
                "strength": one.strength,
                "decided_by": one.decided_by,
                "tied": list(one.tied),
                "words": " ".join(advice(one)),
            }
            for one in found.recommendations
        ],
        "parked": [{"cell": cell.name, "reason": reason} for cell, reason in report.state.parked_cells],
    }


def _ways(found: Findings) -> Ways:
    names = dict.fromkeys(one.group.way for one in found.groups)
    return {way: place for place, way in enumerate(names)}


def _recommendations(recommendations: Sequence[Recommendation]) -> str:
    items = []
    for one in recommendations:
        meaning = MEANINGS[one.strength] if one.way else "bad"
        first, *rest = advice(one)
        where = f'<span class="where">{escape(condition_words(one.condition))}:</span> ' if one.condition else ""
        more = "".join(f"<p>{escape(sentence)}</p>" for sentence in rest)
        items.append(f'<li class="{meaning}"><p>{where}<strong>{escape(first)}</strong></p>{more}</li>')
    return f'<ul class="answers">{"".join(items)}</ul>'


def _condition_section(found: Findings, recommendation: Recommendation, ways: Ways) -> str:
    groups = [one for one in found.groups if one.group.condition == recommendation.condition]
    met = [contest for contest in found.contests if contest.condition == recommendation.condition]
    words = condition_words(recommendation.condition)
    title = words[0].upper() + words[1:]
    inner = strips(groups, ways) + figures_table(groups, ways, recommendation.way)
    if met:
        versus = "strategy" if found.grouping.versus == STRATEGY else field_words(found.grouping.versus, None)
        inner += f"<h3>One {escape(versus.split(' —')[0])} against another</h3>{contests_table(met)}"
    if len(found.recommendations) > SECTIONS_OPEN:
        return f"<details><summary>{escape(title)}</summary>{inner}</details>"
    return f"<h2>{escape(title)}</h2>{inner}"
