"""The dashboard "Exporter and host": can what the others show be believed?"""

from __future__ import annotations

from grafanalib.core import Dashboard

from dashboards.board import board
from dashboards.dialect import Dialect, Query
from dashboards.expression import Gauge, Plain, Quantile, Rate
from dashboards.panels import Heading, Shape, figure, lines, states
from dashboards.promql import series

UID = "migrascope-exporter-and-host"


def exporter_and_host(dialect: Dialect) -> Dashboard:
    """Make the dashboard. Only Prometheus holds what the exporter tells of itself."""
    return board(
        dialect,
        uid=UID,
        title="Exporter and host",
        description="Whether the exporter sees all that it should, in time, and what the host has left.",
        variables=("job", "instance"),
        refresh="10s",
        since="now-30m",
        marks=False,
        items=[
            Heading(number=100, title="Can it be believed?"),
            *_answers(),
            Heading(number=101, title="Sources and samples"),
            _sources(), _lateness(), _samples(), _reading(),
            Heading(number=102, title="Journal and mirrors"),
            _journal(), _lag(), _mirrored(), _lost(),
            Heading(number=103, title="The host"),
            _cpu(), _pressure(), _memory(), _disk(),
        ],
    )  # fmt: skip


def _answers() -> list[Shape]:
    return [
        figure(1, "Runs watched", "Runs that are attached now.", "short",
               Query(ask=Gauge(of="exporter.attached_runs"), legend="{{instance}}")),
        figure(2, "Sources down", "Monitors, consoles and threads of attached runs that do not answer.", "short",
               Query(ask=Plain(prometheus=f"sum(1 - {series('exporter.source_up')}) or vector(0)"), legend="down"),
               steps=((1, "bad"),)),
        figure(3, "Late by (99 %)", "99 of 100 samples are taken within this of their time.", "s",
               Query(ask=Quantile(of="exporter.lateness", share=0.99), legend="late"),
               steps=((0.02, "undecided"), (0.1, "bad"))),
        figure(4, "Samples lost", "Samples that no journal could take, ever.", "short",
               Query(ask=Plain(prometheus=f"sum({series('exporter.journal_lost_samples')})"), legend="lost"),
               steps=((1, "bad"),)),
        figure(5, "Mirror lag", "Age of what the slowest mirror has yet to write.", "s",
               Query(ask=Plain(prometheus=f"max({series('exporter.mirror_lag')})"), legend="lag"),
               steps=((30, "undecided"), (300, "bad"))),
        figure(6, "Free for data", "Share of the data directory's file system that is free.", "percentunit",
               Query(ask=Plain(prometheus=f"min({series('host.data_free_bytes')} / {series('host.data_size_bytes')})"),
                     legend="free"),
               steps=((0.0, "bad"), (0.05, "undecided"), (0.15, "good"))),
    ]  # fmt: skip


def _rate(key: str, *by: str) -> Rate:
    return Rate(of=key, by=("instance", *by))


def _sources() -> Shape:
    return states(
        7, "Sources that answer", "Each source of each attached run: a bar while it answers.",
        Query(ask=Plain(prometheus=f"{series('exporter.source_up')} == 1"),
              legend="{{vm}} {{role}} {{source}}", meaning="good"),
    )  # fmt: skip


def _lateness() -> Shape:
    return lines(
        8, "Lateness of sampling", "How late samples are taken: half of them, and 99 of 100, by source.", "s",
        Query(ask=Quantile(of="exporter.lateness", share=0.5, by=("source",)), legend="{{source}} median",
              meaning="guest"),
        Query(ask=Quantile(of="exporter.lateness", share=0.99, by=("source",)), legend="{{source}} 99 %",
              meaning="source"),
    )  # fmt: skip


def _samples() -> Shape:
    return lines(
        9, "Samples written", "Samples that the journal has acknowledged, by measurement.", "cps",
        Query(ask=_rate("exporter.samples", "measurement"), legend="{{measurement}}"),
    )  # fmt: skip


def _reading() -> Shape:
    return lines(
        10, "Failures and skipped ticks",
        "Failures at a source's boundary, ticks skipped as the one before ran late, and parts of /metrics that were "
        "left out.",
        "cps",
        Query(ask=_rate("exporter.source_errors", "source"), legend="{{source}} failures", meaning="bad"),
        Query(ask=_rate("exporter.skipped", "source"), legend="{{source}} skipped", meaning="undecided"),
        Query(ask=_rate("exporter.scrape_errors", "part"), legend="{{part}} left out of /metrics", meaning="source"),
    )  # fmt: skip


def _journal() -> Shape:
    return lines(
        11, "Journal", "Left: bytes written. Right: failed writes (retried) and samples lost.", "Bps",
        Query(ask=_rate("exporter.journal_bytes"), legend="{{instance}} written", meaning="guest"),
        Query(ask=_rate("exporter.journal_errors"), legend="{{instance}} failed writes", right_unit="cps",
              meaning="undecided"),
        Query(ask=_rate("exporter.journal_lost_samples"), legend="{{instance}} lost", right_unit="cps", meaning="bad"),
    )  # fmt: skip


def _lag() -> Shape:
    return lines(
        12, "Mirrors: lag and what waits",
        "Left: age of the newest sample acknowledged. Right: journal yet to be sent.",
        "s",
        Query(ask=Gauge(of="exporter.mirror_lag"), legend="{{mirror}} lag", meaning="source"),
        Query(ask=Gauge(of="exporter.mirror_waiting_bytes"), legend="{{mirror}} waiting", right_unit="bytes",
              meaning="remaining"),
    )  # fmt: skip


def _mirrored() -> Shape:
    return lines(
        13, "Mirrors: acknowledged and retried",
        "Left: samples that a mirror acknowledged. Right: requests that failed and were sent again.", "cps",
        Query(ask=_rate("exporter.mirror_samples", "mirror"), legend="{{mirror}} acknowledged", meaning="good"),
        Query(ask=_rate("exporter.mirror_retries", "mirror"), legend="{{mirror}} retries", right_unit="cps",
              meaning="undecided"),
    )  # fmt: skip


def _lost() -> Shape:
    return lines(
        14, "Mirrors: dropped and refused",
        "Samples lost to the spool's bound, rows that were refused and kept as dead letters.", "cps",
        Query(ask=_rate("exporter.mirror_dropped", "mirror"), legend="{{mirror}} dropped", meaning="bad"),
        Query(ask=_rate("exporter.mirror_dead_letters", "mirror"), legend="{{mirror}} dead letters",
              meaning="undecided"),
    )  # fmt: skip


def _cpu() -> Shape:
    return lines(
        15, "CPU", "Left: the host's CPU time by mode, in cores. Right: the exporter's own share of one core.", "short",
        Query(ask=_rate("host.cpu_seconds", "mode"), legend="{{mode}}"),
        Query(ask=_rate("process.cpu_seconds"), legend="{{instance}} exporter", right_unit="percentunit",
              meaning="guest"),
    )  # fmt: skip


def _pressure() -> Shape:
    return lines(
        16, "Pressure", "Share of time in which some, or all, tasks waited for CPU, memory or I/O.", "percentunit",
        Query(ask=_rate("host.pressure_waiting", "resource"), legend="{{resource}} some"),
        Query(ask=_rate("host.pressure_stalled", "resource"), legend="{{resource}} all", dashed=True),
    )  # fmt: skip


def _memory() -> Shape:
    return lines(
        17, "Memory", "What the host has, can still give, and has swapped out; and what the exporter keeps.", "bytes",
        Query(ask=Gauge(of="host.memory_bytes"), legend="{{instance}} all", meaning="quiet", dashed=True),
        Query(ask=Gauge(of="host.memory_available_bytes"), legend="{{instance}} available",
              meaning="good"),
        Query(ask=Gauge(of="host.swap_used_bytes"), legend="{{instance}} swapped", meaning="bad"),
        Query(ask=Gauge(of="process.resident_bytes"), legend="{{instance}} exporter",
              meaning="guest"),
    )  # fmt: skip


def _disk() -> Shape:
    return lines(
        18, "Room for data", "Free space of the data directory's file system.", "bytes",
        Query(ask=Gauge(of="host.data_free_bytes"), legend="{{instance}} free", meaning="good"),
    )  # fmt: skip
