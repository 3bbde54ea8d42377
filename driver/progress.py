"""QEMU's reply to query-migrate as numbers in base units; what QEMU did not say is absent, never 0.

The names and units of the reply are those of QEMU's qapi/migration.json (MigrationInfo, MigrationStats).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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

LISTS: dict[str, tuple[str, float]] = {
    "postcopy-vcpu-blocktime": ("vcpu{}_blocktime_seconds", MILLI),
    "postcopy-vcpu-latency": ("vcpu{}_latency_seconds", NANO),
    "postcopy-latency-dist": ("postcopy_latency_bucket{}", 1),
}
"""Lists of numbers in the reply: each element has a name of its own, its index in place of the braces.

The Nth element of postcopy-latency-dist counts the faults that took [2^N, 2^(N+1)) microseconds (QEMU 10.1 and later;
like the latencies it is told by the destination, and only with the capability postcopy-blocktime).
"""

WORDS = frozenset({"status", "error-desc", "blocked-reasons", "socket-address"})
"""Places that hold no number."""

UNFILLED = frozenset(
    f"disk.{place.removeprefix('ram.')}" for place in FIELDS
    if place.startswith("ram.") and place.removeprefix("ram.") not in ("transferred", "remaining", "total")
)  # fmt: skip
"""Places that QEMU leaves at 0, since disks share RAM's struct (migration/migration.c, populate_disk_info)."""

LONGEST_LIST = 1024
"""vCPUs of the largest guests; what a list holds beyond is dropped."""

TOO_LARGE = float(1 << 63)
"""QMP's int ends here: a larger number is a counter that fell below 0, or no measurement at all."""

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

    `fields` maps this project's names to numbers; `unmapped` lists those of them that neither `FIELDS` nor `LISTS`
    knows and that are named after their place in the reply, in QEMU's units; `dropped` maps places whose value could
    not be believed to the reason: `type`, `negative`, `not_finite`, `too_large`.
    """

    status: str | None
    fields: Mapping[str, float]
    error: str | None = None
    unmapped: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, reply: Mapping[str, Any]) -> Progress:
        """Read a reply of QEMU 7.2 or later; no reply whatever makes this raise."""
        fields: dict[str, float] = {}
        unmapped: list[str] = []
        dropped: dict[str, str] = {}
        for place, value in _values(reply, ""):
            name, factor = _named(place)
            number = believed(value)
            if isinstance(number, str):
                if number != "type" or place in FIELDS or _list_of(place):
                    dropped[place] = number
            elif number or place not in UNFILLED:
                fields[name] = number * factor
                if place not in FIELDS and not _list_of(place):
                    unmapped.append(name)
        status, error = reply.get("status"), reply.get("error-desc")
        if status is not None and not isinstance(status, str):
            dropped["status"] = "type"
        return cls(
            status=status if isinstance(status, str) else None,
            fields=fields,
            error=error if isinstance(error, str) else None,
            unmapped=tuple(unmapped),
            dropped=dropped,
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
    def dirty_limited(self) -> bool:
        """Whether dirty-limit holds the guest back."""
        return self.fields.get("dirty_limit_throttle_seconds", 0.0) > 0

    @property
    def bandwidth_bytes_per_second(self) -> float | None:
        """QEMU's own measure of the throughput; 0 until it first measured."""
        return self.fields.get("bandwidth_bytes_per_second")

    @property
    def dirty_bytes_per_second(self) -> float | None:
        """QEMU's estimate of the dirty rate over the last iteration."""
        pages = self.fields.get("dirty_pages_per_second")
        return None if pages is None else pages * self.page_bytes

    @property
    def page_bytes(self) -> float:
        """The size of a guest page."""
        return self.fields.get("page_bytes", 4096.0)

    @property
    def pages_sent(self) -> float:
        """Pages handled so far, by whichever way: normal, zero, XBZRLE, compressed."""
        names = ("normal_pages", "zero_pages", "xbzrle_pages", "compression_pages")
        return sum(self.fields.get(name, 0.0) for name in names)


def believed(value: object) -> float | str:
    """A value of QMP as a number, or why it cannot be a measurement: type, not_finite, negative, too_large."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "type"
    if isinstance(value, float) and not math.isfinite(value):
        return "not_finite"
    if value < 0:
        return "negative"
    return "too_large" if value >= TOO_LARGE else float(value)


def _values(reply: Mapping[str, Any], above: str) -> Iterator[tuple[str, object]]:
    """Yield every value of a reply, but words and what is nested in lists, with its place in dots: `ram.remaining`.

    The Nth element of a list has the place `LIST.N`.
    """
    for key, value in reply.items():
        place = f"{above}{key}"
        if place in WORDS:
            continue
        if isinstance(value, Mapping) and place not in FIELDS and place not in LISTS:
            yield from _values(value, f"{place}.")
        elif isinstance(value, list) and place not in FIELDS:
            for index, element in enumerate(value[:LONGEST_LIST]):
                yield f"{place}.{index}", element
        else:
            yield place, value


def _list_of(place: str) -> tuple[str, str] | None:
    """The list of `LISTS` that a place is an element of (or stands for), and its index."""
    whole, _, index = place.rpartition(".")
    if whole in LISTS:
        return whole, index
    return (place, "") if place in LISTS else None


def _named(place: str) -> tuple[str, float]:
    """This project's name for a place, and the factor to base units."""
    if place in FIELDS:
        return FIELDS[place]
    if found := _list_of(place):
        form, factor = LISTS[found[0]]
        return form.format(found[1]), factor
    return place.replace(".", "_").replace("-", "_"), 1.0
