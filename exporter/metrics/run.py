"""The run itself: what it is, its phases and events, and its figures once it has ended."""

from __future__ import annotations

from driver.marks import PHASES
from driver.record import OUTCOMES
from exporter.metric import Metric

SUMMARY = {
    "blackout_seconds": "How long the guest was dark at the switchover, by its ticks; under KVM an upper bound",
    "stop_resume_seconds": "Time from STOP at the source to RESUME at the destination, of a snapshot at the source",
    "longest_silence_seconds": "Longest gap between the guest's ticks from the migration's start on",
    "qemu_downtime_seconds": "QEMU's own figure of the downtime",
    "total_seconds": "QEMU's own figure of the migration's length",
    "iterations": "Dirty-bitmap syncs of the whole migration",
    "disk_mirror_ready_seconds": "How long the disk's mirror took to catch up with the guest",
    "disk_mirror_lag_bytes": "How far the disk's mirror was behind as the guest stopped for the switchover",
    "disk_mirror_drain_seconds": "From STOP to pre-switchover: QEMU writes out the disk, and its mirror catches up",
    "disk_mirror_switchover_seconds": "How long the switchover waited for the disk's mirror to end",
    "disk_written_bytes": "What the guest wrote to its disk over the whole run",
}
"""Plain figures of summary.json that are shown: field -> what it is."""

ACCESS_FIGURES = {"p50": "Median", "p99": "99th percentile", "max": "Longest"}
"""What is told of the latency of the guest's accesses to memory."""

EXPECTED_EVENTS = (
    *(("source", name) for name in ("MIGRATION", "MIGRATION_PASS", "STOP", "RESUME")),
    *(("destination", name) for name in ("MIGRATION", "RESUME")),
    *(("driver", f"phase.{name}") for name in PHASES),
    *(("driver", f"outcome.{name}") for name in OUTCOMES),
)
"""The events that are counted from 0 on: role, name."""


def run_metrics() -> list[Metric]:
    """List the metrics of runs."""
    return [*_record(), *_phases(), *_events(), *_summary()]


def _record() -> list[Metric]:
    return [
        Metric(
            name="migrascope_run_info", kind="info", measurement="run", field="info",
            labels=("run", "host", "strategy", "bandwidth_mib_s", "transport", "accelerator", "source_qemu",
                    "destination_qemu"),
            help="The run that this vm label stands for (run.json); join on vm",
        ),
        Metric(
            name="migrascope_run_downtime_limit_seconds", kind="gauge", measurement="run",
            field="downtime_limit_seconds", help="The downtime limit that the scenario asks for (run.json)",
        ),
        Metric(
            name="migrascope_run_bandwidth_limit_bytes_per_second", kind="gauge", measurement="run",
            field="bandwidth_bytes_per_second", help="The cap on bandwidth that the scenario asks for (run.json)",
        ),
        Metric(
            name="migrascope_run_throttle_limit_ratio", kind="gauge", measurement="run", field="throttle_limit_ratio",
            help="The highest throttle that auto-converge may take, where it is on (run.json)",
        ),
        Metric(
            name="migrascope_run_max_iterations", kind="gauge", measurement="run", field="max_iterations",
            help="The iterations after which the run is cancelled (run.json)",
        ),
        Metric(
            name="migrascope_run_max_time_seconds", kind="gauge", measurement="run", field="max_time_seconds",
            help="The migration time after which the run is cancelled (run.json)",
        ),
    ]  # fmt: skip


def _phases() -> list[Metric]:
    return [
        Metric(
            name="migrascope_run_phase", kind="stateset", states=PHASES, passing=True, measurement="run",
            field="phase", help="Phase of the run (marks.jsonl)",
        ),
        Metric(
            name="migrascope_run_phase_seconds", kind="gauge", labels=("phase",), measurement="run",
            field="phase_seconds", help="How long each phase that has ended took (marks.jsonl)",
        ),
        Metric(
            name="migrascope_run_phase_start_timestamp_seconds", kind="gauge", labels=("phase",), measurement="run",
            field="phase_start", help="When each phase began, in Unix time (marks.jsonl)",
        ),
        Metric(
            name="migrascope_run_outcome", kind="stateset", states=tuple(OUTCOMES), measurement="run",
            field="outcome", help="How the run ended (marks.jsonl)",
        ),
        Metric(
            name="migrascope_run_baseline_seconds_per_gib", kind="gauge", labels=("vcpu",), measurement="run",
            field="baseline", help="Seconds per GiB of each vCPU while the guest was settled (console, xor lines)",
        ),
    ]  # fmt: skip


def _events() -> list[Metric]:
    return [
        Metric(
            name="migrascope_events_total", kind="counter", labels=("role", "name"), tally=True,
            measurement="event", field="count", zero=EXPECTED_EVENTS,
            help="Events by role and name (QMP events, marks.jsonl, the exporter itself)",
        ),
        Metric(
            name="migrascope_event_timestamp_seconds", kind="gauge", labels=("role", "name"), measurement="event",
            field="time_ns", factor=1e-9, help="When the event was last seen, in Unix time (QMP events, marks.jsonl)",
        ),
    ]  # fmt: skip


def _summary() -> list[Metric]:
    plain = [
        Metric(
            name=f"migrascope_run_{field}", kind="gauge", measurement="summary", field=field,
            help=f"{text} (summary.json, once the run is stored)",
        )
        for field, text in SUMMARY.items()
    ]  # fmt: skip
    return [
        *plain,
        Metric(
            name="migrascope_run_mean_seconds_per_gib", kind="gauge", labels=("phase",), measurement="summary",
            field="{phase}_seconds_per_gib_mean",
            help="Seconds that a vCPU took for a GiB: settled, in the migration, recovering (summary.json)",
        ),
        Metric(
            name="migrascope_run_p95_seconds_per_gib", kind="gauge", labels=("phase",), measurement="summary",
            field="{phase}_seconds_per_gib_p95",
            help="95th percentile over the lines of the same (summary.json)",
        ),
        *(
            Metric(
                name=f"migrascope_run_access_{figure}_seconds", kind="gauge", labels=("window",),
                measurement="summary", field=f"{{window}}_access_seconds_{figure}",
                help=f"{text} of the guest's sampled accesses to memory before, during, after the migration and in"
                " post-copy (summary.json)",
            )
            for figure, text in ACCESS_FIGURES.items()
        ),
        Metric(
            name="migrascope_run_cpu_seconds", kind="gauge", labels=("role", "kind"), measurement="summary",
            field="cpu_seconds", help="CPU time over the migration by kind of thread (summary.json)",
        ),
    ]  # fmt: skip
