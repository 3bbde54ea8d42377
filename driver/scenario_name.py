"""A scenario's name, computed from its values so that it cannot lie about what ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from driver.schedule import Step, schedule_slug
from workload.value import settings_of

if TYPE_CHECKING:
    from driver.scenario import Scenario

HEADS: Mapping[str, tuple[tuple[str, ...], Callable[[Scenario], str]]] = {
    "pause_iterations": ((), lambda s: f"pause-{s.pause_iterations}"),
    "post_copy_iterations": ((), lambda s: f"post-copy-{s.post_copy_iterations}"),
    "post_copy_seconds": ((), lambda s: f"post-copy-{s.post_copy_seconds:.10g}s"),
    "auto_converge_increment": (
        ("auto_converge_initial", "auto_converge_max"),
        lambda s: f"auto-converge-{s.auto_converge_initial}-{s.auto_converge_increment}-{s.auto_converge_max}",
    ),
    "dirty_limit_mib_s": (
        ("dirty_limit_period_ms",),
        lambda s: f"dirty-limit-{s.dirty_limit_mib_s}-{s.dirty_limit_period_ms}",
    ),
    "xbzrle_cache_percent": ((), lambda s: f"xbzrle-{s.xbzrle_cache_percent}"),
    "compress_threads": (
        ("compress_decompress_threads", "compress_level"),
        lambda s: f"compress-{s.compress_threads}-{s.compress_decompress_threads}-{s.compress_level}",
    ),
    "background_snapshot": ((), lambda _: "background-snapshot"),
    "multifd_channels": (
        ("multifd_compression", "multifd_level"),
        lambda s: (
            f"multifd-{s.multifd_channels}"
            + f"-{s.multifd_compression}" * (s.multifd_compression != "none" or s.multifd_level > 0)
            + f"-{s.multifd_level}" * (s.multifd_level > 0)
        ),
    ),
}
"""The field that turns a strategy on -> (the fields that its part of the name also tells, that part)."""

TAGS: Mapping[str, str] = {
    "bandwidth_mib_s": "{}mib-s",
    "downtime_limit_ms": "{}ms",
    "max_iterations": "it{}",
    "max_time_seconds": "t{}s",
    "transport": "{}",
    "hosts": "{}",
    "link_mbit_s": "link-{}mbit",
    "link_shaper": "{}",
    "avail_switchover_mib_s": "switchover-{}mib-s",
    "post_copy_bandwidth_mib_s": "post-copy-{}mib-s",
    "post_copy_preempt": "preempt",
    "post_copy_blocktime": "blocktime",
    "post_copy_recoveries": "recoveries-{}",
    "post_copy_outage_ms": "outage-{}ms",
    "auto_converge_tailslow": "tailslow",
    "auto_converge_trigger": "trigger-{}",
    "compress_wait": "compress-no-wait",
    "zero_copy_send": "zero-copy",
    "convoy_guests": "convoy-{}",
    "convoy_order": "{}",
    "return_path": "no-return-path",
    "switchover_ack": "switchover-ack",
    "disk_copy_mode": "{}",
    "disk_mirror_mib_s": "mirror-{}mib-s",
}
"""How a field is told where no strategy tells it; the others as `field-name-value`."""

ALWAYS = ("bandwidth_mib_s", "downtime_limit_ms")


def scenario_name(scenario: Scenario, schedule: Iterable[Step]) -> str:
    """Put the name together: strategies, schedule, bandwidth and downtime limit, then whatever is not as usual."""
    told = {"schedule", *ALWAYS}
    parts = []
    for field, (others, head) in HEADS.items():
        if getattr(scenario, field):
            told |= {field, *others}
            parts.append(head(scenario))
    parts += filter(None, [schedule_slug(schedule)])
    parts = parts or ["pre-copy"]
    parts += [_told(field, getattr(scenario, field)) for field in ALWAYS]
    for field, (_, default, _) in settings_of(type(scenario)).items():
        if field not in told and (value := getattr(scenario, field)) != default:
            parts.append(_told(field, value))
    return ".".join(parts)


def _told(field: str, value: Any) -> str:
    return TAGS.get(field, f"{field.replace('_', '-')}-{{}}").format(f"{value}".lower())
