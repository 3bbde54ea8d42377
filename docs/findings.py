"""Draws the pictures of docs/findings.md from a history that holds the campaign docs/findings.toml.

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

from plotly.offline import get_plotlyjs

from dashboards.colours import MEANINGS, RUNS
from dashboards.report_page import inline_json
from driver.datadir import DataDir
from exporter.query import execute

PICTURES = Path(__file__).with_name("findings")
SCREENSHOT = Path(__file__).with_name("screenshot.sh")
WIDTH, HEIGHT = 820, 420
BIN_SECONDS = 0.02
LIMIT_SECONDS = 8.0
"""The campaign's limit on a migration's time: what reached it did not converge."""

Json = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Draw every picture into docs/findings/."""
    data = DataDir.open(Path(arguments[0]) if arguments else None)
    PICTURES.mkdir(exist_ok=True)
    for name, figure in (
        ("iterations", iterations(data)),
        ("throttle", throttle(data)),
        ("compression", compression(data)),
        ("post-copy", post_copy(data)),
    ):
        draw(name, figure)
    return 0


def iterations(data: DataDir) -> Json:
    """The guest's pace by the time since its iteration began: the median over all iterations but the first."""
    rows = execute(
        data,
        """SELECT guest.time_ns, seconds_per_gib * 1000,
                  (SELECT max(i.time_ns) FROM iterations i WHERE i.run = guest.run AND i.time_ns <= guest.time_ns
                   AND i.iteration > 1)
           FROM guest JOIN runs USING (run)
           WHERE comparison = 'iterations' AND guest.phase = 'migrate' ORDER BY guest.time_ns""",
    ).rows
    by_bin: dict[int, list[float]] = defaultdict(list)
    for time_ns, pace, began_ns in rows:
        if began_ns is not None:
            by_bin[int((time_ns - began_ns) / 1e9 / BIN_SECONDS)].append(pace)
    bins = sorted(number for number, paces in by_bin.items() if len(paces) >= 3)
    settled = execute(data, "SELECT settle_seconds_per_gib_mean FROM runs WHERE comparison = 'iterations'").rows[0][0]
    line = _line([number * BIN_SECONDS * 1000 for number in bins], [statistics.median(by_bin[n]) for n in bins],
                 "while migrating", MEANINGS["guest"].light)  # fmt: skip
    flat = _line([0, bins[-1] * BIN_SECONDS * 1000], [settled * 1000] * 2, "settled", MEANINGS["quiet"].light, "dash")
    return _figure([line, flat], "ms since the iteration began (dirty bitmap read)", "guest, ms/GiB")


def throttle(data: DataDir) -> Json:
    """Auto-converge's throttle over time, for guests that write at different rates."""
    rows = execute(
        data,
        """SELECT rate_limit_mib_s, migration_seconds, throttle_percent, outcome
           FROM migration JOIN runs USING (run)
           WHERE comparison = 'auto-converge' AND role = 'source' AND migration_seconds BETWEEN 0 AND 30
                 AND status = 'active' ORDER BY rate_limit_mib_s, migration.time_ns""",
    ).rows
    lines: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    words = {}
    for rate, seconds, percent, outcome in rows:
        words[rate] = f"{rate} MiB/s: {outcome.replace('_', ' ')}"
        lines[rate][0].append(seconds)
        lines[rate][1].append(percent or 0.0)
    return _figure(
        [_line(x, y, words[rate], RUNS[place].light, shape="hv") for place, (rate, (x, y)) in enumerate(lines.items())],
        "seconds since the migration's start", "throttle, %",
    )  # fmt: skip


def compression(data: DataDir) -> Json:
    """How long a migration takes by how much of a page compresses, and by how little of it a write changes."""
    rows = execute(
        data,
        f"""SELECT strategy,
                   CASE strategy WHEN 'compress' THEN compressible_percent ELSE 100 - change_percent END AS share,
                   CASE outcome WHEN 'completed' THEN total_seconds ELSE {LIMIT_SECONDS} END, outcome
            FROM runs WHERE comparison IN ('compression', 'xbzrle') AND strategy IN ('compress', 'xbzrle')
                  AND outcome IN ('completed', 'not_converged')
            ORDER BY strategy, share""",
    ).rows
    names = {"compress": "compression, by the share that compresses", "xbzrle": "XBZRLE, by the share left unchanged"}
    traces = []
    for place, (strategy, name) in enumerate(names.items()):
        mine = [row for row in rows if row[0] == strategy]
        trace = _line([row[1] for row in mine], [row[2] for row in mine], name, RUNS[place].light)
        symbols = ["circle" if row[3] == "completed" else "x" for row in mine]
        traces.append(trace | {"mode": "lines+markers", "marker": {"size": 11, "symbol": symbols}})
    return _figure(traces, "% of each page", f"seconds (x: not converged in {LIMIT_SECONDS:.0f} s)")


def post_copy(data: DataDir) -> Json:
    """What an access to memory took: before, while migrating, in post-copy, and afterwards."""
    windows = {"before": "before", "during": "pre-copy", "post_copy": "post-copy", "after": "after"}
    columns = [f"{window}_access_seconds_{figure}" for window in windows for figure in ("p50", "p99", "max")]
    rows = execute(
        data,
        f"SELECT post_copy_preempt, {', '.join(columns)} FROM runs WHERE comparison = 'post-copy'"
        " ORDER BY post_copy_preempt",
    ).rows
    traces = []
    for preempt, *figures in rows:
        name = "with preempt" if preempt else "without preempt"
        for place, statistic in enumerate(("median", "99 %", "longest")):
            traces.append(
                {
                    "type": "bar", "x": list(windows.values()), "name": f"{name}: {statistic}",
                    "y": [None if value is None else value * 1000 for value in figures[place::3]],
                    "marker": {"color": RUNS[int(preempt)].light, "opacity": (0.35, 0.65, 1.0)[place]},
                }
            )  # fmt: skip
    figure = _figure(traces, "", "one access, ms")
    figure["layout"]["yaxis"]["type"] = "log"
    return figure


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
        subprocess.run([SCREENSHOT, page, picture, str(WIDTH), str(HEIGHT)], check=True, timeout=60)
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
