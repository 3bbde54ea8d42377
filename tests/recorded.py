"""Runs as a driver and an exporter leave them: run.json and a journal of a migration whose true figures are known."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.hardware import Hardware
from driver.record import Host, Phase, RunRecord, write_record
from driver.scenario import Scenario
from exporter.journal import Batch, Header, JournalWriter
from exporter.sample import Sample
from workload.settings import Workload

SECOND = 1_000_000_000
START_NS = 1_795_395_000 * SECOND
MIB, GIB = 1 << 20, 1 << 30

SETTLE_SECONDS_PER_GIB = 0.3
MIGRATE_SECONDS_PER_GIB = 0.6
RECOVER_SECONDS_PER_GIB = 0.4
STOP, RESUME, BLACKOUT_SECONDS = 5.0, 5.021, 0.020
THROTTLED_AFTER_SECONDS = 1.5
CLOCK = Clock(boot_id="b0", wall_ns=START_NS, monotonic_ns=50 * SECOND)
HOST = Host(name="h1", cpu="a processor", cores=2, memory_bytes=8 * GIB, kernel="6.1")
PHASES = (("boot", 0.0, 0.5), ("settle", 0.5, 2.0), ("migrate", 2.0, 5.0), ("switchover", 5.0, 5.02),
          ("recover", 5.02, 7.0), ("end", 7.0, 7.1))  # fmt: skip


def at(seconds: float) -> int:
    return START_NS + round(seconds * SECOND)


def a_record(run: str, *, outcome: str | None = "completed", scenario: Scenario | None = None) -> RunRecord:
    """A finished run's record; without an outcome its driver is still in phase migrate."""
    phases = [Phase(name=name, start_ns=at(start), end_ns=at(end)) for name, start, end in PHASES]
    if outcome is None:
        phases = [*phases[:2], replace(phases[2], end_ns=None)]
    return RunRecord(
        run=run,
        clock=CLOCK,
        scenario=scenario or Scenario(bandwidth_mib_s=32, auto_converge_increment=10),
        hardware=Hardware(vcpus=1, memory_mib=128),
        workload=Workload(),
        host=HOST,
        accelerator="tcg",
        phases=tuple(phases),
        outcome=outcome,
        final={"status": "completed", "downtime": 12, "total-time": 3020} if outcome == "completed" else {},
    )


def header(run: str) -> Header:
    return Header(run=run, campaign=None, scenario="auto-converge", host="h1", vm="vm0", clock=CLOCK)


def samples() -> list[Sample]:
    """Every sample of the run, in the order of time."""
    found = [*_xor_lines(), *_ticks(), *_threads(), *_replies(), *_events()]
    return sorted(found, key=lambda sample: sample.time_ns)


def batches(found: Sequence[Sample], size: int = 50) -> Iterator[Batch]:
    for start in range(0, len(found), size):
        yield Batch(samples=found[start : start + size], offsets={"source": start})


def write_journal(run: RunDir, found: Iterable[Sample]) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    with JournalWriter(run.new_journal(), header(run.run)) as writer:
        for batch in batches(list(found)):
            writer.append(batch)


def a_run(data: DataDir, run: str, *, outcome: str | None = "completed", scenario: Scenario | None = None) -> RunDir:
    """A run's directory with run.json and its journal, not yet compacted."""
    place = data.run(run)
    write_journal(place, samples())
    write_record(place, a_record(run, outcome=outcome, scenario=scenario))
    return place


def _pace(seconds: float) -> float:
    return SETTLE_SECONDS_PER_GIB if seconds < 2 else MIGRATE_SECONDS_PER_GIB if seconds < STOP \
        else RECOVER_SECONDS_PER_GIB  # fmt: skip


def _xor_lines() -> Iterator[Sample]:
    moment, sequence = 0.5, 0
    while moment < 7:
        taken = _pace(moment) / 64
        moment += taken
        if not STOP - 0.02 < moment < RESUME + 0.01:  # the line at a change of pace would hold both
            fields = {"bytes": float(16 * MIB), "seconds": taken, "sequence": float(sequence)}
            yield Sample("guest_xor", at(moment), fields, {"vcpu": "0"})
        sequence += 1


def _ticks() -> Iterator[Sample]:
    """A tick every 10 ms of the guest's clock, which stands still in the blackout; lines are up to 4 ms late."""
    jitter = random.Random(7)
    for number in range(700):
        guest = number / 100
        host = guest if guest < STOP else guest + BLACKOUT_SECONDS
        late = 0.0 if number % 7 == 0 else jitter.uniform(0.0001, 0.004)
        arrival_ns = at(host + late)
        fields = {"guest_seconds": guest, "offset_seconds": host + late - guest, "sequence": float(number)}
        yield Sample("guest_tick", arrival_ns, fields)


def _threads() -> Iterator[Sample]:
    """The process of the source uses 1.5 cores, its vCPU one, and its migration thread half of one from 2 s on."""
    for step in range(71):
        moment = step / 10
        for kind, index, cores in (("process", "", 1.5), ("vcpu", "0", 1.0)):
            fields = {"cpu_seconds": 3 + cores * moment, "run_delay_seconds": 0.0}
            yield Sample("qemu_cpu", at(moment), fields, {"role": "source", "kind": kind, "index": index})
        if 2 < moment <= 5.1:
            fields = {"cpu_seconds": (min(moment, 5.0) - 2) / 2}
            yield Sample("qemu_cpu", at(moment), fields, {"role": "source", "kind": "migration", "index": "0"})
        yield Sample("qemu_memory", at(moment), {"resident_bytes": 1e8 + moment * 1e6}, {"role": "source"})


def _replies() -> Iterator[Sample]:
    for number in range(320):
        moment = number / 100 + 2.005
        if moment > STOP + 0.05:
            break
        fields: dict[str, float | str] = {"status": "active", "sequence": float(number)}
        fields |= {
            "remaining_bytes": 1e8,
            "transferred_bytes": (moment - 2) * 1e7,
            "iteration": float(1 + number // 40),
        }
        if moment >= 2 + THROTTLED_AFTER_SECONDS:
            fields["throttle_percent"] = 20.0 if moment < 4 else 30.0
        yield Sample("migration", at(moment), fields, {"role": "source"})


def _events() -> Iterator[Sample]:
    for name, start, _ in PHASES:
        yield Sample("event", at(start), {"count": 1.0}, {"role": "driver", "name": f"phase.{name}"})
    told: tuple[tuple[float, str, str, dict[str, float | str]], ...] = (
        (0.0, "source", "RESUME", {}), (2.001, "source", "MIGRATION", {"detail": "status=active"}),
        (2.002, "source", "MIGRATION_PASS", {"iteration": 1.0}), (STOP, "source", "STOP", {}),
        (STOP + 0.018, "source", "MIGRATION", {"detail": "status=completed"}), (RESUME, "destination", "RESUME", {}),
    )  # fmt: skip
    for moment, role, name, more in told:
        yield Sample("event", at(moment), {"count": 1.0, **more}, {"role": role, "name": name})
