"""The threads source: CPU and run delay of each QEMU thread in nanoseconds, by what the thread does."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from exporter.journal import Batch
from exporter.rates import Pace
from exporter.selfmetrics import SelfMetrics
from exporter.sources.thread_accounts import ThreadAccounts

LISTING_SECONDS = 0.5
PROCESS_SECONDS = 0.1


class ThreadsSource:
    """Reads kept-open `/proc/PID/task/TID/schedstat` at each tick, and the process through psutil at a slower pace.

    A figure counts all threads of its kind and index there ever were: it never falls when a thread ends and its number
    is used again. `pid` is asked at each opening: a run's further attempt has another QEMU as its destination, whose
    threads go on from where the last one's ended.
    """

    name = "threads"

    def __init__(
        self, role: str, pid: Callable[[], int], stamp: Callable[[], int], pace: Pace, metrics: SelfMetrics
    ) -> None:
        self.role = role
        self._ask_pid = pid
        self._pid = 0
        self._stamp = stamp
        self._pace = pace
        self._metrics = metrics
        self._accounts = ThreadAccounts(role)
        self._files: dict[int, int] = {}
        self._listed = self._process_read = 0.0

    async def __aenter__(self) -> Self:
        pid = self._ask_pid()
        self._process = psutil.Process(pid)
        self._accounts.open(pid)
        self._pid = pid
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # not counted as ended: opened anew, a thread that lives says its whole figure again
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        self._accounts.close()

    async def follow(self, take: Callable[[Batch], None]) -> None:
        """Hand on a sweep over all threads at each tick; ends with psutil.NoSuchProcess when QEMU does."""

        def on_tick() -> bool:
            take(self._sweep())
            return True

        with self._pace.ticker(self.name, self._metrics, on_tick) as ticker:
            await ticker.ended

    async def rest(self) -> Batch:
        """A last sweep."""
        return self._sweep()

    def list_soon(self) -> None:
        """Look for new threads at the next tick: a migration's threads come and go with its state."""
        self._listed = 0.0

    def _sweep(self) -> Batch:
        began = time.monotonic()
        if began - self._listed >= LISTING_SECONDS:
            self._listed = began
            self._list()
        stamp_ns = self._stamp()
        for tid, file in list(self._files.items()):
            try:
                run, delay, _ = os.pread(file, 64, 0).split()
            except ProcessLookupError:
                os.close(self._files.pop(tid))
                self._accounts.end(tid)
            else:
                self._accounts.read(tid, int(run), int(delay))
        samples = self._accounts.samples(stamp_ns)
        if began - self._process_read >= PROCESS_SECONDS:
            self._process_read = began
            with self._process.oneshot():
                times, memory = self._process.cpu_times(), self._process.memory_info()
            samples += self._accounts.process_samples(stamp_ns, times.user + times.system, memory.rss)
        self._metrics.collections.add(self.name)
        self._metrics.collection_seconds.add(self.name, amount=time.monotonic() - began)
        return Batch(samples=samples)

    def _list(self) -> None:
        task = Path(f"/proc/{self._pid}/task")
        try:
            found = {int(name) for name in os.listdir(task)}  # noqa: PTH208 - names only, in the hot loop
        except FileNotFoundError:
            raise psutil.NoSuchProcess(self._pid) from None
        for tid in found - self._files.keys():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if self._accounts.name(tid, (task / str(tid) / "comm").read_text().rstrip("\n")):
                    self._files[tid] = os.open(task / str(tid) / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._accounts.forget_unnamed(found)
