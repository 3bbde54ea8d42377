"""The attempts of a run: after a cancelled migration the same source goes to a new destination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from driver.ledger import Ending, Ledger
from driver.marks import ATTEMPT
from driver.migration import Load, Migration
from driver.monitor import Event
from driver.pair import Pair
from driver.race import race
from driver.scenario import Scenario

Renew = Callable[[], Coroutine[Any, Any, str]]
"""Puts a new destination in the old one's place and says where it listens."""

Watch = Callable[[Migration], Coroutine[Any, Any, None]]
"""Raises once the destination of a migration has died for no good reason."""


class Attempts:
    """Makes up to `scenario.attempts` migrations one after another; `migration` is the one under way, or the last."""

    def __init__(
        self,
        scenario: Scenario,
        pair: Pair,
        events: asyncio.Queue[Event],
        ledger: Ledger,
        memory_bytes: int,
        load: Load | None,
        let_go: Load | None,
    ) -> None:
        self._scenario = scenario
        self._pair = pair
        self._events = events
        self._ledger = ledger
        self._memory_bytes = memory_bytes
        self._load = load
        self._let_go = let_go
        self.migration = self._migration(1)

    async def go(self, address: str, renew: Renew, destination_dies: Watch) -> Ending:
        """Migrate to `address`, and where that is cancelled to a new destination, as often as the scenario says.

        The first attempt's destination is watched by the caller, since it is there before.

        Raises:
            RefusedError: the source does not migrate.
            BrokenError: QEMU no longer answers, or a new destination does not start.
        """
        ending, reasons = await self._attempt(address), []
        for number in range(2, self._scenario.attempts + 1):
            if ending.outcome != "not_converged":
                break
            reasons.append(f"attempt {number - 1}: {ending.reason}")
            self._ledger.action(ATTEMPT, {"attempt": number, "limit": ending.limit_reached, "reason": ending.reason})
            if self._ledger.phase_name != "migrate":
                self._ledger.phase("migrate")
            address = await renew()
            self.migration = self._migration(number)
            ending = await race(self._attempt(address), destination_dies(self.migration))
        if reasons:
            told = "; ".join([*reasons, *filter(None, [ending.reason])])
            ending = replace(ending, reason=f"{ending.outcome.replace('_', ' ')} in attempt {len(reasons) + 1}; {told}")
        return ending

    async def _attempt(self, address: str) -> Ending:
        while not self._events.empty():
            self._events.get_nowait()
        await self.migration.start(address)
        return await self.migration.steer()

    def _migration(self, number: int) -> Migration:
        return Migration(
            self._scenario.attempt(number), self._pair.source, self._pair.destination, self._events, self._ledger,
            self._memory_bytes, load=self._load, let_go=self._let_go,
        )  # fmt: skip
