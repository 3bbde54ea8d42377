"""Which members of comparisons cannot run with a QEMU on this host, told without booting anything."""

from __future__ import annotations

from collections.abc import Iterable

from driver.check import refusal
from driver.comparison_plan import NOMINAL_PACE, Comparison, Member
from driver.facts import Binaries
from workload.errors import MigrascopeError


async def refused_members(comparisons: Iterable[Comparison], qemu: str) -> dict[str, dict[int, str]]:
    """Map each comparison's name to its members that cannot run: their places, with the reasons.

    `qemu` is used where a member names none.
    """
    binaries = Binaries()
    refused: dict[str, dict[int, str]] = {}
    for comparison in comparisons:
        reasons = refused[comparison.name] = {}
        for place, member in enumerate(comparison.plan(NOMINAL_PACE).members):
            if reason := await _refusal(member, qemu, binaries):
                reasons[place] = reason
    return refused


async def _refusal(member: Member, qemu: str, binaries: Binaries) -> str | None:
    try:
        source = await binaries.find(member.qemu or qemu)
        destination = await binaries.find(member.destination_qemu or member.qemu or qemu)
        return await refusal(member.scenario, member.hardware, source, destination)
    except MigrascopeError as error:
        return str(error)
