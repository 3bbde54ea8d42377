"""A run's ledger: its marks and its record, written as they happen, and again while the disk is full."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.clock import Clock
from driver.datadir import RunDir
from driver.marks import Mark, append_mark
from driver.record import Phase, RunRecord, write_record
from workload.errors import BrokenError

DISK_FULL_SECONDS = 30.0
RETRY_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended: its outcome, the reason for any but a plain `completed`, and the limit that was reached."""

    outcome: str
    reason: str | None = None
    limit_reached: str | None = None


class Ledger:
    """Keeps run.json and marks.jsonl. What cannot be written yet is kept and written later, in order."""

    def __init__(self, run: RunDir, record: RunRecord) -> None:
        self.run = run
        self.record = record
        self._waiting: deque[Mark] = deque()
        self._record_waits = True
        self._refused_since: float | None = None
        self._refusal = ""

    @property
    def clock(self) -> Clock:
        """The run's clock."""
        return self.record.clock

    @property
    def phase_name(self) -> str:
        """The phase that lasts now."""
        return self.record.phases[-1].name if self.record.phases else ""

    @property
    def refused(self) -> bool:
        """Whether the disk takes nothing at this moment: then neither does a console, and its silence says nothing."""
        return self._refused_since is not None

    def learn(self, **facts: Any) -> None:
        """Put facts into the record; they are written with the next phase."""
        self.record = dataclasses.replace(self.record, **facts)

    def phase(self, name: str, stamp_ns: int | None = None) -> None:
        """Begin a phase (at a monotonic moment, None: now), which ends the one before."""
        time_ns = self.clock.stamp(stamp_ns)
        self._close_phase(time_ns)
        self.learn(phases=(*self.record.phases, Phase(name=name, start_ns=time_ns)))
        self._mark("phase", name, time_ns, {})

    def action(self, name: str, detail: Mapping[str, Any], stamp_ns: int | None = None) -> None:
        """Mark what the driver or a strategy did, with what it acted on."""
        self._waiting.append(Mark(kind="action", name=name, time_ns=self.clock.stamp(stamp_ns), detail=detail))
        self._write()

    def end(self, ending: Ending) -> None:
        """Close the last phase and put the outcome into record and marks; only the first ending counts."""
        if self.record.outcome is not None:
            return
        time_ns = self.clock.stamp()
        self._close_phase(time_ns)
        self.learn(outcome=ending.outcome, reason=ending.reason, limit_reached=ending.limit_reached)
        self._mark("outcome", ending.outcome, time_ns, {"reason": ending.reason, "limit": ending.limit_reached})

    def _close_phase(self, time_ns: int) -> None:
        if self.record.phases and self.record.phases[-1].end_ns is None:
            *before, last = self.record.phases
            self.learn(phases=(*before, dataclasses.replace(last, end_ns=time_ns)))

    def _mark(self, kind: str, name: str, time_ns: int, detail: Mapping[str, Any]) -> None:
        self._record_waits = True
        self._waiting.append(Mark(kind=kind, name=name, time_ns=time_ns, detail=detail))
        self._write()

    def _write(self) -> bool:
        """Write what waits; False where the disk refuses (any OSError: full, quota, gone) or has no room at all."""
        try:
            _check_room(self.run.path)  # nothing may be waiting here while QEMU's console is cut off
            while self._waiting:
                append_mark(self.run, self._waiting[0])
                self._waiting.popleft()
            if self._record_waits:
                write_record(self.run, self.record)
                self._record_waits = False
        except OSError as error:
            self._refused_since = self._refused_since or time.monotonic()
            self._refusal = f"{error.strerror or error}"
            return False
        self._refused_since = None
        return True

    async def watch(self) -> None:
        """Retry what could not be written, for ever.

        Raises:
            BrokenError: the disk has refused for more than 30 s.
        """
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if not self._write() and time.monotonic() - (self._refused_since or 0) > DISK_FULL_SECONDS:
                raise BrokenError(
                    f"data directory: {self.run.path} could not be written for {DISK_FULL_SECONDS:g} s"
                    f" ({self._refusal}); free some space, or choose another with --data-dir"
                )

    async def flush(self) -> None:
        """Write everything; a disk that refuses is waited for until it has refused for 30 s.

        Raises:
            BrokenError: the record could not be written.
        """
        while not self._write():
            if time.monotonic() - (self._refused_since or 0) > DISK_FULL_SECONDS:
                raise BrokenError(
                    f"run {self.run.run}: its record could not be written to {self.run.path} ({self._refusal})"
                )
            await asyncio.sleep(RETRY_SECONDS)


def _check_room(path: Path) -> None:
    """Raise OSError where no file can grow (statvfs: what is reserved is root's; 0 of 0 blocks says nothing)."""
    space = os.statvfs(path)
    if space.f_blocks and not (space.f_bfree if os.geteuid() == 0 else space.f_bavail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
