"""The feed of one destination: reads spooled runs in order, delivers their rows, moves the checkpoint."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

import orjson

from driver.datadir import DataDir
from driver.record import RunRecord, read_record
from exporter.journal import Header, JournalReader
from exporter.mirror.delivery import Delivery, DroppedError, StoppedError
from exporter.mirror.dialect import Dialect, Row
from exporter.mirror.kinds import dialect_of
from exporter.mirror.spool import MIB, Place, Spool, SpooledRun
from exporter.sample import Sample
from workload.errors import MigrascopeError

MOST_SAMPLES = 5000
LOOK_SECONDS = 0.25
WEIGH_SECONDS = 0.5
KEEP_SECONDS = 1.0
BURIED_SECONDS = 60.0
"""Refusals come by the thousand: the log tells of one a minute, the dead letters of each."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some samples of a run as rows, and the place behind them."""

    rows: list[Row]
    samples: int
    place: Place


class RunFeed:
    """One run on its way to a destination."""

    def __init__(self, run: SpooledRun, place: Place, dialect: Dialect) -> None:
        self.run = run
        self.place = place
        self._header = _first_header(run)
        self._encoder = dialect.encoder(run.run, _record(run))
        self._told_collapsed = 0
        if self._encoder.remembers:
            self._catch_up(place)
        self._told_collapsed = self._encoder.collapsed

    @property
    def vm(self) -> str:
        """The slot of the run: two runs of one slot may share series, so they go one after the other."""
        return self._header.vm if self._header else self.run.run

    def next(self) -> Chunk | None:
        """Read on for at most `MOST_SAMPLES` (and the rest of their line); None where nothing more is there by now."""
        segments = self.run.kept.journals()
        while self.place.segment < len(segments):
            reader = JournalReader(path=segments[self.place.segment])
            samples: list[Sample] = []
            for batch in reader.batches(self.place.offset):
                samples += batch.samples
                if len(samples) >= MOST_SAMPLES:
                    break
            if samples:
                self._header = reader.header or self._header
                place = replace(self.place, offset=reader.offset, last_ns=samples[-1].time_ns)
                return Chunk(rows=self._encoder.rows(reader.header, samples), samples=len(samples), place=place)
            if self.place.segment + 1 == len(segments):
                return None
            self.place = replace(self.place, segment=self.place.segment + 1, offset=0)
        return None

    def last(self) -> list[Row]:
        """The rows that end the run."""
        return self._encoder.last()

    def newly_collapsed(self) -> int:
        """How many values were collapsed since this was last asked."""
        told, self._told_collapsed = self._told_collapsed, self._encoder.collapsed
        return self._told_collapsed - told

    def _catch_up(self, place: Place) -> None:
        """Bring the encoder to where it was; what it gives has been acknowledged."""
        for number, path in enumerate(self.run.kept.journals()[: place.segment + 1]):
            reader = JournalReader(path=path)
            for batch in reader.batches():
                if number == place.segment and reader.offset > place.offset:
                    break
                self._encoder.rows(reader.header, batch.samples)


class Feed:
    """Works off one spool; `run` goes on until it is stopped or there is nothing left to do."""

    def __init__(self, data: DataDir, spool: Spool, stop: threading.Event) -> None:
        self._data = data
        self._spool = spool
        self._stop = stop
        self._dialect = dialect_of(spool.destination.kind)
        self._checkpoint = spool.checkpoint()
        self._feeds: dict[str, RunFeed] = {}
        self._weighed_at, self._full = 0.0, False
        self._kept_at = self._buried_at = 0.0
        self._delivery = Delivery(
            spool, lambda: self._dialect.writer(spool.destination), stop=stop, full=self._is_full,
            retried=self._retried, recovered=self._recovered, died=self._died, dropped=self._dropped,
        )  # fmt: skip

    def run(self) -> None:
        """Send what is spooled, and what comes, until no run is left; a run that is live is waited for."""
        try:
            while not self._stop.is_set() and has_work(self._spool):
                if not self._step():
                    self._stop.wait(LOOK_SECONDS)
        except StoppedError:
            pass
        finally:
            self._delivery.close()
            self._keep()

    def _step(self) -> bool:
        """Send one chunk of each slot's oldest run; False where nothing could be done."""
        moved = self._resend_letters()
        busy: set[str] = set()
        for run in self._spool.runs():
            feed = self._feed(run)
            if feed.vm in busy:
                continue
            over = self._over(run)  # asked before reading: what was written last may come just before the end is told
            if chunk := feed.next():
                self._deliver(feed, chunk)
                busy.add(feed.vm)
                moved = True
            elif over:
                self._finish(feed)
                moved = True
            elif run.live.exists():
                busy.add(feed.vm)
        return moved

    def _feed(self, run: SpooledRun) -> RunFeed:
        known = self._feeds.get(run.run)
        place = run.place(self._checkpoint)
        if known is None or known.place.since_ns != place.since_ns:
            known = self._feeds[run.run] = RunFeed(run, place, self._dialect)
        return known

    def _deliver(self, feed: RunFeed, chunk: Chunk) -> None:
        try:
            if self._is_full():
                raise DroppedError  # noqa: TRY301 - the same as when it happens while it is sent
            self._delivery.deliver(chunk.rows)
        except DroppedError:
            self._weighed_at = 0.0
            self._dropped(chunk.samples)
        else:
            self._checkpoint = replace(self._checkpoint, samples=self._checkpoint.samples + chunk.samples)
        collapsed = self._checkpoint.collapsed + feed.newly_collapsed()
        feed.place = chunk.place
        self._checkpoint = replace(self._checkpoint, collapsed=collapsed).moved(feed.run.run, chunk.place)
        self._keep()

    def _finish(self, feed: RunFeed) -> None:
        try:
            self._delivery.deliver(feed.last())
        except DroppedError:
            self._weighed_at = 0.0
        if self._spool.finish(feed.run, feed.place):
            del self._feeds[feed.run.run]
            self._checkpoint = self._checkpoint.moved(feed.run.run, None)
            self._keep()

    def _over(self, run: SpooledRun) -> bool:
        """Whether a run that was read to its end gets no more: nobody writes it, and it has an outcome, or has gone."""
        if run.live.exists():
            return False
        try:
            return read_record(self._data.run(run.run)).outcome is not None
        except MigrascopeError:
            return True

    def _resend_letters(self) -> bool:
        """Send dead letters again that someone has asked for; those that are refused again die again."""
        path = self._spool.retried_letters
        if not path.exists():
            return False
        rows = []
        for text in path.read_bytes().splitlines():
            try:
                rows.append(self._dialect.row_from_json(orjson.loads(text)["row"]))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                log.warning("%s: a damaged line is left out", path)
        try:
            self._delivery.deliver(rows)
        except DroppedError:  # the oldest samples make room first
            return False
        path.unlink()
        return True

    def _is_full(self) -> bool:
        now = time.monotonic()
        if now >= self._weighed_at + WEIGH_SECONDS or self._full:
            self._weighed_at = now
            self._full = self._spool.waiting_bytes(self._checkpoint) > self._spool.destination.spool_mib * MIB
        return self._full

    def _retried(self, why: str) -> None:
        if not self._checkpoint.trouble:
            log.warning("mirror %s: a write failed: %s", self._spool.destination.name, why)
        self._checkpoint = replace(self._checkpoint, retries=self._checkpoint.retries + 1, trouble=why)
        if time.monotonic() >= self._kept_at + KEEP_SECONDS:
            self._keep()

    def _recovered(self) -> None:
        if self._checkpoint.trouble:
            log.warning("mirror %s: writes are taken again", self._spool.destination.name)
            self._checkpoint = replace(self._checkpoint, trouble="")

    def _died(self, rows: int, why: str) -> None:
        if not self._checkpoint.dead_letters or time.monotonic() >= self._buried_at + BURIED_SECONDS:
            log.warning("mirror %s: %d rows were refused: %s", self._spool.destination.name, rows, why)
            self._buried_at = time.monotonic()
        self._checkpoint = replace(self._checkpoint, dead_letters=self._checkpoint.dead_letters + rows)

    def _dropped(self, rows: int) -> None:
        self._checkpoint = replace(self._checkpoint, dropped=self._checkpoint.dropped + rows)

    def _keep(self) -> None:
        """Write the checkpoint; on a full disk it stays in memory, and what is sent twice after a kill is one row."""
        self._kept_at = time.monotonic()
        try:
            self._spool.keep(self._checkpoint)
        except OSError as error:
            log.warning("mirror %s: its checkpoint cannot be written: %s", self._spool.destination.name, error.strerror)


def has_work(spool: Spool) -> bool:
    """Whether a spool holds a run, or letters to be sent again."""
    return bool(spool.runs()) or spool.retried_letters.exists()


def _record(run: SpooledRun) -> RunRecord | None:
    try:
        return read_record(run.kept)
    except MigrascopeError:
        return None


def _first_header(run: SpooledRun) -> Header | None:
    for path in run.kept.journals():
        reader = JournalReader(path=path)
        next(reader.batches(), None)
        if reader.header:
            return reader.header
    return None
