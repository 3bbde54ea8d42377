"""The marks source: the driver's phases, actions and outcome, as it appends them to marks.jsonl."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from asyncinotify import Inotify, Mask

from driver.marks import Mark, parse_mark
from exporter.journal import Batch
from exporter.sample import Sample

POLL_SECONDS = 0.5
_READ_BYTES = 1 << 16


class MarksSource:
    """Follows marks.jsonl from its beginning, by inotify and, should an event go missing, by a look every 0.5 s.

    Each mark becomes an `event` sample of role `driver` named `phase.NAME`, `action.NAME` or `outcome.NAME`; `marked`
    hears of each as soon as it is read. Marks stamped at or before `after_ns` were recorded before, by an exporter that
    died: they are heard of again, but yield no sample.
    """

    name = "marks"
    role = "driver"

    def __init__(self, path: Path, after_ns: int, marked: Callable[[Mark], None]) -> None:
        self._path = path
        self._after_ns = after_ns
        self._marked = marked
        self._consumed_bytes = 0

    async def __aenter__(self) -> Self:
        self._changed = asyncio.Event()
        self._inotify = Inotify()
        # not the directory's changes: the journal and the consoles grow in it, many times a second
        self._inotify.add_watch(self._path.parent, Mask.CREATE)
        self._watched = False
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._on_event)
        self._changed.set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fd)
        self._inotify.close()

    async def follow(self, take: Callable[[Batch], None]) -> None:
        """Hand on each new mark's sample."""
        while True:
            if samples := self._read():
                take(Batch(samples=samples))
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()

    async def rest(self) -> Batch:
        """The marks written since."""
        return Batch(samples=self._read())

    def _on_event(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify.fd, _READ_BYTES)
        self._changed.set()

    def _read(self) -> list[Sample]:
        try:
            if not self._watched:
                self._inotify.add_watch(self._path, Mask.MODIFY)
                self._watched = True
            with self._path.open("rb") as file:
                file.seek(self._consumed_bytes)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._consumed_bytes += len(whole)
        samples = []
        for line in whole.splitlines():
            if mark := parse_mark(line):
                self._marked(mark)
                if mark.time_ns > self._after_ns:
                    samples.append(_sample(mark))
        return samples


def _sample(mark: Mark) -> Sample:
    fields: dict[str, float | str] = {"count": 1.0}
    if isinstance(iteration := mark.detail.get("iteration"), int | float):
        fields["iteration"] = float(iteration)
    if mark.detail:
        fields["detail"] = _words(mark.detail)
    return Sample("event", mark.time_ns, fields, {"role": "driver", "name": f"{mark.kind}.{mark.name}"})


def _words(detail: Mapping[str, Any]) -> str:
    return orjson.dumps(detail, default=str).decode()
