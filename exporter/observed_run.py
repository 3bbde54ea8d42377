"""One migration of a VM that something else runs, as a run: the exporter writes its record as a driver would."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from driver.clock import Clock
from driver.datadir import DataDir
from driver.facts import host_facts
from driver.lock import run_lock
from driver.record import Phase, RunRecord, write_record
from driver.request import new_run_id
from driver.watch import LiveState
from exporter.identity import Identity
from exporter.journal import Batch, Header
from exporter.recording import Recording
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sink import Sink


class ObservedRun:
    """From its construction to `end` the run's lock is held, so that nobody takes it for abandoned.

    `opened` is called when the journal is there and holds no sample yet; `words` says the last verdict.

    Raises:
        OSError, BrokenError: the data directory cannot be written; nothing is left of the run.
    """

    def __init__(
        self,
        data: DataDir,
        vm: str,
        ends: Sequence[Identity],
        clock: Clock,
        sinks: Sequence[Sink],
        metrics: SelfMetrics,
        words: Callable[[], str | None],
        opened: Callable[[ObservedRun], None],
    ) -> None:
        self.vm = vm
        self.run = data.run(new_run_id())
        self._clock = clock
        self._words = words
        self._record = _record(self.run.run, vm, ends, Clock.now())
        with contextlib.ExitStack() as stack:
            self.run.path.mkdir(mode=0o700)
            stack.enter_context(run_lock(self.run))
            write_record(self.run, self._record)
            header = Header(
                run=self.run.run, campaign=None, scenario=self._record.scenario_name, host=self._record.host.name,
                vm=vm, clock=clock,
            )  # fmt: skip
            self._recording = Recording(self.run, header, self._record, sinks, metrics, lambda: opened(self))
            self._held = stack.pop_all()

    @property
    def version(self) -> int:
        """Rises whenever the phase, the status or the outcome changes."""
        return self._recording.view.version

    def state(self) -> LiveState:
        """What the run looks like now."""
        return self._recording.view.state(self._words())

    def take(self, batch: Batch) -> None:
        """Record a batch."""
        self._recording.take(batch)

    def phase(self, name: str, time_ns: int) -> None:
        """Begin a phase, which ends the one before."""
        self._record = replace(self._record, phases=(*self._closed(time_ns), Phase(name=name, start_ns=time_ns)))
        self._mark("phase", name, time_ns)
        write_record(self.run, self._record)

    def resumed(self, time_ns: int) -> None:
        """The source runs again: there was no switchover."""
        if self._record.phases and self._record.phases[-1].name == "switchover":
            before = self._record.phases[-2]
            self._record = replace(self._record, phases=(*self._record.phases[:-2], replace(before, end_ns=None)))
            self._mark("phase", before.name, time_ns)

    def end(self, outcome: str, reason: str | None, time_ns: int) -> None:
        """Write the outcome, close the journal, let the lock go; the run is still to be stored."""
        self._record = replace(self._record, phases=self._closed(time_ns), outcome=outcome, reason=reason)
        self._mark("outcome", outcome, time_ns)
        try:
            write_record(self.run, self._record)
            self._recording.close()
        finally:
            self._held.close()

    def _closed(self, time_ns: int) -> tuple[Phase, ...]:
        return tuple(
            phase if phase.end_ns is not None else replace(phase, end_ns=max(time_ns, phase.start_ns))
            for phase in self._record.phases
        )

    def _mark(self, kind: str, name: str, time_ns: int) -> None:
        tags = {"role": "driver", "name": f"{kind}.{name}"}
        self._recording.take(Batch(samples=[Sample("event", time_ns, {"count": 1.0}, tags)]))


def _record(run: str, vm: str, ends: Sequence[Identity], clock: Clock) -> RunRecord:
    binaries = {end.role: end.binary for end in ends}
    return RunRecord(
        run=run,
        kind="observed",
        vm=vm,
        clock=clock,
        scenario=None,
        hardware=None,
        workload=None,
        host=host_facts(),
        source_binary=binaries.get("source"),
        destination_binary=binaries.get("destination"),
        accelerator=ends[0].accelerator,
        accelerator_reason="QEMU's answer to query-kvm",
    )
