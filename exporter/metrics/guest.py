"""What the guest says of itself."""

from __future__ import annotations

from exporter.metric import Metric
from workload.console import BUCKETS

LATENCY_BUCKETS = tuple(2.0**number * 1e-6 for number in range(BUCKETS - 1))
"""Upper bounds in seconds of the probe's buckets; what took longer stands in one more."""


def guest_metrics() -> list[Metric]:
    """List the metrics of the console protocol."""
    xor, tick = "the guest's console, xor lines", "the guest's console, tick lines"
    disk = "the guest's console, disk lines; workload.disk_write_mib_s > 0"
    return [
        Metric(
            name="migrascope_guest_xor_bytes_total", kind="counter", labels=("vcpu",), tally=True,
            help=f"Memory that the guest's worker on this vCPU has xored ({xor})",
            measurement="guest_xor", field="bytes",
        ),
        Metric(
            name="migrascope_guest_xor_seconds_total", kind="counter", labels=("vcpu",), tally=True,
            help=f"Seconds of the guest's own clock that the xoring took ({xor}); over the bytes: seconds per byte",
            measurement="guest_xor", field="seconds",
        ),
        Metric(
            name="migrascope_guest_xor_last_seconds_per_gib", kind="gauge", labels=("vcpu",),
            help=f"Seconds per GiB of the last line of this vCPU ({xor})", measurement="guest_xor", field="seconds",
            over="bytes", factor=float(1 << 30),
        ),
        Metric(
            name="migrascope_guest_ticks_total", kind="counter", tally=True,
            help=f"Tick lines that arrived ({tick})", measurement="guest_tick", field="", zero=((),),
        ),
        Metric(
            name="migrascope_guest_last_tick_timestamp_seconds", kind="gauge",
            help=f"When the last tick line arrived, in Unix time ({tick})", measurement="guest_tick", field="time_ns",
            factor=1e-9,
        ),
        Metric(
            name="migrascope_guest_clock_offset_seconds", kind="gauge",
            help=f"Host clock at arrival minus the guest's monotonic clock; its shift is the blackout ({tick})",
            measurement="guest_tick", field="offset_seconds",
        ),
        Metric(
            name="migrascope_guest_access_latency_seconds", kind="histogram", tally=True,
            help="How long sampled accesses to the guest's memory took, on its own clock (the guest's console, latency"
            " lines; workload.probe_hz > 0)",
            measurement="guest_latency", field="bucket{bucket}", over="mean_seconds", buckets=LATENCY_BUCKETS,
        ),
        Metric(
            name="migrascope_guest_disk_written_bytes_total", kind="counter", tally=True, measurement="guest_disk",
            field="bytes", zero=((),), help=f"What the guest has written to its disk ({disk})",
        ),
        Metric(
            name="migrascope_guest_disk_writes_total", kind="counter", tally=True, measurement="guest_disk",
            field="writes", zero=((),), help=f"Its writes to its disk, of 64 KiB each ({disk})",
        ),
        Metric(
            name="migrascope_guest_disk_write_seconds_total", kind="counter", tally=True, measurement="guest_disk",
            field="write_seconds", zero=((),), help=f"What these writes took, on the guest's own clock ({disk})",
        ),
    ]  # fmt: skip
