"""The host that everything shares: CPU, memory, their pressure, and the disk that holds the data directory."""

from __future__ import annotations

from exporter.metric import Metric


def host_metrics() -> list[Metric]:
    """List the metrics of the host; they are read at each scrape."""

    def of(name: str, kind: str, text: str, field: str, *labels: str) -> Metric:
        return Metric(
            name=f"migrascope_{name}", kind=kind, help=text, measurement="host", field=field, labels=labels
        )  # fmt: skip

    return [
        of("host_cpus", "gauge", "CPUs that are online (psutil.cpu_count)", "cpus"),
        of("host_cpu_seconds_total", "counter", "CPU time of the host by mode (/proc/stat)", "cpu_seconds", "mode"),
        of("host_memory_bytes", "gauge", "Memory of the host (/proc/meminfo)", "memory_bytes"),
        of("host_memory_available_bytes", "gauge", "Memory that is free or can be freed (/proc/meminfo)",
           "memory_available_bytes"),
        of("host_swap_used_bytes", "gauge", "Swap in use (/proc/meminfo)", "swap_used_bytes"),
        of("host_pressure_waiting_seconds_total", "counter",
           "Time in which some task waited for cpu, memory or io (/proc/pressure/*, some)", "pressure_waiting",
           "resource"),
        of("host_pressure_stalled_seconds_total", "counter",
           "Time in which all tasks that could run waited for it (/proc/pressure/*, full)", "pressure_stalled",
           "resource"),
        of("data_directory_free_bytes", "gauge", "Space that its user may still fill (statvfs)", "data_free_bytes"),
        of("data_directory_size_bytes", "gauge", "Size of the file system that holds it (statvfs)",
           "data_size_bytes"),
    ]  # fmt: skip
