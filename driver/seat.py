"""A run's place in a convoy: guests that share a host and a link, and migrate all at once or one after another."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from driver.namespaces import Namespace
from driver.scenario_settings import ONE_BY_ONE
from workload.errors import BadValueError, BrokenError

LOOK_SECONDS = 0.01
SETTLED_SECONDS = 180.0
"""How long the others of a convoy may take until their guests have settled."""
LINK = "link"
READY, HOME = "ready", "home"
WORDS = re.compile(r"(.+):(\d+)")


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One of `guests` runs that wait for each other by files in `place`; `number` counts from 1.

    `N.ready`: run N's guest has settled. `N.home`: its migration is over, or its process has ended. `link` names the
    network namespaces that all of them use.
    """

    place: Path
    number: int

    @classmethod
    def parse(cls, words: str) -> Seat:
        """Read `DIRECTORY:NUMBER`.

        Raises:
            BadValueError: it is of another form.
        """
        found = WORDS.fullmatch(words)
        if not found:
            raise BadValueError(f"seat {words!r}: want DIRECTORY:NUMBER")
        return cls(place=Path(found[1]), number=int(found[2]))

    def __str__(self) -> str:
        return f"{self.place}:{self.number}"

    @property
    def link(self) -> tuple[Namespace, Namespace] | None:
        """The namespaces that the convoy shares, source's and destination's; None where it has none."""
        try:
            lines = (self.place / LINK).read_text().splitlines()
        except FileNotFoundError:
            return None
        source, destination = (Namespace(name=name, address=address) for name, address in map(str.split, lines))
        return source, destination

    def share_link(self, ends: tuple[Namespace, Namespace]) -> None:
        """Say which namespaces all use, before any of them starts."""
        (self.place / LINK).write_text("".join(f"{end.name} {end.address}\n" for end in ends))

    def say(self, what: str) -> None:
        """Say that this run's guest is `ready` or `home`."""
        (self.place / f"{self.number}.{what}").touch()

    async def turn(self, guests: int, order: str, migration_seconds: float) -> None:
        """Wait until every guest has settled and, one by one, until those before this one are home.

        Raises:
            BrokenError: the others took too long.
        """
        self.say(READY)
        await self._until(lambda: self._all(READY, guests), SETTLED_SECONDS)
        if order == ONE_BY_ONE:
            await self._until(lambda: self._all(HOME, self.number - 1), SETTLED_SECONDS + guests * migration_seconds)

    async def all_home(self, guests: int, migration_seconds: float) -> None:
        """Say that this run's migration is over and go on running until that of every other is.

        Raises:
            BrokenError: the others took too long.
        """
        self.say(HOME)
        await self._until(lambda: self._all(HOME, guests), SETTLED_SECONDS + guests * migration_seconds)

    def _all(self, what: str, guests: int) -> bool:
        return all((self.place / f"{number}.{what}").exists() for number in range(1, guests + 1))

    async def _until(self, true: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise BrokenError(f"convoy: the other guests were not there within {seconds:g} s ({self.place})")
            await asyncio.sleep(LOOK_SECONDS)
