"""A run's figure: guest and CPU above, remaining bytes and rates below, phases and QEMU's status as a ribbon on top.

Figures are plain Plotly JSON. A colour is written `@name` and becomes a real one in the page, where the reader's
light or dark is known; `/0.2` behind the name is its opacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.report_lines import (
    BLACKOUT,
    CPU_LINES,
    Iteration,
    blackout_words,
    cpu_rows,
    guest_rows,
    iterations,
    progress_rows,
    statuses,
)
from dashboards.report_view import RunView
from dashboards.series import NS, Line, cpu_percent, paces, plain, total_pace
from dashboards.units import MIB, duration, rate, size
from driver.progress import ENDED

Json = dict[str, Any]

PHASE_COLOURS = {"migrate": "@phase-migrate", "switchover": "@phase-switchover", "recover": "@phase-recover"}
SHADED = {"migrate": 0.07, "recover": 0.08}
LOG_FROM = 20.0
"""A guest whose slowest line takes this many times its fastest is drawn on a logarithmic axis."""


def run_figure(view: RunView) -> Json:
    """One run in detail; the page draws it, lets lines be switched and the guest's axis be made logarithmic."""
    traces = [
        *_ribbon(view),
        *_guest(view),
        *_cpu(view),
        *_progress(view),
        *_throttle(view),
        *_iteration_markers(view),
        *_blackout(view),
    ]
    return {"data": traces, "layout": _layout(view, traces), "meta": {"label": view.label}}


def line_trace(line: Line, *, name: str, kind: str, colour: str, axis: str, unit: str, **more: Any) -> Json:
    """One switchable line; `kind` names what it shows, for the legend and its switches."""
    style = {"color": colour, "width": more.pop("width", 1.7), "dash": more.pop("dash", "solid")}
    shape = more.pop("shape", "linear")
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [round(x, 4) for x in line.x],
        "y": [None if y is None else float(f"{y:.5g}") for y in line.y],
        "xaxis": "x",
        "yaxis": axis,
        "line": style | {"shape": shape},
        "hovertemplate": f"%{{y:,.4~g}} {unit}",
        "visible": more.pop("visible", True),
        "meta": {"kind": kind, "thinned": line.thinned_from, **more},
    }


def guest_axis_type(traces: Sequence[Json], axis: str) -> str:
    """`log` where the guest's pace spans more than `LOG_FROM`, else `linear`."""
    known = [y for trace in traces if trace.get("yaxis") == axis and trace["meta"]["kind"].startswith("guest")
             for y in trace["y"] if y]  # fmt: skip
    return "log" if known and max(known) > LOG_FROM * min(known) else "linear"


def _guest(view: RunView) -> list[Json]:
    """Every line of each vCPU, faint, and over them the pace of all; a value holds from the line before it ("vh")."""
    by_vcpu = guest_rows(view)
    traces = [
        line_trace(paces(rows, view.origin_ns), name=f"Guest, each line of vCPU {vcpu}", kind="guest-vcpu",
                   colour="@guest-vcpu", axis="y", unit="ms/GiB", width=1.0, shape="vh")
        for (vcpu,), rows in sorted(by_vcpu.items(), key=lambda item: (len(item[0][0]), item[0]))
    ]  # fmt: skip
    if total := total_pace(by_vcpu, view.origin_ns):
        traces.append(
            line_trace(total, name="Guest in total", kind="guest", colour="@guest", axis="y", unit="ms/GiB", width=2.2,
                       shape="vh")
        )  # fmt: skip
    return traces


def _cpu(view: RunView) -> list[Json]:
    traces = []
    by_thread = cpu_rows(view)
    for role, kind, name, dash, shown in CPU_LINES:
        threads = {index: rows for (r, k, index), rows in by_thread.items() if (r, k) == (role, kind)}
        for index, rows in sorted(threads.items(), key=lambda item: (len(item[0]), item[0])):
            line = cpu_percent(rows, view.origin_ns)
            if not line:
                continue
            number = f" {index}" if kind == "vcpu" or len(threads) > 1 else ""
            traces.append(
                line_trace(line, name=f"{role.capitalize()} {name}{number}", kind=f"cpu-{kind}", colour=f"@{role}",
                           axis="y2", unit="% CPU", dash=dash, width=1.3,
                           visible=True if shown else "legendonly")
            )  # fmt: skip
    return traces


def _progress(view: RunView) -> list[Json]:
    # a migration that has ended goes on to be polled, and QEMU repeats its last figures for ever
    replies = progress_rows(view)
    over = next((place for place, row in enumerate(replies) if row.values["status"] in ENDED), len(replies))
    rows = replies[: over + 1]
    origin = view.origin_ns
    wanted: list[tuple[str, str, str, str, str, str, str, bool]] = [
        ("Remaining", "remaining", "remaining_bytes", "@remaining", "y3", "MiB", "solid", True),
        ("Dirty rate", "dirty", "dirty_bytes_per_second", "@dirty", "y4", "MiB/s", "solid", True),
        ("Bandwidth used", "bandwidth", "bandwidth_bytes_per_second", "@bandwidth", "y4", "MiB/s", "solid", True),
    ]
    traces = []
    for name, kind, field, colour, axis, unit, dash, shown in wanted:
        line = plain(rows, field, origin, 1 / MIB)
        if line:
            traces.append(
                line_trace(line, name=name, kind=kind, colour=colour, axis=axis, unit=unit, dash=dash,
                           shape="hv" if kind == "dirty" else "linear", visible=True if shown else "legendonly")
            )  # fmt: skip
    scenario = view.record.scenario
    if rows and scenario:
        ends = [(rows[0].time_ns - origin) * NS, (rows[-1].time_ns - origin) * NS]
        cap = Line(x=ends, y=[float(scenario.bandwidth_mib_s)] * 2)
        traces.append(
            line_trace(cap, name="Bandwidth cap", kind="cap", colour="@quiet", axis="y4", unit="MiB/s", dash="dash",
                       width=1.2)
        )  # fmt: skip
    return traces


def _throttle(view: RunView) -> list[Json]:
    line = plain(progress_rows(view), "throttle_percent", view.origin_ns)
    if not line:
        return []
    return [
        line_trace(line, name="Throttle", kind="throttle", colour="@throttle", axis="y2", unit="% throttle", width=1.8,
                   shape="hv")
    ]  # fmt: skip


def _iteration_markers(view: RunView) -> list[Json]:
    found = [one for one in iterations(view) if one.remaining_bytes is not None and one.status not in ENDED]
    if not found:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "Iterations",
            "x": [round(iteration.seconds, 4) for iteration in found],
            "y": [round((iteration.remaining_bytes or 0) / MIB, 3) for iteration in found],
            "xaxis": "x",
            "yaxis": "y3",
            "marker": {"symbol": "diamond", "size": 7, "color": "@remaining", "line": {"color": "@ground", "width": 1}},
            "text": [iteration_words(iteration) for iteration in found],
            "hovertemplate": "%{text}<extra></extra>",
            "visible": True,
            "meta": {"kind": "iterations", "thinned": 0},
        }
    ]


def iteration_words(iteration: Iteration) -> str:
    """An iteration's hover: number, status, remaining, throttle, dirty rate."""
    throttle = "no throttle" if not iteration.throttle_percent else f"throttle {iteration.throttle_percent:.0f} %"
    return (
        f"<b>Iteration {iteration.number}</b> · {iteration.status}<br>{size(iteration.remaining_bytes)} remaining<br>"
        f"dirty rate {rate(iteration.dirty_bytes_per_second)}<br>{throttle}"
    )


def _blackout(view: RunView) -> list[Json]:
    span = view.dark_span()
    if span is None:
        return []
    start, end = round(span[0], 4), round(span[1], 4)
    words = blackout_words(view)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": BLACKOUT,
            "x": [start, start, end, end, start],
            "y": [0, 1, 1, 0, 0],
            "fill": "toself",
            "fillcolor": "@blackout/0.22",
            "line": {"color": "@blackout", "width": 1.5},
            "xaxis": "x",
            "yaxis": axis,
            "hoveron": "fills",
            "hoverinfo": "text",
            "text": words,
            "visible": True,
            "meta": {"kind": "blackout", "thinned": 0},
        }
        for axis in ("y6", "y7")
    ]


def _ribbon(view: RunView) -> list[Json]:
    rows = [("phase", name, start, end, PHASE_COLOURS.get(name, "@phase-before")) for name, start, end in view.phases()]
    rows += [("QEMU", status, start, end, _status_colour(status)) for status, start, end in statuses(view)]
    if not rows:
        return []
    return [
        {
            "type": "bar",
            "orientation": "h",
            "name": "Phases and status",
            "y": [row[0] for row in rows],
            "base": [round(row[2], 4) for row in rows],
            "x": [round(row[3] - row[2], 4) for row in rows],
            "text": [row[1] for row in rows],
            "hovertext": [
                f"<b>{row[1]}</b> ({'phase' if row[0] == 'phase' else 'status of query-migrate'})<br>"
                f"from {row[2]:.3f} s, {duration(row[3] - row[2])}"
                for row in rows
            ],
            "hoverinfo": "text",
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "constraintext": "inside",
            "insidetextfont": {"color": "@text", "size": 11},
            "marker": {"color": [f"{row[4]}/0.35" for row in rows], "line": {"color": "@ground", "width": 1}},
            "width": 0.86,
            "xaxis": "x",
            "yaxis": "y5",
            "visible": True,
            "meta": {"kind": "ribbon", "thinned": 0},
        }
    ]


def _status_colour(status: str) -> str:
    if status.startswith("postcopy"):
        return "@phase-recover"
    if status in ("device", "pre-switchover", "failed"):
        return "@phase-switchover"
    return "@phase-migrate" if status == "active" else "@phase-before"


def _layout(view: RunView, traces: Sequence[Json]) -> Json:
    shapes = [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": start, "x1": end, "y0": 0, "y1": 0.9, "layer": "below",
         "line": {"width": 0}, "fillcolor": f"{PHASE_COLOURS[name]}/{SHADED[name]}"}
        for name, start, end in view.phases() if name in SHADED
    ]  # fmt: skip
    layout = base_layout() | {"height": 640, "shapes": shapes, "annotations": _blackout_label(view)}
    layout |= row_axes(guest_axis_type(traces, "y"), (0.46, 0.89), (0.0, 0.41))
    if view.phases():
        layout["xaxis"]["range"] = [view.phases()[0][1] - 0.1, view.last_seconds() + 0.1]
    layout["yaxis5"] = {
        "domain": [0.91, 1], "fixedrange": True, "tickfont": {"color": "@quiet", "size": 11}, "showgrid": False,
        "zeroline": False, "categoryorder": "array", "categoryarray": ["QEMU", "phase"],
    }  # fmt: skip
    return layout


def row_axes(
    guest_type: str, upper: tuple[float, float], lower: tuple[float, float], colour: str | None = None
) -> Json:
    """The axes of both rows: guest and CPU, remaining and rates, and a hidden one of each for the blackout's band.

    `colour` is every title's where one colour stands for a run; without it a title has its line's.
    """
    first = {"zeroline": False, "gridcolor": "@grid", "linecolor": "@grid", "tickfont": {"color": "@quiet"}}
    over = first | {"showgrid": False, "side": "right", "rangemode": "tozero", "tickmode": "auto"}
    hidden = {"visible": False, "range": [0, 1], "fixedrange": True}
    guest = {"type": guest_type} | ({} if guest_type == "log" else {"rangemode": "tozero"})
    return {
        "yaxis": first | _title("guest, ms/GiB", colour or "@guest") | guest | {"domain": list(upper)},
        "yaxis2": over | _title("CPU, % of a core", colour or "@source") | {"overlaying": "y"},
        "yaxis3": first | _title("remaining, MiB", colour or "@remaining")
        | {"domain": list(lower), "rangemode": "tozero"},
        "yaxis4": over | _title("MiB/s", colour or "@dirty") | {"overlaying": "y3"},
        "yaxis6": hidden | {"overlaying": "y"},
        "yaxis7": hidden | {"overlaying": "y3"},
    }  # fmt: skip


def base_layout() -> Json:
    """What every figure shares: fonts, margins, the time axis, hover."""
    return {
        "paper_bgcolor": "@ground",
        "plot_bgcolor": "@ground",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@text"},
        "margin": {"l": 66, "r": 62, "t": 34, "b": 46},
        "showlegend": False,
        "uniformtext": {"mode": "hide", "minsize": 9},
        "barmode": "overlay",
        "hovermode": "x",
        "hoverdistance": 30,
        "hoverlabel": {"bgcolor": "@ground", "bordercolor": "@quiet", "font": {"color": "@text", "size": 12},
                       "namelength": -1},
        "dragmode": "zoom",
        "uirevision": "kept",
        "xaxis": {
            "title": {"text": "seconds since the migration's start", "font": {"color": "@quiet"}}, "zeroline": True,
            "zerolinecolor": "@quiet", "zerolinewidth": 1, "gridcolor": "@grid", "tickfont": {"color": "@quiet"},
            "hoverformat": ".3f", "anchor": "free", "position": 0, "ticksuffix": " s",
            "showspikes": True, "spikemode": "across", "spikethickness": 1, "spikecolor": "@quiet", "spikedash": "dot",
            "spikesnap": "cursor",
        },
    }  # fmt: skip


def _title(text: str, colour: str) -> Json:
    return {"title": {"text": text, "font": {"color": colour, "size": 12}, "standoff": 6}}


def _blackout_label(view: RunView) -> list[Json]:
    span = view.dark_span()
    if span is None:
        return []
    return [
        {
            "x": (span[0] + span[1]) / 2, "y": 0.89, "xref": "x", "yref": "paper", "yanchor": "top", "xanchor": "left",
            "showarrow": False, "text": blackout_words(view), "font": {"color": "@blackout", "size": 12},
            "bgcolor": "@ground/0.8", "xshift": 4,
        }
    ]  # fmt: skip
