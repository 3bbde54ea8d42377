"""QEMU's reply to query-migrate as numbers in base units; what QEMU did not say is absent, never 0.

The names and units of the reply are those of QEMU's qapi/migration.json (MigrationInfo, MigrationStats).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MILLI, MICRO, NANO = 1e-3, 1e-6, 1e-9

FIELDS: dict[str, tuple[str, float]] = {
    "total-time": ("total_seconds", MILLI),
    "downtime": ("downtime_seconds", MILLI),
    "expected-downtime": ("expected_downtime_seconds", MILLI),
    "setup-time": ("setup_seconds", MILLI),
    "cpu-throttle-percentage": ("throttle_percent", 1),
    "postcopy-blocktime": ("postcopy_blocktime_seconds", MILLI),
    "postcopy-latency": ("postcopy_latency_seconds", NANO),
    "postcopy-non-vcpu-latency": ("postcopy_non_vcpu_latency_seconds", NANO),
    "dirty-limit-throttle-time-per-round": ("dirty_limit_throttle_seconds", MICRO),
    "dirty-limit-ring-full-time": ("dirty_limit_ring_full_seconds", MICRO),
    "ram.transferred": ("transferred_bytes", 1),
    "ram.remaining": ("remaining_bytes", 1),
    "ram.total": ("total_bytes", 1),
    "ram.duplicate": ("zero_pages", 1),
    "ram.skipped": ("skipped_pages", 1),
    "ram.normal": ("normal_pages", 1),
    "ram.normal-bytes": ("normal_bytes", 1),
    "ram.dirty-pages-rate": ("dirty_pages_per_second", 1),
    "ram.mbps": ("bandwidth_bytes_per_second", 1e6 / 8),
    "ram.dirty-sync-count": ("iteration", 1),
    "ram.dirty-sync-missed-zero-copy": ("zero_copy_fallbacks", 1),
    "ram.postcopy-requests": ("postcopy_requests", 1),
    "ram.page-size": ("page_bytes", 1),
    "ram.multifd-bytes": ("multifd_bytes", 1),
    "ram.pages-per-second": ("pages_per_second", 1),
    "ram.precopy-bytes": ("precopy_bytes", 1),
    "ram.downtime-bytes": ("downtime_bytes", 1),
    "ram.postcopy-bytes": ("postcopy_bytes", 1),
    "disk.transferred": ("disk_transferred_bytes", 1),
    "disk.remaining": ("disk_remaining_bytes", 1),
    "disk.total": ("disk_total_bytes", 1),
    "vfio.transferred": ("vfio_transferred_bytes", 1),
    "xbzrle-cache.cache-size": ("xbzrle_cache_bytes", 1),
    "xbzrle-cache.bytes": ("xbzrle_bytes", 1),
    "xbzrle-cache.pages": ("xbzrle_pages", 1),
    "xbzrle-cache.cache-miss": ("xbzrle_cache_misses", 1),
    "xbzrle-cache.cache-miss-rate": ("xbzrle_cache_miss_ratio", 1),
    "xbzrle-cache.encoding-rate": ("xbzrle_encoding_ratio", 1),
    "xbzrle-cache.overflow": ("xbzrle_overflows", 1),
    "compression.pages": ("compression_pages", 1),
    "compression.busy": ("compression_busy", 1),
    "compression.busy-rate": ("compression_busy_ratio", 1),
    "compression.compressed-size": ("compression_bytes", 1),
    "compression.compression-rate": ("compression_ratio", 1),
}
"""Where a number stands in the reply -> (its name here, the factor to base units)."""

ACTIVE = frozenset(
    {"setup", "active", "pre-switchover", "device", "postcopy-active", "postcopy-paused", "postcopy-recover-setup",
     "postcopy-recover", "wait-unplug", "cancelling"}
)  # fmt: skip
"""Statuses of a migration under way."""

ENDED = frozenset({"completed", "failed", "cancelled"})
"""Statuses of a migration that is over."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One reply to query-migrate: `status` (None before any migration) and its numbers in base units.

    `fields` maps this project's names to numbers; `unmapped` lists those of them that `FIELDS` does not know and that
    were named after their place in the reply; `dropped` lists places whose number could not be believed
    (negative, infinite, not a number).
    """

    status: str | None
    fields: Mapping[str, float]
    error: str | None = None
    unmapped: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    vcpu_blocktime_seconds: tuple[float, ...] = field(default=())

    @classmethod
    def parse(cls, reply: Mapping[str, Any]) -> Progress:
        """Read a reply of QEMU 7.2 or later; no reply whatever makes this raise."""
        fields: dict[str, float] = {}
        unmapped: list[str] = []
        dropped: list[str] = []
        for place, number in _numbers(reply, ""):
            name, factor = FIELDS.get(place) or (place.replace(".", "_").replace("-", "_"), 1.0)
            if not math.isfinite(number) or number < 0:
                dropped.append(place)
                continue
            fields[name] = number * factor
            if place not in FIELDS:
                unmapped.append(name)
        status, error = reply.get("status"), reply.get("error-desc")
        blocktimes = reply.get("postcopy-vcpu-blocktime")
        return cls(
            status=status if isinstance(status, str) else None,
            fields=fields,
            error=error if isinstance(error, str) else None,
            unmapped=tuple(unmapped),
            dropped=tuple(dropped),
            vcpu_blocktime_seconds=tuple(
                value * MILLI for value in blocktimes if isinstance(value, int) and not isinstance(value, bool)
            )
            if isinstance(blocktimes, list)
            else (),
        )

    @property
    def active(self) -> bool:
        """Whether a migration is under way."""
        return self.status in ACTIVE

    @property
    def ended(self) -> bool:
        """Whether the migration is over."""
        return self.status in ENDED

    @property
    def iteration(self) -> int:
        """QEMU's dirty-sync-count; 0 before the first sync or where QEMU does not say."""
        return int(self.fields.get("iteration", 0))

    @property
    def remaining_bytes(self) -> float | None:
        """RAM still to be sent, as of the last sync and what was sent since."""
        return self.fields.get("remaining_bytes")

    @property
    def throttle_percent(self) -> float | None:
        """Auto-converge's throttle; None where none is on."""
        return self.fields.get("throttle_percent")

    @property
    def bandwidth_bytes_per_second(self) -> float | None:
        """QEMU's own measure of the throughput; 0 until it first measured."""
        return self.fields.get("bandwidth_bytes_per_second")

    @property
    def dirty_bytes_per_second(self) -> float | None:
        """QEMU's estimate of the dirty rate over the last iteration."""
        pages = self.fields.get("dirty_pages_per_second")
        return None if pages is None else pages * self.fields.get("page_bytes", 4096)

    @property
    def pages_sent(self) -> float:
        """Pages handled so far, by whichever way: normal, zero, XBZRLE, compressed."""
        names = ("normal_pages", "zero_pages", "xbzrle_pages", "compression_pages")
        return sum(self.fields.get(name, 0.0) for name in names)


def _numbers(reply: Mapping[str, Any], above: str) -> list[tuple[str, float]]:
    """List every number of a reply with its place in dots; booleans, words and lists are no numbers."""
    found: list[tuple[str, float]] = []
    for key, value in reply.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            try:
                found.append((f"{above}{key}", float(value)))
            except OverflowError:
                found.append((f"{above}{key}", math.inf))
        elif isinstance(value, Mapping):
            found += _numbers(value, f"{above}{key}.")
    return found
