"""When to sample: paces with absolute deadlines from the kernel, whose late ticks are skipped and counted."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator

from exporter.selfmetrics import SelfMetrics

_MONOTONIC, _NONBLOCK, _CLOEXEC, _ABSOLUTE = 1, os.O_NONBLOCK, os.O_CLOEXEC, 1
_SET_TIMER_SLACK = 29
_SECOND_NS = 1_000_000_000


class Pace:
    """The rate of several tickers that tick together and quicken together: at rest, or active.

    One timer of the kernel (timerfd) wakes all of them at whole multiples of the period: a wake-up costs more than what
    is done in it. asyncio's own timers are rounded up to whole milliseconds by epoll; a timerfd is a file like any
    other and is exact. The timer lives while there are tickers.
    """

    def __init__(self, rest_hz: float, active_hz: float) -> None:
        self.rest_hz = rest_hz
        self.active_hz = max(active_hz, rest_hz)
        self.active = False
        self._tickers: list[Ticker] = []
        self._timer = -1
        self._period_ns = self._due_ns = 0
        self._libc = ctypes.CDLL(None, use_errno=True)

    @contextlib.contextmanager
    def ticker(self, source: str, metrics: SelfMetrics, on_tick: Callable[[], bool]) -> Iterator[Ticker]:
        """A ticker of this pace: `on_tick` is called at each tick, and says False where the source was too busy."""
        ticker = Ticker(source, metrics, on_tick)
        if not self._tickers:
            self._start()
        self._tickers.append(ticker)
        try:
            yield ticker
        finally:
            self._tickers.remove(ticker)
            ticker.ended.cancel()
            if not self._tickers:
                self._stop()

    def set_active(self, active: bool) -> None:
        """Quicken all tickers, or let them rest."""
        if active != self.active:
            self.active = active
            if self._timer >= 0:
                self._set_timer()

    def _start(self) -> None:
        self._timer = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._timer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "timerfd")
        asyncio.get_running_loop().add_reader(self._timer, self._on_timer)
        self._set_timer()

    def _stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._timer)
        os.close(self._timer)
        self._timer = -1

    def _set_timer(self) -> None:
        self._period_ns = round(_SECOND_NS / (self.active_hz if self.active else self.rest_hz))
        self._due_ns = (time.monotonic_ns() // self._period_ns + 1) * self._period_ns
        times = (*divmod(self._period_ns, _SECOND_NS), *divmod(self._due_ns, _SECOND_NS))
        self._libc.timerfd_settime(self._timer, _ABSOLUTE, (ctypes.c_long * 4)(*times), None)

    def _on_timer(self) -> None:
        try:
            expired = int.from_bytes(os.read(self._timer, 8), "little")
        except BlockingIOError:  # the rate was set anew between the tick and its reading
            return
        late_seconds = (time.monotonic_ns() - self._due_ns) / _SECOND_NS
        self._due_ns += expired * self._period_ns
        for ticker in self._tickers[:]:
            ticker.tick(expired, late_seconds)


class Ticker:
    """One source's part in a pace.

    `sequence` counts every tick that was due, also those that were skipped because this process or the source was
    busy. Lateness and skipped ticks are counted under the source's name. `ended` holds what `on_tick` raised: after
    that it is not called again.
    """

    def __init__(self, source: str, metrics: SelfMetrics, on_tick: Callable[[], bool]) -> None:
        self.sequence = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._source = source
        self._metrics = metrics
        self._on_tick = on_tick

    def tick(self, expired: int, late_seconds: float) -> None:
        """Take `expired` ticks that have become due, of which all but the last are missed."""
        self.sequence += expired
        if self.ended.done():
            return
        try:
            taken = self._on_tick()
        except Exception as error:  # the source's boundary awaits it
            self.ended.set_exception(error)
            return
        if taken:
            self._metrics.lateness.observe(self._source, value=late_seconds)
        if missed := expired - taken:
            self._metrics.skipped.add(self._source, amount=missed)


def wake_exactly() -> None:
    """Ask the kernel to wake this process within 1 us of its timers (by default it may take 50)."""
    ctypes.CDLL(None, use_errno=True).prctl(_SET_TIMER_SLACK, 1000, 0, 0, 0)
