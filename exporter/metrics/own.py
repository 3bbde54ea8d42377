"""The exporter itself."""

from __future__ import annotations

from exporter.metric import PREFIX, Metric

LATENESS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


def process_metrics() -> list[Metric]:
    """List the metrics of the exporter's process; they are read at each scrape."""

    def own(name: str, kind: str, text: str, field: str) -> Metric:
        return Metric(name=f"{PREFIX}exporter_{name}", kind=kind, help=text, measurement="process", field=field)

    return [
        own("cpu_seconds_total", "counter", "CPU time of the exporter's process (/proc/PID/stat)", "cpu_seconds"),
        own(
            "resident_memory_bytes",
            "gauge",
            "Its resident memory (/proc/PID/statm)",
            "resident_bytes",
        ),
        own("open_file_descriptors", "gauge", "Files that the exporter has open (/proc/PID/fd)", "open_files"),
        own("start_timestamp_seconds", "gauge", "When the exporter started, in Unix time (/proc/PID/stat)", "start"),
    ]


def own_metrics() -> list[Metric]:
    """List the metrics of the exporter itself; `exporter.selfmetrics.SelfMetrics` holds their figures."""

    def own(name: str, kind: str, text: str, field: str, *labels: str) -> Metric:
        return Metric(
            name=PREFIX + name,
            kind=kind,
            help=f"{text} (this exporter)",
            measurement="exporter",
            field=field,
            labels=labels,
        )

    return [
        own("exporter_info", "info", "Version of this exporter", "info", "version"),
        own("exporter_attached_runs", "gauge", "Runs that are being watched", "attached_runs"),
        own("runs_total", "counter", "Runs that this exporter has seen end", "runs"),
        own("runs_failed_total", "counter", "Those of them with an outcome other than completed", "runs_failed"),
        own("runs_not_converged_total", "counter", "Those of them that reached a limit", "runs_not_converged"),
        own("source_up", "gauge", "1 while the source answers", "source_up", "vm", "role", "source"),
        own("source_errors_total", "counter", "Failures at a source's boundary", "source_errors", "source"),
        own("source_collections_total", "counter", "Times a source was read", "collections", "source"),
        own(
            "source_collection_seconds_total", "counter", "Time spent reading a source", "collection_seconds", "source"
        ),
        own("samples_total", "counter", "Samples written to the journal", "samples", "measurement"),
        own("console_dropped_lines_total", "counter", "Console lines not of the protocol", "dropped_lines", "role"),
        own("migration_unmapped_values_total", "counter",
            "Numbers of query-migrate under a name that is not known, shown and recorded all the same", "unmapped"),
        own("migration_dropped_values_total", "counter",
            "Values of query-migrate that cannot be: wrong type, negative, not finite, too large", "dropped_values",
            "reason"),
        own("sampling_skipped_ticks_total", "counter", "Ticks skipped as the one before ran late", "skipped", "source"),
        Metric(
            name="migrascope_sampling_lateness_seconds", kind="histogram", measurement="exporter", field="lateness",
            labels=("source",), buckets=LATENESS_BUCKETS, help="How late a sampling tick came (this exporter)",
        ),
        own("journal_bytes_total", "counter", "Bytes written to journals", "journal_bytes"),
        own("journal_errors_total", "counter", "Failed writes to a journal, retried", "journal_errors"),
        own("journal_lost_samples_total", "counter", "Samples no journal could take", "journal_lost_samples"),
        own("scrape_errors_total", "counter", "Parts of /metrics that failed, left out", "scrape_errors", "part"),
        own("scrapes_total", "counter", "Times that /metrics was collected", "scrapes"),
        own("scrape_seconds_total", "counter", "Time spent collecting /metrics", "scrape_seconds"),
        own("scrape_longest_gap_seconds", "gauge", "Longest recent gap between two scrapes", "scrape_gap"),
        own("series_linger_seconds", "gauge", "How long the final figures of a run that ends now will stay", "linger"),
        own("http_refused_total", "counter", "Requests refused for their credentials", "http_refused"),
    ]  # fmt: skip
