"""What the blackout is worth: how far it is from STOP -> RESUME and from QEMU's downtime, by kind of run.

    .venv/bin/python -m bench.blackout_agreement [--data-dir DIR]

Reads the runs of a data directory, or the recorded real runs, and judges their ticks anew. A run in whose switchover
STOP and RESUME were both seen counts as known or not; the differences are blackout minus the other figure, in ms.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from driver.datadir import DataDir, RunDir
from driver.record import read_record
from exporter import figures, history
from exporter.blackout import NANO, blackout
from exporter.timeline import events_of, timeline
from tests import recordings


@dataclass
class Kind:
    """The runs of one strategy: differences in ms, and why a blackout is not known."""

    from_events: list[float] = field(default_factory=list)
    from_downtime: list[float] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def judge(data: DataDir, run: RunDir, kinds: dict[str, Kind]) -> None:
    """Add one run to its kind; one without a switchover, or without ticks by its own settings, is left out."""
    record = read_record(run)
    times = timeline(record, events_of(history.load(data, run, "event")))
    microvm = record.hardware is not None and record.hardware.machine == "microvm"
    silent = record.workload is not None and not record.workload.tick_ms
    if times.stop_ns is None or times.resume_ns is None or record.scenario is None or microvm or silent:
        return
    found = blackout(
        figures.ticks_of(history.load(data, run, "guest_tick")), times.stop_ns, times.resume_ns,
        kvm=record.accelerator == "kvm", running_ns=times.running_ns or 0,
    )  # fmt: skip
    kind = kinds[record.scenario.strategy]
    if found.seconds is None:
        kind.unknown.append(f"{run.run} ({record.outcome}): {found.why}")
        return
    kind.from_events.append((found.seconds - (times.resume_ns - times.stop_ns) * NANO) * 1000)
    if (downtime_ms := record.final.get("downtime")) is not None:
        kind.from_downtime.append(found.seconds * 1000 - downtime_ms)


def report(kinds: dict[str, Kind]) -> None:
    """Print the table, then the reasons."""
    print("| strategy | known | from STOP -> RESUME: median, worst ms | from QEMU's downtime: median, worst ms |")
    print("|---|---|---|---|")
    every = Kind()
    for name, kind in sorted(kinds.items()):
        print(_row(name, kind))
        every.from_events += kind.from_events
        every.from_downtime += kind.from_downtime
        every.unknown += kind.unknown
    print(_row("all", every))
    for why in every.unknown:
        print(f"unknown: {why}")


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=None)
    arguments = parser.parse_args()
    kinds: dict[str, Kind] = defaultdict(Kind)
    with tempfile.TemporaryDirectory(prefix="bench-blackout-") as scratch:
        data = DataDir.open(arguments.data_dir or Path(scratch))
        if arguments.data_dir is None:
            for name in recordings.names():
                judge(data, recordings.install(name, data), kinds)
        else:
            for row in history.runs(data):
                judge(data, data.run(row.run), kinds)
    report(kinds)


def _row(name: str, kind: Kind) -> str:
    known, runs = len(kind.from_events), len(kind.from_events) + len(kind.unknown)
    return f"| {name} | {known} of {runs} | {_spread(kind.from_events)} | {_spread(kind.from_downtime)} |"


def _spread(apart: list[float]) -> str:
    if not apart:
        return "-"
    return f"{statistics.median(map(abs, apart)):.2f}, {max(apart, key=abs):+.1f}"


if __name__ == "__main__":
    main()
