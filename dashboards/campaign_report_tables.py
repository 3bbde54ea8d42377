"""The campaign report's tables and strips as HTML: conditions against ways, figures, contests, what gave no answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from dashboards.campaign_words import METRICS, condition_words, rate_words, verdict_meaning, verdict_words
from dashboards.colours import run_colour
from dashboards.document import swatch
from dashboards.report_tables import outcome_html, scrolled
from dashboards.units import UNKNOWN
from driver.campaign_events import Ended
from driver.campaign_state import CampaignState
from exporter.statistics import ANSWERS, Distribution, GroupStatistics
from exporter.statistics_contests import CONVERGENCE, Contest
from exporter.statistics_groups import Value
from exporter.statistics_recommendation import Findings, Recommendation

STRIPS = ("total_seconds", "blackout_seconds", "slowdown", "lost_seconds", "source_cpu_seconds", "sent_bytes_per_gib")
LOG_FROM = 20.0
"""A strip whose greatest value is this many times its least is drawn on a logarithmic axis."""

Ways = Mapping[str, int]
"""Each way with its place, which gives it its colour throughout a report."""


def overview_table(found: Findings, ways: Ways) -> str:
    """Conditions against ways: how often each completed and what it cost; the recommended one is shaded."""
    heads = "".join(f"<th class=words>{swatch(place)}{escape(way)}</th>" for way, place in ways.items())
    rows = []
    for recommendation in found.recommendations:
        cells = "".join(_overview_cell(found, recommendation, way) for way in ways)
        rows.append(f"<tr><th>{escape(condition_words(recommendation.condition))}</th>{cells}</tr>")
    return scrolled(f"<thead><tr><th>condition</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>")


def _overview_cell(found: Findings, recommendation: Recommendation, way: str) -> str:
    one = next(
        (g for g in found.groups if g.group.way == way and g.group.condition == recommendation.condition), None
    )  # fmt: skip
    if one is None:
        return f"<td class=words>{UNKNOWN}</td>"
    picked = " pick" if way == recommendation.way else ""
    cost = one.figures.get(recommendation.decided_by)
    metric = METRICS[recommendation.decided_by]
    more = f"<span class=more>{escape(metric.name)} {escape(metric.text(cost.median))}</span>" if cost else ""
    return f'<td class="words{picked}">{escape(rate_words(one.convergence))}{more}</td>'


def figures_table(groups: Sequence[GroupStatistics], ways: Ways, picked: str | None) -> str:
    """One condition: every figure of each way, with median, interval, 95th percentile and the number of its values."""
    heads = "".join(f"<th class=words>{swatch(ways[g.group.way])}{escape(g.group.way)}</th>" for g in groups)
    completed = "".join(_cell(rate_words(g.convergence), _not_counted(g), g.group.way == picked) for g in groups)
    rows = [f"<tr><th>completed<span class=more>of the runs that answer; 95 % interval</span></th>{completed}</tr>"]
    for name, metric in METRICS.items():
        cells = []
        for one in groups:
            figure = one.figures.get(name)
            text = metric.text(figure.median) if figure else UNKNOWN
            more = _spread(figure, name) if figure else ""
            cells.append(_cell(text, more, one.group.way == picked))
        note = f"<span class=more>{escape(metric.note)}</span>"
        rows.append(f"<tr><th>{escape(metric.name)}{note}</th>{''.join(cells)}</tr>")
    return scrolled(f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>")


def contests_table(found: Sequence[Contest]) -> str:
    """One condition: every pair of ways, with the verdict in each metric."""
    if not found:
        return ""
    pairs = list(dict.fromkeys((contest.first, contest.second) for contest in found))
    names = {CONVERGENCE: "completes", **{name: metric.name for name, metric in METRICS.items()}}
    heads = "".join(f"<th class=words>{escape(name)}</th>" for name in names.values())
    rows = []
    for first, second in pairs:
        of_pair = {contest.metric: contest for contest in found if (contest.first, contest.second) == (first, second)}
        cells = "".join(_verdict_cell(of_pair[name]) for name in names if name in of_pair)
        answers = of_pair[CONVERGENCE]
        against = f"against {second}; n = {answers.first_runs} and {answers.second_runs}"
        rows.append(f"<tr><th>{escape(first)}<span class=more>{escape(against)}</span></th>{cells}</tr>")
    table = scrolled(f"<thead><tr><th>pair</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>")
    return f"<div class=contests>{table}</div>"


def strips(groups: Sequence[GroupStatistics], ways: Ways) -> str:
    """One condition: each run of each way as a dot on one axis a metric, with median and interval."""
    return f'<div class="strips">{"".join(_strip(name, groups, ways) for name in STRIPS)}</div>'


def unanswered_table(state: CampaignState) -> str:
    """Runs that ended without an answer, and cells that were parked, with their reasons."""
    rows = []
    names = {cell.cell: cell.name for cell in state.cells}
    for cell, reason in state.parked_cells:
        rows.append(
            f"<tr><th>{escape(cell.name)}</th><td class=words>parked</td><td class=words>{escape(reason)}</td></tr>"
        )
    rows += [_result_row(one, names) for one in state.results() if one.outcome not in ("completed", "not_converged")]
    if not rows:
        return ""
    return scrolled(
        "<thead><tr><th>cell</th><th class=words>ended</th><th class=words>reason</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody>"
    )


def runs_table(state: CampaignState) -> str:
    """Every run with its cell, outcome and id, folded up."""
    names = {cell.cell: cell.name for cell in state.cells}
    results = list(state.results())
    rows = "".join(
        f"<tr><th>{escape(names[one.cell])} #{one.repeat}</th><td class=words>{outcome_html(one.outcome)}</td>"
        f"<td>{one.seconds:.1f} s</td><td class=words><code>{escape(one.run)}</code></td></tr>"
        for one in results
    )
    table = scrolled(
        "<thead><tr><th>cell and repeat</th><th class=words>outcome</th><th>took</th><th class=words>run</th></tr>"
        f"</thead><tbody>{rows}</tbody>"
    )
    hint = "<p class=quiet>One run in detail: <code>migrascope report RUN -o run.html</code></p>"
    return (
        f"<details><summary>All {len(results)} runs, in the order in which they ended</summary>{hint}{table}</details>"
    )


def common_table(common: Mapping[str, Value], words: Mapping[str, str]) -> str:
    """What all runs had in common; `words` maps a field to its value in words."""
    rows = "".join(f"<tr><td class=words>{escape(words[name])}</td></tr>" for name in common if name in words)
    return f"<details><summary>The same in all runs</summary>{scrolled(f'<tbody>{rows}</tbody>')}</details>"


def _result_row(result: Ended, names: Mapping[str, str]) -> str:
    return (
        f"<tr><th>{escape(names[result.cell])} #{result.repeat}</th>"
        f"<td class=words>{outcome_html(result.outcome)}</td>"
        f"<td class=words>{escape(result.reason or UNKNOWN)} <code>{escape(result.run)}</code></td></tr>"
    )


def _cell(text: str, more: str, picked: bool) -> str:
    parts = " ".join(f"<span>{escape(part)}</span>" for part in more.split("; ") if part)
    small = f"<span class=more>{parts}</span>" if parts else ""
    return f'<td class="words{" pick" if picked else ""}">{escape(text)}{small}</td>'


def _spread(figure: Distribution, name: str) -> str:
    """The interval of the median, the 95th percentile and how many runs have the figure; of one value only that."""
    text, count = METRICS[name].text, f"n = {len(figure.values)}"
    if len(figure.values) == 1:
        return count
    interval = figure.median_interval
    bounds = f"{text(interval[0])} to {text(interval[1])}; " if interval else ""
    return f"{bounds}p95 {text(figure.p95)}; {count}"


def _not_counted(one: GroupStatistics) -> str:
    others = [(outcome, count) for outcome, count in one.outcomes.items() if outcome != "completed"]
    left_out = any(outcome not in ANSWERS for outcome, _ in others)
    parts = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in others]
    return ", ".join(parts) + (" (not counted where no answer)" if left_out else "")


def _verdict_cell(contest: Contest) -> str:
    meaning = verdict_meaning(contest)
    sign = {"good": "✓ ", "bad": "✗ "}.get(meaning, "")
    verdict, rests = verdict_words(contest)
    parts = " ".join(f"<span>{escape(part)}</span>" for part in rests.split("; "))
    more = f"<span class=more>{parts}</span>"
    return f'<td class="words contest {meaning}"><span class=verdict>{sign}{escape(verdict)}</span>{more}</td>'


def _strip(name: str, groups: Sequence[GroupStatistics], ways: Ways) -> str:
    metric = METRICS[name]
    values = [value for one in groups if name in one.figures for value in one.figures[name].values]
    if not values:
        return ""
    logarithmic = min(values) > 0 and max(values) > LOG_FROM * min(values)
    low, high = (min(values), max(values)) if logarithmic else (0.0, max(values) or 1.0)

    def place(value: float) -> float:
        if high == low:
            return 50.0
        if logarithmic:
            return 2 + 96 * math.log(value / low) / math.log(high / low)
        return 2 + 96 * (value - low) / (high - low)

    lines = []
    for one in groups:
        inner = "<span class=none>none completed</span>"
        if figure := one.figures.get(name):
            inner = "".join(
                f'<i class="run" style="left:{place(v):.1f}%" title="{escape(metric.text(v))}"></i>'
                for v in figure.values
            )  # fmt: skip
            if figure.median_interval:
                start, end = (place(bound) for bound in figure.median_interval)
                inner += f'<i class="span" style="left:{start:.1f}%;width:{end - start:.1f}%"></i>'
            inner += f'<i class="median" style="left:{place(figure.median):.1f}%"></i>'
        colour = run_colour(ways[one.group.way])
        way = escape(one.group.way)
        lines.append(
            f'<div class="strip" style="--run:var(--{colour})"><span class="way" title="{way}">{way}</span>'
            f'<span class="axis">{inner}</span></div>'
        )
    ends = f"<span>{escape(metric.text(low))}</span><span>{escape(metric.text(high))}</span>"
    kind = "<small>logarithmic</small>" if logarithmic else ""
    return (
        f"<section><h3>{escape(metric.name)}{kind}</h3>{''.join(lines)}"
        f'<div class="strip ends"><span></span><span class="axis">{ends}</span></div></section>'
    )
