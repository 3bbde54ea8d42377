"""Several runs in one figure, aligned at the migration's start: guest and CPU above, remaining bytes below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.colours import run_colour, run_dash
from dashboards.report_figure import Json, base_layout, guest_axis_type, row_axes
from dashboards.report_view import RunView

SHOWN = ("guest", "remaining", "blackout")
"""What an overlay shows at first; every other line of every run waits in the legend."""


def overlay_figure(views: Sequence[RunView], figures: Sequence[Json]) -> Json:
    """Overlay the runs' own figures.

    A trace says `from: [figure, trace]` instead of repeating that trace's points; the page joins them. Each run has
    one colour here, and kinds differ by axis and dash.
    """
    traces: list[Json] = []
    for place, (view, figure) in enumerate(zip(views, figures, strict=True)):
        for number, trace in enumerate(figure["data"]):
            if trace["meta"]["kind"] != "ribbon":
                traces.append(_overlaid(trace, place, number, view.label))
    known = [trace for figure in figures for trace in figure["data"]]
    kind = guest_axis_type(known, "y")
    layout = base_layout() | {"height": 560} | row_axes(kind, (0.47, 1.0), (0.0, 0.42), "@text")
    return {"data": traces, "layout": layout, "meta": {"label": "all runs", "runs": [view.label for view in views]}}


def _overlaid(trace: Json, place: int, number: int, label: str) -> Json:
    colour = f"@{run_colour(place)}"
    kind = trace["meta"]["kind"]
    changed: dict[str, Any] = {
        "from": [place, number],
        "name": f"{label}: {trace['name']}",
        "legendgroup": label,
        "visible": True if kind in SHOWN else "legendonly",
        "meta": trace["meta"] | {"run": label, "short": trace["name"]},
    }
    if kind == "iterations":
        return changed | {"marker": trace["marker"] | {"color": colour}}
    line = trace["line"] | {"color": colour}
    if kind in SHOWN:
        line["dash"] = run_dash(place)
    changed["line"] = line
    if kind == "blackout":
        changed |= {"fillcolor": f"{colour}/0.18", "text": f"{label}: {trace['text']}"}
    return changed
