"""CPU time and memory of the QEMU processes and their threads."""

from __future__ import annotations

from exporter.metric import Metric

LATE_THREADS = (("source", "migration", ""), ("source", "return-path", ""), ("destination", "post-copy", ""))
"""Threads that are born with a migration, as (role, kind, index): what they use is counted from 0 on."""


def qemu_metrics() -> list[Metric]:
    """List the metrics of the processes and their threads."""
    schedstat = "/proc/PID/task/TID/schedstat"
    process = ("kind", "process")
    return [
        Metric(
            name="migrascope_qemu_cpu_seconds_total", kind="counter", labels=("role",), only=process,
            help="CPU time of the whole QEMU process (/proc/PID/stat)",
            measurement="qemu_cpu", field="cpu_seconds",
        ),
        Metric(
            name="migrascope_qemu_thread_cpu_seconds_total", kind="counter", labels=("role", "kind", "index"),
            omit=process, help=f"CPU time of QEMU's threads by kind ({schedstat})",
            measurement="qemu_cpu", field="cpu_seconds", zero=LATE_THREADS,
        ),
        Metric(
            name="migrascope_qemu_thread_run_delay_seconds_total", kind="counter", labels=("role", "kind", "index"),
            omit=process, help=f"Time that QEMU's threads waited for a CPU while they could run ({schedstat})",
            measurement="qemu_cpu", field="run_delay_seconds", zero=LATE_THREADS,
        ),
        Metric(
            name="migrascope_qemu_resident_memory_bytes", kind="gauge", labels=("role",),
            help="Resident memory of the QEMU process (/proc/PID/statm)", measurement="qemu_memory",
            field="resident_bytes",
        ),
    ]  # fmt: skip
