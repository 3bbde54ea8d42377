"""What a keeper sees of its QEMU: the console as it grows, and its threads; of the standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LISTING_SECONDS = 0.5
PROCESS_SECONDS = 0.1
LINE_SECONDS = 0.0003
READ_BYTES = 1 << 16
IN_MODIFY = 2


class Console:
    """A file that grows: what comes is stamped as it comes, and given to all that listen."""

    def __init__(self, path: str) -> None:
        self.size = 0
        self.listeners: list[Callable[[int, bytes], None]] = []
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0 or libc.inotify_add_watch(self._inotify, path.encode(), IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "inotify")
        asyncio.get_running_loop().add_reader(self._inotify, self.read)

    def read(self) -> None:
        """Read to the present end; QEMU writes byte by byte, so that the rest of a line is waited for."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, READ_BYTES)
        last = self._take()
        if last and not last.endswith(b"\n"):
            time.sleep(LINE_SECONDS)
            self._take()

    def before(self, offset: int) -> bytes:
        """What stands between an offset and what has been given to the listeners."""
        return os.pread(self._file, max(self.size - offset, 0), offset)

    def _take(self) -> bytes:
        taken = b""
        while True:
            data = os.pread(self._file, READ_BYTES, self.size)
            if not data:
                return taken
            taken, stamp = data, time.monotonic_ns()
            self.size += len(data)
            for listener in list(self.listeners):
                listener(stamp, data)


class Threads:
    """Reads the kept-open schedstat of each thread of a process, and the process at a slower pace."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._root = Path(f"/proc/{pid}")
        self._files: dict[int, int] = {}
        self._listed = self._process_read = 0.0

    def reading(self, *, listed: bool) -> dict[str, Any]:
        """One sweep: `threads` as [id, run ns, delay ns]; now and then all their `names`, and the `process`."""
        now = time.monotonic()
        answer: dict[str, Any] = {}
        if listed or now - self._listed >= LISTING_SECONDS:
            self._listed = now
            answer["names"] = self._list()
        answer["stamp_ns"], answer["threads"] = time.monotonic_ns(), list(self._read())
        if now - self._process_read >= PROCESS_SECONDS:
            self._process_read = now
            answer["process"] = self._process()
        return answer

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _list(self) -> dict[str, str]:
        names = {}
        for place in (self._root / "task").iterdir():
            tid = int(place.name)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                names[place.name] = (place / "comm").read_text().rstrip("\n")
                if tid not in self._files:
                    self._files[tid] = os.open(place / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
        return names

    def _read(self) -> Iterator[list[int]]:
        for tid, file in list(self._files.items()):
            try:
                run, delay, _ = os.pread(file, 64, 0).split()
            except ProcessLookupError:
                os.close(self._files.pop(tid))
            else:
                yield [tid, int(run), int(delay)]

    def _process(self) -> dict[str, float]:
        words = (self._root / "stat").read_text().rpartition(")")[2].split()  # from the third field on (proc(5))
        pages = int((self._root / "statm").read_text().split()[1])
        ticks = int(words[11]) + int(words[12])
        return {"cpu_seconds": ticks / os.sysconf("SC_CLK_TCK"), "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE")}
