"""Reports of QEMU's guestperf read into the history, as runs of a kind of their own.

The guest's stamps carry the RTC's whole second, so that a line may stand some seconds off; its first GB has 1025 MiB.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from driver.clock import Clock
from driver.datadir import DataDir, RunDir, read_json
from driver.hardware import Hardware
from driver.record import Binary, Guest, Host, Phase, RunRecord, write_record
from driver.scenario import Scenario
from exporter import history
from exporter.guestperf_form import (
    BINDINGS,
    BYTES,
    GIB,
    HARDWARE,
    KIND,
    OPTIONAL,
    PARTS,
    PROGRESS,
    RAM,
    SCENARIO,
    SWITCHES,
    TIMING,
)
from exporter.journal import Batch, Header, JournalWriter
from exporter.sample import Sample
from workload.errors import BadValueError

UNKNOWN = "unknown"
SECOND_NS = 1_000_000_000


@dataclass(kw_only=True)
class Report:
    """One report; `notes` name what was unknown, missing or of no use in it."""

    path: Path
    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a report's file.

        Raises:
            MigrascopeError: it is missing, no JSON, or no report of guestperf.
        """
        data = read_json(path)
        if not isinstance(data, dict) or not {"progress_history", "scenario", "hardware"} & set(data):
            raise BadValueError(f"{path}: is no report of guestperf: want progress_history, scenario, hardware")
        report = cls(path=path, data=data)
        report._check_keys(data, PARTS, "")
        for name, kind in PARTS.items():
            if name not in data:
                if name not in OPTIONAL:
                    report.notes.append(f"key {name!r} is missing")
            elif not isinstance(data[name], kind):
                report.notes.append(f"{name}: want {kind.__name__}, found {type(data.pop(name)).__name__}")
        return report

    def part(self, name: str) -> dict[str, Any]:
        """One of the report's objects; empty where it is missing."""
        return dict(self.data.get(name, {}))

    def rows(self, name: str, wanted: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, Any]]:
        """One of the report's lists of objects; what is no object, or has no number in its stamp, is told and left."""
        found = []
        for number, row in enumerate(self.data.get(name, ())):
            stamp = row.get(wanted[0]) if isinstance(row, dict) else None
            if _number(stamp):
                found.append(row)
            else:
                self.notes.append(f"{name}[{number}]: has no {wanted[0]}, and is left out")
        if found:
            self._check_keys(found[0], wanted, f"{name}[0].", optional)
        return found

    def _check_keys(
        self, found: Mapping[str, Any], wanted: Collection[str], where: str, optional: Collection[str] = ()
    ) -> None:
        known = {*wanted, *optional}
        self.notes += [f"unknown key '{where}{key}' is ignored" for key in found if key not in known]
        if where:
            self.notes += [f"key '{where}{key}' is missing" for key in wanted if key not in found]

    def scenario(self) -> Scenario | None:
        """The scenario in our own words; guestperf's defaults are the same where a key is missing.

        Raises:
            BadValueError: a value is none that QEMU could have run with.
        """
        if not (theirs := self.part("scenario")):
            return None
        self._check_keys(theirs, {*SCENARIO, *SWITCHES, "name"}, "scenario.")
        ours = {
            name: theirs[key]
            for key, (name, switch) in SCENARIO.items()
            if key in theirs and theirs[key] != "" and (switch is None or theirs.get(switch))
        }
        if threads := ours.get("compress_threads"):  # guestperf sets both sides' to the same number
            ours["compress_decompress_threads"] = threads
        try:
            return Scenario(**ours, transport=self.data.get("transport", "unix"))
        except BadValueError as error:
            raise BadValueError(f"{self.path}: {error}") from error

    def hardware(self) -> Hardware | None:
        """The machine; guestperf counts RAM in GiB.

        Raises:
            BadValueError: a value is none that QEMU could have run with.
        """
        if not (theirs := self.part("hardware")):
            return None
        self._check_keys(theirs, HARDWARE, "hardware.")
        if theirs.get("huge_pages"):
            self.notes.append("hardware.huge_pages is ignored: guestperf does nothing with it")
        bindings: dict[str, Any] = {ours: ",".join(map(str, theirs.get(name) or ())) for name, ours in BINDINGS.items()}
        try:
            return Hardware(
                vcpus=theirs.get("cpus", 1), memory_mib=round(float(theirs.get("mem", 1)) * 1024),
                dirty_ring_size=theirs.get("dirty_ring_size", 0), prealloc=bool(theirs.get("prealloc_pages")),
                locked_pages=bool(theirs.get("locked_pages")),
                **bindings,
            )  # fmt: skip
        except (BadValueError, TypeError, ValueError) as error:
            raise BadValueError(f"{self.path}: hardware: {error}") from error


def import_report(data: DataDir, path: Path) -> tuple[RunDir, list[str], bool]:
    """Bring one report into the history; returns its run, notes on the report, and whether it is new there.

    The run's id comes from the report's first stamp and its content, so that a second import finds the first.

    Raises:
        MigrascopeError: it cannot be read, or is no report.
        BrokenError: the disk refuses.
    """
    report = Report.read(path)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    samples = sorted(_samples(report), key=lambda sample: sample.time_ns)
    start_ns = samples[0].time_ns if samples else path.stat().st_mtime_ns
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(start_ns // SECOND_NS))
    run = data.run(f"{moment}-{content[:4]}")
    record = _record(report, run.run, start_ns, samples)
    if run.record.exists():
        return run, report.notes, False
    run.path.mkdir(mode=0o700, exist_ok=True)
    header = Header(
        run=run.run, campaign=None, scenario=record.scenario_name, host=record.host.name, vm=KIND, clock=record.clock
    )
    with JournalWriter(run.new_journal(), header) as journal:
        journal.append(Batch(samples=samples))
    write_record(run, record)
    history.store_run(data, run)
    return run, report.notes, True


def _samples(report: Report) -> Iterator[Sample]:
    for row in report.rows("progress_history", ("now", "status", "ram", *PROGRESS)):
        yield Sample("migration", _stamp(row["now"]), _progress(row), {"role": "source"})
    for vcpu, rows in _by_thread(report.rows("guest_timings", TIMING, (BYTES,))):
        for number, line in enumerate(rows):
            size = line.get(BYTES, GIB)
            if _number(line.get("value")) and line["value"] > 0 and _number(size) and size > 0:
                fields: dict[str, float | str] = {
                    "bytes": float(size), "seconds": line["value"] / 1000 * size / GIB, "sequence": float(number)
                }  # fmt: skip
                yield Sample("guest_xor", _stamp(line["timestamp"]), fields, {"vcpu": str(vcpu)})
    for kind, part in (("process", "qemu_timings"), ("vcpu", "vcpu_timings")):
        for index, rows in _by_thread(report.rows(part, TIMING)):
            tags = {"role": "source", "kind": kind, "index": str(index) if kind == "vcpu" else ""}
            for reading in rows:
                if _number(value := reading.get("value")):
                    yield Sample("qemu_cpu", _stamp(reading["timestamp"]), {"cpu_seconds": value / 1000}, tags)


def _progress(row: Mapping[str, Any]) -> dict[str, float | str]:
    fields: dict[str, float | str] = {"status": str(row.get("status"))}
    ram: Mapping[str, Any] = row["ram"] if isinstance(row.get("ram"), Mapping) else {}
    over = row.get("status") in ("cancelled", "failed")
    parts: tuple[tuple[Mapping[str, Any], dict[str, tuple[str, float]]], ...] = ((ram, RAM), (row, PROGRESS))
    for found, names in parts:
        for theirs, (name, factor) in names.items():
            value = found.get(theirs)
            # of a cancelled migration QEMU tells no more than its status, and guestperf writes zeros
            if _number(value) and (value or (names is RAM and not over)):
                fields[name] = value * factor
    return fields


def _by_thread(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """The rows of each thread in the order of time, the threads numbered by their ids."""
    ids = sorted({int(row.get("tid") or 0) for row in rows})
    for index, tid in enumerate(ids):
        yield index, sorted((row for row in rows if int(row.get("tid") or 0) == tid), key=lambda row: row["timestamp"])


def _record(report: Report, run: str, start_ns: int, samples: Sequence[Sample]) -> RunRecord:
    scenario, replies = report.scenario(), [sample for sample in samples if sample.measurement == "migration"]
    last_ns = samples[-1].time_ns if samples else start_ns
    phases: tuple[Phase, ...] = (Phase(name="settle", start_ns=start_ns, end_ns=last_ns),)
    if replies:
        began_ns = replies[0].time_ns - round(float(replies[0].fields.get("total_seconds", 0.0)) * SECOND_NS)
        ended_ns = replies[-1].time_ns
        phases = (
            Phase(name="settle", start_ns=min(start_ns, began_ns), end_ns=began_ns),
            Phase(name="migrate", start_ns=began_ns, end_ns=ended_ns),
            Phase(name="recover", start_ns=ended_ns, end_ns=last_ns),
        )
    outcome, reason, limit = _outcome(scenario, replies)
    kernel, binary = report.data.get("kernel"), report.data.get("binary")
    told = Binary(path=binary, version=UNKNOWN, sha256=UNKNOWN) if binary else None
    return RunRecord(
        run=run,
        kind=KIND,
        comparison=report.part("scenario").get("name"),
        clock=Clock(boot_id=UNKNOWN, wall_ns=start_ns, monotonic_ns=0),
        scenario=scenario,
        hardware=report.hardware(),
        workload=None,
        host=Host(name=KIND, cpu=UNKNOWN, cores=0, memory_bytes=0, kernel=UNKNOWN),
        source_binary=told,
        destination_binary=told,
        guest=Guest(
            kernel_path=kernel, kernel_release=Path(kernel).name.removeprefix("vmlinuz-"), kernel_sha256=UNKNOWN,
            initrd_sha256=UNKNOWN,
        ) if kernel else None,
        phases=phases,
        outcome=outcome,
        reason=reason,
        limit_reached=limit,
    )  # fmt: skip


def _outcome(scenario: Scenario | None, replies: Sequence[Sample]) -> tuple[str, str | None, str | None]:
    """What QEMU said last: guestperf's own `success` is wrong for a paused run, and true without a guest sample."""
    status = replies[-1].fields["status"] if replies else None
    if status == "completed":
        return "completed", None, None
    if status == "failed":
        return "failed", "QEMU said so; guestperf does not keep its reason", None
    if status == "cancelled":
        iterations = max(float(reply.fields.get("iteration", 0)) for reply in replies)
        limit = "iterations" if scenario and iterations > scenario.max_iterations else "time"
        return "not_converged", f"guestperf cancelled it at its limit on {limit}", limit
    return "broken", f"the report ends with status {status}" if replies else "the report holds no progress", None


def _stamp(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
