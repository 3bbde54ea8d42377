"""What QEMU's threads have used, by what they do: an account for each kind and index, wherever the threads are read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from exporter.sample import Sample

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
    """One live thread: whose figures it is counted under, and its last reading."""

    key: tuple[str, str]
    run_ns: int = 0
    delay_ns: int = 0


class ThreadAccounts:
    """One QEMU's threads.

    A figure counts all threads of its kind and index there ever were: it never falls when a thread ends and its number
    is used again, nor when a role has another QEMU.
    """

    def __init__(self, role: str) -> None:
        self._role = role
        self._pid = 0
        self._threads: dict[int, Thread] = {}
        self._ended: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._tags: dict[tuple[str, str], dict[str, str]] = {}
        self._unnamed: set[int] = set()
        self._closed: list[Thread] = []
        self._process_seconds = self._process_ended_seconds = 0.0

    @property
    def living(self) -> Collection[int]:
        """The threads that are counted and have not ended."""
        return self._threads.keys()

    def open(self, pid: int) -> None:
        """Begin to read a process: one that was read before says its whole figures again, another one goes on."""
        if pid != self._pid:
            for thread in self._closed:
                self._count_ended(thread)
            self._process_ended_seconds += self._process_seconds
            self._pid, self._process_seconds = pid, 0.0
        self._closed.clear()

    def close(self) -> None:
        """Read it no longer; its threads may live, so that they are not counted as ended yet."""
        self._closed += self._threads.values()
        self._threads.clear()

    def name(self, tid: int, comm: str) -> bool:
        """Take a new thread with its name; whether it is counted from now on.

        A thread is born with its creator's name and renames itself: one that seems unnamed is looked at once more.
        Its figures are since its birth, so nothing is lost.
        """
        kind, index = ("main", "") if tid == self._pid else classify(comm)
        if kind == "other" and tid not in self._unnamed:
            self._unnamed.add(tid)
            return False
        self._threads[tid] = Thread(key=(kind, index))
        return True

    def forget_unnamed(self, living: Collection[int]) -> None:
        """Forget names of threads that are gone."""
        self._unnamed &= set(living)

    def read(self, tid: int, run_ns: int, delay_ns: int) -> None:
        """Take a thread's reading."""
        thread = self._threads[tid]
        thread.run_ns, thread.delay_ns = run_ns, delay_ns

    def end(self, tid: int) -> None:
        """Take a thread's end: what it used last counts for ever."""
        self._count_ended(self._threads.pop(tid))

    def _count_ended(self, thread: Thread) -> None:
        ended = self._ended[thread.key]
        ended[0] += thread.run_ns
        ended[1] += thread.delay_ns

    def samples(self, stamp_ns: int) -> list[Sample]:
        """One sample an account."""
        sums = {key: ended.copy() for key, ended in self._ended.items()}
        for thread in self._threads.values():
            total = sums.setdefault(thread.key, [0, 0])
            total[0] += thread.run_ns
            total[1] += thread.delay_ns
        return [
            Sample(
                "qemu_cpu",
                stamp_ns,
                {"cpu_seconds": total[0] * NANO, "run_delay_seconds": total[1] * NANO},
                self._tags_of(key),
            )
            for key, total in sums.items()
        ]

    def process_samples(self, stamp_ns: int, cpu_seconds: float, resident_bytes: float) -> list[Sample]:
        """What the process as a whole has used."""
        self._process_seconds = cpu_seconds
        spent = self._process_ended_seconds + cpu_seconds
        return [
            Sample("qemu_cpu", stamp_ns, {"cpu_seconds": spent}, self._tags_of(("process", ""))),
            Sample("qemu_memory", stamp_ns, {"resident_bytes": float(resident_bytes)}, {"role": self._role}),
        ]

    def _tags_of(self, key: tuple[str, str]) -> dict[str, str]:
        tags = self._tags.get(key)
        if tags is None:
            tags = self._tags[key] = {"role": self._role, "kind": key[0], "index": key[1]}
        return tags
