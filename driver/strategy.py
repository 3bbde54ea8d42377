"""What is done so that a migration finishes: a table of small classes, one a strategy, and the steps while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from driver.monitor import Commands
from driver.scenario import HIGHEST_LEVEL, Scenario, changed
from driver.schedule import Step

SMALLEST_XBZRLE_CACHE = 4096
"""QEMU wants at least the target's page size."""


class Strategy(Protocol):
    """One strategy: what it needs negotiated. Its steps stand in `Scenario.steps`."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:
        """QEMU's capabilities to switch on, on both sides."""

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:
        """QEMU's parameters to set, on both sides."""


class Nothing:
    """Plain pre-copy; also what the others are built on."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002 - a strategy's signature
        """None."""
        return ()

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:  # noqa: ARG002
        """None."""
        return {}


class PostCopy(Nothing):
    """Switch over first and fetch what is missing afterwards."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:
        """Post-copy; the destination needs userfaultfd for it."""
        return (
            "postcopy-ram",
            *["postcopy-preempt"] * scenario.post_copy_preempt,
            *["postcopy-blocktime"] * scenario.post_copy_blocktime,
        )

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:  # noqa: ARG002
        """Post-copy's bandwidth is capped as well."""
        return {"max-postcopy-bandwidth": (scenario.post_copy_bandwidth_mib_s or scenario.bandwidth_mib_s) << 20}


class AutoConverge(Nothing):
    """Let QEMU throttle the vCPUs until they dirty less than can be sent."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Auto-converge."""
        return ("auto-converge",)

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:  # noqa: ARG002
        """First throttle, step and maximum; when to take a step, and whether steps shrink towards the end."""
        return {
            "cpu-throttle-initial": scenario.auto_converge_initial,
            "cpu-throttle-increment": scenario.auto_converge_increment,
            "max-cpu-throttle": scenario.auto_converge_max,
            "cpu-throttle-tailslow": scenario.auto_converge_tailslow,
            "throttle-trigger-threshold": scenario.auto_converge_trigger,
        }


class DirtyLimit(Nothing):
    """Let QEMU hold each vCPU to a dirty rate; only KVM's dirty ring can."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Dirty-limit."""
        return ("dirty-limit",)

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:  # noqa: ARG002
        """The rate (MiB/s) and the period of its measurement (ms)."""
        return {
            "vcpu-dirty-limit": scenario.dirty_limit_mib_s,
            "x-vcpu-dirty-limit-period": scenario.dirty_limit_period_ms,
        }


class Xbzrle(Nothing):
    """Send what has changed in a page that was sent before, from a cache of such pages."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """XBZRLE."""
        return ("xbzrle",)

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:
        """The cache's size in bytes."""
        return {"xbzrle-cache-size": xbzrle_cache_bytes(scenario.xbzrle_cache_percent, memory_bytes)}


class Compress(Nothing):
    """Compress pages in threads of their own (deprecated in QEMU 8.2, removed in 9.1)."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Compression."""
        return ("compress",)

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:  # noqa: ARG002
        """Threads on both sides, level, and whether a page waits for a free thread."""
        return {
            "compress-threads": scenario.compress_threads,
            "decompress-threads": scenario.compress_decompress_threads,
            "compress-level": scenario.compress_level,
            "compress-wait-thread": scenario.compress_wait,
        }


class Multifd(Nothing):
    """Send over several channels side by side, compressed or not."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Multifd."""
        return ("multifd",)

    def parameters(self, scenario: Scenario, memory_bytes: int) -> Mapping[str, Any]:  # noqa: ARG002
        """Channels, compression and its level."""
        parameters: dict[str, Any] = {
            "multifd-channels": scenario.multifd_channels,
            "multifd-compression": scenario.multifd_compression,
        }
        if scenario.multifd_level and scenario.multifd_compression in HIGHEST_LEVEL:
            parameters[f"multifd-{scenario.multifd_compression}-level"] = scenario.multifd_level
        return parameters


class ZeroCopy(Nothing):
    """Have the kernel send guest pages where they lie."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Zero-copy-send."""
        return ("zero-copy-send",)


class BackgroundSnapshot(Nothing):
    """Save the guest as it was at the start while it runs on; the source needs userfaultfd for it."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Background-snapshot."""
        return ("background-snapshot",)


STRATEGIES: dict[str, Strategy] = {
    "none": Nothing(),
    "pause": Nothing(),
    "post-copy": PostCopy(),
    "recover": Nothing(),
    "retune": Nothing(),
    "auto-converge": AutoConverge(),
    "dirty-limit": DirtyLimit(),
    "xbzrle": Xbzrle(),
    "compress": Compress(),
    "multifd": Multifd(),
    "zero-copy": ZeroCopy(),
    "background-snapshot": BackgroundSnapshot(),
}
"""Each strategy of `scenario.STRATEGIES`."""


def capabilities(scenario: Scenario, *, disk: bool = False) -> tuple[str, ...]:
    """QEMU's capabilities that a scenario wants, on both sides; with a disk it waits for that before the switchover.

    `events` is always on: events steer. With `return-path` the source says `completed` only once the destination has
    it all; a transport without a way back has none, and QEMU refuses it beside background-snapshot.
    """
    wanted = ["events"]
    answers = scenario.return_path and scenario.carrier.back_channel and not scenario.background_snapshot
    wanted += ["return-path"] * answers
    wanted += ["switchover-ack"] * scenario.switchover_ack
    wanted += scenario.carrier.capabilities
    wanted += ["pause-before-switchover"] * disk
    for name in scenario.strategies:
        wanted += STRATEGIES[name].capabilities(scenario)
    return tuple(wanted)


def parameters(scenario: Scenario, memory_bytes: int) -> dict[str, Any]:
    """QEMU's parameters that a scenario wants, on both sides; TLS has its own (`driver.tls`)."""
    wanted: dict[str, Any] = {
        "max-bandwidth": scenario.bandwidth_bytes_per_second,
        "downtime-limit": scenario.downtime_limit_ms,
    }
    wanted |= scenario.carrier.parameters
    if scenario.avail_switchover_mib_s:
        wanted["avail-switchover-bandwidth"] = scenario.avail_switchover_mib_s << 20
    if scenario.zero_page_detection != "default":
        wanted["zero-page-detection"] = scenario.zero_page_detection
    for name in scenario.strategies:
        wanted |= STRATEGIES[name].parameters(scenario, memory_bytes)
    return wanted


def xbzrle_cache_bytes(percent: int, memory_bytes: int) -> int:
    """XBZRLE's cache: a share of RAM, rounded down to a power of two, since QEMU takes no other size."""
    wanted = max(memory_bytes * percent // 100, SMALLEST_XBZRLE_CACHE)
    return 1 << (wanted.bit_length() - 1)


async def take_step(source: Commands, step: Step, before: Scenario, memory_bytes: int) -> Scenario:
    """Take one step and return the scenario's conditions after it; `cancel` is the caller's.

    Raises:
        RefusedError: QEMU does not do it.
    """
    match step.what:
        case "pause":
            await source.execute("stop")
        case "post-copy":
            await source.execute("migrate-start-postcopy")
        case "cut":
            await source.execute("migrate-pause", out_of_band=True)
    after = changed(before, step)
    old, new = parameters(before, memory_bytes), parameters(after, memory_bytes)
    if anew := {name: value for name, value in new.items() if old.get(name) != value}:
        await source.execute("migrate-set-parameters", anew)
    return after
