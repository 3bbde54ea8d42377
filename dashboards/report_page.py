"""The report's page: one HTML file that holds Plotly, its data and its style, and fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import orjson
from plotly.offline import get_plotlyjs

from dashboards.colours import outcome_meaning, palettes
from dashboards.document import document, swatch
from dashboards.figures import SNAPSHOT, Figures, best_in_words, figures_of, in_words
from dashboards.report_figure import Json, run_figure
from dashboards.report_lines import iterations, statuses
from dashboards.report_overlay import overlay_figure
from dashboards.report_tables import (
    access_table,
    conditions_table,
    disk_table,
    figures_list,
    figures_table,
    iterations_table,
    marks_table,
    outcome_html,
)
from dashboards.report_view import RunView
from dashboards.series import POINTS, SMOOTHING_SECONDS
from dashboards.units import rate, size
from driver.record import RunRecord
from workload.settings import Workload

SCRIPT = Path(__file__).with_name("report.js")

GUEST_NOTE = (
    "Guest: the time that one vCPU needs to rewrite one GiB, by the guest's own clock: each of"
    " its lines, and in total over 100 ms. A guest that stands still prints no line, so the blackout has its own band."
)
ITERATION_NOTE = (
    "Iterations are QEMU's dirty-bitmap syncs; remaining bytes compare only there. The implied downtime is QEMU's own"
    " switchover test (remaining / measured bandwidth), no forecast."
)


def page(views: Sequence[RunView]) -> str:
    """The whole page for one or more runs, in the order given."""
    figures = [run_figure(view) for view in views]
    told = [figures_of(view.record, view.summary) for view in views]
    several = len(views) > 1
    swatches = [swatch(place) if several else "" for place in range(len(views))]
    title = "Live migration report"
    if not several:
        title = f"Live migration: {views[0].label}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(what_was_run([view.record for view in views]))}</p>',
        _answers(views, told, swatches),
        f"<p>{escape(words)}</p>" if (words := best_in_words([view.label for view in views], told)) else "",
    ]
    if several:
        parts += [
            figures_table([(view.label, figure) for view, figure in zip(views, told, strict=True)], swatches),
            "<p class=quiet>A star: the figure is missing or limited; hover it for the reason.</p>"
            if any(figure.why for figure in told)
            else "",
            "<h2>All runs, aligned at the migration's start</h2>",
            _figure_place("overlay", overlay_figure(views, figures)) if any(f["data"] for f in figures) else "",
        ]
    for place, (view, figure, figures_told) in enumerate(zip(views, figures, told, strict=True)):
        parts.append(_run_section(place, view, figure, figures_told, several))
    parts += ["<h2>Conditions</h2>", _differing(several),
              conditions_table([view.record for view in views], [view.label for view in views], swatches),
              _footer(figures)]  # fmt: skip
    return document(title, "\n".join(parts), tail=_scripts())


def what_was_run(records: Sequence[RunRecord]) -> str:
    """The experiment in one sentence: what the runs have in common."""
    first = records[0]
    what = "snapshot" if all(record.kind == SNAPSHOT for record in records) else "migration"
    count = f"One {what}" if len(records) == 1 else f"{len(records)} {what}s"
    if first.hardware is None or first.workload is None:
        return f"{count} of a virtual machine that was only observed, on {first.host.name}."
    same_machine = all((record.hardware, record.workload) == (first.hardware, first.workload) for record in records)
    machine = ""
    if same_machine:
        vcpus = f"{first.hardware.vcpus} vCPU{'s' if first.hardware.vcpus > 1 else ''}"
        machine = f" of a guest with {vcpus} and {size(first.hardware.memory_bytes)} of RAM that {_work(first)}"
    versions = sorted({record.source_binary.version.split(" (")[0] for record in records if record.source_binary})
    qemu = f" on QEMU {' and '.join(versions)}" if versions else ""
    accelerators = sorted({record.accelerator for record in records if record.accelerator})
    under = f" under {' and '.join(name.upper() for name in accelerators)}" if accelerators else ""
    return f"{count}{machine}{qemu}{under}, on host {first.host.name}{_limits(records)}."


def _limits(records: Sequence[RunRecord]) -> str:
    """The limits that all runs had: `, over at most 32 MiB/s, with a downtime limit of 100 ms`."""
    scenarios = [record.scenario for record in records if record.scenario]
    said = ""
    if scenarios and len({each.bandwidth_mib_s for each in scenarios}) == 1:
        said += f", over at most {scenarios[0].bandwidth_mib_s} MiB/s"
    if scenarios and len({each.downtime_limit_ms for each in scenarios}) == 1:
        said += f", with a downtime limit of {scenarios[0].downtime_limit_ms} ms"
    return said


def _work(record: RunRecord) -> str:
    """What the guest does: `rewrites 32 MiB of it at 3.1 GiB/s`, `works on 32 MiB of it (zipf-0.99) without pause`."""
    workload = record.workload or Workload()
    pace = record.guest.settled_bytes_per_second if record.guest else None
    limit = workload.rate_limit_mib_s
    how = f"at {rate(pace)}" if pace else "without pause" if not limit else f"at {limit} MiB/s a vCPU at most"
    plain = replace(workload, rate_limit_mib_s=0).name
    if plain == "worst":
        return f"rewrites {workload.working_set_mib} MiB of it {how}"
    return f"works on {workload.working_set_mib} MiB of it ({plain}) {how}"


def _answers(views: Sequence[RunView], told: Sequence[Figures], swatches: Sequence[str]) -> str:
    items = "".join(
        f'<li class="{outcome_meaning(figures.outcome)}">{mark}<strong>{escape(view.label)}</strong> '
        f"{escape(in_words(figures))}</li>"
        for view, figures, mark in zip(views, told, swatches, strict=True)
    )
    return f'<ul class="answers">{items}</ul>'


def _run_section(place: int, view: RunView, figure: Json, figures: Figures, several: bool) -> str:
    mark = swatch(place) if several else ""
    heading = f"<h2>{mark}{escape(view.label)}</h2>" if several else "<h2>What happened</h2>"
    under = f"<p>{outcome_html(figures.outcome)} <span class=quiet>run {escape(view.record.run)}</span></p>"
    if figure["data"]:
        drawing = _figure_place(f"run-{place}", figure)
        if not statuses(view):
            drawing += "<p class=quiet>QEMU's migration was never seen: there are no progress samples.</p>"
    else:
        drawing = "<p class=quiet>There is nothing to draw: this run has no samples.</p>"
    return "\n".join(
        [heading, under, figures_list(figures), access_table(view.summary), disk_table(view.summary), drawing,
         iterations_table(iterations(view)),
         marks_table(view.marks, view.origin_ns)]
    )  # fmt: skip


def _figure_place(name: str, figure: Json) -> str:
    """A figure's legend, its place (as high as it will be, so that nothing jumps) and its data."""
    height = figure["layout"]["height"]
    return (
        '<div class="legend" aria-label="lines of the figure"></div>'
        f'<div class="figure" id="{name}" style="height:{height}px">'
        "<noscript>The figure needs scripts.</noscript></div>"
        f'<script type="application/json" data-figure="{name}">{inline_json(figure)}</script>'
    )


def inline_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return orjson.dumps(data).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _differing(several: bool) -> str:
    return "<p class=quiet>Rows in which the runs differ are bold and marked ≠.</p>" if several else ""


def _footer(figures: Sequence[Json]) -> str:
    thinned = [trace for figure in figures for trace in figure["data"] if trace["meta"]["thinned"]]
    said = [
        GUEST_NOTE,
        f"CPU: percent of one core, over at least {SMOOTHING_SECONDS * 1000:.0f} ms.",
        ITERATION_NOTE,
    ]
    if thinned:
        greatest = max(trace["meta"]["thinned"] for trace in thinned)
        said.append(
            f"Thinned out: {len(thinned)} of the lines, of up to {greatest:,} points, are drawn with the"
            f" least and the greatest value of each stretch, about {POINTS:,} points; the store has every sample."
        )
    return f"<footer>{''.join(f'<p>{escape(line)}</p>' for line in said)}</footer>"


def _scripts() -> str:
    """Plotly, our own script and the colours that it draws with."""
    return (
        f'<script type="application/json" id="palettes">{inline_json(palettes())}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT.read_text()}</script>\n"
    )
