"""The dashboard "Campaign": how far it is, how its strategies fare, and which runs deserve a look."""

from __future__ import annotations

from typing import Any

from grafanalib.core import Dashboard

from dashboards import influxql
from dashboards.board import board
from dashboards.dialect import Dialect, Query
from dashboards.expression import Gauge, Plain
from dashboards.live import UID as LIVE_RUN
from dashboards.panels import Heading, Shape, bars, figure, lines, matrix, table
from dashboards.promql import chosen_info, series

UID = "migrascope-campaign"
LOOK_BACK = "[$__range:10s]"
"""A run's final figures stay for at least 10 s, so that no run falls between two looks."""

PACE = "summary.{phase}_seconds_per_gib_mean"


def campaign(dialect: Dialect) -> Dashboard:
    """Make the dashboard for a store."""
    return board(
        dialect,
        uid=UID,
        title="Campaign",
        description="A campaign's progress, and what its runs say of each strategy.",
        variables=("job", "instance", "campaign", "scenario", "run"),
        refresh="10s",
        since="now-12h",
        marks=False,
        items=[
            Heading(number=100, title="How far is it?"),
            *_progress(),
            Heading(number=101, title="How do the strategies fare?"),
            _outcomes(), _failures(), _map(), _total(), _blackout(), _downtime(), _slowdown(),
            Heading(number=102, title="Which runs deserve a look?"),
            _slowest(), _darkest(), _parked(),
        ],
    )  # fmt: skip


def _progress() -> list[Shape]:
    def total(field: str) -> str:
        return f"sum({series(f'campaign.{field}')})"

    return [
        figure(1, "Done", "Share of the planned runs that have ended.", "percentunit",
               Query(ask=Plain(prometheus=f"{total('finished')} / {total('planned')}"), legend="done")),
        figure(2, "Left", "Runs still to come, those of parked cells left out.", "short",
               Query(ask=Plain(prometheus=total("left")), legend="left")),
        figure(3, "Ends in", "Estimated from the runs that have ended.", "s",
               Query(ask=Plain(prometheus=f"max({series('campaign.eta')})"), legend="ends in")),
        figure(4, "Did not converge", "Share of the ended runs that reached a limit.", "percentunit",
               Query(ask=Plain(prometheus=f"{total('not_converged')} / ({total('finished')} > 0)"),
                     legend="not converged"), steps=((0.2, "undecided"), (0.5, "bad"))),
        figure(5, "Failed", "Share of the ended runs with any outcome other than completed and not converged.",
               "percentunit",
               Query(ask=Plain(prometheus=f"{total('failed')} / ({total('finished')} > 0)"),
                     legend="failed"), steps=((0.05, "undecided"), (0.2, "bad"))),
        figure(6, "Parked cells", "Cells given up after failures in a row.", "short",
               Query(ask=Plain(prometheus=total("parked")), legend="parked"), steps=((1, "bad"),)),
    ]  # fmt: skip


def _by_strategy(field: str) -> Plain:
    return Plain(prometheus=f"sum by (strategy) ({series(f'campaign.{field}')})")


def _outcomes() -> Shape:
    return bars(
        7, "Outcomes by strategy",
        "Runs that have ended, by strategy: completed, not converged (a limit was reached), failed in any other way.",
        "short", "strategy",
        Query(ask=_by_strategy("completed"), legend="completed", meaning="good"),
        Query(ask=_by_strategy("not_converged"), legend="not converged", meaning="bad"),
        Query(ask=_by_strategy("failed"), legend="failed", meaning="undecided"),
        stacked=True,
    )  # fmt: skip


def _failures() -> Shape:
    counter = series("campaign.not_converged")
    rows = f'FROM "event" WHERE $timeFilter AND {influxql.CHOSEN} AND "name" = \'outcome.not_converged\''
    return lines(
        8, "Failures to converge over time",
        "Runs that reached a limit in each interval, by strategy (in InfluxDB: by scenario).",
        "short",
        Query(
            ask=Plain(
                prometheus=f"sum by (strategy) (increase({counter}[$__rate_interval]))",
                influxdb=f'SELECT sum("count") {rows} GROUP BY time($__interval), "scenario" fill(0)',
            ),
            legend="{{strategy}}{{scenario}}",
        ),
    )  # fmt: skip


def _map() -> Shape:
    outcome = series("run.outcome", state="completed")
    joined = f"{outcome} * on (job, instance, vm) group_left (strategy, bandwidth_mib_s) {chosen_info()}"
    return matrix(
        9, "Share of runs that completed: strategy by bandwidth",
        "Rows are strategies, columns caps on bandwidth in MiB/s; a cell is the share of its runs that completed.",
        "percentunit", "strategy", "bandwidth_mib_s",
        Query(ask=Plain(prometheus=f"avg by (strategy, bandwidth_mib_s) (avg_over_time(({joined}){LOOK_BACK}))"),
              legend="completed"),
        steps=((0.0, "bad"), (0.5, "undecided"), (0.9, "good")),
    )  # fmt: skip


def _spread(key: str, field: str | None, source: str = "migration", more: str = "") -> tuple[Query, Query]:
    """The median and the 95th percentile of a final figure over a scenario's runs."""

    def over(share: float) -> Plain:
        percentile = None
        if field:
            rows = f'FROM "{source}" WHERE $timeFilter AND {influxql.CHOSEN}{more}'
            inner = f'SELECT {field} AS "value" {rows} GROUP BY "run", "scenario"'
            name = "median" if share == 0.5 else "95 %"
            chosen = f'percentile("value", {share * 100:.0f}) AS "{name}"'
            percentile = f'SELECT {chosen} FROM ({inner}) GROUP BY "scenario"'  # noqa: S608 - fixed words
        return Plain(
            prometheus=f"avg by (scenario) (quantile_over_time({share}, {series(key)}[$__range]))", influxdb=percentile
        )

    return (
        Query(ask=over(0.5), legend="median", meaning="guest"),
        Query(ask=over(0.95), legend="95 %", meaning="guest-vcpu"),
    )


FINISHED = " AND \"role\" = 'source' AND \"status\" = 'completed'"


def _total() -> Shape:
    return bars(
        10, "Total time of a migration, by scenario", "QEMU's total time over the runs of a scenario.", "s", "scenario",
        *_spread("summary.total_seconds", 'max("total_seconds")', more=FINISHED),
    )  # fmt: skip


def _blackout() -> Shape:
    shift = 'percentile("offset_seconds", 99) - percentile("offset_seconds", 1)'
    return bars(
        11, "Blackout, by scenario",
        "How long the guest was dark, by its own ticks (in InfluxDB: how far its clock fell behind the host's).",
        "s", "scenario",
        *_spread("summary.blackout_seconds", shift, source="guest_tick"),
    )  # fmt: skip


def _downtime() -> Shape:
    return bars(
        12, "QEMU's downtime, by scenario", "QEMU's own figure; what it does not know of it misses.", "s", "scenario",
        *_spread("summary.qemu_downtime_seconds", 'max("downtime_seconds")', more=FINISHED),
    )  # fmt: skip


def _slowdown() -> Shape:
    settled, migrating = (series(PACE, phase=phase) for phase in ("settle", "migrate"))

    def over(share: float) -> Plain:
        ratio = f"({migrating} / ignoring (phase) {settled})"
        return Plain(prometheus=f"avg by (scenario) (quantile_over_time({share}, {ratio}{LOOK_BACK}))")

    return bars(
        13, "Guest: slower while migrating, by scenario",
        "Mean time per GiB from the migration's start to STOP, over that of the settled guest: 1 is no slowdown.",
        "suffix: x", "scenario",
        Query(ask=over(0.5), legend="median", meaning="guest"),
        Query(ask=over(0.95), legend="95 %", meaning="guest-vcpu"),
    )  # fmt: skip


def _of_run(figure: str, pick: str = "max") -> str:
    """A figure of each run over the dashboard's time: a run's id stands only in its info."""
    joined = f"({figure}) * on (job, instance, vm) group_left (run, strategy) {chosen_info()}"
    return f"{pick} by (run, scenario, strategy) ({pick}_over_time(({joined}){LOOK_BACK}))"


def _worst(number: int, title: str, description: str, column: str, key: str) -> Shape:
    """Ten runs with the highest figure, each with a link to its own time on the live dashboard."""
    begin = f"{series('run.phase_start', phase='settle')} * 1000"
    end = f"{series('run.phase_start', phase='end')} * 1000 + 5000"
    link: dict[str, Any] = {
        "matcher": {"id": "byName", "options": "run"},
        "properties": [
            {
                "id": "links",
                "value": [
                    {
                        "title": "Show this run live, at its time",
                        "url": f"/d/{LIVE_RUN}?var-run=${{__data.fields.run}}&from=${{__data.fields.begin}}"
                        "&to=${__data.fields.end}",
                    }
                ],
            }
        ],
    }
    ask = _of_run(series(key))
    return table(
        number, title, description, "short", "run",
        Query(ask=Plain(prometheus=f"topk(10, {ask})"), legend=column, right_unit="s"),
        Query(ask=Plain(prometheus=_of_run(begin, "min")), legend="begin"),
        Query(ask=Plain(prometheus=_of_run(end)), legend="end"),
        sort=column, overrides=[link], hidden=("begin", "end"), width=12,
    )  # fmt: skip


def _slowest() -> Shape:
    return _worst(14, "The slowest runs", "Runs by total time; a run's id leads to its time on the live dashboard.",
                  "total time", "summary.total_seconds")  # fmt: skip


def _darkest() -> Shape:
    return _worst(15, "The darkest runs", "Runs by blackout; a run's id leads to its time on the live dashboard.",
                  "blackout", "summary.blackout_seconds")  # fmt: skip


def _parked() -> Shape:
    return lines(
        16, "Parked cells over time", "Cells given up after failures in a row, by campaign.", "short",
        Query(ask=Gauge(of="campaign.parked"), legend="{{campaign}}", meaning="bad"), width=24,
    )  # fmt: skip
