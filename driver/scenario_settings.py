"""The settings of a scenario by noun, each with its unit, help and bounds; `driver.scenario.Scenario` has them all."""

from __future__ import annotations

from dataclasses import dataclass

from workload.value import setting

MOST_MIB_S = 1 << 20
MOST_ITERATIONS = 1_000_000
WEEK_SECONDS = 604_800

MULTIFD_COMPRESSIONS = ("none", "zlib", "zstd", "qpl", "uadk", "qatzip")
ZERO_PAGE_DETECTIONS = ("default", "none", "legacy", "multifd")
TLS_KINDS = ("none", "psk", "x509")
AT_ONCE, ONE_BY_ONE = "at-once", "one-by-one"
CONVOY_ORDERS = (AT_ONCE, ONE_BY_ONE)
CONVOY_MOST = 8
"""As many saved guests as warm starts keep."""
COPY_MODES = ("background", "write-blocking")
"""Of QEMU's MirrorCopyMode (qapi/block-core.json)."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the migration may take: of the guest's time, of the link, of the clock."""

    downtime_limit_ms: int = setting(
        300, unit="ms", help="longest pause that QEMU may plan for the switchover", group="limits", low=1,
        high=2_000_000,
    )  # fmt: skip
    bandwidth_mib_s: int = setting(
        125, unit="MiB/s", help="cap on the migration's bandwidth, post-copy's own included", group="limits", low=1,
        high=MOST_MIB_S,
    )  # fmt: skip
    avail_switchover_mib_s: int = setting(
        0, unit="MiB/s", help="bandwidth that QEMU is to reckon with at the switchover; 0 = what it measures",
        group="limits", low=1, high=MOST_MIB_S, zero=True,
    )  # fmt: skip
    max_iterations: int = setting(
        100, unit="iterations", help="cancel when this many dirty-bitmap syncs did not suffice", group="limits", low=1,
        high=MOST_ITERATIONS,
    )  # fmt: skip
    max_time_seconds: int = setting(
        300, unit="s", help="cancel when the migration takes longer", group="limits", low=1, high=WEEK_SECONDS
    )
    attempts: int = setting(
        1, unit="attempts", group="limits", low=1, high=100,
        help="how often it is tried: after a cancel, by a limit or the schedule, the source goes to a new destination",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is done while the migration runs, and when."""

    pause_iterations: int = setting(
        0, unit="iterations", help="stop the guest after this many iterations; 0 = never", group="strategy", low=1,
        high=MOST_ITERATIONS, zero=True,
    )  # fmt: skip
    post_copy_iterations: int = setting(
        0, unit="iterations", help="switch to post-copy after this many iterations; 0 = never", group="strategy",
        low=1, high=MOST_ITERATIONS, zero=True,
    )  # fmt: skip
    post_copy_seconds: float = setting(
        0.0, unit="s", help="switch to post-copy after this time; 0 = never", group="strategy", low=0.01,
        high=WEEK_SECONDS, zero=True,
    )  # fmt: skip
    schedule: str = setting(
        "", unit="WHEN:WHAT;...", group="strategy",
        help="changes while it runs, `iteration 3: downtime-limit-ms=1000; stalled: post-copy`:"
        " WHEN is `iteration N`, `N s`, `stalled` or `post-copy N s`, WHAT `pause`, `post-copy`, `cut`, `cancel` or"
        " a setting=value",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PostCopy:
    """How post-copy works once it has begun."""

    post_copy_preempt: bool = setting(
        False, unit="", help="send pages that the guest waits for on a channel of their own", group="post-copy"
    )
    post_copy_blocktime: bool = setting(
        False, unit="", help="have the destination measure how long vCPUs wait for pages", group="post-copy"
    )
    post_copy_bandwidth_mib_s: int = setting(
        0, unit="MiB/s", help="cap on the bandwidth in post-copy; 0 = the migration's own cap", group="post-copy",
        low=1, high=MOST_MIB_S, zero=True,
    )  # fmt: skip
    post_copy_recoveries: int = setting(
        0, unit="", help="how often a lost link is recovered; 0 = its loss is the end", group="post-copy", low=1,
        high=1000, zero=True,
    )  # fmt: skip
    post_copy_outage_ms: int = setting(
        0, unit="ms", help="how long a lost link stays lost before it is recovered; 0 = at once", group="post-copy",
        low=1, high=3_600_000, zero=True,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Throttling:
    """How the guest is slowed down: all its vCPUs' time (auto-converge), or each vCPU's dirtying (dirty-limit)."""

    auto_converge_increment: int = setting(
        0, unit="percent", help="throttle step of auto-converge; 0 = off", group="throttling", low=1, high=99, zero=True
    )
    auto_converge_initial: int = setting(
        20, unit="percent", help="first throttle of auto-converge", group="throttling", low=1, high=99
    )
    auto_converge_max: int = setting(
        99, unit="percent", help="highest throttle of auto-converge", group="throttling", low=1, high=99
    )
    auto_converge_tailslow: bool = setting(
        False, unit="", help="take smaller throttle steps towards the end", group="throttling"
    )
    auto_converge_trigger: int = setting(
        50, unit="percent", help="share of what was sent that must have been dirtied before a throttle step",
        group="throttling", low=1, high=100,
    )  # fmt: skip
    dirty_limit_mib_s: int = setting(
        0, unit="MiB/s", help="highest dirty rate of a vCPU once it does not converge (KVM's dirty ring); 0 = off",
        group="throttling", low=1, high=MOST_MIB_S, zero=True,
    )  # fmt: skip
    dirty_limit_period_ms: int = setting(
        1000, unit="ms", help="how often dirty-limit measures the dirty rates", group="throttling", low=1, high=1000
    )


@dataclass(frozen=True, kw_only=True)
class Compression:
    """How less is sent over one channel: differences to what was sent before (XBZRLE), or compressed pages."""

    xbzrle_cache_percent: int = setting(
        0, unit="percent of RAM", help="XBZRLE's cache, rounded down to a power of two; 0 = off", group="compression",
        low=1, high=100, zero=True,
    )  # fmt: skip
    compress_threads: int = setting(
        0, unit="threads", help="multi-thread compression (QEMU before 9.1); 0 = off", group="compression", low=1,
        high=255, zero=True,
    )  # fmt: skip
    compress_decompress_threads: int = setting(
        2, unit="threads", help="the destination's threads that decompress", group="compression", low=1, high=255
    )
    compress_level: int = setting(
        1, unit="", help="level of multi-thread compression, 0 = none, 9 = best", group="compression", low=0, high=9
    )
    compress_wait: bool = setting(
        True, unit="", help="wait for a free thread (else send the page as it is)", group="compression"
    )


@dataclass(frozen=True, kw_only=True)
class Multifd:
    """Several channels side by side."""

    multifd_channels: int = setting(
        0, unit="channels", help="send over this many channels side by side; 0 = off", group="multifd", low=1,
        high=255, zero=True,
    )  # fmt: skip
    multifd_compression: str = setting(
        "none", unit="", help="compress what goes over the channels", group="multifd", choices=MULTIFD_COMPRESSIONS
    )
    multifd_level: int = setting(
        0, unit="", help="level of zlib (1-9), zstd (1-20) or qatzip (1-9); 0 = QEMU's own", group="multifd", low=1,
        high=20, zero=True,
    )  # fmt: skip
    zero_page_detection: str = setting(
        "default", unit="", help="who looks for zero pages: nobody, the migration thread or the channels",
        group="multifd", choices=ZERO_PAGE_DETECTIONS,
    )  # fmt: skip
    zero_copy_send: bool = setting(
        False, unit="", help="hand pages to the kernel without copying them (tcp, locked memory)", group="multifd"
    )


@dataclass(frozen=True, kw_only=True)
class Disk:
    """How the guest's disk, where its hardware has one, is copied to the destination."""

    disk_copy_mode: str = setting(
        "background", unit="", group="disk", choices=COPY_MODES,
        help="copy what the guest writes to its disk later, or have each of its writes wait for the destination's copy",
    )  # fmt: skip
    disk_mirror_mib_s: int = setting(
        0, unit="MiB/s", help="cap on what the disk's mirror copies in a second; 0 = none", group="disk", low=1,
        high=MOST_MIB_S, zero=True,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stream:
    """How source and destination talk."""

    return_path: bool = setting(
        True, unit="", help="have the destination answer: `completed` then means that it has it all", group="stream"
    )
    switchover_ack: bool = setting(
        False, unit="", help="switch over only once the destination says that it is ready", group="stream"
    )
    tls: str = setting(
        "none", unit="", help="encrypt, with keys made for the run: a shared key or certificates", group="stream",
        choices=TLS_KINDS,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How a guest is saved while it runs on."""

    background_snapshot: bool = setting(
        False, unit="", group="snapshot",
        help="save the guest as it is at the start, and let it run on: what it is about to write is saved first",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Convoy:
    """Several guests that leave one host for another over the same link."""

    convoy_guests: int = setting(
        1, unit="guests", help="migrate so many guests over the same link, each a run of its own; 1 = one alone",
        group="convoy", low=1, high=CONVOY_MOST,
    )  # fmt: skip
    convoy_order: str = setting(
        AT_ONCE, unit="", help="all at once, or one by one while the others run on", group="convoy",
        choices=CONVOY_ORDERS,
    )  # fmt: skip
