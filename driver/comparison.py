"""Named comparisons: which scenarios are run side by side, and on which machine and workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from driver.hardware import Hardware
from driver.scenario import Scenario, nearest
from workload.errors import BadValueError
from workload.settings import Workload

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison runs: one machine and workload, several scenarios in their order."""

    hardware: Hardware
    workload: Workload
    scenarios: tuple[Scenario, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A named comparison. `plan` turns the guest's measured xor rate (bytes/s) into what is run."""

    name: str
    summary: str
    varies: str
    seconds: float
    hardware: Hardware
    workload: Workload
    plan: Callable[[float], Plan]


DEMO_HARDWARE = Hardware(vcpus=1, memory_mib=128, accelerator="tcg")
DEMO_WORKLOAD = Workload(working_set_mib=32, granularity_mib=8)
DEMO_DOWNTIME_MS = 100
DEMO_SECONDS = 20


def demo_plan(xor_bytes_per_second: float) -> Plan:
    """Pick the demo's bandwidth from the guest's measured xor rate.

    99 % throttle leaves the guest 1 % of its rate; the link carries four times that, since at less than three times
    auto-converge cannot be sure to rescue it (docs/convergence.md). Without help the guest must never converge: an
    unthrottled dirtier does if and only if working set / bandwidth <= downtime limit, so the working set is kept at
    least three limits long.
    """
    bandwidth_mib = max(32, round(4 * xor_bytes_per_second / 100 / MIB))
    working_set_mib = max(DEMO_WORKLOAD.working_set_mib, round(3 * bandwidth_mib * DEMO_DOWNTIME_MS / 1000))
    alone = Scenario(
        bandwidth_mib_s=bandwidth_mib,
        downtime_limit_ms=DEMO_DOWNTIME_MS,
        max_time_seconds=DEMO_SECONDS,
        max_iterations=1000,
    )
    return Plan(
        hardware=DEMO_HARDWARE,
        workload=Workload(working_set_mib=working_set_mib, granularity_mib=DEMO_WORKLOAD.granularity_mib),
        scenarios=(
            alone,
            replace(alone, auto_converge_initial=80, auto_converge_increment=19),
            replace(alone, post_copy_iterations=3),
        ),
    )


COMPARISONS: dict[str, Comparison] = {
    "demo": Comparison(
        name="demo",
        summary="a worst-case guest that does not converge, then is rescued by auto-converge and by post-copy",
        varies="strategy: none, auto-converge, post-copy",
        seconds=75,
        hardware=DEMO_HARDWARE,
        workload=DEMO_WORKLOAD,
        plan=demo_plan,
    )
}


def find_comparison(name: str) -> Comparison:
    """Find a comparison by name.

    Raises:
        BadValueError: it is unknown; the nearest one is named.
    """
    if name not in COMPARISONS:
        raise BadValueError(f"comparison {name!r} is not known{nearest(name, COMPARISONS)}")
    return COMPARISONS[name]
