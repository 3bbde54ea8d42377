"""The proof of a snapshot: a stopped destination loads it, and the guest goes on there from where it was taken."""

from __future__ import annotations

from dataclasses import dataclass

from driver.guest import CopyLostError, Guest
from driver.ledger import Ledger
from driver.monitor import Commands
from driver.saving import Saving, until_loaded


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Between which of the guest's ticks a snapshot was saved; None where it had not ticked."""

    first_tick: int | None
    last_tick: int | None


async def prove(saving: Saving | None, destination: Commands, guest: Guest, ledger: Ledger, taken: Taken) -> None:
    """Load a snapshot from its file (`saving`; None: it has gone to the destination by itself), and run the copy.

    Raises:
        RefusedError: QEMU does not load it.
        QemuDiedError: QEMU ended over it.
        CopyLostError: it is loaded, and the copy of the guest does not go on from the moment of the snapshot.
        BrokenError: it was not loaded within the deadline.
    """
    if saving:
        await saving.load()
    await until_loaded(destination)
    if saving:
        saving.note_loaded()
    ledger.action("loaded", {})
    await destination.execute("cont")
    tick = await guest.copy_goes_on("destination")
    ledger.action(
        "copy-went-on", {"tick": tick, "taken_after_tick": taken.first_tick, "saved_by_tick": taken.last_tick}
    )
    if tick is not None and not _within(tick, taken):
        raise CopyLostError(
            f"destination: the guest goes on with tick {tick}, its snapshot was taken between ticks {taken.first_tick}"
            f" and {taken.last_tick}"
        )


def _within(tick: int, taken: Taken) -> bool:
    """Whether a copy that begins with this tick was taken while the snapshot was saved."""
    first, last = taken.first_tick, taken.last_tick
    return first is None or last is None or first <= tick <= last + 1
