"""Delivery: rows are sent until they are acknowledged; what is refused for good becomes dead letters."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence

import orjson

from exporter.mirror.dialect import Row, WriteFailedError, Writer
from exporter.mirror.spool import MIB, Spool
from workload.errors import BadValueError

MOST_ROWS = 5000
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.25, 8.0
MOST_REFUSALS = 64
"""Requests spent on finding the bad rows of one: enough for two or three among thousands. What is left then is bad."""

MOST_DEAD_LETTER_BYTES = 64 * MIB


class StoppedError(Exception):
    """The mirror is to end; what it was sending is not acknowledged."""


class DroppedError(Exception):
    """The spool is over its bound: what was being sent is the oldest, and goes."""


class Delivery:
    """Sends rows to one destination, in order.

    `retried(why)` is told of each failure that is tried again, `recovered()` of each request that was taken,
    `died(rows)` of rows that became dead letters, `dropped(rows)` of those for which there was no room.
    """

    def __init__(
        self,
        spool: Spool,
        writer: Callable[[], Writer],
        *,
        stop: threading.Event,
        full: Callable[[], bool],
        retried: Callable[[str], None],
        recovered: Callable[[], None],
        died: Callable[[int, str], None],
        dropped: Callable[[int], None],
    ) -> None:
        self._spool = spool
        self._connect = writer
        self._writer: Writer | None = None
        self._stop = stop
        self._full = full
        self._retried = retried
        self._recovered = recovered
        self._died = died
        self._dropped = dropped

    def deliver(self, rows: Sequence[Row]) -> None:
        """Send rows; when this returns each of them was acknowledged or is a dead letter.

        Raises:
            StoppedError: not all were sent; they may be sent again, the same row twice is one row.
            DroppedError: likewise.
        """
        for start in range(0, len(rows), MOST_ROWS):
            self._settle(rows[start : start + MOST_ROWS])

    def close(self) -> None:
        """Close the connection."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def _settle(self, rows: Sequence[Row]) -> None:
        """Send rows of one request; where they are refused halve them, until the bad ones stand alone."""
        left, refusals = [rows], 0
        while left:
            part = left.pop()
            refusal = self._send(part)
            if refusal is None:
                continue
            refusals += 1
            if len(part) > 1 and refusals < MOST_REFUSALS:
                middle = len(part) // 2
                left += [part[middle:], part[:middle]]
            else:
                self._bury(part, refusal)

    def _send(self, rows: Sequence[Row]) -> WriteFailedError | None:
        """Send rows until they are taken (None) or refused for good."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            if self._stop.is_set():
                raise StoppedError
            if self._full():
                raise DroppedError
            try:
                self._open().write(rows)
            except WriteFailedError as error:
                if error.refused:
                    return error
                self._failed(str(error))
                rest = max(pause * random.uniform(0.5, 1.0), error.pause_seconds * random.uniform(1.0, 1.1))  # noqa: S311 - jitter is no secret
            except BadValueError as error:  # its token's file is gone: it may come back
                self._failed(str(error))
                rest = pause
            else:
                self._recovered()
                return None
            self._stop.wait(rest)
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    def _open(self) -> Writer:
        if self._writer is None:
            self._writer = self._connect()
        return self._writer

    def _failed(self, why: str) -> None:
        self.close()  # the next try connects anew, and reads the token again
        self._retried(why)

    def _bury(self, rows: Sequence[Row], refusal: WriteFailedError) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts = {"at": now, "status": refusal.status, "reason": str(refusal)}
        lines = b"".join(orjson.dumps({**facts, "row": row}, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        size = 0
        with contextlib.suppress(FileNotFoundError):
            size = self._spool.dead_letters.stat().st_size
        try:
            if size + len(lines) > MOST_DEAD_LETTER_BYTES:
                self._dropped(len(rows))
                return
            with self._spool.dead_letters.open("ab") as file:
                file.write(lines)
        except OSError:
            self._dropped(len(rows))
        else:
            self._died(len(rows), str(refusal))
