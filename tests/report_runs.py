"""Recorded runs for tests of what people see: a capture of a real migration, replayed into a run's journal.

What the capture holds (query-migrate, QEMU's events) is real; guest lines, ticks and CPU counters, which it lacks, are
made to fit it, so that every part of a report has something to show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.hardware import Hardware
from driver.marks import Mark, append_mark
from driver.progress import Progress
from driver.record import Binary, Guest, Host, Phase, RunRecord, write_record
from driver.scenario import Scenario
from exporter.journal import Batch, Header, JournalWriter
from exporter.sample import Sample
from tests import captures
from tests.replay import migration_samples
from workload.settings import Workload

MIB = 1 << 20
SETTLE_NS, RECOVER_NS = 2_000_000_000, 1_500_000_000
EPOCH_NS = 1_795_394_890_000_000_000
STEP_NS = 10_000_000

SCENARIO = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, max_time_seconds=15)
HARDWARE = Hardware(vcpus=1, memory_mib=128, accelerator="tcg")


@dataclass(frozen=True, kw_only=True)
class Times:
    """A capture's moments on the run's clock."""

    start: int
    end: int
    stop: int | None
    resume: int | None


def record_of(run: str, scenario: Scenario, *, vcpus: int = 1, outcome: str = "completed") -> RunRecord:
    """A record as a driver writes it, without phases."""
    binary = Binary(path="/usr/bin/qemu-system-x86_64", version="7.2.22", sha256="ab" * 32)
    return RunRecord(
        run=run, clock=Clock(boot_id="b", wall_ns=EPOCH_NS, monotonic_ns=0), scenario=scenario,
        hardware=replace(HARDWARE, vcpus=vcpus), workload=Workload(working_set_mib=16, granularity_mib=8),
        host=Host(name="kosh", cpu="AMD EPYC 7B13", cores=2, memory_bytes=8 << 30, kernel="6.1.0-40-amd64"),
        source_binary=binary, destination_binary=binary,
        guest=Guest(kernel_path="/boot/vmlinuz", kernel_release="6.1.0-40-cloud-amd64", kernel_sha256="cd" * 32,
                    initrd_sha256="ef" * 32, loop="lcg4", settled_bytes_per_second=1.9e9),
        accelerator="tcg", accelerator_reason="/dev/kvm is not there", git_revision="0123456789abcdef", outcome=outcome,
    )  # fmt: skip


def replayed_run(
    data: DataDir, run: str, capture: str, scenario: Scenario = SCENARIO, *, vcpus: int = 1, outcome: str = "completed",
    **more: str,
) -> RunDir:  # fmt: skip
    """Make a run directory out of a capture; `more` are further fields of its record."""
    place = data.run(run)
    place.path.mkdir(parents=True)
    lines = captures.read(capture)
    shift = EPOCH_NS - int(lines[0].seconds * 1e9) + SETTLE_NS
    replies = [(now + shift, progress) for now, progress in captures.replies(capture)]
    times = _times(lines, shift, replies)
    record = record_of(run, scenario, vcpus=vcpus, outcome=outcome)
    finals = [line.data for line in lines if line.kind == "query-migrate" and line.vm == "src"]
    write_record(place, replace(record, phases=_phases(times), final=finals[-1], **more))  # type: ignore[arg-type]
    header = Header(run=run, campaign=None, scenario=record.scenario_name, host="kosh", vm="0", clock=record.clock)
    with JournalWriter(place.new_journal(), header) as journal:
        journal.append(Batch(samples=_progress(replies)))
        journal.append(Batch(samples=_events(lines, shift)))
        journal.append(Batch(samples=_verdicts(capture, scenario, shift)))
        journal.append(Batch(samples=_guest(times, replies, vcpus)))
        journal.append(Batch(samples=_ticks(times)))
        journal.append(Batch(samples=_cpu(times, replies)))
    for phase in _phases(times):
        append_mark(place, Mark(kind="phase", name=phase.name, time_ns=phase.start_ns))
    append_mark(place, Mark(kind="outcome", name=outcome, time_ns=times.end, detail={"remaining_bytes": 1.5e6}))
    return place


def _times(lines: list[captures.Line], shift: int, replies: list[tuple[int, Progress]]) -> Times:
    def moment(vm: str, name: str) -> int | None:
        found = [line for line in lines if line.kind == "event" and line.vm == vm and line.data.get("event") == name]
        return int(found[-1].seconds * 1e9) + shift if found else None

    active = [now for now, progress in replies if progress.active]
    resume = moment("dst", "RESUME")
    return Times(start=active[0], end=replies[-1][0], stop=moment("src", "STOP") if resume else None, resume=resume)


def _phases(times: Times) -> tuple[Phase, ...]:
    last = times.end + (RECOVER_NS if times.resume else 0)
    marks = [
        ("boot", times.start - SETTLE_NS - 2 * 10**9),
        ("settle", times.start - SETTLE_NS),
        ("migrate", times.start),
    ]
    marks += [("switchover", times.stop)] if times.stop else []
    marks += [("recover", times.resume)] if times.resume else []
    ends = [start for _, start in marks[1:]] + [last]
    return tuple(Phase(name=name, start_ns=start, end_ns=end) for (name, start), end in zip(marks, ends, strict=True))


def _progress(replies: list[tuple[int, Progress]]) -> list[Sample]:
    return [
        Sample("migration", now, {"sequence": float(number), "status": progress.status or "", **progress.fields},
               {"role": "source"})
        for number, (now, progress) in enumerate(replies)
    ]  # fmt: skip


def _events(lines: list[captures.Line], shift: int) -> list[Sample]:
    roles = {"src": "source", "dst": "destination"}
    return [
        Sample("event", int(line.seconds * 1e9) + shift,
               {"count": 1.0, "detail": str(line.data.get("data", {}).get("status", ""))},
               {"role": roles[line.vm], "name": line.data["event"]})
        for line in lines if line.kind == "event" and line.vm in roles
    ]  # fmt: skip


def _verdicts(capture: str, scenario: Scenario, shift: int) -> list[Sample]:
    return [sample for sample in migration_samples(capture, scenario, shift) if sample.measurement == "verdict"]


def _load(now: int, times: Times, replies: list[tuple[int, Progress]]) -> float:
    """How fast the guest runs at a moment: 1 settled, less while it migrates, 1 % and more under throttle."""
    if now < times.start or (times.resume and now > times.resume + 300_000_000):
        return 1.0
    throttle = next((p.throttle_percent or 0 for t, p in reversed(replies) if t <= now), 0.0)
    return 0.72 * (1 - throttle / 100)


def _guest(times: Times, replies: list[tuple[int, Progress]], vcpus: int) -> list[Sample]:
    samples = []
    last = times.end + (RECOVER_NS if times.resume else 0)
    for vcpu in range(vcpus):
        now, number = times.start - SETTLE_NS, 0
        while now < last:
            wave = 1 + 0.06 * math.sin(number * 0.7 + vcpu) + 0.15 * (number % 17 == 3)
            seconds = 8 * MIB / 1.9e9 / _load(now, times, replies) * wave
            now += int(seconds * 1e9)
            if times.stop and times.resume and times.stop < now < times.resume:
                now += times.resume - times.stop
            fields = {"bytes": 8.0 * MIB, "seconds": seconds, "sequence": float(number)}
            samples.append(Sample("guest_xor", now, fields, {"vcpu": str(vcpu)}))
            number += 1
    return samples


def _ticks(times: Times) -> list[Sample]:
    samples, dark, number = [], 0, 0
    for now in range(times.start - SETTLE_NS, times.end + (RECOVER_NS if times.resume else 0), STEP_NS):
        if times.stop and times.resume and times.stop <= now < times.resume:
            dark = times.resume - times.stop
            continue
        jitter = (number * 7919 % 13) * 20_000
        fields = {"guest_seconds": (now - dark) / 1e9 - 1.79e9, "offset_seconds": 1.79e9 + (dark + jitter) / 1e9}
        samples.append(Sample("guest_tick", now + jitter, fields | {"sequence": float(number)}))
        number += 1
    return samples


def _cpu(times: Times, replies: list[tuple[int, Progress]]) -> list[Sample]:
    samples = []
    used = dict.fromkeys([("source", "process", ""), ("source", "vcpu", "0"), ("source", "migration", ""),
                          ("destination", "process", ""), ("destination", "vcpu", "0")], 1.0)  # fmt: skip
    for now in range(times.start - SETTLE_NS, times.end + (RECOVER_NS if times.resume else 0), STEP_NS):
        at_source = times.stop is None or now < times.stop
        at_destination = times.resume is not None and now >= times.resume
        vcpu = _load(now, times, replies) * 0.99
        migrating = 0.22 if times.start <= now < times.end else 0.0
        step = {
            ("source", "vcpu", "0"): vcpu * at_source, ("source", "migration", ""): migrating,
            ("source", "process", ""): vcpu * at_source + migrating + 0.02,
            ("destination", "vcpu", "0"): vcpu * at_destination,
            ("destination", "process", ""): vcpu * at_destination + migrating * 0.6 + 0.01,
        }  # fmt: skip
        for key, share in step.items():
            used[key] += share * STEP_NS / 1e9
            samples.append(Sample("qemu_cpu", now, {"cpu_seconds": used[key], "run_delay_seconds": 0.0},
                                  dict(zip(("role", "kind", "index"), key, strict=True))))  # fmt: skip
    return samples
