"""A lean QMP connection for the sampling loop: one line out, one line in, events to a callback as they arrive.

qemu.qmp, which the driver uses, writes each message out for its debug log and passes it through three queues and two
tasks: 0.5 ms of CPU a call where this takes 0.1 (bench/exporter_load.py), and that 100 times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from workload.errors import MigrascopeError


class QmpError(MigrascopeError):
    """QEMU refused a command, or what came is no QMP."""


class QmpLostError(QmpError):
    """The connection ended."""


class Connection(asyncio.Protocol):
    """One QMP connection. `execute` may be called by several tasks; QEMU answers in the order of the commands."""

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._on_event = on_event
        self._pending = b""
        self._answers: list[asyncio.Future[Any]] = []
        self._greeting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._lost: QmpError | None = None

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
                await connection._greeting
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
        if self._lost is not None or self._transport is None:
            raise self._lost or QmpLostError("QEMU's monitor is not connected")
        answer = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._transport.write(b'{"execute":"%s"}\n' % command.encode())
        return await answer

    def close(self) -> None:
        """Close the connection at once."""
        self._fail(QmpLostError("QEMU's monitor was closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a unix socket's is
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket has ended."""
        self._fail(QmpLostError(f"QEMU's monitor ended{f': {exc}' if exc else ''}"))

    def data_received(self, data: bytes) -> None:
        """Take bytes: whole lines are messages."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            try:
                message = orjson.loads(line)
            except orjson.JSONDecodeError:
                self._fail(QmpError(f"QEMU's monitor sent no QMP: {line[:80]!r}"))
                return
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._on_event(message)
        elif "QMP" in message:
            _settle(self._greeting, message)
        elif self._answers:
            _settle(self._answers.pop(0), message)

    def _fail(self, error: QmpError) -> None:
        self._lost = self._lost or error
        if self._transport is not None:
            self._transport.abort()
        answers, self._answers = [self._greeting, *self._answers], []
        for answer in answers:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # nobody may be waiting any more


def _settle(answer: asyncio.Future[Any], message: Mapping[str, Any]) -> None:
    if answer.done():  # its deadline has passed
        return
    if "error" in message:
        answer.set_exception(QmpError(str(message["error"].get("desc", message["error"]))))
    else:
        answer.set_result(message.get("return"))
