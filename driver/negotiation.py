"""Negotiation: both QEMUs accept every capability and parameter of a scenario before the guest runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.doctor import USERFAULTFD_REMEDY, userfaultfd_refusal
from driver.monitor import Commands, RefusedError
from driver.scenario import Scenario
from driver.strategy import capabilities, parameters
from driver.tls import PARAMETERS, Credentials
from workload.errors import UnsupportedError


async def negotiate(
    source: Commands,
    destination: Commands,
    scenario: Scenario,
    memory_bytes: int,
    credentials: Credentials | None = None,
    *,
    anew: bool = False,
    disk: bool = False,
) -> Mapping[str, Any]:
    """Have both QEMUs accept every capability and parameter, the destination first; returns what was set.

    `credentials` are given where the scenario wants TLS. `anew`: the source has agreed before and has its keys, and
    what its parameters have become since is put back. `disk`: the guest has one. The answer has `capabilities`, a
    list of names, and `parameters`, in QEMU's own words and units.

    Raises:
        UnsupportedError: one of them does not know or refuses one.
    """
    names, values = capabilities(scenario, disk=disk), parameters(scenario, memory_bytes)
    if credentials:
        values |= PARAMETERS
    for role, qemu in (("destination", destination), ("source", source)):
        known = {each["capability"] for each in await qemu.execute("query-migrate-capabilities")}
        known |= set(await qemu.execute("query-migrate-parameters"))
        for wanted in (*names, *values):
            if wanted not in known:
                raise UnsupportedError(f"{role}: this QEMU does not know {wanted!r}; another version may (--qemu)")
        states = [{"capability": name, "state": True} for name in names]
        try:
            if credentials and not (anew and role == "source"):
                await qemu.execute("object-add", credentials.of(role))
            await qemu.execute("migrate-set-capabilities", {"capabilities": states})
            await qemu.execute("migrate-set-parameters", values)
        except RefusedError as error:
            why = userfaultfd_refusal() if "postcopy-ram" in names else None
            remedy = f"; {why}: {USERFAULTFD_REMEDY}" if why else ""
            raise UnsupportedError(f"{error}{remedy}") from error
    return {"capabilities": list(names), "parameters": values}
