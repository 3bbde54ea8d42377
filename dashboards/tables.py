"""The terminal's tables: pure functions from values to what Rich prints, each fit for 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from dashboards.accesses import HEADINGS, access_rows
from dashboards.colours import OUTCOME_SIGNS, TERMINAL_STYLES, outcome_meaning
from dashboards.conditions import conditions, split_off
from dashboards.disk_rows import disk_rows
from dashboards.figures import FIGURE_COLUMNS, figures_of, in_words
from dashboards.labels import short_names
from dashboards.units import MIB, UNKNOWN, counted, digits, duration, whole
from driver.comparison_plan import NOMINAL_PACE, Comparison
from driver.doctor import Finding
from driver.record import RunRecord, Saved
from exporter.convoys import ConvoyFigures
from exporter.index import RunRow
from exporter.mirror.status import Standing
from exporter.summary import Summary

SHORTEST_NAME = 14
WIDEST_FRAME = 40
"""More than what headings and gaps add to the width of the cells of the list of runs."""


def outcome_table(rows: Sequence[RunRow]) -> RenderableType:
    """The end table: how each run ended and what it cost, side by side."""
    names, common = short_names([row.scenario or UNKNOWN for row in rows])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("scenario\noutcome", overflow="fold", min_width=SHORTEST_NAME)
    for heading in ("total\ns", "itera-\ntions", "blackout\nms", "QEMU's\nms", "slow-\ndown", "CPU s\nsrc / dst",
                    "sent\nMiB"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for row, name in zip(rows, names, strict=True):
        table.add_row(Text(f"{name}\n").append(outcome_text(row.outcome)), *_figures(row.figures))
    return Group(table, Text(f"all: {common}", style="dim")) if common else table


def runs_table(rows: Sequence[RunRow]) -> RenderableType:
    """What `runs` lists: one line a run, oldest first."""
    return _RunsTable(rows)


class _RunsTable:
    """The list of runs. Where no line must fold, Rich is given whole columns: row by row 2,000 runs take it 0.6 s."""

    def __init__(self, rows: Sequence[RunRow]) -> None:
        self._lines = [
            (Text(row.run), Text(row.scenario or UNKNOWN), outcome_text(row.outcome), *map(Text, (total, blackout)))
            for row in rows
            for total, _, blackout, *_ in [_figures(row.figures)]
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(zip(*self._lines, strict=True))
        widths = [max(cell.cell_len for cell in column) for column in columns]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("run", no_wrap=True)
        table.add_column("scenario", overflow="fold", min_width=SHORTEST_NAME)
        table.add_column("outcome", no_wrap=True)
        table.add_column("total\ns", justify="right", no_wrap=True)
        table.add_column("blackout\nms", justify="right", no_wrap=True)
        if sum(widths) + WIDEST_FRAME <= options.max_width:
            table.add_row(*(Text("\n").join(column) for column in columns))
        else:
            for line in self._lines:
                table.add_row(*line)
        yield table


def run_tables(record: RunRecord, summary: Summary | None) -> list[RenderableType]:
    """What `show` prints of one run: the answer, its figures with what is missing and why, phases, conditions."""
    told = figures_of(record, summary or Summary(run=record.run))
    answer = Text.assemble(outcome_text(record.outcome), f"  {record.scenario_name} {in_words(told)}", "\n")
    figures = _plain_table("figure", "", "")
    for key, name, text in FIGURE_COLUMNS:
        known = getattr(told, key) is not None
        figures.add_row(name, text(told) if known else UNKNOWN, "" if known else told.why.get(key, ""))
    for name, words in (_saved(record.saved) | dict(disk_rows(summary) if summary else ())).items():
        figures.add_row(name, words, "")
    phases = _plain_table("phase", "from", "took")
    for phase in record.phases:
        start = (phase.start_ns - record.phases[0].start_ns) / 1e9
        took = duration((phase.end_ns - phase.start_ns) / 1e9) if phase.end_ns is not None else "did not end"
        phases.add_row(phase.name, f"{start:.3f} s", took)
    asked = _plain_table("condition", "", "")
    for group, (facts,) in conditions([record]):
        told_facts, idle = split_off(facts)
        rows = [*told_facts.items(), *([("off", ", ".join(idle))] if idle else [])]
        for place, (name, value) in enumerate(rows):
            asked.add_row("" if place else group, name, Text(value))
    accesses = _plain_table(*HEADINGS)
    sampled = access_rows(summary) if summary else []
    for row in sampled:
        accesses.add_row(*row)
    return [answer, figures, *([accesses] * bool(sampled)), *([phases] * bool(record.phases)), asked]


def _saved(saved: Saved | None) -> dict[str, str]:
    """What a guest's way through a file took; nothing for other runs."""
    if saved is None:
        return {}
    return {
        "saved in": duration(saved.save_seconds),
        "loaded in": UNKNOWN if saved.load_seconds is None else duration(saved.load_seconds),
        "file": f"{saved.file_bytes / MIB:.1f} MiB, {saved.disk_bytes / MIB:.1f} MiB on disk",
    }


def mirrors_table(mirrors: Sequence[Standing]) -> RenderableType:
    """What `mirror status` prints: one mirror a block, its counters since its spool was made."""
    table = _plain_table("mirror", "", "")
    for mirror in mirrors:
        place = f"{mirror.url} {mirror.bucket}".strip()
        table.add_row(mirror.mirror, "state", Text(mirror.trouble or "takes what it is sent"))
        facts = {
            "destination": place, "lag": duration(mirror.lag_seconds),
            "waiting": f"{mirror.waiting_bytes / MIB:.1f} MiB of {counted(mirror.waiting_runs, 'run')}",
            "sent": f"{mirror.samples} samples", "retried": f"{mirror.retries} requests",
            "dropped": f"{mirror.dropped} samples", "dead letters": f"{mirror.dead_letters} rows",
            "collapsed": f"{mirror.collapsed} values",
        }  # fmt: skip
        for name, text in facts.items():
            table.add_row("", name, Text(text))
    return table


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """What `doctor` says: found or missing, what that disables, how to get it."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        meaning = "good" if finding.found else "bad" if finding.needed else "undecided"
        word = "found" if finding.found else "missing" if finding.needed else "absent"
        lines = [finding.detail]
        if not finding.found:
            lines += [f"disables: {finding.disables}"] if finding.disables else []
            lines += [f"get it:   {finding.remedy}"] if finding.remedy else []
        sign = Text(f"{OUTCOME_SIGNS[meaning]} {word}", style=TERMINAL_STYLES[meaning])
        table.add_row(sign, finding.subject, Text("\n".join(lines)))
    return table


def servers_table(servers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What `stack` says of its servers: each row holds server, state, url and pid."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    meanings = {"up": "good", "down": "bad"}
    for each in servers:
        meaning = meanings.get(each["state"], "undecided")
        sign = Text(f"{OUTCOME_SIGNS[meaning]} {each['state']}", style=TERMINAL_STYLES[meaning])
        table.add_row(sign, each["server"], each["url"], f"pid {each['pid']}")
    return table


def comparisons_table(comparisons: Sequence[Comparison], refused: Mapping[str, Mapping[int, str]]) -> RenderableType:
    """What `list` shows of the named comparisons; `refused` are the members that cannot run here, with the reasons."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("name", "runs", "about"):
        table.add_column(name, no_wrap=True, justify="left" if name == "name" else "right")
    table.add_column("shows, and varies", overflow="fold")
    for each in comparisons:
        members, reasons = each.plan(NOMINAL_PACE).members, refused.get(each.name, {})
        words = Text(f"{each.summary}\n").append(each.varies, style="dim")
        for reason in dict.fromkeys(reasons.values()):
            count = sum(reason == other for other in reasons.values())
            words.append(f"\nunsupported here, {count} of {len(members)}: {reason}", style=TERMINAL_STYLES["undecided"])
        runs = sum(member.scenario.convoy_guests for member in members)
        table.add_row(each.name, str(runs), f"{each.seconds:.0f} s", words)
    return table


def convoy_table(convoys: Sequence[ConvoyFigures]) -> RenderableType:
    """What whole convoys took, and what their guests felt."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("convoy", overflow="fold")
    for name in ("home", "all home s", "each s (median)", "blackout ms (median, worst)", "guest slowed"):
        table.add_column(name, justify="right")
    for each in convoys:
        blackouts = (each.median_blackout_seconds, each.worst_blackout_seconds)
        table.add_row(
            each.scenario,
            f"{each.completed} of {each.guests}",
            *(
                UNKNOWN if value is None else digits(value)
                for value in (each.all_home_seconds, each.median_total_seconds)
            ),
            ", ".join(UNKNOWN if value is None else digits(1000 * value) for value in blackouts),
            UNKNOWN if each.slowdown is None else f"{digits(each.slowdown)} x",
        )
    return table


def outcome_text(outcome: str | None) -> Text:
    """An outcome with its sign and colour."""
    meaning = outcome_meaning(outcome)
    words = (outcome or "not ended").replace("_", " ")
    return Text(f"{OUTCOME_SIGNS[meaning]} {words}", style=TERMINAL_STYLES[meaning])


def _figures(figures: Mapping[str, float | None]) -> list[str]:
    def number(name: str, factor: float = 1.0) -> str:
        value = figures.get(name)
        return UNKNOWN if value is None else digits(value * factor)

    settled, migrating = figures.get("settle_seconds_per_gib_mean"), figures.get("migrate_seconds_per_gib_mean")
    bound = "≤ " if figures.get("blackout_upper_bound") and figures.get("blackout_seconds") is not None else ""
    cpu = (figures.get("source_cpu_seconds"), figures.get("destination_cpu_seconds"))
    return [
        number("total_seconds"),
        whole(figures.get("iterations")),
        bound + number("blackout_seconds", 1000),
        number("qemu_downtime_seconds", 1000),
        f"{digits(migrating / settled)} x" if migrating and settled else UNKNOWN,
        " / ".join(UNKNOWN if value is None else f"{value:.1f}" for value in cpu),
        number("transferred_bytes", 1 / MIB),
    ]


def _plain_table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
