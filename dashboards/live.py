"""The dashboard "Live run": will it finish, and what does the guest pay?"""

from __future__ import annotations

from grafanalib.core import Dashboard

from dashboards import influxql
from dashboards.board import board
from dashboards.dialect import Dialect, Query
from dashboards.expression import Gauge, Holds, Plain, Product, Quantile, Rate, Ratio
from dashboards.panels import Heading, Shape, figure, lines, states
from dashboards.promql import chosen_info, series, state_label

UID = "migrascope-live-run"
GIB = float(1 << 30)
SOURCE, DESTINATION = {"role": "source"}, {"role": "destination"}


def live_run(dialect: Dialect) -> Dashboard:
    """Make the dashboard for a store."""
    return board(
        dialect,
        uid=UID,
        title="Live run",
        description="What a live migration does to its guest, as migrascope's exporter sees it now.",
        variables=("job", "instance", "campaign", "scenario", "run"),
        refresh="5s",
        since="now-2m",
        items=[
            Heading(number=100, title="Will it finish, and what does the guest pay?"),
            *_answers(),
            Heading(number=101, title="The guest and the host"),
            _guest(), _accesses(), _cpu(), _memory(), _silence(),
            Heading(number=102, title="The migration"),
            _remaining(), _iterations(), _downtime(), _eta(), _states(), _post_copy(), _dark(),
        ],
    )  # fmt: skip


def pace(*by: str) -> Ratio:
    """Seconds that the guest's workers take for a GiB, by labels."""
    return Ratio(
        top=Rate(of="guest_xor.seconds", by=by),
        bottom=Rate(of="guest_xor.bytes", by=by),
        factor=GIB,
    )


def _answers() -> list[Shape]:
    info = f"and on (job, instance, vm) {chosen_info()}"
    going = Plain(
        prometheus=f"(({series('verdict.stalled')} == 0) unless ({series('verdict.not_converging')} == 1)) {info}"
    )
    left = Plain(prometheus=f"clamp_min({series('verdict.completion_timestamp_seconds')} - time(), 0) {info}")
    baseline = f"avg by (vm) ({series('run.baseline')})"
    return [
        figure(
            1, "Verdict",
            "What the last iteration boundary says: converging, stalled (nothing gained lately), or not converging "
            "(and no step of the strategy is left). Nothing is shown while no migration is under way.",
            "none",
            Query(ask=Holds(of="verdict.limit_reached"), legend="limit reached", meaning="bad"),
            Query(ask=Holds(of="verdict.not_converging"), legend="not converging", meaning="bad"),
            Query(ask=Holds(of="verdict.stalled"), legend="stalled", meaning="undecided"),
            Query(ask=going, legend="converging", meaning="good"),
            words=True,
        ),
        figure(
            2, "Left until the switchover",
            "The estimate of the last boundary, counting down. It rises only at a boundary, and only by more than 5 %.",
            "s",
            Query(ask=left, legend="{{vm}}"),
        ),
        figure(
            3, "Bottleneck",
            "What holds the migration back over the last three boundaries; several may be on.",
            "none",
            Query(ask=Holds(of="verdict.bottleneck"), legend=_word("verdict.bottleneck"),
                  meaning="undecided"),
            words=True,
        ),
        figure(
            4, "The guest is slower by",
            "Time per GiB now over the time per GiB while the guest was settled: 1 is no slowdown.",
            "suffix: x",
            Query(ask=Plain(prometheus=f"{pace('vm').promql()} / on (vm) {baseline}"), legend="{{vm}}"),
            steps=((1.1, "undecided"), (2.0, "bad")),
        ),
        figure(
            5, "Blackout",
            "How long the guest was dark at the switchover, by its own ticks as the host received them.",
            "s",
            Query(ask=Gauge(of="summary.blackout_seconds"), legend="{{vm}}"),
            steps=((0.3, "undecided"), (1.0, "bad")),
        ),
        figure(
            6, "Phase or outcome",
            "What the driver is doing, and how the run ended.",
            "none",
            Query(ask=Holds(of="run.outcome"), legend=_word("run.outcome"), meaning="quiet"),
            Query(ask=Holds(of="run.phase"), legend=_word("run.phase"), meaning="phase-migrate"),
            words=True,
        ),
    ]  # fmt: skip


def _guest() -> Shape:
    return lines(
        7, "Guest: time per GiB",
        "Time that the guest's workers take to xor a GiB: in total, on each vCPU, and dashed what it was while the "
        "guest was settled. What rises here is the price of the migration. A gap is a guest that stood still for "
        "longer than the rate's interval.",
        "s",
        Query(ask=pace("vm"), legend="{{vm}} total", meaning="guest"),
        Query(ask=pace("vm", "vcpu"), legend="{{vm}} vCPU {{vcpu}}", meaning="guest-vcpu"),
        Query(ask=Gauge(of="run.baseline"), legend="{{vm}} settled, vCPU {{vcpu}}",
              meaning="quiet", dashed=True),
    )  # fmt: skip


def _cpu() -> Shape:
    whole, threads = "qemu_cpu[process].cpu_seconds", "qemu_cpu.cpu_seconds"
    return lines(
        8, "QEMU: CPU",
        "CPU time of both QEMUs, and of the source's vCPUs and migration thread (100 % is one core), from schedstat.",
        "percentunit",
        Query(ask=Rate(of=whole, by=("vm", "role"), where=SOURCE), legend="{{vm}} source", meaning="source"),
        Query(ask=Rate(of=whole, by=("vm", "role"), where=DESTINATION), legend="{{vm}} destination",
              meaning="destination"),
        Query(ask=Rate(of=threads, by=("vm",), where=SOURCE | {"kind": "vcpu"}), legend="{{vm}} vCPUs",
              meaning="guest-vcpu"),
        Query(ask=Rate(of=threads, by=("vm",), where=SOURCE | {"kind": "migration"}), meaning="source",
              legend="{{vm}} migration thread", dashed=True),
    )  # fmt: skip


def _accesses() -> Shape:
    latency = "guest_latency.bucket{bucket}"
    return lines(
        18, "Guest: latency of its accesses to memory",
        "How long sampled accesses of the guest took, by its own clock: half of them and 99 of 100 at most (InfluxDB: "
        "their mean, and the longest). No line where the workload has no probe (--probe-hz).",
        "s",
        Query(ask=Quantile(of=latency, share=0.5, by=("vm",)), legend="{{vm}} median", meaning="guest"),
        Query(ask=Quantile(of=latency, share=0.99, by=("vm",)), legend="{{vm}} 99 %", meaning="blackout"),
        Query(ask=Plain(influxdb=influxql.mean("guest_latency", "mean_seconds", "accesses")), legend="{{vm}} mean",
              meaning="guest"),
        Query(ask=Plain(influxdb=influxql.most("guest_latency", "most_seconds")), legend="{{vm}} longest",
              meaning="blackout"),
    )  # fmt: skip


def _silence() -> Shape:
    return lines(
        9, "Guest: silence on its console",
        "Time since the last tick of the guest arrived. It is as high as the guest was dark, and a little more.",
        "s",
        Query(
            ask=Plain(prometheus=f"time() - {series('guest_tick.time_ns')}"),
            legend="{{vm}}", meaning="blackout",
        ),
        width=24,
    )  # fmt: skip


def _memory() -> Shape:
    return lines(
        10, "QEMU: resident memory",
        "What both processes keep in memory: the destination's grows as pages arrive.",
        "bytes",
        Query(ask=Gauge(of="qemu_memory.resident_bytes", where=SOURCE), legend="{{vm}} source",
              meaning="source"),
        Query(ask=Gauge(of="qemu_memory.resident_bytes", where=DESTINATION), legend="{{vm}} destination",
              meaning="destination"),
    )  # fmt: skip


def _remaining() -> Shape:
    return lines(
        11, "Remaining memory, dirty rate and bandwidth",
        "Left: RAM still to be sent. Right: how fast the guest dirties it (QEMU's estimate of the last iteration) and "
        "how fast it is sent, and dashed the cap. Where both rates are the same, the migration has stalled.",
        "bytes",
        Query(ask=Gauge(of="migration.remaining_bytes", where=SOURCE), legend="{{vm}} remaining",
              meaning="remaining"),
        Query(
            ask=Product(one=Gauge(of="migration.dirty_pages_per_second", where=SOURCE),
                        other=Gauge(of="migration.page_bytes", where=SOURCE)),
            legend="{{vm}} dirty rate", right_unit="binBps", meaning="dirty",
        ),
        Query(ask=Gauge(of="migration.bandwidth_bytes_per_second", where=SOURCE),
              legend="{{vm}} bandwidth", right_unit="binBps", meaning="bandwidth"),
        Query(ask=Gauge(of="run.bandwidth_bytes_per_second"), legend="{{vm}} cap",
              right_unit="binBps", meaning="bandwidth", dashed=True),
    )  # fmt: skip


def _iterations() -> Shape:
    return lines(
        12, "Iteration and throttle",
        "Left: dirty-bitmap syncs so far. Right: the share of the guest's vCPU time that auto-converge takes away; no "
        "line where it is off.",
        "short",
        Query(ask=Gauge(of="migration.iteration", where=SOURCE), legend="{{vm}} iteration",
              meaning="remaining"),
        Query(ask=Gauge(of="migration.throttle_percent", where=SOURCE), legend="{{vm}} throttle",
              right_unit="percentunit", meaning="throttle"),
    )  # fmt: skip


def _downtime() -> Shape:
    return lines(
        13, "Implied downtime against its limit",
        "Bytes remaining at the last iteration boundary over the measured bandwidth: QEMU switches over once this is "
        "below the limit. It is that test, not a forecast of the downtime.",
        "s",
        Query(ask=Gauge(of="verdict.implied_downtime_seconds"), legend="{{vm}} implied downtime",
              meaning="remaining"),
        Query(ask=Gauge(of="run.downtime_limit_seconds"), legend="{{vm}} limit", dashed=True,
              meaning="quiet"),
    )  # fmt: skip


def _eta() -> Shape:
    return lines(
        14, "Estimate at each boundary",
        "From the last boundary to the switchover: the estimate, and dashed the least and the most that it may take. "
        "In the first iteration no estimate is worth much.",
        "s",
        Query(ask=Gauge(of="verdict.eta_seconds"), legend="{{vm}} estimate", meaning="remaining"),
        Query(ask=Gauge(of="verdict.eta_low_seconds"), legend="{{vm}} at least", meaning="quiet",
              dashed=True),
        Query(ask=Gauge(of="verdict.eta_high_seconds"), legend="{{vm}} at most", meaning="quiet",
              dashed=True),
    )  # fmt: skip


def _states() -> Shape:
    phase, status = "run.phase", "migration.status"
    return states(
        15, "Phase, status and verdict",
        "The driver's phase, QEMU's status on the source, and what the exporter makes of it: a bar while it holds.",
        Query(ask=Holds(of=phase), legend=f"{{{{vm}}}} phase {_word(phase)}", meaning="phase-migrate"),
        Query(ask=Holds(of=status, where=SOURCE), legend=f"{{{{vm}}}} status {_word(status)}", meaning="source"),
        Query(ask=Holds(of="verdict.stalled"), legend="{{vm}} stalled", meaning="undecided"),
        Query(ask=Holds(of="verdict.not_converging"), legend="{{vm}} not converging", meaning="bad"),
        Query(ask=Holds(of="verdict.bottleneck"), legend=f"{{{{vm}}}} {_word('verdict.bottleneck')}",
              meaning="quiet"),
    )  # fmt: skip


def _post_copy() -> Shape:
    return lines(
        16, "Post-copy: page requests and their latency",
        "Left: pages that the guest waited for, a second. Right: the mean time from fault to page (QEMU 10.1 or newer "
        "tells it) and how long the guest has been at the mercy of both hosts and the link.",
        "reqps",
        Query(ask=Rate(of="migration.postcopy_requests", by=("vm",), where=SOURCE),
              legend="{{vm}} requests", meaning="destination"),
        Query(ask=Gauge(of="migration.postcopy_latency_seconds", where=DESTINATION),
              legend="{{vm}} latency", right_unit="s", meaning="blackout"),
        Query(ask=Gauge(of="verdict.post_copy_risk_seconds"), legend="{{vm}} at risk for",
              right_unit="s", meaning="undecided"),
    )  # fmt: skip


def _dark() -> Shape:
    return lines(
        17, "Blackout, downtime and its parts",
        "The guest's blackout, STOP to RESUME, QEMU's own figure and the parts of the pause, once they are known.",
        "s",
        Query(ask=Gauge(of="summary.blackout_seconds"), legend="{{vm}} blackout", meaning="blackout"),
        Query(ask=Gauge(of="summary.stop_resume_seconds"), legend="{{vm}} STOP to RESUME", meaning="source"),
        Query(ask=Gauge(of="migration.downtime_seconds", where=SOURCE), legend="{{vm}} QEMU's downtime",
              meaning="quiet"),
        Query(ask=Gauge(of="verdict.downtime_{part}_seconds"), legend="{{vm}} {{part}}"),
    )  # fmt: skip


def _word(key: str) -> str:
    """The state that holds, in a legend."""
    return f"{{{{{state_label(key)}}}}}"
