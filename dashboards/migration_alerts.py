"""Alerts about a migration and its guest; they read the exporter's verdicts and never judge by themselves."""

from __future__ import annotations

from dashboards.alert import OF_RUN, Alert, Recorded, of_run, run_in_words, strategy_is
from dashboards.promql import Like, rule, state_label

PACE = "migrascope:guest_seconds_per_gib:rate10s"
SLOWDOWN = "migrascope:guest_slowdown:ratio"
GIB = 1 << 30

SLOWED, SLOWED_SECONDS = 2.0, 20
"""A guest at half its pace for twenty seconds, by a rate that needs ten to see it: users notice."""

ENDED_SECONDS = 10
"""A run whose limit was reached is over within a second: its end is told for as long."""

SILENT_SECONDS = 5.0
"""Five hundred ticks. Under throttle the guest may take longer between two: the bound grows as the driver's does."""

OVER_LIMIT, OVER_LIMIT_SECONDS = 1.25, 0.05
"""QEMU plans the last pass within the limit; device state and resume come on top."""


def migration_recordings() -> list[Recorded]:
    """List what alerts ask again and again, recorded once."""
    seconds, amount = (rule(f"guest_xor.{field}") for field in ("seconds", "bytes"))
    labels = "job, instance, vm, scenario, campaign"
    pace = f"sum by ({labels}) (rate({seconds}[10s])) / sum by ({labels}) (rate({amount}[10s])) * {GIB}"
    settled = f"avg by (job, instance, vm) ({rule('run.baseline')})"
    return [
        Recorded(name=PACE, expr=pace),
        Recorded(name=SLOWDOWN, expr=f"{PACE} / on {OF_RUN} group_left () {settled}"),
    ]


def migration_alerts() -> list[Alert]:
    """List the alerts."""
    return [
        _not_converging(),
        _post_copy_paused(),
        _failed(),
        _downtime_over_limit(),
        _throttle_saturated(),
        _guest_silent(),
        _guest_slowed(),
    ]


def _not_converging() -> Alert:
    ended = rule("event.time_ns", role="driver", name="outcome.not_converged")
    # both ways to the same labels, whatever the scrape adds: a run that is judged and then ends is one alert
    labels = "max by (job, instance, vm, scenario, campaign)"
    judged = f"{labels} ({rule('verdict.not_converging')}) == 1"
    over = f"{labels} (time() - {ended}) < {ENDED_SECONDS}"
    return Alert(
        name="MigrationNotConverging",
        # a snapshot that a limit ended has nowhere to converge to
        expr=f"{judged} or ({over} unless on {OF_RUN} {strategy_is('.*background-snapshot.*')})",
        hold_seconds=2,
        keep_seconds=15,
        severity="warning",
        summary="A live migration does not converge under present conditions, and no step of its strategy is left.",
        description=(
            run_in_words()
            + of_run("verdict.iteration_remaining_bytes", "humanize1024", "B")
            + " remained at the boundary of iteration "
            + of_run("verdict.iteration", 'printf "%.0f"')
            + ". To send that at the measured bandwidth takes "
            + of_run("verdict.implied_downtime_seconds", "humanizeDuration")
            + "; the downtime limit is "
            + of_run("run.downtime_limit_seconds", "humanizeDuration")
            + "."
        ),
    )


def _post_copy_paused() -> Alert:
    return Alert(
        name="MigrationPostcopyPaused",
        expr=f"max by (job, instance, vm, scenario, campaign) ({_status('postcopy-paused')}) == 1",
        hold_seconds=0,
        keep_seconds=10,
        severity="critical",
        summary="A post-copy migration has lost its link: the guest stands still and needs both hosts.",
        description=(
            run_in_words()
            + "QEMU says postcopy-paused. The guest waits for pages that are still on the source ("
            + of_run("migration.remaining_bytes", "humanize1024", "B")
            + " remain there); it goes on only once the migration is recovered over a new connection."
        ),
    )


def _failed() -> Alert:
    outcome = rule("run.outcome", state=Like("failed|guest_lost|broken"))
    return Alert(
        name="MigrationFailed",
        expr=f"{outcome} == 1",
        hold_seconds=0,
        keep_seconds=10,
        severity="critical",
        summary="A live migration has failed, or the guest was lost.",
        description=(
            run_in_words()
            + f"it ended as {{{{ $labels.{state_label('run.outcome')} }}}} after "
            + of_run("migration.total_seconds", "humanizeDuration")
            + " of migration. `migrascope show latest` tells QEMU's reason."
        ),
    )


def _downtime_over_limit() -> Alert:
    blackout, stopped = (rule(f"summary.{field}_seconds") for field in ("blackout", "stop_resume"))
    limit = rule("run.downtime_limit_seconds")
    dark = f"({blackout} or {stopped})"  # where a tick is lost the blackout is not known
    over = f"{dark} > {OVER_LIMIT} * {limit} and {dark} > {limit} + {OVER_LIMIT_SECONDS}"
    return Alert(
        name="MigrationDowntimeOverLimit",
        expr=f"({over}) unless on {OF_RUN} {strategy_is('.*pause.*')}",
        hold_seconds=0,
        keep_seconds=10,
        severity="warning",
        summary="A guest was dark for longer at the switchover than the downtime limit allows.",
        description=(
            run_in_words()
            + "the guest was dark for {{ $value | humanizeDuration }}; the limit is "
            + of_run("run.downtime_limit_seconds", "humanizeDuration")
            + ". QEMU itself says "
            + of_run("summary.qemu_downtime_seconds", "humanizeDuration")
            + "."
        ),
    )


def _throttle_saturated() -> Alert:
    throttle = rule("migration.throttle_percent", role="source")
    highest = rule("run.throttle_limit_ratio")
    active = f"{_status('active', role='source')} == 1"
    return Alert(
        name="MigrationThrottleSaturated",
        expr=f"{throttle} >= on {OF_RUN} {highest} and on {OF_RUN} {active}",
        hold_seconds=5,
        keep_seconds=10,
        severity="warning",
        summary="Auto-converge has throttled the guest as far as it may, and the migration still goes on.",
        description=(
            run_in_words()
            + "{{ $value | humanizePercentage }} of the guest's CPU time is taken away, the most that is allowed, and "
            + of_run("verdict.iteration_remaining_bytes", "humanize1024", "B")
            + " remained at the last boundary."
        ),
    )


def _guest_silent() -> Alert:
    silence = f"time() - {rule('guest_tick.time_ns')}"
    throttle = rule("migration.throttle_percent", role="source")
    allowed = f"{SILENT_SECONDS:.0f} / (1 - clamp_max({throttle}, 0.9))"
    running = f"{rule('run.phase', state=Like('settle|migrate|recover'))} == 1"
    bound = f"{SILENT_SECONDS:.0f}"
    return Alert(
        name="GuestSilent",
        expr=(
            f"((({silence}) > on {OF_RUN} ({allowed})) or (({silence}) > {bound} unless on {OF_RUN} {throttle}))"
            f" and on {OF_RUN} {running}"
        ),
        hold_seconds=1,
        keep_seconds=5,
        severity="critical",
        summary="A guest that should run has printed nothing for seconds.",
        description=run_in_words()
        + "no tick has arrived for {{ $value | humanizeDuration }}, and no pause was asked for.",
    )


def _guest_slowed() -> Alert:
    phases = rule("run.phase", state="migrate")
    return Alert(
        name="GuestSlowedTooLong",
        expr=f"{SLOWDOWN} > {SLOWED:.0f} and on {OF_RUN} {phases} == 1",
        hold_seconds=SLOWED_SECONDS,
        keep_seconds=10,
        severity="warning",
        summary=f"A migration has kept its guest at less than half its pace for over {SLOWED_SECONDS} seconds.",
        description=(
            run_in_words()
            + 'the guest takes {{ $value | printf "%.1f" }} times as long for its memory as before. Throttle: '
            + of_run("migration.throttle_percent", "humanizePercentage")
            + "."
        ),
    )


def _status(state: str, **matchers: str) -> str:
    return rule("migration.status", state=state, **matchers)
