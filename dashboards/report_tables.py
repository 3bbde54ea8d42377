"""The report's tables as HTML: figures side by side, conditions with what differs, iterations, what was done when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dashboards.accesses import HEADINGS, NOTE, access_rows
from dashboards.colours import OUTCOME_SIGNS, outcome_meaning
from dashboards.conditions import conditions, split_off
from dashboards.disk_rows import disk_rows
from dashboards.figures import FIGURE_COLUMNS, Figures, best_runs
from dashboards.report_lines import Iteration
from dashboards.units import UNKNOWN, digits, duration, rate, size
from driver.marks import Mark
from driver.record import RunRecord
from exporter.summary import Summary

ITERATIONS_SHOWN = 300

MEANINGS = {
    "blackout_seconds": "the guest stood still: shift of its ticks' offset",
    "stop_resume_seconds": "QEMU's events, source to destination",
    "qemu_downtime_seconds": "as query-migrate says",
    "longest_silence_seconds": "largest gap between ticks",
    "slowdown": "mean while migrating / settled",
    "source_cpu_seconds": "whole QEMU, while migrating",
    "destination_cpu_seconds": "whole QEMU, while migrating",
    "time_to_first_throttle_seconds": "after the migration's start",
}


PACES = ("settle_seconds_per_gib_mean", "migrate_seconds_per_gib_mean")


def outcome_html(outcome: str | None) -> str:
    """An outcome with its sign and colour."""
    meaning = outcome_meaning(outcome)
    word = escape((outcome or "not ended").replace("_", " "))
    return f'<span class="outcome {meaning}">{OUTCOME_SIGNS[meaning]} {word}</span>'


def figures_table(rows: Sequence[tuple[str, Figures]], swatches: Sequence[str]) -> str:
    """One row a run; `rows` are (label, figures), `swatches` the HTML before each label.

    What the guest's pace was stands with each run: side by side the slowdown tells it. The best of a column is marked.
    """
    best = best_runs([figures for _, figures in rows])
    columns = [
        column for column in FIGURE_COLUMNS
        if column[0] not in PACES and any(getattr(f, column[0]) is not None for _, f in rows)
    ]  # fmt: skip
    heads = "".join(f"<th>{escape(name)}</th>" for _, name, _ in columns)
    body = "".join(
        f"<tr><th>{swatch}{escape(label)}</th><td class=words>{outcome_html(figures.outcome)}</td>"
        + "".join(_figure_cell(figures, key, text(figures), best.get(key) == place) for key, _, text in columns)
        + "</tr>"
        for place, ((label, figures), swatch) in enumerate(zip(rows, swatches, strict=True))
    )
    heads = f"<tr><th>run</th><th class=words>outcome</th>{heads}</tr>"
    return scrolled(f"<thead class=wrapped>{heads}</thead><tbody>{body}</tbody>")


def figures_list(figures: Figures) -> str:
    """One run's figures as large numbers, each with what it means or why it is missing."""
    items = []
    for key, name, text in FIGURE_COLUMNS:
        known = getattr(figures, key) is not None
        note = MEANINGS.get(key, "") if known else figures.why.get(key, "")
        if not known and not note:
            continue
        small = f"<small>{escape(note)}</small>" if note else ""
        items.append(f"<div><dt>{escape(name)}</dt><dd>{escape(text(figures))}{small}</dd></div>")
    return f"<dl class=figures>{''.join(items)}</dl>" if items else ""


def conditions_table(records: Sequence[RunRecord], labels: Sequence[str], swatches: Sequence[str]) -> str:
    """Scenario, workload, hardware, guest, host and versions; a row whose runs differ is marked."""
    heads = "".join(
        f"<th class=words>{swatch}{escape(label)}</th>" for label, swatch in zip(labels, swatches, strict=True)
    )
    body = []
    for group, per_run in conditions(records):
        idle = [set(split_off(facts)[1]) for facts in per_run]
        off = set.intersection(*idle)
        keys = [key for key in dict.fromkeys(key for facts in per_run for key in facts) if key not in off]
        if not keys:
            continue
        body.append(f'<tr class=head><th colspan="{len(records) + 1}">{group}</th></tr>')
        for key in keys:
            values = [facts.get(key, UNKNOWN) for facts in per_run]
            differs = " class=differs" if len(set(values)) > 1 else ""
            cells = "".join(f"<td class=words>{escape(value)}</td>" for value in values)
            body.append(f"<tr{differs}><th>{escape(key)}</th>{cells}</tr>")
        if off:
            names = ", ".join(key for key in per_run[0] if key in off)
            body.append(f'<tr><th>off</th><td class="words wide" colspan="{len(records)}">{escape(names)}</td></tr>')
    return scrolled(f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(body)}</tbody>")


def access_table(summary: Summary) -> str:
    """One run's accesses to memory, a row a window; empty where none were sampled."""
    rows = access_rows(summary)
    if not rows:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS)
    body = "".join(f"<tr><th>{row[0]}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
                   for row in rows)  # fmt: skip
    table = scrolled(f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>")
    return f"{table}<p class=quiet>{escape(NOTE)}</p>"


def disk_table(summary: Summary) -> str:
    """What one run's guest wrote to its disk, and what the disk's mirror took; empty without a disk."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in disk_rows(summary))
    return scrolled(f"<tbody>{rows}</tbody>") if rows else ""


def iterations_table(found: Sequence[Iteration]) -> str:
    """One row an iteration, folded up; of very many the first and the last."""
    if not found:
        return ""
    shown = list(found)
    left_out = ""
    if len(found) > ITERATIONS_SHOWN:
        half = ITERATIONS_SHOWN // 2
        shown = [*found[:half], *found[-half:]]
        left_out = f" (the first and the last {half} of them)"
    rows = "".join(
        f"<tr><td>{i.number}</td><td>{i.seconds:.3f} s</td><td class=words>{i.status}</td>"
        f"<td>{size(i.remaining_bytes)}</td><td>{rate(i.dirty_bytes_per_second)}</td>"
        f"<td>{rate(i.bandwidth_bytes_per_second)}</td>"
        f"<td>{UNKNOWN if i.throttle_percent is None else f'{i.throttle_percent:.0f} %'}</td>"
        f"<td>{duration(i.implied_downtime_seconds)}</td><td class=words>{i.verdict}</td></tr>"
        for i in shown
    )
    heads = "<th>iteration</th><th>at</th><th class=words>status</th><th>remaining</th><th>dirty rate</th>"
    heads += "<th>bandwidth</th><th>throttle</th><th>implied downtime</th><th class=words>verdict</th>"
    table = scrolled(f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>")
    return f"<details><summary>{len(found)} iterations{left_out}</summary>{table}</details>"


def marks_table(marks: Sequence[Mark], origin_ns: int) -> str:
    """The driver's phases and actions with what it acted on, folded up."""
    if not marks:
        return ""
    rows = "".join(
        f"<tr><td>{(mark.time_ns - origin_ns) / 1e9:.3f} s</td><td class=words>{escape(mark.kind)}</td>"
        f"<td class=words>{escape(mark.name)}</td><td class=words>{escape(_detail(mark.detail))}</td></tr>"
        for mark in marks
    )
    heads = "<th>at</th><th class=words>mark</th><th class=words>name</th><th class=words>acted on</th>"
    table = scrolled(f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>")
    return f"<details><summary>What the driver did, and when</summary>{table}</details>"


def scrolled(inner: str) -> str:
    """A table that scrolls inside itself where the page is narrow."""
    return f'<div class=scroll tabindex=0 role=region aria-label="table"><table>{inner}</table></div>'


def _figure_cell(figures: Figures, key: str, text: str, best: bool) -> str:
    why = figures.why.get(key)
    if best:
        return f'<td class=best title="{escape(why or "the least of the completed runs")}">{escape(text)}</td>'
    return f'<td title="{escape(why)}">{escape(text)} *</td>' if why else f"<td>{escape(text)}</td>"


def _detail(detail: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {digits(value) if isinstance(value, float) else value}"
        for key, value in detail.items()
        if value is not None
    )
