"""Draws the pictures of docs/findings.md and writes its tables, from a history with the campaign docs/findings.toml.

Run it as `python docs/findings.py [DATA_DIR]`; docs/screenshot.sh takes the pictures, and so needs the cached browser.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from findings_tables import (
    CAMPAIGN,
    WAYS,
    Runs,
    changed,
    completed,
    compressed,
    filled,
    in_words,
    median,
    post_copies,
    throttled,
)
from plotly.offline import get_plotlyjs

from dashboards.colours import MEANINGS, RUNS
from dashboards.report_page import inline_json
from driver.datadir import DataDir
from exporter.query import execute
from exporter.selection import Selection

PAGE = Path(__file__).with_suffix(".md")
PICTURES = Path(__file__).with_name("findings")
SCREENSHOT = Path(__file__).with_name("screenshot.sh")
WIDTH, HEIGHT = 820, 420
BIN_SECONDS = 0.02
LIMIT_SECONDS = 8.0
"""The campaign's limit on a migration's time: what reached it did not converge."""

Json = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Draw every picture into docs/findings/, and write the page's tables."""
    data = DataDir.open(Path(arguments[0]) if arguments else None)
    runs = Runs(data)
    PICTURES.mkdir(exist_ok=True)
    for name, figure in (
        ("ways", ways(runs)),
        ("iterations", iterations(data)),
        ("throttle", throttle(runs)),
        ("compression", compression(runs)),
        ("post-copy", post_copy(runs)),
    ):
        draw(name, figure)
    PAGE.write_text(filled(PAGE.read_text(), runs))
    print(PAGE)
    return 0


def ways(runs: Runs) -> Json:
    """Seconds until each guest was home, by what was done about it."""
    words: list[str] = []
    seconds: list[float] = []
    colours: list[str] = []
    for each in WAYS:
        rows = runs.of(each.cell)
        home, dark = completed(rows), median(completed(rows), "blackout_seconds")
        limit = max(float(row.conditions["max_time_seconds"] or 0) for row in rows)
        all_home = len(home) * 2 > len(rows)
        seconds.append(median(home, "total_seconds") or limit if all_home else limit)
        words.append(f"{seconds[-1]:.1f} s, dark {in_words(dark)}" if all_home else f"not in {limit:.0f} s")
        colours.append(MEANINGS["destination" if all_home else "grid"].light)
    bars = {
        "type": "bar", "orientation": "h", "x": seconds, "text": words, "textposition": "outside", "cliponaxis": False,
        "y": [[each.guest.replace("as fast", "<br>as fast") for each in WAYS], [each.name for each in WAYS]],
        "marker": {"color": colours}, "showlegend": False,
    }  # fmt: skip
    figure = _figure([bars], "seconds until home (grey: never)", "")
    figure["layout"] |= {"height": 560, "margin": {"l": 8, "r": 90, "t": 12, "b": 56}, "bargap": 0.3}
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "automargin": True, "dividercolor": "#ffffff"}
    return figure


def iterations(data: DataDir) -> Json:
    """The guest's pace by the time since its iteration began: the median over all iterations but the first."""
    rows = execute(
        data,
        """SELECT guest.time_ns, seconds_per_gib * 1000,
                  (SELECT max(i.time_ns) FROM iterations i WHERE i.run = guest.run AND i.time_ns <= guest.time_ns
                   AND i.iteration > 1)
           FROM guest JOIN runs USING (run)
           WHERE comparison = 'iterations' AND guest.phase = 'migrate' ORDER BY guest.time_ns""",
        CAMPAIGN,
    ).rows
    by_bin: dict[int, list[float]] = defaultdict(list)
    for time_ns, pace, began_ns in rows:
        if began_ns is not None:
            by_bin[int((time_ns - began_ns) / 1e9 / BIN_SECONDS)].append(pace)
    fullest = max(map(len, by_bin.values()))
    bins = sorted(number for number, paces in by_bin.items() if len(paces) * 2 >= fullest)
    (settled,) = execute(
        data, "SELECT median(settle_seconds_per_gib_mean) FROM runs WHERE comparison = 'iterations'", CAMPAIGN
    ).rows[0]
    line = _line([(number + 0.5) * BIN_SECONDS * 1000 for number in bins],
                 [statistics.median(by_bin[n]) for n in bins], "while migrating", MEANINGS["guest"].light)  # fmt: skip
    ends: list[float] = [0, (bins[-1] + 1) * BIN_SECONDS * 1000]
    flat = _line(ends, [settled * 1000] * 2, "settled", MEANINGS["quiet"].light, "dash")
    figure = _figure([line, flat], "ms since the iteration began (dirty bitmap read)", "guest, ms/GiB")
    figure["layout"]["yaxis"]["rangemode"] = "normal"
    return figure


def throttle(runs: Runs) -> Json:
    """Auto-converge's throttle over time, of each guest in the run of median length."""
    traces = []
    for place, (name, cell) in enumerate(throttled().items()):
        rows = runs.of(cell)
        middle = sorted(rows, key=lambda row: row.figures["total_seconds"] or 0)[len(rows) // 2]
        points = execute(
            runs.data,
            "SELECT migration_seconds, coalesce(throttle_percent, 0) FROM migration"
            " WHERE role = 'source' AND status = 'active' AND migration_seconds >= 0 ORDER BY time_ns",
            Selection(runs=frozenset({middle.run})),
        ).rows
        outcome = "home" if middle.outcome == "completed" else "never home"
        line = _line([x for x, _ in points], [y for _, y in points], f"{name}: {outcome}", RUNS[place].light,
                     "dash" if place == 1 else "solid", "hv")  # fmt: skip
        traces.append(line)
        if middle.outcome == "completed":
            end = {"x": [points[-1][0]], "y": [points[-1][1]], "mode": "markers", "showlegend": False}
            traces.append(line | end | {"marker": {"size": 11, "color": RUNS[place].light}})
    return _figure(traces, "seconds since the migration's start (dot: the guest is home)", "throttle, %")


def compression(runs: Runs) -> Json:
    """How long a migration takes by how much of a page compresses, and by how little of it a write changes."""
    series = (
        ("compression, by the share that compresses", compressed()),
        ("XBZRLE, by the share left unchanged", {100 - each: cell for each, cell in changed().items()}),
    )
    traces = []
    for place, (name, cells) in enumerate(series):
        found = [runs.of(cell) for cell in cells.values()]
        shares: list[float] = list(cells)
        home = [len(completed(rows)) * 2 > len(rows) for rows in found]
        seconds = [
            (median(completed(rows), "total_seconds") or LIMIT_SECONDS) if came else LIMIT_SECONDS
            for rows, came in zip(found, home, strict=True)
        ]
        trace = _line(shares, seconds, name, RUNS[place].light)
        symbols = ["circle" if came else "x" for came in home]
        traces.append(trace | {"mode": "lines+markers", "marker": {"size": 11, "symbol": symbols}})
    return _figure(traces, "% of each page", f"seconds (x: never home in {LIMIT_SECONDS:.0f} s)")


def post_copy(runs: Runs) -> Json:
    """What an access to memory took in post-copy: its median, 99 % and longest, by cap and preempt."""
    cells = post_copies()
    traces = []
    for figure, words, meaning in (
        ("p50", "median", "grid"),
        ("p99", "99 %", "guest-vcpu"),
        ("max", "longest", "guest"),
    ):
        found = [median(runs.of(cell), f"post_copy_access_seconds_{figure}") for cell in cells.values()]
        before = [median(runs.of(cell), f"before_access_seconds_{figure}") for cell in cells.values()]
        traces.append(
            {
                "type": "bar", "x": ["before it", *(name.replace(", ", "<br>") for name in cells)], "name": words,
                "y": [statistics.median([each for each in before if each is not None]) * 1000,
                      *(None if value is None else value * 1000 for value in found)],
                "marker": {"color": MEANINGS[meaning].light},
            }
        )  # fmt: skip
    layout = _figure(traces, "", "one access to memory, ms")
    layout["layout"]["yaxis"] |= {"type": "log", "dtick": 1}
    return layout


def draw(name: str, figure: Json) -> None:
    """Write one picture."""
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "page.html"
        page.write_text(
            f'<!doctype html><meta charset="utf-8"><body style="margin:0"><div id="f"></div>'
            f"<script>{get_plotlyjs()}</script><script>const f={inline_json(figure)};"
            "Plotly.newPlot('f',f.data,f.layout,{staticPlot:true})</script>"
        )
        picture = PICTURES / f"{name}.png"
        size = map(str, (WIDTH, figure["layout"]["height"]))
        subprocess.run([SCREENSHOT, page, picture, *size], check=True, timeout=60)
    print(picture)


def _line(x: list[float], y: list[float], name: str, colour: str, dash: str = "solid", shape: str = "linear") -> Json:
    style = {"color": colour, "width": 2.4, "dash": dash, "shape": shape}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style}


def _figure(traces: list[Json], x_title: str, y_title: str) -> Json:
    grid = {"gridcolor": MEANINGS["grid"].light, "zeroline": False}
    return {
        "data": traces,
        "layout": {
            "width": WIDTH, "height": HEIGHT, "margin": {"l": 64, "r": 16, "t": 12, "b": 96},
            "paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff",
            "font": {"family": "system-ui, sans-serif", "size": 14, "color": MEANINGS["text"].light},
            "showlegend": True, "legend": {"orientation": "h", "y": -0.2},
            "xaxis": grid | {"title": {"text": x_title}},
            "yaxis": grid | {"title": {"text": y_title}, "rangemode": "tozero"},
        },
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
