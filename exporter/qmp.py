"""A lean QMP connection for the sampling loop: one line out, one line in, events to a callback as they arrive.

qemu.qmp, which the driver uses, writes each message out for its debug log and passes it through three queues and two
tasks: 0.5 ms of CPU a call where this takes 0.1 (bench/exporter_load.py), and that 100 times a second.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from workload.errors import MigrascopeError

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred


class QmpError(MigrascopeError):
    """QEMU refused a command, or what came is no QMP."""


class QmpLostError(QmpError):
    """The connection ended."""


class Connection(asyncio.Protocol):
    """One QMP connection; commands may be sent without waiting for answers: QEMU answers in their order.

    `ended` holds why the connection is over: it was lost, or what `on_event` or a command's `on_answer` raised.
    """

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._on_event = on_event
        self._pending = b""
        self._waiting: deque[Callable[[dict[str, Any]], None]] = deque()
        self._greeting: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, path: str, on_event: Callable[[dict[str, Any]], None], seconds: float) -> Connection:
        """Connect to QEMU's monitor socket and negotiate.

        Raises:
            OSError: nobody listens there.
            TimeoutError: no greeting in time; another client holds the monitor, or QEMU is stopped.
            QmpError: it is no QMP, or QEMU closed it.
        """
        connection = cls(on_event)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_unix_connection(lambda: connection, path)
                await connection._either(connection._greeting)
                await connection.execute("qmp_capabilities")
        except BaseException:
            connection.close()
            raise
        return connection

    async def execute(self, command: str) -> Any:
        """Execute a command without arguments and return its answer; the caller sets the deadline.

        Raises:
            QmpLostError: the connection ended.
            QmpError: QEMU answered with an error; its words.
        """
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.send(command, partial(_settle, answer))
        return returned(await self._either(answer))

    def send(self, command: str, on_answer: Callable[[dict[str, Any]], None]) -> None:
        """Send a command without arguments; `on_answer` is called with the whole message that answers it.

        Raises:
            QmpLostError: the connection has ended.
        """
        if self._transport is None or self.ended.done():
            raise QmpLostError("QEMU's monitor is not connected")
        self._waiting.append(on_answer)
        self._transport.write(b'{"execute":"%s"}\n' % command.encode())

    @property
    def peer_pid(self) -> int | None:
        """The process that listens at the other end (SO_PEERCRED); None where it is in another PID namespace."""
        if self._transport is None:
            return None
        raw = self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return _UCRED.unpack(raw)[0] or None

    def close(self) -> None:
        """Close the connection at once."""
        self._end(QmpLostError("QEMU's monitor was closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a unix socket's is
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket has ended."""
        self._end(QmpLostError(f"QEMU's monitor ended{f': {exc}' if exc else ''}"))

    def data_received(self, data: bytes) -> None:
        """Take bytes: whole lines are messages."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            try:
                self._take(orjson.loads(line))
            except orjson.JSONDecodeError:
                self._end(QmpError(f"QEMU's monitor sent no QMP: {line[:80]!r}"))
                return
            except Exception as error:  # a callback's: asyncio would only log it, who awaits `ended` is told
                self._end(error)
                return

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise QmpError(f"QEMU's monitor sent no QMP: {str(message)[:80]!r}")
        if "event" in message:
            self._on_event(message)
        elif "QMP" in message:
            _settle(self._greeting, message)
        elif self._waiting:
            self._waiting.popleft()(message)

    def _end(self, error: Exception) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # nobody may be waiting any more

    async def _either(self, answer: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        """The answer, or the reason why there will be none."""
        waiting: set[asyncio.Future[Any]] = {answer, self.ended}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.ended.result()
        return answer.result()


def returned(message: Mapping[str, Any]) -> Any:
    """What an answer returns.

    Raises:
        QmpError: it is an error; its words.
    """
    if "error" in message:
        error = message["error"]
        raise QmpError(str(error.get("desc", error) if isinstance(error, Mapping) else error))
    return message.get("return")


def _settle(answer: asyncio.Future[dict[str, Any]], message: dict[str, Any]) -> None:
    if not answer.done():  # its deadline may have passed
        answer.set_result(message)
