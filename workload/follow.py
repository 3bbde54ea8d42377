"""Following a console file as it grows: records stamped with the host's clock at the moment they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from asyncinotify import Inotify, Mask

from workload.console import Parser, Record

POLL_SECONDS = 0.5
_READ_BYTES = 1 << 20
_EVENT_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A record, the clock's reading when the host saw it, and the file's offset behind its line."""

    record: Record
    stamp_ns: int
    end_offset: int


class Follower:
    """Follows one console file from `offset`, by inotify and, should an event go missing, by a look every 0.5 s.

    The file need not exist yet, nor its directory. `async for arrivals in follower` yields non-empty lists and never
    ends; what arrives while the consumer awaits something else is stamped all the same (the event loop's callback
    reads, not the consumer) and handed over with the next list.
    """

    def __init__(self, path: Path, offset: int = 0, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self.parser = Parser()
        self._start_offset = offset
        self._clock = clock
        self._file = -1
        self._read_any = asyncio.Event()
        self._pending: list[Arrival] = []

    async def __aenter__(self) -> Self:
        self._inotify = Inotify()
        self._watching_directory = False
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._on_event)
        self._read()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fd)
        self._inotify.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Arrival]:
        while not self._pending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._read_any.wait()
            if not self._pending:
                self._read()
        return self._hand_over()

    def read_rest(self) -> list[Arrival]:
        """Read the file to its present end and return what has not been handed over yet (perhaps nothing)."""
        self._read()
        return self._hand_over()

    def _hand_over(self) -> list[Arrival]:
        arrivals, self._pending = self._pending, []
        self._read_any.clear()
        return arrivals

    def _on_event(self) -> None:
        # The events are taken before the file is read: bytes that come in between raise a new event.
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify.fd, _EVENT_BYTES)
        self._read()

    def _read(self) -> None:
        if self._file < 0 and not self._open():
            return
        while data := os.read(self._file, _READ_BYTES):
            stamp_ns = self._clock()
            self._pending.extend(
                Arrival(record=record, stamp_ns=stamp_ns, end_offset=self._start_offset + end)
                for record, end in self.parser.scan(data)
            )
        if self._pending:
            self._read_any.set()

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
        self._inotify.add_watch(self.path, Mask.MODIFY)
        os.lseek(self._file, self._start_offset, os.SEEK_SET)
        return True
