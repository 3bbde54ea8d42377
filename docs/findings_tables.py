"""The tables of docs/findings.md: medians over the repeats of the campaign docs/findings.toml."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from driver.datadir import DataDir
from exporter import history
from exporter.index import RunRow
from exporter.query import execute
from exporter.selection import Selection
from exporter.statistics import ANSWERS, lost_seconds
from workload.errors import BadValueError

CAMPAIGN = Selection(campaign="findings-*")
MIB = 1 << 20

WORST, STEADY = "rewrites 48 MiB as fast as it can", "writes 40 MiB/s in turn"
Wanted = Mapping[str, float | str]
Figure = Callable[[RunRow], float | None]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the campaign: its runs are those of the comparison with the strategy and these conditions."""

    comparison: str
    strategy: str
    wanted: Wanted


@dataclass(frozen=True, kw_only=True)
class Way:
    """A row of the first table: what a guest does, what is done about it, and the cell that tells what came of it."""

    guest: str
    name: str
    cell: Cell


def way(guest: str, name: str, comparison: str, strategy: str, **wanted: float | str) -> Way:
    """A way, shorter to write."""
    return Way(guest=guest, name=name, cell=Cell(comparison=comparison, strategy=strategy, wanted=wanted))


WAYS = (
    way(WORST, "pre-copy alone", "worst-guest", "none"),
    way(WORST, "post-copy after 3 iterations", "worst-guest", "post-copy"),
    way(WORST, "pause after 3 iterations", "worst-guest", "pause"),
    way(WORST, "auto-converge, from 80 %", "worst-guest", "auto-converge"),
    way(WORST, "auto-converge, from 80 %, over 128 MiB/s", "auto-converge", "auto-converge", bandwidth_mib_s=128,
        auto_converge_initial=80),
    way(WORST, "the same, from 20 % in steps of 10 %", "auto-converge", "auto-converge", bandwidth_mib_s=128,
        auto_converge_initial=20),
    way(WORST, "compression", "worst-guest", "compress"),
    way(WORST, "XBZRLE", "worst-guest", "xbzrle"),
    way(STEADY, "pre-copy alone", "steady-guest", "none"),
    way(STEADY, "post-copy after 3 iterations", "steady-guest", "post-copy"),
    way(STEADY, "pause after 3 iterations", "steady-guest", "pause"),
    way(STEADY, "auto-converge, from 20 % in steps of 10 %", "auto-converge", "auto-converge", rate_limit_mib_s=40),
    way(STEADY, "compression, pages compress by 75 %", "compression", "compress", compressible_percent=75),
    way(STEADY, "compression, pages compress by 0 %", "compression", "compress", compressible_percent=0),
    way(STEADY, "XBZRLE, a write changes 10 % of its page", "xbzrle", "xbzrle", change_percent=10),
    way(STEADY, "XBZRLE, a write changes the whole page", "xbzrle", "xbzrle", change_percent=100),
)  # fmt: skip
"""What the first table and the first picture show, in their order."""


def compressed() -> dict[int, Cell]:
    """The cells of compression by the share of each page that compresses, in percent."""
    return {each: Cell(comparison="compression", strategy="compress", wanted={"compressible_percent": each})
            for each in (0, 25, 50, 75, 90)}  # fmt: skip


def changed() -> dict[int, Cell]:
    """The cells of XBZRLE by the share of its page that a write changes, in percent."""
    return {each: Cell(comparison="xbzrle", strategy="xbzrle", wanted={"change_percent": each})
            for each in (100, 60, 30, 10, 2)}  # fmt: skip


def throttled() -> dict[str, Cell]:
    """The cells of auto-converge by what the guest writes, over which link, and where the throttle begins."""
    guests: dict[str, Wanted] = {
        "40 MiB/s, over 32": {"rate_limit_mib_s": 40},
        "400 MiB/s, over 32": {"rate_limit_mib_s": 400},
        "full speed, over 128, from 20 %": {"bandwidth_mib_s": 128, "auto_converge_initial": 20},
        "full speed, over 128, from 80 %": {"bandwidth_mib_s": 128, "auto_converge_initial": 80},
    }
    return {name: Cell(comparison="auto-converge", strategy="auto-converge", wanted=wanted)
            for name, wanted in guests.items()}  # fmt: skip


def post_copies() -> dict[str, Cell]:
    """The cells of post-copy by what they are called: a cap and preempt, each on and off."""
    return {
        f"{'capped at 32 MiB/s' if capped else 'not capped'}{', preempt' if preempt else ''}": Cell(
            comparison="post-copy", strategy="post-copy",
            wanted={"post_copy_bandwidth_mib_s": 0 if capped else 4000, "post_copy_preempt": preempt},
        )
        for capped in (True, False) for preempt in (False, True)
    }  # fmt: skip


def alone() -> dict[str, Cell]:
    """The cells of pre-copy alone by what the guest does."""
    usual: Wanted = {"rate_limit_mib_s": 40, "pattern": "sequential", "write_percent": 100, "zero_percent": 0}
    guests: dict[str, Wanted] = {
        "rests": {"pattern": "idle", "rate_limit_mib_s": 0},
        "writes 8 MiB/s in turn": {"rate_limit_mib_s": 8},
        "24 MiB/s in turn": {"rate_limit_mib_s": 24},
        "30 MiB/s in turn": {"rate_limit_mib_s": 30},
        "40 MiB/s at random": {"pattern": "random"},
        "40 MiB/s by Zipf's law": {"pattern": "zipf"},
        "40 MiB/s, 90 % of it in a tenth of the memory": {"pattern": "hotset"},
        "accesses of 40 MiB/s, a fifth of them writes": {"write_percent": 20},
        "40 MiB/s, 80 % of the written pages zero": {"zero_percent": 80},
    }
    return {name: Cell(comparison="pre-copy-alone", strategy="none", wanted={**usual, **wanted})
            for name, wanted in guests.items()}  # fmt: skip


class Runs:
    """The campaign's runs that answer, by cell."""

    def __init__(self, data: DataDir) -> None:
        self.data = data
        self._rows = [row for row in CAMPAIGN.of(history.runs(data)) if row.outcome in ANSWERS]

    def of(self, cell: Cell) -> list[RunRow]:
        """The runs of a cell."""
        return [
            row for row in self._rows
            if (row.comparison, row.strategy) == (cell.comparison, cell.strategy)
            and all(row.conditions.get(name) == value for name, value in cell.wanted.items())
        ]  # fmt: skip

    def migrating_cpu(self, row: RunRow) -> float | None:
        """CPU seconds of the source's QEMU beside its vCPUs, over the migration."""
        kinds = history.summary(self.data.run(row.run)).cpu_seconds.get("source", {})
        return kinds["process"] - kinds.get("vcpu", 0.0) if "process" in kinds else None


def completed(rows: Iterable[RunRow]) -> list[RunRow]:
    """Those that came home."""
    return [row for row in rows if row.outcome == "completed"]


def median(rows: Iterable[RunRow], figure: Figure | str) -> float | None:
    """A figure's median over the runs that have it."""
    read: Figure = figure if callable(figure) else lambda row: row.figures.get(figure)
    values = [value for row in rows if (value := read(row)) is not None]
    return statistics.median(values) if values else None


def ways_table(runs: Runs) -> str:
    """Which way brought which guest home, and at what cost."""
    lines, before = [], ""
    for each in WAYS:
        rows = runs.of(each.cell)
        home = completed(rows)
        lines.append([
            each.guest if each.guest != before else "", each.name, f"{len(home)} of {len(rows)}", _seconds(rows),
            in_words(median(home, "blackout_seconds")), _told(median(home, lost_seconds), "{:.1f} s"),
            _told(median(rows, runs.migrating_cpu), "{:.1f} s"), _sent(rows),
        ])  # fmt: skip
        before = each.guest
    head = ["the guest", "way", "home", "after", "dark", "work lost", "QEMU's CPU", "sent"]
    return table(head, lines)


def throttle_table(runs: Runs) -> str:
    """What a guest wrote before, and at each throttle of auto-converge, in MiB/s."""
    throttles = (20, 50, 80, 90)
    lines = []
    for name, cell in throttled().items():
        rows = runs.of(cell)
        paces = _written(runs.data, [row.run for row in rows])
        settled = median(rows, lambda row: 1024 / (row.figures.get("settle_seconds_per_gib_mean") or math.inf))
        home = completed(rows)
        lines.append([name, _told(settled, "{:,.0f}"), *(_told(paces.get(each), "{:,.0f}") for each in throttles),
                      _told(median(home, "max_throttle_percent"), "at {:.0f} %") if home else "never"])  # fmt: skip
    return table(["the guest writes", "before", *(f"at {each} %" for each in throttles), "home"], lines)


def _written(data: DataDir, names: Sequence[str]) -> dict[int, float]:
    """MiB/s that the guest wrote at each throttle in percent, on the host's clock; the median over the runs."""
    if not names:
        return {}
    rows = execute(
        data,
        """WITH replies AS (SELECT run, time_ns, throttle_percent FROM migration
                           WHERE role = 'source' AND status = 'active' AND throttle_percent > 0),
                spans AS (SELECT run, throttle_percent, min(time_ns) AS a, max(time_ns) AS b FROM replies GROUP BY ALL),
                sums AS (SELECT run, throttle_percent, sum(bytes) / 1048576 / ((any_value(b) - any_value(a)) / 1e9) AS w
                         FROM spans JOIN guest USING (run) WHERE time_ns BETWEEN a AND b AND b > a + 200000000
                         GROUP BY ALL)
           SELECT throttle_percent::INTEGER, median(w) FROM sums GROUP BY ALL""",
        Selection(runs=frozenset(names)),
    ).rows
    return {int(percent): float(rate) for percent, rate in rows}


def compression_table(runs: Runs) -> str:
    """Compression by how much of each page compresses."""
    cells = {f"{each} %": cell for each, cell in compressed().items()}
    cells["(without compression)"] = Cell(comparison="steady-guest", strategy="none", wanted={})
    return _share_table(runs, "of each page compresses", cells)


def xbzrle_table(runs: Runs) -> str:
    """XBZRLE by how much of its page a write changes."""
    return _share_table(runs, "of its page a write changes", {f"{each} %": cell for each, cell in changed().items()})


def alone_table(runs: Runs) -> str:
    """Pre-copy alone by what the guest does."""
    lines = []
    for name, cell in alone().items():
        rows = runs.of(cell)
        lines.append([name, f"{len(completed(rows))} of {len(rows)}", _seconds(rows),
                      _told(median(rows, "iterations"), "{:.0f}"), _sent(rows)])  # fmt: skip
    return table(["the guest", "home", "after", "iterations", "sent"], lines)


def access_table(runs: Runs) -> str:
    """What one access to memory took in post-copy and around it, and the blackout before it."""
    windows = {"during": "in pre-copy", "post_copy": "in post-copy", "after": "afterwards"}
    lines = []
    for name, cell in post_copies().items():
        rows = runs.of(cell)
        found = [
            " / ".join(in_words(median(rows, f"{window}_access_seconds_{figure}")) for figure in ("p50", "p99", "max"))
            for window in windows
        ]
        dark = in_words(median(rows, "blackout_seconds"))
        lines.append([name, f"{len(completed(rows))} of {len(rows)}", _seconds(rows), dark, *found])
    head = ["post-copy", "home", "after", "dark", *(f"{words}: median / 99 % / longest" for words in windows.values())]
    return table(head, lines)


def _share_table(runs: Runs, head: str, cells: Mapping[str, Cell]) -> str:
    lines = []
    for name, cell in cells.items():
        rows = runs.of(cell)
        cpu = _told(median(rows, runs.migrating_cpu), "{:.1f} s")
        lines.append([name, f"{len(completed(rows))} of {len(rows)}", _seconds(rows), _sent(rows), cpu])
    return table([head, "home", "after", "sent", "QEMU's CPU"], lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def _seconds(rows: Sequence[RunRow]) -> str:
    home = completed(rows)
    if not home:
        limits = {row.conditions.get("max_time_seconds") for row in rows}
        return f"not in {max(float(each or 0) for each in limits):.0f} s" if limits else "-"
    return _told(median(home, "total_seconds"), "{:.1f} s")


def _sent(rows: Sequence[RunRow]) -> str:
    return _told(median(completed(rows) or rows, "transferred_bytes"), "{:,.0f} MiB", 1 / MIB)


def in_words(seconds: float | None) -> str:
    """A duration as it is best read: 2 µs, 20 ms, 1.6 s."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


def _told(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(value * factor)


TABLES: dict[str, Callable[[Runs], str]] = {
    "ways": ways_table,
    "throttle": throttle_table,
    "compression": compression_table,
    "xbzrle": xbzrle_table,
    "access": access_table,
    "alone": alone_table,
}
"""Each table by the name of its place in the page."""


def filled(page: str, runs: Runs) -> str:
    """The page with every table written anew between `<!-- table NAME -->` and `<!-- end -->`.

    Raises:
        BadValueError: the page has no such place.
    """
    for name, make in TABLES.items():
        start, end = f"<!-- table {name} -->\n", "<!-- end -->"
        before, found, rest = page.partition(start)
        if not found or end not in rest:
            raise BadValueError(f"docs/findings.md: has no place for table {name}: want {start.strip()} ... {end}")
        page = before + start + make(runs) + "\n" + end + rest.partition(end)[2]
    return page
