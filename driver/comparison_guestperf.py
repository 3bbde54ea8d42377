"""guestperf's named comparisons with its values, on a guest small enough for emulation.

Its names are kept, and its mistake in XBZRLE's 20 % is not. What it calls 0 iterations is "at once" here, where 0 is
off. Source of the values: QEMU tests/migration-stress/guestperf, comparison.py and scenario.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from driver.comparison_plan import Comparison, comparison
from driver.hardware import Hardware
from driver.scenario import Scenario
from workload.settings import Workload

HARDWARE = Hardware(vcpus=1, memory_mib=128)
WORKLOAD = Workload(working_set_mib=32, granularity_mib=8)
USUAL = Scenario(downtime_limit_ms=500, bandwidth_mib_s=125_000, max_iterations=30, max_time_seconds=300)
"""guestperf's own defaults."""

BANDWIDTHS = (12, 37, 125, 1250, 12_500)
"""100 Mbit/s, 300 Mbit/s, 1, 10 and 100 Gbit/s in MiB/s, as guestperf rounds them."""
ITERATIONS = (1, 5, 20)
AT_ONCE_SECONDS = 0.01
RING = replace(HARDWARE, accelerator="kvm", dirty_ring_size=4096)

_POST_COPY = replace(USUAL, post_copy_iterations=5)
_AUTO_CONVERGE = replace(USUAL, auto_converge_increment=10)
_DIRTY_LIMIT = replace(USUAL, dirty_limit_mib_s=1, dirty_limit_period_ms=500)


def _of(
    name: str, summary: str, varies: str, scenarios: Iterable[Scenario], hardware: Hardware = HARDWARE
) -> Comparison:
    return comparison(name, summary, varies, hardware, WORKLOAD, scenarios)


GUESTPERF = (
    _of(
        "pause-iters", "what stopping the guest early or late costs it", "pause at once, after 1, 5, 20 iterations",
        (replace(USUAL, schedule=f"{AT_ONCE_SECONDS} s: pause"),
         *(replace(USUAL, pause_iterations=each) for each in ITERATIONS)),
    ),
    _of(
        "post-copy-bandwidth", "post-copy over slow and fast links", "bandwidth 12, 37, 125, 1250, 12500 MiB/s",
        (replace(_POST_COPY, bandwidth_mib_s=each) for each in BANDWIDTHS),
    ),
    _of(
        "post-copy-iters", "switching to post-copy early or late", "post-copy at once, after 1, 5, 20 iterations",
        (replace(USUAL, post_copy_seconds=AT_ONCE_SECONDS),
         *(replace(USUAL, post_copy_iterations=each) for each in ITERATIONS)),
    ),
    _of(
        "auto-converge-iters", "how big throttle steps should be", "throttle step 5, 10, 20 %",
        (replace(USUAL, auto_converge_increment=each) for each in (5, 10, 20)),
    ),
    _of(
        "auto-converge-bandwidth", "auto-converge over slow and fast links", "bandwidth 12, 37, 125, 1250, 12500 MiB/s",
        (replace(_AUTO_CONVERGE, bandwidth_mib_s=each) for each in BANDWIDTHS),
    ),
    _of(
        "compr-mt", "multi-thread compression (QEMU before 9.1)", "threads 1, 2, 4",
        (replace(USUAL, compress_threads=each, compress_decompress_threads=each) for each in (1, 2, 4)),
    ),
    _of(
        "compr-xbzrle", "XBZRLE with small and big caches", "cache 5, 10, 20, 50 % of RAM",
        (replace(USUAL, xbzrle_cache_percent=each) for each in (5, 10, 20, 50)),
    ),
    _of(
        "compr-multifd", "few and many channels side by side", "channels 4, 8, 32, 64",
        (replace(USUAL, multifd_channels=each) for each in (4, 8, 32, 64)),
    ),
    _of(
        "compr-multifd-compression", "ways to compress what goes over two channels", "zlib, zstd, qpl, uadk",
        (replace(USUAL, multifd_channels=2, multifd_compression=each) for each in ("zlib", "zstd", "qpl", "uadk")),
    ),
    _of(
        "compr-dirty-limit-period", "how often dirty-limit measures (KVM's dirty ring)", "period 500, 800, 1000 ms",
        (replace(_DIRTY_LIMIT, dirty_limit_period_ms=each) for each in (500, 800, 1000)), RING,
    ),
    _of(
        "compr-dirty-limit", "how far dirty-limit holds vCPUs back (KVM's dirty ring)", "limit 10, 20, 50 MiB/s",
        (replace(_DIRTY_LIMIT, dirty_limit_mib_s=each) for each in (10, 20, 50)), RING,
    ),
)  # fmt: skip
