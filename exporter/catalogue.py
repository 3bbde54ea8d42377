"""Every metric once: name, type, labels, help and where its value comes from. Dashboards, rules and docs follow."""

from __future__ import annotations

from dataclasses import dataclass

from driver.marks import PHASES
from driver.progress import ACTIVE, ENDED, FIELDS

PREFIX = "migrascope_"

RUN_LABELS = ("vm", "scenario", "campaign")
"""Labels of every series of a run; `run` itself stands only in migrascope_run_info, joined on `vm`."""

STATUSES = tuple(sorted(ACTIVE | ENDED | {"none", "colo"}))
"""The states of migrascope_migration_status (QEMU's qapi/migration.json, MigrationStatus)."""

UNITS = ("seconds_per_gib", "bytes_per_second", "pages_per_second", "seconds", "bytes", "ratio", "pages")
"""Units as names end with them; longer ones first."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric as Prometheus sees it.

    `measurement` and `field` say which sample's field gives the value, divided by the field `over`, times `factor`; the
    field `time_ns` is the sample's own stamp, an empty one is 1 for each sample. For the exporter's own (measurement
    `exporter`) the field is one of `exporter.selfmetrics.SelfMetrics`. `only` and `omit` select samples by one tag. A
    counter with `tally` sums the fields, any other shows the source's own figure. `passing` series go at once when
    their run ends, the others linger.
    """

    name: str
    kind: str
    help: str
    measurement: str
    field: str
    labels: tuple[str, ...] = ()
    over: str | None = None
    factor: float = 1.0
    tally: bool = False
    passing: bool = False
    only: tuple[str, str] | None = None
    omit: tuple[str, str] | None = None
    states: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """The name of its family in OpenMetrics: without `_total` or `_info`."""
        return self.name.removesuffix("_total").removesuffix("_info")

    @property
    def unit(self) -> str:
        """The unit that the name ends with; empty where it is a plain number."""
        return next((unit for unit in UNITS if self.family.endswith(f"_{unit}")), "")

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Its labels with those of the run, in the order of its series."""
        return self.labels if self.measurement == "exporter" else RUN_LABELS + self.labels


def _guest() -> list[Metric]:
    xor, tick = "the guest's console, xor lines", "the guest's console, tick lines"
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
            help=f"Tick lines that arrived ({tick})", measurement="guest_tick", field="",
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
    ]  # fmt: skip


def _qemu() -> list[Metric]:
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
            measurement="qemu_cpu", field="cpu_seconds",
        ),
        Metric(
            name="migrascope_qemu_thread_run_delay_seconds_total", kind="counter", labels=("role", "kind", "index"),
            omit=process, help=f"Time that QEMU's threads waited for a CPU while they could run ({schedstat})",
            measurement="qemu_cpu", field="run_delay_seconds",
        ),
        Metric(
            name="migrascope_qemu_resident_memory_bytes", kind="gauge", labels=("role",),
            help="Resident memory of the QEMU process (/proc/PID/statm)", measurement="qemu_memory",
            field="resident_bytes",
        ),
    ]  # fmt: skip


MIGRATION_HELP: dict[str, str] = {
    "total_seconds": "How long the migration has lasted, or lasted",
    "downtime_seconds": "QEMU's own figure of the downtime",
    "expected_downtime_seconds": "QEMU's switchover test: remaining at the last sync over measured bandwidth",
    "setup_seconds": "How long the migration's setup took",
    "throttle_percent": "Share of the guest's vCPU time that auto-converge takes away",
    "postcopy_blocktime_seconds": "Time that all vCPUs waited for pages during post-copy",
    "postcopy_latency_seconds": "Mean time from page fault to page during post-copy",
    "postcopy_non_vcpu_latency_seconds": "Mean time from page fault to page of faults outside vCPUs",
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


def _migration() -> list[Metric]:
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
            )
        )
    return found


def _verdict() -> list[Metric]:
    words = {
        "stalled": "1 while the last iterations gained nothing",
        "not_converging": "1 while the migration does not converge under present conditions and no step is left",
        "limit_reached": "1 once a limit on time or iterations was reached",
        "iteration": "The iteration at whose boundary the last verdict was said",
        "iteration_remaining_bytes": "Bytes remaining at the last iteration boundary",
        "implied_downtime_seconds": "Those bytes over the measured bandwidth: QEMU's switchover test, not a forecast",
    }
    return [
        Metric(
            name=f"migrascope_verdict_{field}", kind="gauge", passing=True,
            help=f"{text} (driver.convergence, from QMP query-migrate)", measurement="verdict", field=field,
        )
        for field, text in words.items()
    ]  # fmt: skip


def _run() -> list[Metric]:
    return [
        Metric(
            name="migrascope_run_info", kind="info", measurement="run", field="info",
            labels=("run", "host", "strategy", "transport", "accelerator", "source_qemu", "destination_qemu"),
            help="The run that this vm label stands for (run.json); join on vm",
        ),
        Metric(
            name="migrascope_run_phase", kind="stateset", states=PHASES, passing=True, measurement="run",
            field="phase", help="Phase of the run (marks.jsonl)",
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
            name="migrascope_events_total", kind="counter", labels=("role", "name"), tally=True,
            measurement="event", field="count",
            help="Events: QMP events of source and destination, the driver's marks, the exporter's own",
        ),
        Metric(
            name="migrascope_event_timestamp_seconds", kind="gauge", labels=("role", "name"), measurement="event",
            field="time_ns", factor=1e-9, help="When the event was last seen, in Unix time (QMP events, marks.jsonl)",
        ),
    ]  # fmt: skip


def _mirror() -> list[Metric]:
    def own(name: str, kind: str, text: str, field: str) -> Metric:
        return Metric(
            name=f"{PREFIX}mirror_{name}", kind=kind, help=f"{text} (checkpoint.json of its spool)",
            measurement="exporter", field=f"mirror_{field}", labels=("mirror",),
        )  # fmt: skip

    return [
        own("up", "gauge", "1 while a mirror takes what it is sent", "up"),
        own("lag_seconds", "gauge", "Age of the newest sample that a mirror acknowledged, 0 with none waiting", "lag"),
        own("waiting_bytes", "gauge", "Bytes of journal that a mirror has yet to acknowledge", "waiting_bytes"),
        own("samples_total", "counter", "Samples that a mirror acknowledged", "samples"),
        own("retries_total", "counter", "Requests to a mirror that failed and were sent again", "retries"),
        own("dropped_samples_total", "counter", "Samples that a mirror lost to its spool's bound", "dropped"),
        own("dead_letters_total", "counter", "Rows that a mirror refused, kept as dead letters", "dead_letters"),
        own("collapsed_values_total", "counter", "Values that share a millisecond with a later one", "collapsed"),
    ]


LATENESS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


def _exporter() -> list[Metric]:
    def own(name: str, kind: str, text: str, field: str, *labels: str) -> Metric:
        return Metric(name=PREFIX + name, kind=kind, help=text, measurement="exporter", field=field, labels=labels)

    return [
        own("exporter_info", "info", "Version of this exporter", "info", "version"),
        own("exporter_attached_runs", "gauge", "Runs that are being watched", "attached_runs"),
        own("runs_total", "counter", "Runs that this exporter has seen end", "runs"),
        own("runs_failed_total", "counter", "Those of them with an outcome other than completed", "runs_failed"),
        own("source_up", "gauge", "1 while the source answers", "source_up", "vm", "role", "source"),
        own("source_errors_total", "counter", "Failures at a source's boundary", "source_errors", "source"),
        own("source_collections_total", "counter", "Times a source was read", "collections", "source"),
        own(
            "source_collection_seconds_total", "counter", "Time spent reading a source", "collection_seconds", "source"
        ),
        own("samples_total", "counter", "Samples written to the journal", "samples", "measurement"),
        own("console_dropped_lines_total", "counter", "Console lines not of the protocol", "dropped_lines", "role"),
        own("sampling_skipped_ticks_total", "counter", "Ticks skipped as the one before ran late", "skipped", "source"),
        Metric(
            name="migrascope_sampling_lateness_seconds", kind="histogram", measurement="exporter", field="lateness",
            labels=("source",), buckets=LATENESS_BUCKETS, help="How late a sampling tick came",
        ),
        own("journal_bytes_total", "counter", "Bytes written to journals", "journal_bytes"),
        own("journal_errors_total", "counter", "Failed writes to a journal, retried", "journal_errors"),
        own("journal_lost_samples_total", "counter", "Samples no journal could take", "journal_lost_samples"),
        own("scrape_errors_total", "counter", "Parts of /metrics that failed, left out", "scrape_errors", "part"),
        *_mirror(),
    ]  # fmt: skip


CATALOGUE: tuple[Metric, ...] = (
    *_run(), *_guest(), *_qemu(), *_migration(), *_verdict(), *_exporter(),
)  # fmt: skip

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in CATALOGUE}
