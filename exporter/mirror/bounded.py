"""HTTP requests that end: a deadline over the whole request, also with a server that drips one byte a second."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TypeAlias

from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MOST_PAUSE_SECONDS = 60.0

Opened: TypeAlias = "weakref.WeakSet[HTTPConnection]"


class Deadline:
    """Watches the connections of a pool manager; urllib3's own timeouts bound each read, not the request."""

    def __init__(self, manager: PoolManager) -> None:
        opened: Opened = weakref.WeakSet()

        class Plain(HTTPConnection):
            def connect(self) -> None:
                opened.add(self)
                super().connect()

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                opened.add(self)
                super().connect()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
        self._opened = opened

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut every connection once so many seconds have passed inside."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        for connection in list(self._opened):
            if isinstance(connection.sock, socket.socket):
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)


def pause_of(retry_after: str | None) -> float:
    """Read a Retry-After (seconds or a date, RFC 9110, 10.2.3), at most a minute; 0 where there is none."""
    if not retry_after:
        return 0.0
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), MOST_PAUSE_SECONDS)
    with contextlib.suppress(ValueError):
        seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        return min(max(seconds, 0.0), MOST_PAUSE_SECONDS)
    return 0.0
