"""A recorded migration as the stream of samples that its exporter would have written, for tests of what takes samples.

Migration, events and verdicts come from a capture of a real QEMU; the guest's lines, threads and memory, which captures
lack, are regular.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from driver.clock import Clock
from driver.hardware import Hardware
from driver.marks import Mark
from driver.progress import Progress
from driver.record import Binary, Host, RunRecord
from driver.scenario import Scenario
from exporter.journal import Header
from exporter.sample import Sample
from exporter.verdicts import Verdicts
from tests import captures
from workload.settings import Workload

MIB = 1 << 20
PERIOD_NS = 100_000_000
NEVER = Scenario(downtime_limit_ms=100, bandwidth_mib_s=32)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A run as sinks see it: its labels, its record, its samples in order of time."""

    header: Header
    record: RunRecord
    samples: tuple[Sample, ...]

    def batches(self, seconds: float = 0.1) -> Iterator[list[Sample]]:
        """The samples in the batches of so many seconds that they came in, empty ones included."""
        start, end = self.samples[0].time_ns, self.samples[-1].time_ns
        left = list(self.samples)
        for until in range(start, end + round(seconds * 1e9) + 1, round(seconds * 1e9)):
            batch = [sample for sample in left if sample.time_ns < until]
            left = left[len(batch) :]
            yield batch


def recording(name: str, scenario: Scenario = NEVER, *, vm: str = "vm0", outcome: str | None = None) -> Recording:
    """Replay a capture; `outcome` ends it with the driver's mark."""
    found = list(migration_samples(name, scenario))
    start = found[0].time_ns
    clock = Clock(boot_id="00000000-0000-4000-8000-000000000000", wall_ns=start, monotonic_ns=0)
    samples = [_mark("phase.settle", start), _mark("phase.migrate", start + 1), *found]
    end = max(sample.time_ns for sample in found)
    samples += _guest_and_threads(start, end)
    if outcome:
        samples += [_mark("phase.end", end + 1), _mark(f"outcome.{outcome}", end + 2)]
    binary = Binary(path="/usr/bin/qemu-system-x86_64", version=name.partition("-")[0], sha256="0" * 64)
    return Recording(
        header=Header(
            run=f"run-{name}", campaign="night", scenario=scenario.name, host="bench", vm=vm, clock=clock
        ),
        record=RunRecord(
            run=f"run-{name}", campaign="night", clock=clock, scenario=scenario, hardware=Hardware(vcpus=2),
            workload=Workload(), host=Host(name="bench", cpu="a CPU", cores=2, memory_bytes=1 << 33, kernel="6.1"),
            source_binary=binary, destination_binary=binary, accelerator="tcg",
        ),
        samples=tuple(sorted(samples, key=lambda sample: sample.time_ns)),
    )  # fmt: skip


def migration_samples(name: str, scenario: Scenario, shift_ns: int = 0) -> Iterator[Sample]:
    """What the monitors of a capture would have written, verdicts included; stamps are moved by `shift_ns`."""
    verdicts = Verdicts(scenario)
    polls = {"source": 0, "destination": 0}
    for line in captures.read(name):
        role, now = {"src": "source", "dst": "destination"}.get(line.vm, ""), int(line.seconds * 1e9) + shift_ns
        if not role or not isinstance(line.data, dict):
            continue
        if line.kind == "event":
            event, data = str(line.data["event"]), line.data.get("data") or {}
            verdicts.happened(role, event, data, now)
            for step in captures.steps_of(role, event, data):
                verdicts.marked(Mark(kind="action", name=step, time_ns=now))
            yield Sample("event", now, {"count": 1.0}, {"role": role, "name": event})
        elif line.kind == "parameters" and role == "source":
            verdicts.limits(line.data)
        elif line.kind == "query-migrate":
            progress = Progress.parse(line.data)
            polls[role] += 1
            fields: dict[str, float | str] = {**progress.fields, "sequence": float(polls[role])}
            fields["status"] = progress.status or "none"
            yield Sample("migration", now, fields, {"role": role})
            if role == "source":
                yield from verdicts.progressed(now, progress)


def _guest_and_threads(start: int, end: int) -> Iterator[Sample]:
    for number, now in enumerate(range(start + 2, end, PERIOD_NS)):
        seconds = number * PERIOD_NS / 1e9
        yield Sample("guest_tick", now, {"guest_seconds": seconds, "offset_seconds": start / 1e9, "sequence": number})
        for vcpu in ("0", "1"):
            fields: dict[str, float | str] = {"bytes": 64.0 * MIB, "seconds": 0.0625, "sequence": float(number)}
            yield Sample("guest_xor", now, fields, {"vcpu": vcpu})
        for kind, index, busy in (
            ("process", "", 2.25), ("vcpu", "0", 0.75), ("vcpu", "1", 0.75), ("migration", "", 0.5), ("main", "", 0.25)
        ):  # fmt: skip
            tags = {"role": "source", "kind": kind, "index": index}
            cpu = {"cpu_seconds": seconds * busy} | ({} if kind == "process" else {"run_delay_seconds": seconds / 64})
            yield Sample("qemu_cpu", now, cpu, tags)
        yield Sample("qemu_memory", now, {"resident_bytes": 256.0 * MIB}, {"role": "source"})


def _mark(name: str, time_ns: int) -> Sample:
    return Sample("event", time_ns, {"count": 1.0}, {"role": "driver", "name": name})
