"""The measurements: their tags and which of their fields are words. Every store's content follows from this table."""

from __future__ import annotations

from dataclasses import dataclass

from workload.console import BUCKETS


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measurement. Fields not listed in `words` are floats; `fields` is None where they are open-ended."""

    tags: tuple[str, ...]
    fields: tuple[str, ...] | None
    words: tuple[str, ...] = ()


MEASUREMENTS: dict[str, Measurement] = {
    # one line of one vCPU's worker: seconds are of the guest's own clock
    "guest_xor": Measurement(tags=("vcpu",), fields=("bytes", "seconds", "sequence")),
    # offset_seconds = host arrival - guest monotonic; absent where the line was older than the exporter
    "guest_tick": Measurement(tags=(), fields=("guest_seconds", "offset_seconds", "sequence")),
    # accesses of the guest's probe in the last `seconds` of its clock: their number, mean and longest, and how many of
    # them took at most 2^N us and more than half of that (bucketN; absent: none; the last one: longer still)
    "guest_latency": Measurement(
        tags=("role",),
        fields=(
            "accesses",
            "seconds",
            "mean_seconds",
            "most_seconds",
            "sequence",
            *(f"bucket{number}" for number in range(BUCKETS)),
        ),
    ),
    # what the guest has written to its disk in the last `seconds` of its clock, in how many writes, which took
    # `write_seconds` in all and the longest of them `most_seconds`
    "guest_disk": Measurement(
        tags=("role",), fields=("bytes", "seconds", "writes", "write_seconds", "most_seconds", "sequence")
    ),
    # kind: vcpu, migration, multifd, return-path, post-copy, main, io, other, and process for the whole QEMU
    "qemu_cpu": Measurement(tags=("role", "kind", "index"), fields=("cpu_seconds", "run_delay_seconds")),
    "qemu_memory": Measurement(tags=("role",), fields=("resident_bytes",)),
    # driver.progress.FIELDS in base units, and `sequence`, the number of the poll: a gap in it is a gap in polling
    "migration": Measurement(tags=("role",), fields=None, words=("status",)),
    # a block job of a QEMU: a disk's mirror is behind the guest by `lag_bytes`
    "block_job": Measurement(
        tags=("role", "job"), fields=("total_bytes", "done_bytes", "lag_bytes", "ready"), words=("type", "status")
    ),
    # role: source, destination (QMP events), driver (marks: name is phase.NAME, action.NAME, outcome.NAME), exporter;
    # guest-phase.N on the console of source or destination: the workload's phase N has begun
    "event": Measurement(tags=("role", "name"), fields=("count", "iteration"), words=("detail",)),
    # truth values are 0.0 and 1.0; what cannot be told at a boundary is absent (docs/convergence.md has the formulas)
    "verdict": Measurement(
        tags=(),
        fields=(
            "iteration",
            "iteration_remaining_bytes",
            "implied_downtime_seconds",
            "stalled",
            "not_converging",
            "limit_reached",
            "threshold_bytes",
            "iteration_seconds",
            "iteration_sent_bytes",
            "iteration_dirtied_bytes",
            "dirtied_ratio",
            "eta_seconds",
            "eta_low_seconds",
            "eta_high_seconds",
            "completion_timestamp_seconds",
            "expected_blackout_seconds",
            "transfer_ratio",
            "first_throttle_seconds",
            "throttle_overshoot_ratio",
            "post_copy_risk_seconds",
            "downtime_sync_seconds",
            "downtime_last_pass_seconds",
            "downtime_device_state_seconds",
            "downtime_resume_seconds",
        ),
        words=("bottleneck", "step_to_come"),
    ),
}

RUN_TAGS = ("run", "campaign", "scenario", "host", "vm")
"""Tags of every row; in the journal they stand once, in its header."""
