"""Which members of a comparison cannot run with a QEMU on this host, told without booting anything."""

from __future__ import annotations

from driver.check import refusal
from driver.comparison_plan import NOMINAL_PACE, Comparison
from driver.facts import binary_facts
from workload.errors import MigrascopeError


async def refused_members(comparison: Comparison, qemu: str) -> dict[int, str]:
    """Map the place of each member that cannot run to the reason; `qemu` is used where a member names none."""
    refused = {}
    for number, member in enumerate(comparison.plan(NOMINAL_PACE).members):
        try:
            source = await binary_facts(member.qemu or qemu)
            destination = await binary_facts(member.destination_qemu or member.qemu or qemu)
            reason = await refusal(member.scenario, member.hardware, source, destination)
        except MigrascopeError as error:
            reason = str(error)
        if reason:
            refused[number] = reason
    return refused
