"""The host and the exporter's own process as they are at a scrape."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from exporter.sinks.reader import Readings

PRESSURE = Path("/proc/pressure")
RESOURCES = ("cpu", "memory", "io")
MICRO = 1e-6


class HostReader:
    """Reads CPU, memory, their pressure and the data directory's disk; pressure is absent on kernels without it."""

    measurement = "host"

    def __init__(self, data_directory: Path, pressure: Path = PRESSURE) -> None:
        self._data_directory = data_directory
        self._pressure = pressure

    def read(self) -> Readings:
        """The figures as they are now; OSError where the data directory has gone."""
        memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), os.statvfs(self._data_directory)
        pressure = list(self._read_pressure())
        return {
            "cpus": {(): float(psutil.cpu_count() or 1)},
            "cpu_seconds": {(mode,): seconds for mode, seconds in psutil.cpu_times()._asdict().items()},
            "memory_bytes": {(): float(memory.total)},
            "memory_available_bytes": {(): float(memory.available)},
            "swap_used_bytes": {(): float(swap.used)},
            "pressure_waiting": {(resource,): seconds for resource, kind, seconds in pressure if kind == "some"},
            "pressure_stalled": {(resource,): seconds for resource, kind, seconds in pressure if kind == "full"},
            "data_free_bytes": {(): float(disk.f_bavail * disk.f_frsize)},
            "data_size_bytes": {(): float(disk.f_blocks * disk.f_frsize)},
        }

    def _read_pressure(self) -> Iterator[tuple[str, str, float]]:
        """Yield resource, `some` or `full`, and seconds so far (Documentation/accounting/psi.rst)."""
        for resource in RESOURCES:
            with contextlib.suppress(OSError):
                for line in (self._pressure / resource).read_text().splitlines():
                    kind, _, figures = line.partition(" ")
                    yield resource, kind, int(figures.rpartition("total=")[2]) * MICRO


class ProcessReader:
    """Reads the exporter's own process."""

    measurement = "process"

    def __init__(self) -> None:
        self._process = psutil.Process()

    def read(self) -> Readings:
        """The figures as they are now."""
        with self._process.oneshot():
            times = self._process.cpu_times()
            return {
                "cpu_seconds": {(): times.user + times.system},
                "resident_bytes": {(): float(self._process.memory_info().rss)},
                "open_files": {(): float(self._process.num_fds())},
                "start": {(): self._process.create_time()},
            }
