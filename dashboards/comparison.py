"""The dashboard "Comparison": two to six scenarios side by side, and their migrations over seconds since the start."""

from __future__ import annotations

from collections.abc import Callable

from grafanalib.core import Dashboard

from dashboards.board import board
from dashboards.campaign import PACE
from dashboards.colours import MEANINGS
from dashboards.dialect import LETTERS, Dialect, Query
from dashboards.expression import Expression, Gauge, Plain, Rate, Ratio
from dashboards.live import GIB, SOURCE
from dashboards.panels import Heading, Shape, against, table
from dashboards.promql import Like, series

UID = "migrascope-comparison"
COLOURS = ("source", "guest", "destination", "throttle", "dirty", "remaining")
"""One meaning's colour for each letter; here a colour means a scenario, and nothing else."""

ANY = "|".join(f"$scenario_{letter}" for letter in LETTERS)


def comparison(dialect: Dialect) -> Dashboard:
    """Make the dashboard for a store."""
    return board(
        dialect,
        uid=UID,
        title="Comparison",
        description="Two to six scenarios: what each cost, and how their migrations went from the start on.",
        variables=("job", "instance", "campaign", *(f"scenario_{letter}" for letter in LETTERS)),
        refresh="",
        since="now-12h",
        marks=False,
        items=[
            Heading(number=100, title="What did each cost, and how much more than scenario A?"),
            _costs(),
            Heading(number=101, title="Over seconds since the migration's start"),
            _over(2, "Remaining memory", "RAM still to be sent.", "bytes", "remaining",
                  lambda where: Gauge(of="migration.remaining_bytes", where=where | SOURCE)),
            _over(3, "Guest: time per GiB", "What the guest pays: time that its workers take for a GiB.", "s", "guest",
                  _pace),
            _over(4, "Throttle", "Share of the guest's vCPU time that auto-converge takes away.", "percentunit",
                  "throttle", lambda where: Gauge(of="migration.throttle_percent", where=where | SOURCE)),
            _over(5, "QEMU: CPU of the source", "CPU time of the source's QEMU (100 % is one core).", "percentunit",
                  "CPU", _cpu),
        ],
    )  # fmt: skip


def _pace(where: dict[str, str]) -> Ratio:
    return Ratio(
        top=Rate(of="guest_xor.seconds", by=(), where=where),
        bottom=Rate(of="guest_xor.bytes", by=(), where=where),
        factor=GIB,
    )


def _cpu(where: dict[str, str]) -> Rate:
    return Rate(of="qemu_cpu[process].cpu_seconds", by=(), where=where | SOURCE)


def _over(
    number: int, title: str, description: str, unit: str, word: str, ask: Callable[[dict[str, str]], Expression]
) -> Shape:
    """Draw one figure of each scenario over the duration that QEMU tells beside it."""
    pairs = []
    for letter, colour in zip(LETTERS, COLOURS, strict=True):
        where = {"scenario": f"$scenario_{letter}"}
        x = Gauge(of="migration.total_seconds", where=where | SOURCE)
        pairs.append(
            (
                Query(ask=_mean(x), legend=f"{letter.upper()} seconds"),
                Query(ask=_mean(ask(where)), legend=f"{letter.upper()} {word}", meaning=colour),
            )
        )
    assert set(COLOURS) <= set(MEANINGS)  # noqa: S101 - a name that is mistyped is found when this is built
    return against(number, title, description, unit, pairs)


def _mean(ask: Expression) -> Plain:
    """One series of a scenario, whichever run of it is under way."""
    query = ask.influxql()
    one_series = query if query is None or "FROM (" in query else query.replace(', "run"', "")
    return Plain(prometheus=f"avg({ask.promql()})", influxdb=one_series)


def _costs() -> Shape:

    def figure(key: str, letters: str = ANY, **where: str) -> str:
        runs = series(key, scenario=Like(letters), **where)
        return f"avg by (scenario) (quantile_over_time(0.5, {runs}[$__range]))"

    def slowdown(letters: str = ANY) -> str:
        migrating, settled = (figure(PACE, letters, phase=phase) for phase in ("migrate", "settle"))
        return f"{migrating} / {settled}"

    def cpu(letters: str = ANY) -> str:
        return figure("summary.cpu_seconds", letters, role="source", kind="process")

    def delta(every: str, first: str) -> Plain:
        return Plain(prometheus=f"({every}) / on () group_left () ({first}) - 1")

    first = "$scenario_a"
    columns = [
        ("total time", "s", figure("summary.total_seconds"), figure("summary.total_seconds", first)),
        ("blackout", "s", figure("summary.blackout_seconds"), figure("summary.blackout_seconds", first)),
        ("slowdown", "suffix: x", slowdown(), slowdown(first)),
        ("CPU seconds, source", "s", cpu(), cpu(first)),
    ]
    queries = []
    for name, unit, every, reference in columns:
        queries.append(Query(ask=Plain(prometheus=every), legend=name, right_unit=unit))
        queries.append(Query(ask=delta(every, reference), legend=f"{name}: more than A", right_unit="percentunit"))
    return table(
        1, "Medians, and how much more than scenario A",
        "Medians over the runs of each scenario in the time shown, each with its difference to scenario A.",
        "short", "scenario", *queries,
    )  # fmt: skip
