"""The InfluxDB mirror: a run's samples, written by a thread of its own from a bounded queue."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from driver.record import RunRecord
from exporter.journal import Header
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.line_protocol import line, tag_set
from workload.errors import BadValueError

if TYPE_CHECKING:
    from exporter.sinks.influx_writer import Writer

NAME = "influxdb"
MOST_WAITING_SAMPLES = 200_000
"""About a minute of a run at 100 Hz on two QEMUs; beyond it the oldest are dropped."""

MOST_WRITTEN_SAMPLES = 5000
GATHER_SECONDS = 0.5
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.25, 8.0
JOIN_SECONDS = 12.0
"""How long `close` waits beyond its bound: for the client's import and one request."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Where samples are mirrored to: an InfluxDB 2, or what takes its /api/v2/write (VictoriaMetrics)."""

    url: str
    org: str
    bucket: str
    token_file: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadValueError(f"influx URL {self.url!r}: want http://HOST:PORT or https://HOST:PORT")
        if parts.username or parts.password:
            raise BadValueError(f"influx URL of {parts.hostname}: holds a password; want a token in a file")

    def token(self) -> str | None:
        """Read the token; None where no file was named.

        Raises:
            BadValueError: the file cannot be read, or it is empty.
        """
        if self.token_file is None:
            return None
        try:
            token = self.token_file.read_text().strip()
        except OSError as error:
            raise BadValueError(f"influx token file {self.token_file}: {error.strerror}") from error
        if not token:
            raise BadValueError(f"influx token file {self.token_file}: is empty, want InfluxDB's token")
        return token


class WriteFailedError(Exception):
    """A write was not acknowledged. `for_good`: it never will be; `pause_seconds`: what the server asks to wait."""

    def __init__(self, why: str, *, for_good: bool = False, pause_seconds: float = 0.0) -> None:
        super().__init__(" ".join(why.split())[:300])
        self.for_good = for_good
        self.pause_seconds = pause_seconds


class InfluxSink:
    """Mirrors samples. A write that fails is retried with growing pauses; what the queue cannot hold is counted.

    The thread runs from construction to `close`. Stamps are nanoseconds; a sample that is sent twice is the same point.

    Raises:
        BadValueError: the token cannot be read.
    """

    def __init__(self, mirror: Mirror, own: SelfMetrics, most_waiting: int = MOST_WAITING_SAMPLES) -> None:
        self._mirror = mirror
        self._own = own
        self._token = mirror.token()
        self._tags: dict[str, str] = {}
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[str, Sample]] = deque()
        self._news = threading.Condition()
        self._until: float | None = None
        self._failing = False
        for figures in (own.mirror_samples, own.mirror_dropped, own.mirror_retries):
            figures.add(NAME, amount=0.0)
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def attach(self, header: Header, record: RunRecord) -> None:  # noqa: ARG002 - InfluxDB takes the labels only
        """Begin a run: its labels stand on each of its rows."""
        self._tags[header.run] = tag_set(header.tags())

    def take(self, run: str, samples: Sequence[Sample]) -> None:
        """Queue a batch; where the queue is full its oldest samples are dropped and counted."""
        tags = self._tags[run]
        with self._news:
            before = len(self._waiting)
            self._waiting.extend([(tags, sample) for sample in samples])
            surplus = len(self._waiting) - self._most_waiting
            for _ in range(surplus):
                self._waiting.popleft()
            if not before or len(self._waiting) >= MOST_WRITTEN_SAMPLES:  # else the thread gathers: let it sleep
                self._news.notify()
        if surplus > 0:
            self._own.mirror_dropped.add(NAME, amount=float(surplus))

    def detach(self, run: str) -> None:
        """End a run; what of it still waits is written all the same."""
        del self._tags[run]

    def close(self, seconds: float) -> None:
        """Write what still waits, for at most so many seconds (and one request); what is left then is dropped."""
        with self._news:
            self._until = time.monotonic() + seconds
            self._news.notify()
        self._thread.join(seconds + JOIN_SECONDS)

    def _run(self) -> None:
        # here, so that neither the exporter's start nor its sampling loop waits for the client's import
        from exporter.sinks.influx_writer import Writer  # noqa: PLC0415

        writer = Writer(self._mirror.url, self._mirror.org, self._mirror.bucket, self._token)
        while (batch := self._gather()) is not None:
            lines = [text for tags, sample in batch if (text := line(sample, tags))]
            if self._deliver(writer, "\n".join(lines)):
                self._own.mirror_samples.add(NAME, amount=float(len(batch)))
            else:
                self._own.mirror_dropped.add(NAME, amount=float(len(batch)))
        writer.close()

    def _gather(self) -> list[tuple[str, Sample]] | None:
        """Wait for samples and take those that go into one request; None when closed and nothing is left."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._until is not None)
            self._news.wait_for(
                lambda: len(self._waiting) >= MOST_WRITTEN_SAMPLES or self._until is not None, GATHER_SECONDS
            )
            count = min(len(self._waiting), MOST_WRITTEN_SAMPLES)
            return [self._waiting.popleft() for _ in range(count)] or None

    def _deliver(self, writer: Writer, lines: str) -> bool:
        """Send one request until it is acknowledged; False when it was refused for good or the time is up."""
        pause = FIRST_PAUSE_SECONDS
        while not self._late():
            try:
                writer.write(lines)
            except WriteFailedError as error:
                self._failed(error)
                if error.for_good:
                    return False
                pause = max(pause, error.pause_seconds)
            else:
                self._recovered()
                return True
            self._rest(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
            pause = min(pause * 2, LAST_PAUSE_SECONDS)
        return False

    def _rest(self, seconds: float) -> None:
        """Pause between two tries; `close` cuts it short once, and bounds those that follow."""
        with self._news:
            if self._until is None:
                self._news.wait_for(lambda: self._until is not None, seconds)
                return
        time.sleep(max(min(seconds, self._until - time.monotonic()), 0.0))

    def _late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _failed(self, error: Exception) -> None:
        self._own.mirror_retries.add(NAME)
        if not self._failing:
            log.warning("mirror %s: a write failed: %s", self._mirror.url, error)
        self._failing = True

    def _recovered(self) -> None:
        if self._failing:
            log.warning("mirror %s: writes are taken again", self._mirror.url)
        self._failing = False
