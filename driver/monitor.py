"""QEMU's control monitor: QMP with a deadline on every word, its events stamped as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError

from workload.errors import BrokenError, MigrascopeError

ANSWER_SECONDS = 10.0
CLOSE_SECONDS = 1.0


class RefusedError(MigrascopeError):
    """QEMU answered a command with an error; `words` are its own."""

    exit_status = 4

    def __init__(self, role: str, command: str, words: str) -> None:
        self.words = words
        super().__init__(f"{role}: QEMU refused {command}: {words}")


class MonitorLostError(BrokenError):
    """The monitor's connection ended: QEMU died or closed it."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A QMP event: which QEMU said it (`source`, `destination`), its name and data, the monotonic ns of its arrival."""

    role: str
    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    stamp_ns: int


class Commands(Protocol):
    """Whoever executes QMP commands: a monitor, a QEMU, or a test's recording."""

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        out_of_band: bool = False,
    ) -> Any:
        """Execute a command and return its answer; out of band, QEMU's main loop need not be free for it."""


class Monitor:
    """One connection to one QEMU. Its events go into the queue given, which two monitors may share."""

    def __init__(self, role: str, events: asyncio.Queue[Event]) -> None:
        self.role = role
        self._client = QMPClient(f"migrascope.{role}")
        # qemu.qmp logs each connection's end as an error; what ends is told once, by who was talking
        self._client.logger.setLevel(logging.CRITICAL)
        # its own listener cannot be removed, and would remember every event for ever
        self._client.events.event_filter = lambda _event: False
        self._client.register_listener(_Stamper(role, events))

    async def connect(self, connection: socket.socket, seconds: float) -> None:
        """Take QEMU's greeting on a connected socket, which this monitor owns from now on.

        Raises:
            MonitorLostError: the connection ended first.
            BrokenError: no greeting within the deadline.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._client.connect(connection)
        except TimeoutError as error:
            raise BrokenError(f"{self.role}: QEMU's monitor said nothing within {seconds:g} s") from error
        except (QMPError, OSError, EOFError) as error:
            raise MonitorLostError(f"{self.role}: QEMU closed its monitor before it answered") from error

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        out_of_band: bool = False,
    ) -> Any:
        """Execute a command and return its answer; out of band, QEMU's main loop need not be free for it.

        Raises:
            RefusedError: QEMU answered with an error.
            MonitorLostError: the connection ended.
            BrokenError: no answer within the deadline.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._client.execute(command, dict(arguments) if arguments else None, out_of_band)
        except TimeoutError as error:
            raise BrokenError(f"{self.role}: QEMU did not answer {command} within {seconds:g} s") from error
        except ExecuteError as error:
            raise RefusedError(self.role, command, str(error)) from error
        except (QMPError, OSError, EOFError) as error:
            raise MonitorLostError(f"{self.role}: QEMU's monitor ended during {command}") from error

    async def hand_over(self, name: str, descriptor: int) -> None:
        """Give QEMU a copy of a file descriptor, which it keeps under a name (QMP getfd, SCM_RIGHTS).

        Raises:
            RefusedError, MonitorLostError, BrokenError: as `execute`.
        """
        try:
            self._client.send_fd_scm(descriptor)
        except (QMPError, OSError) as error:
            raise MonitorLostError(f"{self.role}: QEMU's monitor ended before a descriptor was handed over") from error
        await self.execute("getfd", {"fdname": name})

    async def close(self) -> None:
        """Close the connection; never fails, whatever state the other side is in."""
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.disconnect()


class _Stamper(EventListener):
    """Stamps each event as it arrives and puts it into our queue."""

    def __init__(self, role: str, events: asyncio.Queue[Event]) -> None:
        super().__init__()
        self._role = role
        self._events = events

    async def put(self, event: Message) -> None:
        data = event.get("data")
        self._events.put_nowait(
            Event(
                role=self._role,
                name=str(event["event"]),
                data=data if isinstance(data, dict) else {},
                stamp_ns=time.monotonic_ns(),
            )
        )
