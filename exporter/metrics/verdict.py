"""Whether the migration converges, and what holds it back: judged at iteration boundaries."""

from __future__ import annotations

from driver.bottleneck import BOTTLENECKS
from exporter.metric import Metric

STEPS = ("none", "pause", "post-copy", "retune", "auto-converge", "dirty-limit")
"""Steps that may still be to come (driver.scenario.step_to_come); none of them: `none`."""

GAUGES = {
    "iteration": "The iteration at whose boundary the last verdict was said",
    "iteration_remaining_bytes": "Bytes remaining at the last iteration boundary",
    "threshold_bytes": "What can be sent within the downtime limit: bandwidth as measured, times the limit",
    "implied_downtime_seconds": "Bytes remaining over the measured bandwidth: QEMU's switchover test, not a forecast",
    "stalled": "1 while the last iterations gained nothing",
    "not_converging": "1 while the migration does not converge under present conditions and no step is left",
    "limit_reached": "1 once a limit on time or iterations was reached",
    "iteration_seconds": "How long the iteration before the last boundary took",
    "iteration_sent_bytes": "Bytes of pages sent in that iteration",
    "iteration_dirtied_bytes": "Bytes of pages dirtied in that iteration",
    "dirtied_ratio": "Bytes dirtied over bytes sent in that iteration: about 1 in a stall",
    "eta_seconds": "Estimated time from the last boundary to the switchover",
    "eta_low_seconds": "The least that this may take",
    "eta_high_seconds": "The most that this may take",
    "completion_timestamp_seconds": "When the switchover is expected, in Unix time; never put off by less than 5 %",
    "expected_blackout_seconds": "Bytes of the last pass over the speed of this transport's earlier last passes",
}
"""Each figure of a boundary that goes when the run ends: field -> what it is."""

FINAL = {
    "transfer_ratio": "Bytes sent so far over the guest's RAM",
    "first_throttle_seconds": "Time from the migration's start to the first throttling of the guest",
    "throttle_overshoot_ratio": "Throttle at the switchover less the least throttle under which remaining memory fell",
    "post_copy_risk_seconds": "Time in post-copy, when the loss of link or host loses the guest",
}
"""Each figure that stays as a final one."""


def verdict_metrics() -> list[Metric]:
    """List the metrics of the verdicts."""
    source = "(driver.convergence, from QMP query-migrate)"
    return [
        *(_gauge(field, f"{text} {source}", passing=True) for field, text in GAUGES.items()),
        *(_gauge(field, f"{text} {source}", passing=False) for field, text in FINAL.items()),
        Metric(
            name="migrascope_verdict_bottleneck", kind="stateset", states=BOTTLENECKS, passing=True,
            help="What holds the migration back over the last three boundaries; several may be on"
            " (driver.bottleneck, from QMP query-migrate and thread CPU)",
            measurement="verdict", field="bottleneck",
        ),
        Metric(
            name="migrascope_verdict_step_to_come", kind="stateset", states=STEPS, passing=True,
            help="The step of the strategy that may still change the odds (driver.scenario, marks.jsonl)",
            measurement="verdict", field="step_to_come",
        ),
        Metric(
            name="migrascope_verdict_downtime_part_seconds", kind="gauge", labels=("part",), measurement="verdict",
            field="downtime_{part}_seconds",
            help="Parts of the time from STOP to RESUME (driver.downtime, from QMP events of both sides)",
        ),
    ]  # fmt: skip


def _gauge(field: str, text: str, *, passing: bool) -> Metric:
    return Metric(
        name=f"migrascope_verdict_{field}", kind="gauge", passing=passing, help=text, measurement="verdict", field=field
    )
