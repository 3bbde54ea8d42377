"""Alerts about campaigns, the exporter, the mirrors and the host: whether the rest can be believed, and goes on."""

from __future__ import annotations

from dashboards.alert import Alert, of_campaign, of_mirror
from dashboards.promql import JOB, buckets, rule

LATE_SECONDS = 0.1
LAG_SECONDS = 60
FAILED_SHARE, FEWEST_RUNS = 0.2, 5
ENDED_SECONDS = 600
"""A campaign's failures are told while it runs, and for so long after its end: a page is enough for who comes later."""
STUCK_SECONDS, ABANDONED_SECONDS = 3600, 60
FREE_SHARE, FREE_BYTES = 0.05, 1 << 30
DAY = 86400


def campaign_alerts() -> list[Alert]:
    """List the alerts about campaigns."""
    return [_failure_ratio(), _stuck(), _parked()]


def telemetry_alerts() -> list[Alert]:
    """List the alerts about exporter, mirrors and disk."""
    return [_down(), _late(), _behind(), _dropping(), _disk()]


def _failure_ratio() -> Alert:
    by = "by (job, instance, campaign)"
    failed, ended = (f"sum {by} ({rule(f'campaign.{field}')})" for field in ("failed", "finished"))
    recent = f"time() - {rule('campaign.last_change')} < {ENDED_SECONDS}"
    running = f"({rule('campaign.active')} == 1 or {recent})"
    return Alert(
        name="CampaignFailureRatioHigh",
        expr=f"{failed} / ({ended} >= {FEWEST_RUNS}) > {FAILED_SHARE} and on (job, instance, campaign) {running}",
        hold_seconds=10,
        keep_seconds=60,
        severity="warning",
        summary="Many runs of a campaign end neither completed nor as not converged.",
        description=(
            "Campaign {{ $labels.campaign }} of {{ $labels.instance }}: {{ $value | humanizePercentage }} of its "
            + of_campaign("campaign.finished", 'printf "%.0f"')
            + " runs failed, lost their guest or broke. A run that does not converge is an answer and does not count."
        ),
    )


def _stuck() -> Alert:
    active = rule("campaign.active")
    changed = f"time() - {rule('campaign.last_change')}"
    left = f"{rule('campaign.left')} > 0"
    at_work = f"({changed}) > {STUCK_SECONDS} and {active} == 1"
    # whoever stopped it knows; a driver that was killed, or went with its host, said nothing
    given_up = f"({changed}) > {ABANDONED_SECONDS} < {DAY} and {active} == 0 and {rule('campaign.stopped')} == 0"
    return Alert(
        name="CampaignStuck",
        expr=f"({at_work} or {given_up}) and {left}",
        hold_seconds=10,
        keep_seconds=30,
        severity="warning",
        summary="A campaign has runs left, and nothing happens any more.",
        description=(
            "Campaign {{ $labels.campaign }} of {{ $labels.instance }}: no run began or ended for "
            "{{ $value | humanizeDuration }}, and "
            + of_campaign("campaign.left", 'printf "%.0f"')
            + " are left. Its driver is at work: "
            + of_campaign("campaign.active", 'printf "%.0f"')
            + " (1 yes, 0 no)."
        ),
    )


def _parked() -> Alert:
    recent = f"time() - {rule('campaign.last_change')} < 3600"
    return Alert(
        name="CellParked",
        expr=f"{rule('campaign.parked')} > 0 and ({recent})",
        hold_seconds=0,
        keep_seconds=60,
        severity="warning",
        summary="A campaign has given up on a cell after failures in a row.",
        description=(
            'Campaign {{ $labels.campaign }} of {{ $labels.instance }}: parked cells: {{ $value | printf "%.0f" }}; '
            "`migrascope campaign status {{ $labels.campaign }}` tells which, and why."
        ),
    )


def _down() -> Alert:
    return Alert(
        name="ExporterDown",
        expr=f'up{{job="{JOB}"}} == 0',
        hold_seconds=5,
        keep_seconds=10,
        severity="critical",
        summary="An exporter that has announced itself does not answer.",
        description=(
            "{{ $labels.instance }} is in the list of targets and answers no scrape. One that ends in good order takes "
            "itself off that list: this one was killed or hangs."
        ),
    )


def _late() -> Alert:
    ticks = buckets(rule("exporter.lateness"))
    late = f"histogram_quantile(0.99, sum by (job, instance, le) (rate({ticks}[30s])))"
    return Alert(
        name="TelemetryLate",
        expr=f"{late} > {LATE_SECONDS}",
        hold_seconds=20,
        keep_seconds=30,
        severity="warning",
        summary="Samples are taken late: figures of short events cannot be relied on.",
        description=(
            "{{ $labels.instance }}: one sample in a hundred is taken {{ $value | humanizeDuration }} or more after "
            "its time. The host is short of CPU."
        ),
    )


def _behind() -> Alert:
    return Alert(
        name="MirrorFallingBehind",
        expr=f"{rule('exporter.mirror_lag')} > {LAG_SECONDS}",
        hold_seconds=10,
        keep_seconds=30,
        severity="warning",
        summary="A mirror does not keep up with what is recorded.",
        description=(
            "Mirror {{ $labels.mirror }} of {{ $labels.instance }} is {{ $value | humanizeDuration }} behind; "
            + of_mirror("exporter.mirror_waiting_bytes", "humanize1024", "B")
            + " wait. Nothing is lost yet."
        ),
    )


def _dropping() -> Alert:
    dropped, refused = (rule(f"exporter.mirror_{field}") for field in ("dropped", "dead_letters"))
    return Alert(
        name="MirrorDroppingData",
        expr=f"increase({dropped}[5m]) > 0 or increase({refused}[5m]) > 0",
        hold_seconds=0,
        keep_seconds=60,
        severity="critical",
        summary="A mirror loses data: it was dropped from a full spool, or the server refused it.",
        description=(
            'Mirror {{ $labels.mirror }} of {{ $labels.instance }}: {{ $value | printf "%.0f" }} samples or rows in '
            "the last five minutes. The history on this host still has them: `migrascope mirror replay RUN` sends them "
            "again."
        ),
    )


def _disk() -> Alert:
    free, size = (rule(f"host.data_{field}_bytes") for field in ("free", "size"))
    return Alert(
        name="DiskNearlyFull",
        expr=f"{free} < {FREE_SHARE} * {size} or {free} < {FREE_BYTES}",
        hold_seconds=10,
        keep_seconds=30,
        severity="warning",
        summary="The file system that holds the history is nearly full.",
        description=(
            "{{ $labels.instance }}: {{ $value | humanize1024 }}B are free for the data directory. Once nothing is "
            "left, samples wait for 30 s and then runs end as broken."
        ),
    )
