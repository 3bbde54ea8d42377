"""A stored run in the form of guestperf's reports, for guestperf's own plots; what has no place there is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from driver.datadir import RunDir, write_atomically
from driver.hardware import Hardware
from driver.progress import ENDED, Progress
from driver.record import RunRecord, read_record
from driver.scenario import Scenario
from exporter import compaction
from exporter.guestperf_form import (
    BINDINGS,
    BYTES,
    GIB,
    HARDWARE,
    KIND,
    PROGRESS,
    RAM,
    SCENARIO,
    SWITCHED_OFF,
    SWITCHES,
)
from workload.errors import BadValueError, BrokenError
from workload.settings import Workload
from workload.value import settings_of

if TYPE_CHECKING:
    import pyarrow as pa

MILLI, NANO = 1e3, 1e-9
CPU_NS = 100_000_000
"""Readings of CPU are thinned to one in so long: a running thread's figure moves by ticks, and plots show each step."""

PROCESS_ID = 1
"""Records keep no ids of processes: QEMU is 1 in a report, its vCPUs and the guest's threads count from 2 on."""

OUTCOMES = {"completed": "completed", "failed": "failed", "cancelled": "not_converged"}
"""QEMU's last status -> the outcome that a report tells with it."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Export:
    """One run's report: its JSON, where it is to go, and lines on what had to be left out."""

    run: str
    path: Path
    report: Mapping[str, Any]
    left_out: tuple[str, ...]


def write_reports(runs: Iterable[RunDir], folder: Path) -> list[Export]:
    """Write each run to `folder/RUN.json`: none of them before all of them are known to fit the form.

    Raises:
        BadValueError: guestperf's form has no place for a run.
        MigrascopeError: a run is damaged.
        BrokenError: the disk refuses.
    """
    exports = [_export(run, folder) for run in runs]
    for each in exports:
        content = orjson.dumps(each.report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        try:
            write_atomically(each.path, content, 0o644, durable=False)
        except OSError as error:
            raise BrokenError(f"{each.path}: cannot be written: {error.strerror}") from error
    return exports


def _export(run: RunDir, folder: Path) -> Export:
    record = read_record(run)
    if record.scenario is None or record.hardware is None:
        raise BadValueError(f"run {run.run}: has no scenario and hardware, without which guestperf has no report")
    if record.kind not in ("migration", KIND):
        raise BadValueError(f"run {run.run}: is of kind {record.kind}: guestperf's form holds live migrations only")
    if not run.samples.is_dir():
        raise BadValueError(f"run {run.run}: has no samples to export")
    replies = _replies(record, compaction.load(run, "migration"))
    if not replies:
        raise BadValueError(f"run {run.run}: its migration never began ({record.reason or record.outcome})")
    kept = _kept(replies, record)
    timings = _cpu_timings(compaction.load(run, "qemu_cpu"))
    lines = _guest_timings(compaction.load(run, "guest_xor"))
    shown = _after_qemu(lines, timings["qemu_timings"])
    report = {
        "hardware": _hardware(record.hardware),
        "scenario": _scenario(record.scenario, record.scenario_name),
        "progress_history": [_progress(row) for row in kept],
        "guest_timings": shown,
        **timings,
        "result": {"success": record.outcome == "completed"},
        "binary": record.source_binary.path if record.source_binary else "",
        "dst_host": record.destination_host.name if record.destination_host else "localhost",
        "kernel": record.guest.kernel_path if record.guest else "",
        "initrd": f"sha256:{record.guest.initrd_sha256}" if record.guest else "",
        "transport": record.scenario.transport,
        "sleep": _settle_seconds(record),
    }
    left_out = (
        *_left_settings(record, record.scenario, record.hardware), *_left_outcome(record, kept[-1]["status"]),
        *_left_samples(run, len(replies), len(kept)), *_left_lines(len(lines) - len(shown)),
    )  # fmt: skip
    return Export(run=run.run, path=folder / f"{run.run}.json", report=report, left_out=left_out)


def _hardware(ours: Hardware) -> dict[str, Any]:
    found: dict[str, Any] = {theirs: getattr(ours, name) for theirs, name in HARDWARE.items()}
    found["mem"] = ours.memory_mib // 1024 if ours.memory_mib % 1024 == 0 else ours.memory_mib / 1024
    found["huge_pages"] = ours.huge_pages_mib > 0
    return found | {theirs: [word for word in found[theirs].split(",") if word] for theirs in BINDINGS}


def _scenario(ours: Scenario, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    found |= {switch: getattr(ours, setting) > 0 for switch, setting in SWITCHES.items()}
    for theirs, (setting, switch) in SCENARIO.items():
        on = switch is None or found[switch]
        found[theirs] = getattr(ours, setting) if on else SWITCHED_OFF[theirs]
    if ours.multifd_compression == "none":
        found["multifd_compression"] = ""
    return found


def _replies(record: RunRecord, table: pa.Table) -> list[Row]:
    """The source's replies to query-migrate since `migrate`; those before tell that its guest has been restored."""
    began = record.phase("migrate")
    rows = [row for row in table.to_pylist() if row["role"] == "source" and row["status"] is not None]
    rows = sorted((row for row in rows if began and row["time_ns"] >= began.start_ns), key=lambda row: row["time_ns"])
    first = next((place for place, row in enumerate(rows) if row["status"] not in ENDED), 0)
    return rows[first:]


def _kept(replies: list[Row], record: RunRecord) -> list[Row]:
    """The first reply of each iteration, status and throttle, the last before a new status, and QEMU's last figures.

    A migration that is cancelled tells no figure any more, so that those before count. The last ones stand where its
    end was first told.
    """
    kept = [replies[0]]
    for before, row in itertools.pairwise(replies):
        if row["status"] != before["status"] and before is not kept[-1]:
            kept.append(before)
        if _state(row) != _state(before):
            kept.append(row)
    last, final = dict(replies[-1]), Progress.parse(record.final)
    if last["status"] in ENDED:
        last["time_ns"] = kept.pop()["time_ns"]
    if final.status in ENDED:
        last |= {"status": final.status, **final.fields}
    return [*kept, last]


def _state(row: Row) -> tuple[object, ...]:
    return row["status"], row.get("iteration"), row.get("throttle_percent")


def _progress(row: Row) -> dict[str, Any]:
    def numbers(names: Mapping[str, tuple[str, float]]) -> dict[str, float]:
        return {theirs: _whole((row.get(ours) or 0) / factor) for theirs, (ours, factor) in names.items()}

    return {"status": row["status"], "ram": numbers(RAM), "now": row["time_ns"] * NANO, **numbers(PROGRESS)}


def _guest_timings(table: pa.Table) -> list[dict[str, Any]]:
    rows = sorted(table.to_pylist(), key=lambda row: row["time_ns"])
    return [
        {
            "tid": PROCESS_ID + 1 + int(row["vcpu"]), "timestamp": row["time_ns"] * NANO,
            "value": row["seconds"] / row["bytes"] * GIB * MILLI, BYTES: int(row["bytes"]),
        }
        for row in rows
        if row["bytes"] and row["seconds"]
    ]  # fmt: skip


def _after_qemu(lines: list[dict[str, Any]], readings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The guest's lines after the first reading of CPU: guestperf's plot ends in an error over an earlier one."""
    return [line for line in lines if not readings or line["timestamp"] > readings[0]["timestamp"]]


def _cpu_timings(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The CPU seconds of the source's QEMU and of its vCPUs, of each one reading in `CPU_NS`."""
    found: dict[str, list[dict[str, Any]]] = {"qemu_timings": [], "vcpu_timings": []}
    parts = {"process": "qemu_timings", "vcpu": "vcpu_timings"}
    slots: dict[int, int] = {}
    for row in sorted(table.to_pylist(), key=lambda row: row["time_ns"]):
        if row["role"] != "source" or row["kind"] not in parts or row["cpu_seconds"] is None:
            continue
        thread = PROCESS_ID if row["kind"] == "process" else PROCESS_ID + 1 + int(row["index"])
        if slots.get(thread) == (slot := row["time_ns"] // CPU_NS):
            continue
        slots[thread] = slot
        stamp, value = row["time_ns"] * NANO, row["cpu_seconds"] * MILLI
        found[parts[row["kind"]]].append({"tid": thread, "timestamp": stamp, "value": value})
    return found


def _left_settings(record: RunRecord, scenario: Scenario, hardware: Hardware) -> list[str]:
    """A line on the settings for which the form has no place; one that has its default is not left out."""
    placed = {name for name, _ in SCENARIO.values()} | {*HARDWARE.values(), "transport"}
    if scenario.compress_decompress_threads == scenario.compress_threads or not scenario.compress_threads:
        placed.add("compress_decompress_threads")
    words = [
        f"{owner.__name__.lower()}.{name}={getattr(value, name)}"
        for owner, value in ((Scenario, scenario), (Hardware, hardware), (Workload, record.workload))
        for name, (_, default, _) in settings_of(owner).items()
        if value is not None and name not in placed and (getattr(value, name) != default or name == "working_set_mib")
    ]
    if hardware.huge_pages_mib:
        words.append(f"the size of huge pages, {hardware.huge_pages_mib} MiB")
    return [f"settings: {', '.join(words)}"] if words else []


def _left_outcome(record: RunRecord, status: str) -> list[str]:
    """A line on an outcome that QEMU's last status does not tell."""
    if record.outcome == OUTCOMES.get(status) and record.limit_reached in (None, "time", "iterations"):
        return []
    why = f" ({record.reason})" if record.reason else ""
    return [f"outcome: {record.outcome}{why}: a report has QEMU's last status only, {status}"]


def _left_samples(run: RunDir, replies: int, kept: int) -> list[str]:
    others = [name for name in compaction.measurements_of(run) if name not in ("migration", "guest_xor", "qemu_cpu")]
    return [
        f"replies to query-migrate: {replies - kept} of {replies}, within one iteration, status and throttle",
        "CPU: the destination's, and of the source all but its process and vCPUs, ten readings a second",
        *([f"measurements: {', '.join(sorted(others))}"] if others else []),
    ]


def _left_lines(early: int) -> list[str]:
    return [f"lines of the guest: {early}, older than the first reading of CPU, which guestperf's plot needs first"] * (
        early > 0
    )


def _settle_seconds(record: RunRecord) -> int:
    settle = record.phase("settle")
    return round((settle.end_ns - settle.start_ns) * NANO) if settle and settle.end_ns else 0


def _whole(number: float) -> float:
    """A number that is whole but for a factor's rounding, whole."""
    return round(number) if abs(number - round(number)) < 1e-6 else number
