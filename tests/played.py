"""Runs whose guest is played: this process writes the console that the real exporter follows, and no QEMU is there."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.lock import run_lock
from driver.marks import Mark, append_mark
from driver.record import read_record, write_record
from driver.scenario import Scenario
from driver.targets import Target, Targets, write_targets
from exporter import compaction
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from tests.live_pair import a_record
from workload.console import Tick, write

Key = tuple[str, int, frozenset[tuple[str, str]]]


@dataclass
class PlayedRun:
    """One run's directory, and a guest that prints `lines_per_second` ticks from its construction to `end`.

    Its process is this one; its monitor does not answer, as that of a QEMU which hangs.
    """

    data: DataDir
    run: str
    consoles: Path
    lines_per_second: int = 500
    written: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.dir: RunDir = self.data.run(self.run)
        self.dir.path.mkdir()
        self._held = contextlib.ExitStack()  # as a driver does: who finds the lock free takes the run for abandoned
        self._held.enter_context(run_lock(self.dir))
        self.clock = Clock.now()
        self.console = self.consoles / f"{self.run}.log"
        self.console.touch()
        write_record(self.dir, a_record(self.run, self.clock, Scenario()))
        target = Target(role="source", pid=os.getpid(), monitor=str(self.consoles / "none"), console=str(self.console))
        write_targets(
            self.dir,
            Targets(
                run=self.run, campaign=None, scenario="none", host="here", clock=self.clock, targets=(target,)
            ),
        )  # fmt: skip
        self.mark("phase", "boot")
        self._writer = threading.Thread(target=self._print, daemon=True)
        self._writer.start()

    def mark(self, kind: str, name: str) -> None:
        append_mark(self.dir, Mark(kind=kind, name=name, time_ns=self.clock.stamp()))

    def end(self) -> None:
        """The guest stops printing, and the driver writes the outcome."""
        self._stop.set()
        self._writer.join()
        record = read_record(self.dir)
        write_record(self.dir, replace(record, outcome="completed"))
        self.mark("outcome", "completed")

    def close(self) -> None:
        """The driver lets go of the run: it was detached."""
        self._held.close()

    def _print(self) -> None:
        began = time.monotonic()
        with self.console.open("ab", buffering=0) as file:
            while not self._stop.wait(0.01):
                due = int((time.monotonic() - began) * self.lines_per_second)
                lines = [
                    write(Tick(line=number, sequence=number, guest_ns=number * 1_000_000))
                    for number in range(self.written, due)
                ]
                file.write("".join(lines).encode())
                self.written = max(due, self.written)

    def ticks(self) -> list[int]:
        """The numbers of the lines that history holds."""
        found = compaction.load(self.dir, "guest_tick").column("sequence").to_pylist()
        return [int(number) for number in found]


def stored(run: RunDir) -> set[Key]:
    """Measurement, time and tags of every sample of a run that history holds."""
    found: set[Key] = set()
    for measurement, known in MEASUREMENTS.items():
        table = compaction.load(run, measurement)
        for row in table.select(["time_ns", *RUN_TAGS, *known.tags]).to_pylist():
            time_ns = row.pop("time_ns")
            found.add((measurement, time_ns, frozenset((name, word) for name, word in row.items() if word)))
    return found
