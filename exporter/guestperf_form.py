"""The form of guestperf's reports: its keys and units, and what each of them is called here.

It is that of tests/migration-stress/guestperf (before QEMU 10.0 tests/migration/guestperf) in QEMU's tree: report.py,
hardware.py, scenario.py, progress.py, timings.py. Stamps are wall clock in seconds, RAM is in GiB, guest timings are
milliseconds a GB, those of QEMU and its vCPUs milliseconds of CPU so far.
"""

from __future__ import annotations

from typing import Any

KIND = "guestperf"
GIB = 1 << 30

PARTS: dict[str, type] = {
    "hardware": dict, "scenario": dict, "progress_history": list, "guest_timings": list, "qemu_timings": list,
    "vcpu_timings": list, "result": dict, "binary": str, "dst_host": str, "kernel": str, "initrd": str,
    "transport": str, "sleep": int,
}  # fmt: skip
"""What a report holds. `result` is of QEMU 10.0 and later, and wrong for every paused run: it is not used."""

OPTIONAL = frozenset({"result"})

SCENARIO: dict[str, tuple[str, str | None]] = {
    "downtime": ("downtime_limit_ms", None),
    "bandwidth": ("bandwidth_mib_s", None),
    "max_iters": ("max_iterations", None),
    "max_time": ("max_time_seconds", None),
    "pause_iters": ("pause_iterations", "pause"),
    "post_copy_iters": ("post_copy_iterations", "post_copy"),
    "auto_converge_step": ("auto_converge_increment", "auto_converge"),
    "compression_mt_threads": ("compress_threads", "compression_mt"),
    "compression_xbzrle_cache": ("xbzrle_cache_percent", "compression_xbzrle"),
    "multifd_channels": ("multifd_channels", "multifd"),
    "multifd_compression": ("multifd_compression", "multifd"),
    "x_vcpu_dirty_limit_period": ("dirty_limit_period_ms", "dirty_limit"),
    "vcpu_dirty_limit": ("dirty_limit_mib_s", "dirty_limit"),
}
"""guestperf's setting -> ours, and the switch of guestperf's without which it is off."""

SWITCHES: dict[str, str] = {
    "pause": "pause_iterations", "post_copy": "post_copy_iterations", "auto_converge": "auto_converge_increment",
    "compression_mt": "compress_threads", "compression_xbzrle": "xbzrle_cache_percent", "multifd": "multifd_channels",
    "dirty_limit": "dirty_limit_mib_s",
}  # fmt: skip
"""Each of its switches with the setting of ours that is above 0 where it is on."""

SWITCHED_OFF: dict[str, Any] = {
    "pause_iters": 5, "post_copy_iters": 5, "auto_converge_step": 10, "compression_mt_threads": 1,
    "compression_xbzrle_cache": 10, "multifd_channels": 2, "multifd_compression": "", "x_vcpu_dirty_limit_period": 500,
    "vcpu_dirty_limit": 1,
}  # fmt: skip
"""What guestperf writes for a setting whose switch is off."""

BINDINGS: dict[str, str] = {
    "src_mem_bind": "source_nodes", "dst_mem_bind": "destination_nodes", "src_cpu_bind": "source_cpus",
    "dst_cpu_bind": "destination_cpus",
}  # fmt: skip
HARDWARE: dict[str, str] = {
    "cpus": "vcpus", "mem": "memory_mib", **BINDINGS, "prealloc_pages": "prealloc", "huge_pages": "huge_pages_mib",
    "locked_pages": "locked_pages", "dirty_ring_size": "dirty_ring_size",
}  # fmt: skip
"""guestperf's setting of the machine -> ours; bindings are lists of words."""

RAM: dict[str, tuple[str, float]] = {
    "transferred_bytes": ("transferred_bytes", 1),
    "remaining_bytes": ("remaining_bytes", 1),
    "total_bytes": ("total_bytes", 1),
    "duplicate_pages": ("zero_pages", 1),
    "skipped_pages": ("skipped_pages", 1),
    "normal_pages": ("normal_pages", 1),
    "normal_bytes": ("normal_bytes", 1),
    "dirty_rate_pps": ("dirty_pages_per_second", 1),
    "transfer_rate_mbs": ("bandwidth_bytes_per_second", 1e6 / 8),
    "iterations": ("iteration", 1),
}
PROGRESS: dict[str, tuple[str, float]] = {
    "duration": ("total_seconds", 1e-3),
    "downtime": ("downtime_seconds", 1e-3),
    "downtime_expected": ("expected_downtime_seconds", 1e-3),
    "setup_time": ("setup_seconds", 1e-3),
    "throttle_pcent": ("throttle_percent", 1),
    "dirty_limit_throttle_time_per_round": ("dirty_limit_throttle_seconds", 1e-6),
    "dirty_limit_ring_full_time": ("dirty_limit_ring_full_seconds", 1e-6),
}
"""guestperf's numbers -> those of the measurement `migration`. It writes 0 for what QEMU did not say."""

TIMING = ("timestamp", "tid", "value")
BYTES = "bytes"
"""A key of the guest's lines that only `migrascope export guestperf` writes: what the line tells of.

guestperf's lines tell of a GB each; its readers pass over keys that they do not know.
"""
