"""A guest's way through a file: saved by the source, then loaded by the destination."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from driver.clock import Clock
from driver.monitor import Commands, RefusedError
from driver.progress import Progress
from driver.record import Saved
from driver.stream import Route, load_address
from workload.errors import BrokenError

WRITTEN_SECONDS = 30.0
LOADED_SECONDS = 120.0
LOOK_SECONDS = 0.01
SECOND_NS = 1_000_000_000
BLOCK_BYTES = 512


class Saving:
    """Loads the guest, or its snapshot, once it has been saved, and says afterwards what both took."""

    def __init__(self, transport: str, route: Route, destination: Commands, clock: Clock) -> None:
        self._transport = transport
        self._route = route
        self._destination = destination
        self._clock = clock
        self._complete_ns: int | None = None
        self._load_ns: int | None = None
        self._loaded_ns: int | None = None
        self._sizes = (0, 0)

    async def complete(self) -> None:
        """Wait until the file is complete.

        Raises:
            BrokenError: it was not completed.
        """
        state = self._route.state
        await complete(state)
        self._complete_ns = self._clock.stamp()
        facts = state.stat()
        self._sizes = (facts.st_size, facts.st_blocks * BLOCK_BYTES)

    async def load(self) -> None:
        """Have the destination load the saved guest, once its file is complete.

        Raises:
            RefusedError: QEMU does not load it.
            BrokenError: the file was not completed.
        """
        if self._complete_ns is None:
            await self.complete()
        self._load_ns = self._clock.stamp()
        await self._destination.execute("migrate-incoming", {"uri": load_address(self._transport, self._route)})

    def note_loaded(self) -> None:
        """Take note that the guest has been loaded just now, by a destination that does not let it run."""
        self._loaded_ns = self._clock.stamp()

    def saved(self, migrate_ns: int, resume_ns: int | None) -> Saved | None:
        """What it cost, from the run's stamps of the migration's start and the guest's return; None if never saved."""
        if self._complete_ns is None:
            return None
        begun_ns, loaded_ns = self._load_ns, self._loaded_ns or resume_ns
        return Saved(
            save_seconds=(self._complete_ns - migrate_ns) / SECOND_NS,
            load_seconds=(loaded_ns - begun_ns) / SECOND_NS if begun_ns and loaded_ns else None,
            file_bytes=self._sizes[0],
            disk_bytes=self._sizes[1],
        )


async def complete(state: Path) -> None:
    """Wait until a saved guest's file is there, which then is complete.

    Raises:
        BrokenError: it was not completed.
    """
    deadline = time.monotonic() + WRITTEN_SECONDS
    while not state.exists():  # noqa: ASYNC240 - one system call
        if time.monotonic() > deadline:
            raise BrokenError(f"saved guest: {state} was not written to its end within {WRITTEN_SECONDS:g} s")
        await asyncio.sleep(LOOK_SECONDS)


async def until_loaded(qemu: Commands) -> None:
    """Wait until a destination that does not let the guest run has loaded it.

    Raises:
        RefusedError: QEMU does not load it; before 9.1 it ends over that.
        BrokenError: it was not loaded within the deadline.
    """
    deadline = time.monotonic() + LOADED_SECONDS
    while (progress := Progress.parse(await qemu.execute("query-migrate"))).status != "completed":
        if progress.ended:
            raise RefusedError("destination", "migrate-incoming", progress.error or "QEMU says failed and no more")
        if time.monotonic() > deadline:
            raise BrokenError(f"destination: still {progress.status} {LOADED_SECONDS:g} s after the snapshot was saved")
        await asyncio.sleep(LOOK_SECONDS)
