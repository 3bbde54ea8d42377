"""Who scrapes how often, and so how long the final figures of a run must stay to be seen."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

LEAST_SECONDS, USUAL_SECONDS, MOST_SECONDS = 10.0, 30.0, 120.0
GAPS = 20
FORGOTTEN_SECONDS = 600.0
MOST_CLIENTS = 64


class Scrapes:
    """Notes each scrape by its client, for scrapers of different paces do not stand in for each other.

    `most_seconds` bounds the lingering. Called from scrapes' threads and the sampling loop.
    """

    def __init__(self, most_seconds: float = MOST_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_seconds = most_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._gaps: dict[str, deque[float]] = {}

    def note(self, client: str) -> None:
        """A client has asked for /metrics: its address, what it calls itself and its timeout in one word."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            before = self._last.pop(client, None)
            self._last[client] = now
            if before is not None:
                self._gaps.setdefault(client, deque(maxlen=GAPS)).append(now - before)

    def longest_gap_seconds(self) -> float | None:
        """The longest of each client's last 20 gaps; None before a client has come twice."""
        with self._lock:
            self._forget(self._clock())
            return max((gap for gaps in self._gaps.values() for gap in gaps), default=None)

    def linger_seconds(self) -> float:
        """Twice the longest recent gap, from 10 to 120 s; 30 s while nobody has scraped twice."""
        gap = self.longest_gap_seconds()
        wanted = USUAL_SECONDS if gap is None else min(max(2 * gap, LEAST_SECONDS), MOST_SECONDS)
        return min(wanted, self._most_seconds)

    def _forget(self, now: float) -> None:
        """Forget who has not come for ten minutes, and whoever comes beyond a bound."""
        gone = [client for client, last in self._last.items() if now - last > FORGOTTEN_SECONDS]
        for client in [*gone, *list(self._last)[: max(len(self._last) - len(gone) - MOST_CLIENTS, 0)]]:
            self._last.pop(client, None)
            self._gaps.pop(client, None)
