"""A guess at what a run takes, from its values alone, for plans that nobody has run yet."""

from __future__ import annotations

from driver.hardware import Hardware
from driver.scenario import Scenario
from driver.schedule import Step
from workload.settings import Workload

MIB = 1 << 20
GUEST_BYTES = 70 * MIB
"""What a guest's kernel and init have written, beside the working set."""
COLD_SECONDS, WARM_SECONDS = 9.0, 4.5
"""Boot or restore, settle, recover, exporter."""
STREAM_BYTES_PER_SECOND = 300 * MIB
"""What one stream carries under TCG on two cores, whatever the cap."""
PASSES, STALL_PASSES, THROTTLE_PASSES = 3, 5, 2


def estimate_seconds(scenario: Scenario, hardware: Hardware, workload: Workload, *, warm_start: bool) -> float:
    """Seconds from boot to record: the first pass, then as many as the strategy waits for, at most its limits."""
    cap = STREAM_BYTES_PER_SECOND if scenario.background_snapshot else scenario.bandwidth_bytes_per_second
    bandwidth = min(cap, STREAM_BYTES_PER_SECOND)
    working_set = workload.working_set_mib * MIB
    again = working_set / bandwidth
    first = min(hardware.memory_bytes, GUEST_BYTES + working_set) / bandwidth
    rest = WARM_SECONDS if warm_start else COLD_SECONDS
    moving, longest = _moving(scenario, first, again), float(scenario.max_time_seconds)
    one = moving if moving < longest else longest * scenario.attempts
    return rest + one * scenario.convoy_guests  # over one link, in whichever order


def _moving(scenario: Scenario, first: float, again: float) -> float:
    if scenario.background_snapshot:
        return first  # each page once
    limited = first + again * scenario.max_iterations
    if again <= scenario.downtime_limit_seconds:
        return min(first + again * PASSES, limited)
    ways = []
    if scenario.auto_converge_increment:
        climb = (scenario.auto_converge_max - scenario.auto_converge_initial) / scenario.auto_converge_increment
        ways.append(first + again * THROTTLE_PASSES * (climb + 1))
    if scenario.dirty_limit_mib_s:
        ways.append(first + again * 2 * PASSES)
    if scenario.steps:
        ways.append(max(_due(step, number, first, again) for number, step in enumerate(scenario.steps, start=1)))
    return min([*ways, limited])


def _due(step: Step, number: int, first: float, again: float) -> float:
    """When a step is over; each stalled verdict takes a few passes."""
    match step.when.kind:
        case "iteration":
            return first + again * (step.when.number + 1)
        case "s":
            return step.when.number + again
        case "stalled":
            return first + again * STALL_PASSES * number
        case _:
            return first
