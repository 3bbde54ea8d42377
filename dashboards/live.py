"""The dashboard "Live run": six panels that tell what a migration does to its guest while it lasts."""

from __future__ import annotations

from grafanalib.core import Annotations, Dashboard, StateTimeline, Templating, Time, TimeSeries

from dashboards.panels import Query, events_annotation, lines, states, variables
from dashboards.promql import gauge, rate

UID = "migrascope-live-run"
GIB = 1 << 30


def live_run() -> Dashboard:
    """Make the dashboard."""
    return Dashboard(
        title="Live run",
        uid=UID,
        description="What a live migration does to its guest, as migrascope's exporter sees it now.",
        tags=["migrascope"],
        timezone="browser",
        refresh="5s",
        time=Time("now-2m", "now"),
        templating=Templating(list=variables()),
        annotations=Annotations(list=[events_annotation()]),
        panels=[_guest(), _cpu(), _remaining(), _iterations(), _downtime(), _states()],
    )


def _guest() -> TimeSeries:
    seconds, amount = "migrascope_guest_xor_seconds_total", "migrascope_guest_xor_bytes_total"

    def pace(*by: str) -> str:
        return f"{rate(seconds, by)} / {rate(amount, by)} * {GIB}"

    return lines(
        1,
        "Guest: time per GiB",
        "Time that the guest's workers take to xor a GiB: in total, and on each vCPU. What rises here is the price "
        "of the migration. A gap is a guest that stood still for longer than the rate's interval.",
        "s",
        Query(expr=pace("vm"), legend="{{vm}} total"),
        Query(expr=pace("vm", "vcpu"), legend="{{vm}} vCPU {{vcpu}}"),
    )


def _cpu() -> TimeSeries:
    cpu = "migrascope_qemu_thread_cpu_seconds_total"
    return lines(
        2,
        "QEMU: CPU by kind of thread",
        "CPU time of both QEMUs by what their threads do (100 % is one core), read from schedstat.",
        "percentunit",
        Query(expr=rate(cpu, ("vm", "role", "kind")), legend="{{vm}} {{role}} {{kind}}"),
    )


def _remaining() -> TimeSeries:
    pages = gauge("migrascope_migration_dirty_pages_per_second", role="source")
    return lines(
        3,
        "Remaining memory, dirty rate and bandwidth",
        "Left: RAM still to be sent. Right: how fast the guest dirties it (QEMU's estimate of the last iteration) and "
        "how fast it is sent. Where both rates are the same, the migration has stalled.",
        "bytes",
        Query(expr=gauge("migrascope_migration_remaining_bytes", role="source"), legend="{{vm}} remaining"),
        Query(
            expr=f"{pages} * {gauge('migrascope_migration_page_bytes', role='source')}",
            legend="{{vm}} dirty rate",
            right_unit="binBps",
        ),
        Query(
            expr=gauge("migrascope_migration_bandwidth_bytes_per_second", role="source"),
            legend="{{vm}} bandwidth",
            right_unit="binBps",
        ),
    )


def _iterations() -> TimeSeries:
    return lines(
        4,
        "Iteration and throttle",
        "Left: dirty-bitmap syncs so far. Right: the share of the guest's vCPU time that auto-converge takes away; no "
        "line where it is off.",
        "short",
        Query(expr=gauge("migrascope_migration_iteration", role="source"), legend="{{vm}} iteration"),
        Query(
            expr=gauge("migrascope_migration_throttle_ratio", role="source"),
            legend="{{vm}} throttle",
            right_unit="percentunit",
        ),
    )


def _downtime() -> TimeSeries:
    return lines(
        5,
        "Implied downtime against its limit",
        "Bytes remaining at the last iteration boundary over the measured bandwidth: QEMU switches over once this is "
        "below the limit. It is that test, not a forecast of the downtime.",
        "s",
        Query(expr=gauge("migrascope_verdict_implied_downtime_seconds"), legend="{{vm}} implied downtime"),
        Query(expr=gauge("migrascope_run_downtime_limit_seconds"), legend="{{vm}} limit", dashed=True),
    )


def _states() -> StateTimeline:
    phase, status = "migrascope_run_phase", "migrascope_migration_status"
    return states(
        6,
        "Phase, status and verdict",
        "The driver's phase, QEMU's status on the source, and what the exporter makes of it: a bar while it holds.",
        Query(expr=f"{gauge(phase)} == 1", legend=f"{{{{vm}}}} phase {{{{{phase}}}}}"),
        Query(expr=f"{gauge(status, role='source')} == 1", legend=f"{{{{vm}}}} status {{{{{status}}}}}"),
        Query(expr=f"{gauge('migrascope_verdict_stalled')} == 1", legend="{{vm}} stalled"),
        Query(expr=f"{gauge('migrascope_verdict_not_converging')} == 1", legend="{{vm}} not converging"),
    )
