"""A campaign's report without a campaign: rows with known figures and the state that counts them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dashboards.campaign_report import CampaignReport, campaign_report
from driver.campaign_events import Begun, Ended, Event, Parked, Planned, PlannedCell, Stopped
from driver.campaign_state import CampaignState, fold
from exporter.index import RunRow
from tests.statistics_rows import SECOND, a_row

START_NS = 1_795_395_000 * SECOND


def some_rows(repeats: int = 6) -> list[RunRow]:
    """Three strategies at two bandwidths: on the slow link plain pre-copy never ends, on the fast one it is enough."""
    drawn = random.Random(8)
    rows: list[RunRow] = []
    for bandwidth in (32, 256):
        for strategy, total, blackout, slowdown in (
            ("none", 0.5, 0.05, 1.3), ("post-copy", 1.4, 0.02, 1.2), ("auto-converge", 6.0, 0.06, 14.0),
        ):  # fmt: skip
            for _ in range(repeats):
                noise = drawn.lognormvariate(0, 0.12)
                outcome = "not_converged" if strategy == "none" and bandwidth == 32 else "completed"
                rows.append(
                    a_row(
                        len(rows), strategy, outcome=outcome, total=total * 32 / bandwidth * noise,
                        blackout=blackout * noise, slowdown=slowdown, given={"bandwidth_mib_s": bandwidth},
                        figures={"source_cpu_seconds": total * noise, "transferred_bytes": total * noise * 2e8},
                    )
                )  # fmt: skip
    return rows


def state_of(rows: Sequence[RunRow], *more: Event) -> CampaignState:
    """The state of a campaign that made these runs, each in a cell of its strategy and conditions."""
    names = dict.fromkeys(f"{row.scenario} {row.conditions['bandwidth_mib_s']}" for row in rows)
    cells = tuple(
        PlannedCell(cell=f"c{number}", name=name, strategy=name.split("-")[0], estimate_seconds=3.0)
        for number, name in enumerate(names)
    )
    repeats: dict[str, int] = dict.fromkeys(names, 0)
    events: list[Event] = []
    for row in rows:
        name = f"{row.scenario} {row.conditions['bandwidth_mib_s']}"
        repeats[name] += 1
        cell, now = cells[list(names).index(name)].cell, START_NS + len(events) * 3 * SECOND
        events.append(Begun(time_ns=now, cell=cell, repeat=repeats[name], run=row.run))
        events.append(
            Ended(time_ns=now, cell=cell, repeat=repeats[name], run=row.run, outcome=row.outcome, reason=row.reason,
                  seconds=3.5)
        )  # fmt: skip
    planned = Planned(time_ns=START_NS, cells=cells, repeats=max(repeats.values(), default=0))
    end = Stopped(time_ns=events[-1].time_ns if events else START_NS, finished=True)
    return fold(CampaignState(campaign="night-0123abcd"), [planned, *events, *more, end])


def a_report(rows: Sequence[RunRow] | None = None, *more: Event) -> CampaignReport:
    """A finished campaign's report."""
    found = some_rows() if rows is None else rows
    return campaign_report(
        state_of(found, *more), found, alive=False, order="interleaved", labels={"question": "<which> way & out"}
    )


def parked(reason: str) -> Parked:
    """The first cell is parked."""
    return Parked(time_ns=START_NS, cell="c0", reason=reason)
