"""What the guest is told to do: working set, granularity, tick period, rate limit."""

from __future__ import annotations

from dataclasses import dataclass

from workload.value import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The guest's workload: one thread a vCPU xors its share of the working set for ever.

    A line (`xor` record) is printed for every `granularity_mib` MiB that a vCPU has xored.
    """

    working_set_mib: int = setting(
        32, unit="MiB", help="memory the guest dirties, shared among its vCPUs", group="workload", low=1, high=1 << 20
    )
    granularity_mib: int = setting(
        16, unit="MiB", help="memory xored between two xor lines of one vCPU", group="workload", low=1, high=1 << 16
    )
    tick_ms: int = setting(
        10, unit="ms", help="period of the tick lines that measure the blackout; 0 = none", group="workload", low=1,
        high=10_000, zero=True,
    )  # fmt: skip
    rate_limit_mib_s: int = setting(
        0, unit="MiB/s a vCPU", help="most memory a vCPU xors in a second; 0 = as fast as it can", group="workload",
        low=1, high=1 << 20, zero=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
