"""The demo: a worst-case guest that does not converge alone, planned by how fast guests dirty memory here."""

from __future__ import annotations

from dataclasses import replace

from driver.comparison_plan import Comparison, Member, Plan
from driver.hardware import Hardware
from driver.scenario import Scenario
from workload.settings import Workload

MIB = 1 << 20
DEMO_HARDWARE = Hardware(vcpus=1, memory_mib=256, accelerator="tcg")
DEMO_WORKLOAD = Workload(working_set_mib=64, granularity_mib=8)
DEMO_DOWNTIME_MS = 300
DEMO_SECONDS = 20
DEMO_KERNEL_MIB = 96


def demo_plan(xor_bytes_per_second: float) -> Plan:
    """Pick the demo's bandwidth, working set and RAM from the guest's measured xor rate.

    The guest must never converge without help: an unthrottled dirtier does if and only if working set / bandwidth <=
    downtime limit, so the working set is two and a half limits long. At 99 % throttle auto-converge must rescue it:
    what the guest dirties in the second that one sync then takes (1 % of its rate; the vCPU sleeps 990 ms of each)
    must fit into bandwidth x limit, so the link carries four times that (docs/qemu.md).
    """
    limit_seconds = DEMO_DOWNTIME_MS / 1000
    bandwidth_mib = max(32, round(4 * xor_bytes_per_second / 100 / MIB))
    working_set_mib = max(32, round(2.5 * bandwidth_mib * limit_seconds))
    memory_mib = max(DEMO_HARDWARE.memory_mib, working_set_mib + DEMO_KERNEL_MIB)
    alone = Scenario(
        bandwidth_mib_s=bandwidth_mib,
        downtime_limit_ms=DEMO_DOWNTIME_MS,
        max_time_seconds=DEMO_SECONDS,
        max_iterations=1000,
    )
    hardware = replace(DEMO_HARDWARE, memory_mib=memory_mib)
    workload = replace(DEMO_WORKLOAD, working_set_mib=working_set_mib)
    scenarios = (
        alone,
        replace(alone, auto_converge_initial=80, auto_converge_increment=19),
        replace(alone, post_copy_iterations=3),
    )
    return Plan(members=tuple(Member(scenario=each, hardware=hardware, workload=workload) for each in scenarios))


DEMO = Comparison(
    name="demo",
    summary="a worst-case guest that does not converge, then is rescued by auto-converge and by post-copy",
    varies="strategy: none, auto-converge, post-copy",
    hardware=DEMO_HARDWARE,
    workload=DEMO_WORKLOAD,
    plan=demo_plan,
    by_pace=True,
)
