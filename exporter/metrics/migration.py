"""What QEMU says of the migration: every number of query-migrate."""

from __future__ import annotations

from driver.progress import ACTIVE, ENDED, FIELDS
from exporter.metric import Metric

STATUSES = tuple(sorted(ACTIVE | ENDED | {"none", "colo"}))
"""The states of migrascope_migration_status (QEMU's qapi/migration.json, MigrationStatus)."""

LATENCY_BUCKETS = tuple(2.0 ** (number + 1) * 1e-6 for number in range(24))
"""Upper bounds of QEMU's latency buckets: the Nth holds faults of [2^N, 2^(N+1)) us (10.1's postcopy-latency-dist)."""

MIGRATION_HELP: dict[str, str] = {
    "total_seconds": "How long the migration has lasted, or lasted",
    "downtime_seconds": "QEMU's own figure of the downtime",
    "expected_downtime_seconds": "QEMU's switchover test: remaining at the last sync over measured bandwidth",
    "setup_seconds": "How long the migration's setup took",
    "throttle_percent": "Share of the guest's vCPU time that auto-converge takes away",
    "postcopy_blocktime_seconds": "Time that all vCPUs waited for pages during post-copy",
    "postcopy_latency_seconds": "Mean time from page fault to page in post-copy, of faults that asked for the page",
    "postcopy_non_vcpu_latency_seconds": "The same of faults outside vCPUs",
    "dirty_limit_throttle_seconds": "Longest throttle of a vCPU in one dirty-ring round under dirty-limit",
    "dirty_limit_ring_full_seconds": "Estimated time in which a vCPU fills its dirty ring",
    "transferred_bytes": "Bytes sent so far",
    "remaining_bytes": "RAM still to be sent",
    "total_bytes": "RAM that the migration covers",
    "zero_pages": "Zero pages sent",
    "skipped_pages": "Pages skipped",
    "normal_pages": "Pages sent whole",
    "normal_bytes": "Bytes of pages sent whole",
    "dirty_pages_per_second": "QEMU's estimate of pages dirtied a second over the last iteration",
    "bandwidth_bytes_per_second": "Throughput as QEMU measures it",
    "iteration": "Dirty-bitmap syncs so far: the number of the iteration",
    "zero_copy_fallbacks": "Zero-copy sends that the kernel copied after all",
    "postcopy_requests": "Page requests of the destination during post-copy",
    "page_bytes": "Size of a guest page",
    "multifd_bytes": "Bytes sent through multifd channels",
    "pages_per_second": "Pages sent a second, as QEMU measures it",
    "precopy_bytes": "Bytes sent before the switchover while the guest ran",
    "downtime_bytes": "Bytes sent while the guest was stopped",
    "postcopy_bytes": "Bytes sent during post-copy",
    "disk_transferred_bytes": "Bytes of block devices sent so far",
    "disk_remaining_bytes": "Bytes of block devices still to be sent",
    "disk_total_bytes": "Bytes of block devices that the migration covers",
    "vfio_transferred_bytes": "Bytes of VFIO devices sent so far",
    "xbzrle_cache_bytes": "Size of XBZRLE's cache",
    "xbzrle_bytes": "Bytes sent as XBZRLE pages",
    "xbzrle_pages": "Pages sent as XBZRLE",
    "xbzrle_cache_misses": "Pages that XBZRLE's cache did not hold",
    "xbzrle_cache_miss_ratio": "Share of pages that XBZRLE's cache did not hold",
    "xbzrle_encoding_ratio": "Bytes of raw pages over bytes of XBZRLE pages",
    "xbzrle_overflows": "Pages that XBZRLE would have made larger",
    "compression_pages": "Pages sent compressed",
    "compression_busy": "Times that no compression thread was free",
    "compression_busy_ratio": "Share of pages for which no compression thread was free",
    "compression_bytes": "Bytes sent as compressed pages",
    "compression_ratio": "Bytes of raw pages over bytes of compressed pages",
}
"""What each number of query-migrate (named as in driver.progress) means."""

MIGRATION_COUNTERS = frozenset(
    {
        "transferred_bytes", "zero_pages", "skipped_pages", "normal_pages", "normal_bytes", "zero_copy_fallbacks",
        "postcopy_requests", "multifd_bytes", "precopy_bytes", "downtime_bytes", "postcopy_bytes",
        "disk_transferred_bytes", "vfio_transferred_bytes", "xbzrle_bytes", "xbzrle_pages", "xbzrle_cache_misses",
        "xbzrle_overflows", "compression_pages", "compression_busy", "compression_bytes",
    }
)  # fmt: skip
"""Those numbers of query-migrate that only ever rise within one migration."""

MIGRATION_NAMES = {
    "total_seconds": ("duration_seconds", 1.0),
    "total_bytes": ("ram_bytes", 1.0),
    "disk_total_bytes": ("disk_bytes", 1.0),
    "throttle_percent": ("throttle_ratio", 0.01),
}
"""Where a metric is called otherwise than its field: (name, factor)."""


def migration_metrics() -> list[Metric]:
    """List the metrics of query-migrate, its limits included."""
    found = [
        Metric(
            name="migrascope_migration_status", kind="stateset", labels=("role",), states=STATUSES, passing=True,
            help="State of the migration (QMP query-migrate status)", measurement="migration", field="status",
        )
    ]  # fmt: skip
    for place, (field, _) in FIELDS.items():
        name, factor = MIGRATION_NAMES.get(field, (field, 1.0))
        counter = field in MIGRATION_COUNTERS
        found.append(
            Metric(
                name=f"migrascope_migration_{name}{'_total' if counter else ''}",
                kind="counter" if counter else "gauge",
                labels=("role",),
                help=f"{MIGRATION_HELP[field]} (QMP query-migrate {place})",
                measurement="migration",
                field=field,
                factor=factor,
                zero=(("source",),) if counter and place.startswith("ram.") and place != "ram.skipped" else (),
            )
        )
    return found + _limits() + _lists() + _unmapped()


def _limits() -> list[Metric]:
    place = "QMP query-migrate-parameters"
    return [
        Metric(
            name="migrascope_migration_downtime_limit_seconds", kind="gauge", labels=("role",),
            measurement="migration", field="downtime_limit_seconds",
            help=f"The downtime limit as QEMU has it now ({place} downtime-limit)",
        ),
        Metric(
            name="migrascope_migration_bandwidth_limit_bytes_per_second", kind="gauge", labels=("role",),
            measurement="migration", field="bandwidth_limit_bytes_per_second",
            help=f"The cap on bandwidth as QEMU has it now, 0 for none ({place} max-bandwidth)",
        ),
    ]  # fmt: skip


def _lists() -> list[Metric]:
    """Metrics of the lists in a reply: one series an element."""
    return [
        Metric(
            name="migrascope_migration_postcopy_vcpu_blocktime_seconds", kind="gauge", labels=("role", "vcpu"),
            measurement="migration", field="vcpu{vcpu}_blocktime_seconds",
            help="Time that this vCPU waited for pages in post-copy (QMP query-migrate postcopy-vcpu-blocktime)",
        ),
        Metric(
            name="migrascope_migration_postcopy_vcpu_latency_seconds", kind="gauge", labels=("role", "vcpu"),
            measurement="migration", field="vcpu{vcpu}_latency_seconds",
            help="Mean time from page fault to page on this vCPU (QMP query-migrate postcopy-vcpu-latency)",
        ),
        Metric(
            name="migrascope_migration_postcopy_fault_latency_seconds", kind="histogram", labels=("role",),
            measurement="migration", field="postcopy_latency_bucket{bucket}", buckets=LATENCY_BUCKETS,
            over="postcopy_latency_seconds",
            help="Faults by the time until their page came; the sum is the mean times their number"
            " (QMP query-migrate postcopy-latency-dist, postcopy-latency)",
        ),
    ]  # fmt: skip


def _unmapped() -> list[Metric]:
    return [
        Metric(
            name="migrascope_migration_unmapped", kind="gauge", labels=("role", "field"), measurement="migration",
            field="*", help="A number that no other metric shows, as QEMU says it, by its place (QMP query-migrate)",
        )
    ]  # fmt: skip
