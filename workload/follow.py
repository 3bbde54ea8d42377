"""Following a console file as it grows: records stamped with the host's clock at the moment they arrive."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from asyncinotify import Inotify, Mask

from workload.console import Parser, Record
from workload.errors import BrokenError

POLL_SECONDS = 0.5
LINE_SECONDS = 0.0003
"""How long the rest of a line is waited for: a serial port under TCG takes 10 us a byte (measured, QEMU 7.2)."""
_READ_BYTES = 1 << 20
_EVENT_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A record, the clock's reading when the host saw it, and the file's offset behind its line."""

    record: Record
    stamp_ns: int
    end_offset: int


class Arrivals:
    """What has come of a console from `offset` on, with the stamps of its coming, until it is parsed."""

    def __init__(self, offset: int) -> None:
        self.parser = Parser()
        self._start_offset = offset
        self._chunks: list[tuple[int, bytes]] = []
        self._end_bytes = 0

    @property
    def end_offset(self) -> int:
        """The console's offset behind what has come."""
        return self._start_offset + self._end_bytes

    @property
    def within_line(self) -> bool:
        """Whether the last that came is no whole line."""
        return bool(self._chunks) and not self._chunks[-1][1].endswith(b"\n")

    def add(self, stamp_ns: int, data: bytes) -> None:
        """Take what has come."""
        self._chunks.append((stamp_ns, data))
        self._end_bytes += len(data)

    def hand_over(self) -> list[Arrival]:
        """Parse what has come: the consumer pays for that when it asks, many lines at once, not each wake-up."""
        chunks, self._chunks = self._chunks, []
        begin = self._end_bytes - sum(len(data) for _, data in chunks)
        ends = list(itertools.accumulate((len(data) for _, data in chunks), initial=begin))[1:]
        return [
            # a line came with the chunk that holds its last byte
            Arrival(
                record=record, stamp_ns=chunks[bisect.bisect_left(ends, end)][0], end_offset=self._start_offset + end
            )
            for record, end in self.parser.scan(b"".join(data for _, data in chunks))
        ]


class Follower:
    """Follows one console file from `offset`, by inotify and, should an event go missing, by a look every 0.5 s.

    The file need not exist yet, nor its directory. `async for arrivals in follower` yields non-empty lists and never
    ends; what arrives while the consumer awaits something else is stamped all the same (the event loop's callback
    reads, not the consumer) and handed over with the next list. A file that cannot be read raises BrokenError there.
    """

    def __init__(self, path: Path, offset: int = 0, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self._arrivals = Arrivals(offset)
        self._clock = clock
        self._file = -1
        self._something = asyncio.Event()
        self._error: OSError | None = None

    @property
    def parser(self) -> Parser:
        """The parser of what has been handed over."""
        return self._arrivals.parser

    async def __aenter__(self) -> Self:
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise BrokenError(
                f"console {self.path}: cannot be followed: inotify: {error.strerror}"
                " (see sysctl fs.inotify.max_user_instances)"
            ) from None
        self._watching_directory = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fd, self._on_event)
        self._poll()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Arrival]:
        while not (arrivals := self._arrivals.hand_over()):
            if self._error is not None:
                raise BrokenError(f"console {self.path}: cannot be followed: {self._error.strerror}")
            await self._something.wait()
            self._something.clear()
        return arrivals

    def read_rest(self) -> list[Arrival]:
        """Read the file to its present end and return what has not been handed over yet (perhaps nothing)."""
        self._try_read()
        return self._arrivals.hand_over()

    def _poll(self) -> None:
        self._try_read()
        self._timer = self._loop.call_later(POLL_SECONDS, self._poll)

    def _on_event(self) -> None:
        # The events are taken before the file is read: bytes that come in between raise a new event.
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify.fd, _EVENT_BYTES)
        self._try_read()
        if self._arrivals.within_line:
            # QEMU writes what its serial port sends byte by byte: woken by each, a follower with a core of its own
            # would wake a dozen times a line
            time.sleep(LINE_SECONDS)
            self._try_read()

    def _try_read(self) -> None:
        # A callback has no one to raise to: the consumer is told at its next step.
        try:
            self._read()
        except OSError as error:
            self._error = error
            self._something.set()

    def _read(self) -> None:
        if self._file < 0 and not self._open():
            return
        while data := os.read(self._file, _READ_BYTES):
            self._arrivals.add(self._clock(), data)
            self._something.set()
            if len(data) < _READ_BYTES:
                return

    def _open(self) -> bool:
        # The directory is watched first: a file made between the two steps is then either opened or announced.
        with contextlib.suppress(FileNotFoundError):
            if not self._watching_directory:
                self._inotify.add_watch(self.path.parent, Mask.CREATE | Mask.MOVED_TO)
                self._watching_directory = True
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        os.lseek(self._file, self._arrivals.end_offset, os.SEEK_SET)
        self._inotify.add_watch(self.path, Mask.MODIFY)
        return True
