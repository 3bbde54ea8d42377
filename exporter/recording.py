"""One run's samples on their way: the journal first, then the live view and the sinks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from driver.datadir import RunDir
from driver.record import RunRecord
from exporter.journal import Batch, Header, JournalWriter
from exporter.live import LiveView
from exporter.recorder import Recorder
from exporter.resume import Left, read_left
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sink import Sink

log = logging.getLogger(__name__)


class Recording:
    """Writes one run from its construction to `close`.

    What an exporter that died has recorded of the run is shown to view and sinks first; `left` says where the sources
    go on. `opened` is called when the journal is there and holds no sample yet; should it fail, nothing is recorded.

    Raises:
        OSError: the journal cannot be written.
    """

    def __init__(
        self,
        run: RunDir,
        header: Header,
        record: RunRecord,
        sinks: Sequence[Sink],
        metrics: SelfMetrics,
        opened: Callable[[], None],
    ) -> None:
        self.run = run
        self.header = header
        self.view = LiveView(header)
        self._sinks: list[Sink] = []
        self._metrics = metrics
        self._takers: list[Callable[[Sequence[Sample]], None]] = [
            self.view.take,
            *(partial(sink.take, run.run) for sink in sinks),
        ]
        try:
            for sink in sinks:
                sink.attach(header, record)
                self._sinks.append(sink)
            self.left: Left = read_left(run, self._hand_on)
            journal = JournalWriter(run.new_journal(), header)
            try:
                opened()
            except BaseException:
                journal.close()
                raise
        except BaseException:
            self._let_go()
            raise
        self._recorder = Recorder(journal, header, [self._hand_on], metrics, self.left.last_stamps)

    def take(self, batch: Batch) -> None:
        """Take a batch; it is acknowledged within 50 ms."""
        self._recorder.take(batch)

    def close(self) -> None:
        """Write what is left, close the journal, let the sinks go."""
        self._recorder.close()
        self._let_go()

    def _let_go(self) -> None:
        for sink in self._sinks:
            sink.detach(self.run.run)

    def _hand_on(self, samples: Sequence[Sample]) -> None:
        """Give what the journal has acknowledged to the live view and the sinks; one that fails harms no other."""
        for take in self._takers:
            try:
                take(samples)
            except Exception:
                log.exception("run %s: a sink could not take %d samples", self.run.run, len(samples))
                self._metrics.source_errors.add("sink")
