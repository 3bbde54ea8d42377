"""Slots: the bounded names (`vm` labels) that live runs take, so that parallel runs of one scenario never collide."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable


class Slots:
    """Gives each run the lowest free slot; a slot is free again once its run's series have lingered out."""

    def __init__(self, linger_seconds: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._linger_seconds = linger_seconds
        self._clock = clock
        self._taken: dict[str, float | None] = {}

    def take(self) -> str:
        """Take the lowest free slot: `vm0`, `vm1`, ..."""
        now = self._clock()
        self._taken = {name: until for name, until in self._taken.items() if until is None or until > now}
        name = next(name for number in itertools.count() if (name := f"vm{number}") not in self._taken)
        self._taken[name] = None
        return name

    def release(self, name: str) -> None:
        """End a run's use of its slot; its series linger on, and it stays taken as long."""
        if name in self._taken:
            self._taken[name] = self._clock() + self._linger_seconds()
