"""Post-copy's recovery from a lost link: the destination listens again, the source connects to it and resumes."""

from __future__ import annotations

import asyncio

from driver.monitor import Commands, RefusedError
from driver.scenario import Scenario
from workload.errors import BrokenError

PORTS_TRIED = 20
PAUSED_SECONDS = 10.0
"""How long the destination may take to notice that post-copy's link is lost, once the source has."""

LAST_WORD_SECONDS = 1.0
"""How long it may take to say that it has the whole guest, where the link is not recovered in any case."""


class Recovery:
    """The recoveries of one migration; `address` is where its destination listens, `tried` how many there were."""

    def __init__(self, scenario: Scenario, source: Commands, destination: Commands) -> None:
        self.address = ""
        self.tried = 0
        self._scenario = scenario
        self._source = source
        self._destination = destination

    @property
    def used_up(self) -> bool:
        """Whether the scenario allows no further one."""
        return self.tried >= self._scenario.post_copy_recoveries

    @property
    def patience_seconds(self) -> float:
        """How long to wait until the destination says what the loss of the link left it with."""
        return LAST_WORD_SECONDS if self.used_up else PAUSED_SECONDS

    @property
    def loss(self) -> str:
        """The loss of the link in words, as a reason."""
        tried = f" after {self.tried} recoveries" if self.tried else ""
        return f"post-copy lost its link{tried}: QEMU says postcopy-paused"

    async def reconnect(self, destination_status: str) -> None:
        """Let the outage pass, have the destination listen and the source resume; it says so once it is connected.

        Raises:
            BrokenError: the destination has not noticed the loss: its last status is another.
            RefusedError: a QEMU does not do it.
        """
        self.tried += 1
        if destination_status != "postcopy-paused":
            raise BrokenError(
                f"destination: still {destination_status} {PAUSED_SECONDS:g} s after post-copy lost its link"
            )
        await asyncio.sleep(self._scenario.post_copy_outage_ms / 1000)
        await self._listen_again()
        await self._source.execute("migrate", {"uri": self.address, "resume": True})

    async def _listen_again(self) -> None:
        """Have the destination listen at its address, or at a later port of TCP if that is taken."""
        place, _, port = self.address.rpartition(":")
        ports = range(int(port), int(port) + PORTS_TRIED) if self.address.startswith("tcp:") else ()
        addresses = [f"{place}:{number}" for number in ports] or [self.address]
        for left, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                # out of band: a vCPU that waits for a lost page may hold QEMU's big lock
                await self._destination.execute("migrate-recover", {"uri": address}, out_of_band=True)
            except RefusedError as error:
                if not left or "in use" not in error.words:
                    raise
            else:
                self.address = address
                return
