"""A QMP monitor on a unix socket that plays a recorded migration: for exporters that watch more QEMUs than fit here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import captures

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}
PARAMETERS = {"downtime-limit": 100, "max-bandwidth": 32 << 20}


class FakeMonitor:
    """Serves one socket. From `play` on, query-migrate answers as the capture did so long after its start.

    The capture's events are sent at their moments. `endless` begins the capture again whenever it is over, for load.
    """

    def __init__(self, path: Path, capture: str, *, endless: bool = False) -> None:
        self.path = path
        self.asked = 0
        self._endless = endless
        lines = [line for line in captures.read(capture) if line.vm == "src" and isinstance(line.data, dict)]
        replies = [line for line in lines if line.kind == "query-migrate"]
        first = next(place for place, line in enumerate(replies) if line.data.get("status"))
        start = replies[max(0, first - 1)].seconds
        self._replies = [(line.seconds - start, line.data) for line in replies[first:]]
        self._events = [(line.seconds - start, line.data) for line in lines if line.kind == "event"]
        self._began: float | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._playing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._playing:
            self._playing.cancel()
        self._server.close()
        for client in self._clients:
            client.close()
        self.path.unlink(missing_ok=True)

    def play(self) -> None:
        """Begin the migration."""
        self._began = time.monotonic()
        self._playing = asyncio.create_task(self._tell(self._events))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            _send(writer, GREETING)
            while line := await reader.readline():
                self.asked += 1
                _send(writer, {"return": self._answer(json.loads(line)["execute"])})
        except ConnectionError:
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    def _answer(self, command: str) -> Any:
        match command:
            case "query-migrate":
                return self._progress()
            case "query-migrate-parameters":
                return PARAMETERS
            case "query-version":
                return GREETING["QMP"]["version"]
            case "query-status":
                return {"status": "running", "running": True}
            case "query-kvm":
                return {"enabled": False, "present": True}
        return {}

    def _progress(self) -> dict[str, Any]:
        if self._began is None:
            return {}
        now = time.monotonic() - self._began
        if self._endless:
            now %= self._replies[-1][0]
        return dict(next((data for moment, data in reversed(self._replies) if moment <= now), {}))

    async def _tell(self, events: Sequence[tuple[float, dict[str, Any]]]) -> None:
        began = time.monotonic()
        for moment, event in events:
            await asyncio.sleep(max(0.0, moment - (time.monotonic() - began)))
            now = time.time()
            stamp = {"seconds": int(now), "microseconds": int(now % 1 * 1e6)}
            for client in self._clients:
                _send(client, event | {"timestamp": stamp})


async def monitors(stack: AsyncExitStack, folder: Path, capture: str, count: int) -> list[FakeMonitor]:
    """So many monitors that play one capture for ever, at `folder/0`, `folder/1`, ..."""
    found = [
        await stack.enter_async_context(FakeMonitor(folder / str(number), capture, endless=True))
        for number in range(count)
    ]
    for monitor in found:
        monitor.play()
    return found


def _send(writer: asyncio.StreamWriter, message: Any) -> None:
    writer.write(json.dumps(message).encode() + b"\r\n")
