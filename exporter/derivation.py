"""Deriving a run's summary from its samples and its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from driver.progress import Progress
from driver.record import RunRecord
from exporter import figures
from exporter.blackout import Blackout, blackout, longest_silence
from exporter.compaction import Compaction
from exporter.disk import disk_figures
from exporter.latency import WINDOWS, Latencies, latencies_by_window
from exporter.summary import Gap, Summary
from exporter.timeline import Span, Timeline, events_of, timeline

FOREVER_NS = (1 << 63) - 1
NANO = 1e-9
MOST_UNCERTAIN_NS = 5_000_000
"""How well the clock of a destination on another host must be known for a blackout."""

NEVER_RESUMED = {
    False: "the guest never resumed at the destination",
    True: "the guest was not seen to stop and go on for its snapshot",
}
"""Why there is no blackout, by whether the guest stays."""


def summarise(record: RunRecord, compaction: Compaction, load: Callable[[str], pa.Table]) -> Summary:
    """Derive a run's figures; `load` gives a measurement's table, without rows where there are none."""
    events = events_of(load("event"))
    times = timeline(record, events)
    missed_polls, gaps = figures.polling_gaps(load("migration"))
    unwritten = [Gap(role=event.role, start_ns=event.time_ns, end_ns=event.time_ns) for event in events
                 if (event.role, event.name) == ("exporter", "gap")]  # fmt: skip
    found: dict[str, object] = {}
    why: dict[str, str] = {}
    accesses = _accesses(record, latencies_by_window(load("guest_latency"), times, events))
    pauses, progress = _pauses(record, times, load), _progress(record, times, load)
    disk = disk_figures(record, times, events, load)
    for part in (_paces(times, load), accesses, pauses, progress, _memory(times, load), disk):
        for name, figure in part.items():
            if isinstance(figure, str):
                why[name] = figure
            else:
                found[name] = figure
    migration = times.migration
    return Summary(
        run=record.run,
        **found,  # type: ignore[arg-type] # names and types are those of the parts
        cpu_seconds=figures.cpu_seconds(load("qemu_cpu"), migration) if migration else {},
        peak_resident_bytes=figures.peak_by_role(load("qemu_memory"), "resident_bytes"),
        migrate_start_ns=migration.start_ns if migration else None,
        stop_ns=times.stop_ns,
        resume_ns=times.resume_ns,
        migrate_end_ns=migration.end_ns if migration else None,
        samples=compaction.samples,
        damaged_lines=compaction.damaged_lines,
        dropped_values=compaction.dropped_values,
        missed_polls=missed_polls,
        gaps=(*gaps, *unwritten),
        why=why,
    )


def _paces(times: Timeline, load: Callable[[str], pa.Table]) -> dict[str, float | str]:
    table = load("guest_xor")
    spans: dict[str, Span | None] = {"settle": times.settle, "migrate": times.under_way, "recover": times.recover}
    absent = {
        "settle": "the run never settled",
        "migrate": "the migration never started",
        "recover": NEVER_RESUMED[times.stays],
    }
    found: dict[str, float | str] = {}
    for name, span in spans.items():
        pace = figures.pace(table, span) if span else None
        reason = absent[name] if span is None else f"no xor line lies wholly in the {name} window"
        found[f"{name}_seconds_per_gib_mean"] = pace.mean if pace else reason
        found[f"{name}_seconds_per_gib_p95"] = pace.p95 if pace else reason
    return found


def _accesses(record: RunRecord, windows: Mapping[str, Latencies]) -> dict[str, float | str]:
    probed = record.workload is None or record.workload.probe_hz
    reason = "the guest was not probed in that time" if probed else "the workload probes no accesses (probe_hz=0)"
    found: dict[str, float | str] = {}
    for name in WINDOWS:
        window = windows.get(name)
        found[f"{name}_access_seconds_p50"] = window.percentile(50) if window else reason
        found[f"{name}_access_seconds_p99"] = window.percentile(99) if window else reason
        found[f"{name}_access_seconds_max"] = window.most_seconds if window else reason
    return found


def _pauses(record: RunRecord, times: Timeline, load: Callable[[str], pa.Table]) -> dict[str, float | bool | str]:
    ticks = figures.ticks_of(load("guest_tick"))
    silence = Blackout(seconds=None, why="the migration never started")
    if times.migration:
        end_ns = times.recover.end_ns if times.recover else times.migration.end_ns
        silence = longest_silence(ticks, times.migration.start_ns, end_ns, times.resume_ns)
    if times.resume_ns is None:
        pause = Blackout(seconds=None, why=NEVER_RESUMED[times.stays])
    elif record.hardware is not None and record.hardware.machine == "microvm":
        pause = Blackout(seconds=None, why="a microvm's clock may lose time (docs/qemu.md)")
    elif record.clock_offset and record.clock_offset.bound_ns > MOST_UNCERTAIN_NS:
        known_ms = record.clock_offset.bound_ns / 1e6
        pause = Blackout(seconds=None, why=f"the destination's clock is known to {known_ms:.1f} ms only, want 5 ms")
    elif times.stop_ns is None:
        pause = Blackout(seconds=None, why="QEMU's STOP event at the source was not seen")
    else:
        pause = blackout(
            ticks, times.stop_ns, times.resume_ns, kvm=record.accelerator == "kvm", running_ns=times.running_ns or 0
        )
    told: float | str = pause.why or ""
    if times.stop_ns is not None and times.resume_ns is not None:
        told = (times.resume_ns - times.stop_ns) * NANO
    if record.workload is not None and not record.workload.tick_ms:
        silence = Blackout(seconds=None, why="the workload prints no ticks (tick_ms=0)")
        pause = silence if isinstance(told, float) else pause
    return {
        "blackout_seconds": _told(pause),
        "blackout_upper_bound": pause.upper_bound,
        "stop_resume_seconds": told,
        "longest_silence_seconds": _told(silence),
    }


def _told(judged: Blackout) -> float | str:
    return judged.why or "" if judged.seconds is None else judged.seconds


def _progress(record: RunRecord, times: Timeline, load: Callable[[str], pa.Table]) -> dict[str, float | str]:
    """QEMU's own figures: its final reply, completed by the last that it said while the exporter watched."""
    names = {
        "qemu_downtime_seconds": "downtime_seconds",
        "total_seconds": "total_seconds",
        "iterations": "iteration",
        "transferred_bytes": "transferred_bytes",
        "precopy_bytes": "precopy_bytes",
        "downtime_bytes": "downtime_bytes",
        "postcopy_bytes": "postcopy_bytes",
        "multifd_bytes": "multifd_bytes",
    }
    if times.migration is None:
        absent = ("time_to_first_throttle_seconds", "max_throttle_percent")
        return dict.fromkeys([*names, *absent], "the migration never started")
    table = load("migration")
    replies = figures.last_replies(table, Span(start_ns=times.migration.start_ns, end_ns=FOREVER_NS))
    replies |= Progress.parse(record.final).fields
    found: dict[str, float | str] = {name: replies.get(theirs, "QEMU did not say") for name, theirs in names.items()}
    first, highest = figures.throttle(table, times.migration)
    found["time_to_first_throttle_seconds"] = "the guest was never throttled" if first is None else first
    found["max_throttle_percent"] = "the guest was never throttled" if highest is None else highest
    return found


def _memory(times: Timeline, load: Callable[[str], pa.Table]) -> dict[str, float | str]:
    if times.migration is None:
        return {"source_extra_resident_bytes": "the migration never started"}
    extra = figures.extra_resident(load("qemu_memory"), times.migration)
    reason = "the source's memory was not sampled while it migrated"
    return {"source_extra_resident_bytes": reason if extra is None else extra}
