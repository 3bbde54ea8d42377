"""The threads source: CPU and run delay of each QEMU thread in nanoseconds, by what the thread does."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from exporter.journal import Batch
from exporter.rates import Pace
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics

LISTING_SECONDS = 0.5
PROCESS_SECONDS = 0.1
NANO = 1e-9

_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"CPU (\d+)/\w+"), "vcpu"),
    (re.compile(r"live_migration|mig/src/main|migration|bg_snapshot|mig/snapshot"), "migration"),
    (re.compile(r"multifd(?:send|recv)_(\d+)|mig/(?:src/send|dst/recv)_(\d*)"), "multifd"),
    (re.compile(r"return path|mig/src/(?:return|rp-thr)"), "return-path"),
    (re.compile(r"postcopy/listen|fault-default|fault-fast|mig/dst/(?:listen|fault|preempt)"), "post-copy"),
    (re.compile(r"IO .*"), "io"),
)


def classify(comm: str) -> tuple[str, str]:
    """Tell a thread's kind and index ("" where its kind has none) by its name in QEMU 7.2 to 10.x.

    The kernel cuts names after 15 characters. A process's main thread has the binary's name and is told by its id.
    """
    for pattern, kind in _NAMES:
        if match := pattern.fullmatch(comm):
            return kind, next((group for group in match.groups() if group), "")
    return "other", ""


@dataclass(slots=True)
class Thread:
    """One live thread: its open schedstat, whose figures it is counted under, and its last reading."""

    file: int
    key: tuple[str, str]
    run_ns: int = 0
    delay_ns: int = 0


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
        self._threads: dict[int, Thread] = {}
        self._ended: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._tags: dict[tuple[str, str], dict[str, str]] = {}
        self._unnamed: set[int] = set()
        self._closed: list[Thread] = []
        self._process_seconds = self._process_ended_seconds = 0.0
        self._listed = self._process_read = 0.0

    async def __aenter__(self) -> Self:
        pid = self._ask_pid()
        self._process = psutil.Process(pid)
        if pid != self._pid:
            for thread in self._closed:
                self._count_ended(thread)
            self._process_ended_seconds += self._process_seconds
            self._pid, self._process_seconds = pid, 0.0
        self._closed.clear()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # not counted as ended: opened anew, a thread that lives says its whole figure again
        for thread in self._threads.values():
            os.close(thread.file)
        self._closed += self._threads.values()
        self._threads.clear()

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
        sums = {key: ended.copy() for key, ended in self._ended.items()}
        for tid, thread in list(self._threads.items()):
            try:
                run, delay, _ = os.pread(thread.file, 64, 0).split()
            except ProcessLookupError:  # it has ended: what it used last counts for ever
                self._end(self._threads.pop(tid))
            else:
                thread.run_ns, thread.delay_ns = int(run), int(delay)
            total = sums.setdefault(thread.key, [0, 0])
            total[0] += thread.run_ns
            total[1] += thread.delay_ns
        samples = [
            Sample(
                "qemu_cpu",
                stamp_ns,
                {"cpu_seconds": total[0] * NANO, "run_delay_seconds": total[1] * NANO},
                self._tags_of(key),
            )
            for key, total in sums.items()
        ]
        if began - self._process_read >= PROCESS_SECONDS:
            self._process_read = began
            samples += self._process_samples(stamp_ns)
        self._metrics.collections.add(self.name)
        self._metrics.collection_seconds.add(self.name, amount=time.monotonic() - began)
        return Batch(samples=samples)

    def _list(self) -> None:
        task = Path(f"/proc/{self._pid}/task")
        try:
            found = {int(name) for name in os.listdir(task)}  # noqa: PTH208 - names only, in the hot loop
        except FileNotFoundError:
            raise psutil.NoSuchProcess(self._pid) from None
        for tid in found - self._threads.keys():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if key := self._key(tid, (task / str(tid) / "comm").read_text().rstrip("\n")):
                    file = os.open(task / str(tid) / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
                    self._threads[tid] = Thread(file=file, key=key)
        self._unnamed &= found

    def _key(self, tid: int, comm: str) -> tuple[str, str] | None:
        if tid == self._pid:
            return "main", ""
        # A thread is born with its creator's name and renames itself: one that seems unnamed is looked at once more.
        # Its figures are since its birth, so nothing is lost.
        kind, index = classify(comm)
        if kind == "other" and tid not in self._unnamed:
            self._unnamed.add(tid)
            return None
        return kind, index

    def _end(self, thread: Thread) -> None:
        os.close(thread.file)
        self._count_ended(thread)

    def _count_ended(self, thread: Thread) -> None:
        ended = self._ended[thread.key]
        ended[0] += thread.run_ns
        ended[1] += thread.delay_ns

    def _tags_of(self, key: tuple[str, str]) -> dict[str, str]:
        tags = self._tags.get(key)
        if tags is None:
            tags = self._tags[key] = {"role": self.role, "kind": key[0], "index": key[1]}
        return tags

    def _process_samples(self, stamp_ns: int) -> list[Sample]:
        with self._process.oneshot():
            times, memory = self._process.cpu_times(), self._process.memory_info()
        self._process_seconds = times.user + times.system
        spent = self._process_ended_seconds + self._process_seconds
        return [
            Sample("qemu_cpu", stamp_ns, {"cpu_seconds": spent}, self._tags_of(("process", ""))),
            Sample("qemu_memory", stamp_ns, {"resident_bytes": float(memory.rss)}, {"role": self.role}),
        ]
