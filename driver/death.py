"""A QEMU's death in a run: when it matters, and which outcome it means."""

from __future__ import annotations

import asyncio

from driver.attempts import Attempts
from driver.guest import Guest
from driver.ledger import Ending
from driver.migration import Migration
from driver.qemu import Qemu, QemuDiedError

SOURCE_WORD_SECONDS = 10.0
"""How long after the destination's death the source may take to say `failed` by itself."""


async def source_dies(source: Qemu, attempts: Attempts) -> None:
    """Wait for the source's death, which matters while the guest, or a part of it, is there.

    Raises:
        QemuDiedError: it died, and mattered.
    """
    error = await source.died()
    migration = attempts.migration
    if migration.running_on == "source" or migration.split:
        raise error


async def destination_dies(destination: Qemu, migration: Migration) -> None:
    """Wait for the destination's death, which matters while the guest is there; before, the source's word comes first.

    Raises:
        QemuDiedError: it died, and mattered.
    """
    error = await destination.died()
    if migration.running_on == "source" and migration.started and not migration.split:
        # after a failure or a cancel it exits on its own, and the guest goes on at the source
        await asyncio.sleep(SOURCE_WORD_SECONDS)
        if not migration.under_way:
            return
    raise error


def ending_of_death(error: QemuDiedError, guest: Guest | None, migration: Migration | None) -> Ending:
    """Say what a QEMU's death means: it depends on where the guest was. What its console holds is read first."""
    if guest is None or migration is None:
        return Ending(outcome="broken", reason=str(error))
    guest.read_rest()
    words = f"{guest.failure} ({error})" if guest.failure else str(error)
    if guest.error:
        return Ending(outcome="broken", reason=words)
    if guest.panicked or (guest.ready and (error.role == migration.running_on or migration.split)):
        return Ending(outcome="guest_lost", reason=words)
    return Ending(outcome="failed" if migration.started else "broken", reason=words)
