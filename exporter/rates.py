"""When to sample: tickers with absolute deadlines from the kernel, whose late ticks are skipped and counted."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType
from typing import Self

from exporter.selfmetrics import SelfMetrics

_MONOTONIC, _NONBLOCK, _CLOEXEC, _ABSOLUTE = 1, os.O_NONBLOCK, os.O_CLOEXEC, 1
_SET_TIMER_SLACK = 29
_SECOND_NS = 1_000_000_000


class Ticker:
    """A timer of the kernel (timerfd) that ticks at whole multiples of its period, so that all tickers tick together.

    asyncio's own timers are rounded up to whole milliseconds by epoll; a timerfd is a file like any other and is exact.
    `sequence` counts every tick that was due, also those that were skipped because the consumer was busy. Lateness and
    skipped ticks are counted under the source's name.
    """

    def __init__(self, hz: float, source: str, metrics: SelfMetrics) -> None:
        self.hz = 0.0
        self.sequence = 0
        self._source = source
        self._metrics = metrics
        self._waiting: asyncio.Future[bool] | None = None
        self._poked = False
        self._period_ns = self._due_ns = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._timer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "timerfd")
        asyncio.get_running_loop().add_reader(self._timer, self._on_timer)
        self.set_rate(hz)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_rate(self, hz: float) -> None:
        """Tick at another rate from now on."""
        if hz == self.hz:
            return
        self.hz = hz
        self._period_ns = round(_SECOND_NS / hz)
        self._due_ns = (time.monotonic_ns() // self._period_ns + 1) * self._period_ns
        times = (*divmod(self._period_ns, _SECOND_NS), *divmod(self._due_ns, _SECOND_NS))
        self._libc.timerfd_settime(self._timer, _ABSOLUTE, (ctypes.c_long * 4)(*times), None)

    async def tick(self) -> bool:
        """Wait for the next tick that is still to come; True for a tick, False where `poke` asked for one at once."""
        if self._poked:
            self._poked = False
            return False
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def poke(self) -> None:
        """Have `tick` return at once, or, where nobody waits for it, at its next call."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(False)
        else:
            self._poked = True

    def close(self) -> None:
        """Give the timer back."""
        if self._timer >= 0:
            asyncio.get_running_loop().remove_reader(self._timer)
            os.close(self._timer)
            self._timer = -1

    def _on_timer(self) -> None:
        try:
            expired = int.from_bytes(os.read(self._timer, 8), "little")
        except BlockingIOError:  # the rate was set anew between the tick and its reading
            return
        late_ns = time.monotonic_ns() - self._due_ns
        self._due_ns += expired * self._period_ns
        self.sequence += expired
        if self._waiting is None or self._waiting.done():
            self._metrics.skipped.add(self._source, amount=expired)
            return
        if expired > 1:
            self._metrics.skipped.add(self._source, amount=expired - 1)
        self._metrics.lateness.observe(self._source, value=late_ns / _SECOND_NS)
        self._waiting.set_result(True)


class Pace:
    """The rate of several tickers that quicken together: at rest, or active."""

    def __init__(self, rest_hz: float, active_hz: float) -> None:
        self.rest_hz = rest_hz
        self.active_hz = max(active_hz, rest_hz)
        self.active = False
        self._tickers: list[Ticker] = []

    def ticker(self, source: str, metrics: SelfMetrics) -> Ticker:
        """Make a ticker of this pace; it leaves it by `drop`."""
        ticker = Ticker(self.active_hz if self.active else self.rest_hz, source, metrics)
        self._tickers.append(ticker)
        return ticker

    def drop(self, ticker: Ticker) -> None:
        """Close a ticker of this pace."""
        self._tickers.remove(ticker)
        ticker.close()

    def set_active(self, active: bool) -> None:
        """Quicken all tickers, or let them rest."""
        if active != self.active:
            self.active = active
            for ticker in self._tickers:
                ticker.set_rate(self.active_hz if active else self.rest_hz)


def wake_exactly() -> None:
    """Ask the kernel to wake this process within 1 us of its timers (by default it may take 50)."""
    ctypes.CDLL(None, use_errno=True).prctl(_SET_TIMER_SLACK, 1000, 0, 0, 0)
