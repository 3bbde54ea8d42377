"""Comparisons of our own: combinations, ramps of the downtime limit, compression, throttles, TLS, workloads, versions.

Their base is a guest that never converges alone: 16 MiB at full speed over 32 MiB/s take 500 ms, the limit is 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from driver.comparison_plan import Comparison, Member, comparison, of_members
from driver.hardware import Hardware
from driver.scenario import Scenario
from driver.scenario_settings import CONVOY_ORDERS
from driver.transport import TRANSPORTS
from workload.settings import WORKLOADS, Workload

HARDWARE = Hardware(vcpus=1, memory_mib=128)
WORKLOAD = Workload(working_set_mib=16, granularity_mib=4)
HARD = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, max_time_seconds=20)
RESCUED = replace(HARD, max_time_seconds=30)
EASY = Scenario(bandwidth_mib_s=100, downtime_limit_ms=500, max_time_seconds=30)
UNCAPPED = replace(EASY, bandwidth_mib_s=4000)
MULTIFD = replace(EASY, multifd_channels=2)
COMPRESSIBLE = replace(WORKLOAD, compressible_percent=75)

RAMPED = replace(HARD, bandwidth_mib_s=40, downtime_limit_ms=500, max_time_seconds=60)
"""16 MiB over 40 MiB/s take 400 ms: a limit of 500 ms lets it go at once, a ramp only when it has come that far."""


def ramp(limits: Iterable[int], when: str) -> Scenario:
    """The downtime limits one after another, the later ones when `when` (a format of the number from 1 on) says."""
    first, *later = limits
    steps = (f"{when.format(number)}: downtime-limit-ms={limit}" for number, limit in enumerate(later, start=1))
    return replace(RAMPED, downtime_limit_ms=first, schedule="; ".join(steps))


NOVA = ramp(range(50, 501, 45), "{} s")
"""Nova raises the limit from a tenth to the whole in ten steps; its 75 s a GiB between them are one second here."""
OVIRT = ramp((100, 150, 200, 300, 400, 500), "stalled")
"""oVirt's default convergence schedule, a step at each stall."""
KUBEVIRT = ramp((150, *range(300, 1051, 150)), "iteration {}")
"""KubeVirt raises the limit from 150 to 1050 ms in a line, iteration by iteration after the first."""


def _of(name: str, summary: str, varies: str, scenarios: Iterable[Scenario]) -> Comparison:
    return comparison(name, summary, varies, HARDWARE, WORKLOAD, scenarios)


def _with(base: Scenario, *several: dict[str, Any]) -> tuple[Scenario, ...]:
    return tuple(replace(base, **fields) for fields in several)


def _working(fields: Mapping[str, Any]) -> Workload:
    return replace(WORKLOAD, **fields)


def _crossed(scenarios: Iterable[Scenario], workloads: Iterable[Workload]) -> tuple[Member, ...]:
    every = tuple(scenarios)
    return tuple(
        Member(scenario=scenario, hardware=HARDWARE, workload=workload) for workload in workloads for scenario in every
    )


COMBINATIONS = _of(
    "combinations", "strategies together: what one leaves the other takes",
    "auto-converge with post-copy, XBZRLE, compression, multifd; compression and XBZRLE with post-copy",
    _with(
        RESCUED,
        {"auto_converge_increment": 20, "post_copy_iterations": 5},
        {"auto_converge_increment": 20, "xbzrle_cache_percent": 25},
        {"auto_converge_increment": 20, "compress_threads": 2},
        {"auto_converge_increment": 20, "multifd_channels": 2, "multifd_compression": "zstd"},
        {"compress_threads": 2, "post_copy_iterations": 3},
        {"xbzrle_cache_percent": 25, "post_copy_iterations": 3},
        {"multifd_channels": 2, "post_copy_iterations": 3},
        {"multifd_channels": 2, "tls": "x509", "auto_converge_increment": 20},
    ),
)  # fmt: skip

DOWNTIME_RAMPS = _of(
    "downtime-ramps", "what it does to change the downtime limit while it runs",
    "fixed 500 ms; Nova's, oVirt's and KubeVirt's ramps", (RAMPED, NOVA, OVIRT, KUBEVIRT),
)  # fmt: skip

POST_COPY = _of(
    "post-copy", "ways to be in post-copy: pages on demand, its own channel, its own bandwidth",
    "plain, preempt, blocktime, bandwidth 400 MiB/s",
    _with(
        replace(RESCUED, post_copy_iterations=3),
        {}, {"post_copy_preempt": True}, {"post_copy_blocktime": True}, {"post_copy_bandwidth_mib_s": 400},
    ),
)  # fmt: skip

RECOVERY = _of(
    "recovery", "post-copy that loses its link, with and without recovery", "link kept; lost; lost and recovered",
    _with(
        replace(RESCUED, post_copy_iterations=3),
        {}, {"schedule": "post-copy 0.1 s: cut"}, {"schedule": "post-copy 0.1 s: cut", "post_copy_recoveries": 1},
    ),
)  # fmt: skip

SECOND_ATTEMPT = _of(
    "second-attempt", "what a cancelled migration costs before the next one succeeds",
    "not cancelled; cancelled after 0.5 s, after 2 s, and tried again",
    _with(
        replace(EASY, bandwidth_mib_s=32, downtime_limit_ms=1000),
        {}, {"attempts": 2, "schedule": "0.5 s: cancel"}, {"attempts": 2, "schedule": "2 s: cancel"},
    ),
)  # fmt: skip

THROTTLE = _of(
    "throttle", "how hard to throttle: sooner done, slower meanwhile",
    "initial/step 20/5, 20/10, 20/20, 40/20, 60/30, 80/19, 99; trigger 10 %; tailslow",
    _with(
        replace(RESCUED, bandwidth_mib_s=64, downtime_limit_ms=200),
        {"auto_converge_initial": 20, "auto_converge_increment": 5},
        {"auto_converge_initial": 20, "auto_converge_increment": 10},
        {"auto_converge_initial": 20, "auto_converge_increment": 20},
        {"auto_converge_initial": 40, "auto_converge_increment": 20},
        {"auto_converge_initial": 60, "auto_converge_increment": 30},
        {"auto_converge_initial": 80, "auto_converge_increment": 19},
        {"auto_converge_initial": 99, "auto_converge_increment": 1},
        {"auto_converge_initial": 60, "auto_converge_increment": 30, "auto_converge_trigger": 10},
        {"auto_converge_initial": 60, "auto_converge_increment": 30, "auto_converge_tailslow": True},
    ),
)  # fmt: skip

MULTIFD_COMPRESSION = of_members(
    "multifd-compression", "what compression makes of compressible and of incompressible memory",
    "compression none, zlib, zstd 1, 3, 9, qpl, uadk, qatzip; memory that compresses by 75 % or not at all",
    _crossed(
        _with(
            MULTIFD,
            {}, {"multifd_compression": "zlib"}, {"multifd_compression": "zstd"},
            {"multifd_compression": "zstd", "multifd_level": 3}, {"multifd_compression": "zstd", "multifd_level": 9},
            {"multifd_compression": "qpl"}, {"multifd_compression": "uadk"}, {"multifd_compression": "qatzip"},
        ),
        (COMPRESSIBLE, WORKLOAD),
    ),
)  # fmt: skip

MULTIFD_ZERO_PAGES = of_members(
    "zero-pages", "who finds the zero pages of a guest that has many", "zero-page-detection none, legacy, multifd",
    _crossed(
        _with(MULTIFD, *({"zero_page_detection": each} for each in ("none", "legacy", "multifd"))),
        (replace(WORKLOAD, zero_percent=80),),
    ),
)  # fmt: skip

TLS = _of(
    "tls", "what encryption costs in time and CPU", "none, shared key, certificates; one channel, two, zero-copy",
    _with(
        replace(UNCAPPED, transport="tcp"),
        {}, {"tls": "psk"}, {"tls": "x509"}, {"multifd_channels": 2}, {"multifd_channels": 2, "tls": "psk"},
        {"multifd_channels": 2, "tls": "x509"}, {"multifd_channels": 2, "zero_copy_send": True},
    ),
)  # fmt: skip

SWITCHOVER = _of(
    "switchover", "what makes the switchover", "as usual; no return path; switchover-ack; available bandwidth told",
    _with(
        replace(EASY, downtime_limit_ms=200),
        {}, {"return_path": False}, {"switchover_ack": True}, {"avail_switchover_mib_s": 400},
    ),
)  # fmt: skip

TRANSPORTED = _of(
    "transports", "what carries the stream", f"transport {', '.join(TRANSPORTS)}",
    _with(EASY, *({"transport": each} for each in TRANSPORTS)),
)  # fmt: skip

LINKS = _of(
    "links", "what does a slower or faster link do?", "link of 100, 300, 1000 Mbit/s, not limited (namespaces)",
    _with(
        replace(UNCAPPED, transport="tcp", hosts="namespaces", downtime_limit_ms=300),
        *({"link_mbit_s": each} for each in (100, 300, 1000, 0)),
    ),
)  # fmt: skip

PARALLEL = of_members(
    "parallel-serial", "three guests over one link: all at once, or one after another (namespaces)",
    "all at once, one by one; guests that write 8, 20 MiB/s over 60 MiB/s",
    _crossed(
        (
            replace(
                UNCAPPED, transport="tcp", hosts="namespaces", link_mbit_s=503, downtime_limit_ms=200,
                convoy_guests=3, convoy_order=order,
            )
            for order in CONVOY_ORDERS
        ),
        (replace(WORKLOAD, rate_limit_mib_s=each) for each in (8, 20)),
    ),
)  # fmt: skip

WORKED = of_members(
    "workloads", "pre-copy alone, by what the guest does", f"workload {', '.join(WORKLOADS)}",
    _crossed((replace(HARD, max_time_seconds=10),), map(_working, WORKLOADS.values())),
)  # fmt: skip

STEADY = Workload(working_set_mib=32, granularity_mib=4, rate_limit_mib_s=40)
"""A guest that writes a quarter more than 32 MiB/s carry: where fewer bytes stand for its pages it converges."""
STEADY_LIMITS = replace(HARD, downtime_limit_ms=300, max_time_seconds=8)

COMPRESSION_PAYS = of_members(
    "compression-pays", "where compression begins to pay, over a link of 32 MiB/s (namespaces)",
    "memory that compresses by 0 to 90 %; zstd or none",
    _crossed(
        # the link is the limit: before 9.0 QEMU counts raw bytes against its own cap, and compression gains nothing
        _with(
            replace(
                STEADY_LIMITS, bandwidth_mib_s=4000, multifd_channels=2, transport="tcp", hosts="namespaces",
                link_mbit_s=268,
            ),
            {}, {"multifd_compression": "zstd"},
        ),
        (replace(STEADY, compressible_percent=each) for each in (0, 25, 50, 75, 90)),
    ),
)  # fmt: skip

XBZRLE_PAYS = of_members(
    "xbzrle-pays", "where XBZRLE begins to pay", "writes that change 2, 10, 30, 100 % of a page; XBZRLE 50 % or none",
    _crossed(
        _with(STEADY_LIMITS, {}, {"xbzrle_cache_percent": 50}),
        (replace(STEADY, change_percent=each) for each in (2, 10, 30, 100)),
    ),
)  # fmt: skip

PRE_COPY_SUFFICES = of_members(
    "pre-copy-suffices", "how fast a guest may dirty before pre-copy alone no longer does",
    "dirty rate 4, 8, 16, 24, 32, 48 MiB/s over 32 MiB/s",
    _crossed((HARD,), (replace(WORKLOAD, rate_limit_mib_s=each) for each in (4, 8, 16, 24, 32, 48))),
)  # fmt: skip

BLOCK_MIGRATION = of_members(
    "block-migration", "what a disk that is mirrored beside RAM costs, by how fast the guest writes to it",
    "disk writes of 0, 8, 32, 128 MiB/s; mirror in the background, capped at 48 MiB/s, write-blocking",
    tuple(
        Member(
            scenario=scenario,
            hardware=replace(HARDWARE, disk_mib=64),
            workload=replace(WORKLOAD, rate_limit_mib_s=20, disk_write_mib_s=each),
        )
        for each in (0, 8, 32, 128)
        for scenario in _with(EASY, {}, {"disk_mirror_mib_s": 48}, {"disk_copy_mode": "write-blocking"})
    ),
)  # fmt: skip

SYSTEM, NEWER = "qemu-system-x86_64", "qemu-system-x86_64-10.0"

VERSIONS = of_members(
    "qemu-versions", "the same scenarios on two QEMUs, and from each of them to the other",
    "QEMU of the system, QEMU 10.0, at either end; pre-copy, post-copy, multifd",
    tuple(
        Member(scenario=scenario, hardware=HARDWARE, workload=WORKLOAD, qemu=qemu, destination_qemu=destination)
        for scenario in (EASY, replace(RESCUED, post_copy_iterations=3), MULTIFD)
        for qemu, destination in ((SYSTEM, None), (NEWER, None), (SYSTEM, NEWER), (NEWER, SYSTEM))
    ),
)  # fmt: skip

SNAPSHOTS = of_members(
    "background-snapshot", "what a snapshot of a guest that runs on costs it, against a guest that is saved and loaded",
    "saved to a file, or background snapshot to a file or a waiting QEMU; QEMU of the system, QEMU 10.0",
    tuple(
        Member(scenario=scenario, hardware=HARDWARE, workload=replace(WORKLOAD, probe_hz=100), qemu=qemu)
        for qemu in (SYSTEM, NEWER)
        for scenario in _with(
            UNCAPPED,
            *(
                {"transport": transport} | background
                for transport in ("exec-file", "file")
                for background in ({}, {"background_snapshot": True})
            ),
            {"transport": "unix", "background_snapshot": True},
        )
    ),
)  # fmt: skip

OURS = (
    COMBINATIONS, DOWNTIME_RAMPS, POST_COPY, RECOVERY, SECOND_ATTEMPT, THROTTLE, MULTIFD_COMPRESSION,
    MULTIFD_ZERO_PAGES, TLS, SWITCHOVER, TRANSPORTED, LINKS, PARALLEL, WORKED, COMPRESSION_PAYS, XBZRLE_PAYS,
    PRE_COPY_SUFFICES, BLOCK_MIGRATION, VERSIONS, SNAPSHOTS,
)  # fmt: skip
