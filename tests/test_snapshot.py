"""Background snapshots: real ones on both QEMUs, loaded and run; what is refused; how recorded ones are read."""

from __future__ import annotations

import json
import lzma
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboards.figures import figures_of, in_words
from dashboards.report_page import what_was_run
from driver.check import refusal, unsupported
from driver.check_binary import BinaryFacts
from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.facts import binary_facts
from driver.guest import CopyLostError, Guest
from driver.hardware import Hardware
from driver.ledger import Ledger
from driver.marks import read_marks
from driver.monitor import RefusedError
from driver.record import RunRecord
from driver.run import run_migration
from driver.saving import Saving
from driver.scenario import Scenario
from driver.snapshot import Taken, prove
from exporter import history
from exporter.start import start_exporter
from exporter.timeline import Event, timeline
from tests import captures, recordings, replay
from tests.driver_process import a_request
from tests.fake_qemu import FakeQemu, reply
from tests.real_runs import ended, names
from tests.test_driver_guest import READY
from workload.console import Tick, Xor, write
from workload.errors import BadValueError

SNAPSHOT = Scenario(background_snapshot=True, transport="exec-file", max_time_seconds=30)
OLD, NEW = "qemu_binary", "qemu_10_binary"


@pytest.mark.qemu
@pytest.mark.parametrize("binary", [OLD, NEW])
async def test_a_guest_runs_on_while_its_snapshot_is_saved_and_a_copy_of_it_goes_on_from_there(
    watched_data: DataDir, binary: str, request: pytest.FixtureRequest
) -> None:
    qemu = str(request.getfixturevalue(binary))
    asked = a_request(SNAPSHOT, binary=qemu)
    asked = replace(asked, workload=replace(asked.workload, probe_hz=100))
    record = await run_migration(asked, watched_data, start_exporter)
    assert (record.outcome, record.kind) == ("completed", "snapshot"), record.reason
    assert names(record)[-4:] == ["migrate", "recover", "load", "end"]
    run = watched_data.run(record.run)
    assert not run.state.exists()
    assert record.saved
    assert record.saved.load_seconds
    assert record.saved.file_bytes > 32 << 20
    assert record.saved.save_seconds >= record.final["total-time"] / 1000
    assert record.final["ram"]["dirty-sync-count"] == 0
    went_on = next(mark.detail for mark in read_marks(run) if mark.name == "copy-went-on")
    assert went_on["taken_after_tick"] <= went_on["tick"] <= went_on["saved_by_tick"] + 1
    summary = history.summary(run)
    assert summary
    migrate, load = record.phase("migrate"), record.phase("load")
    assert migrate
    assert load
    # it stood still once, as it was taken, and not while it was saved
    assert summary.stop_ns
    assert summary.resume_ns
    assert migrate.start_ns < summary.stop_ns < summary.resume_ns < (migrate.end_ns or 0)
    assert summary.stop_resume_seconds
    assert summary.stop_resume_seconds < 0.9 * record.saved.save_seconds
    assert summary.migrate_seconds_per_gib_mean
    assert summary.recover_seconds_per_gib_mean
    assert summary.during_access_seconds_max
    # the copy tells of itself on its own console, and none of it stands among the guest's samples
    ticks = history.load(watched_data, run, "guest_tick").column("sequence").to_pylist()
    assert len(ticks) == len(set(ticks))
    assert run.console("destination").stat().st_size > 0
    verdicts = history.load(watched_data, run, "verdict").to_pylist()
    assert not any(row["stalled"] or row["not_converging"] for row in verdicts)


@pytest.mark.qemu
@pytest.mark.parametrize("transport", ["unix", "file"])
async def test_a_snapshot_goes_to_a_file_of_qemus_own_or_straight_to_a_waiting_qemu(
    run_data: DataDir, qemu_10_binary: Path, transport: str
) -> None:
    record = await ended(a_request(replace(SNAPSHOT, transport=transport), binary=str(qemu_10_binary)), run_data)
    assert (record.outcome, record.kind) == ("completed", "snapshot"), record.reason
    assert (record.saved is None) == (transport == "unix")
    assert {"background-snapshot", "return-path"} & set(record.negotiated["capabilities"]) == {"background-snapshot"}


@pytest.mark.qemu
async def test_a_snapshot_that_cannot_be_loaded_is_failed_in_qemus_words_and_its_guest_runs_on(
    run_data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Saving.complete

    async def cut(saving: Saving) -> None:
        await whole(saving)
        (state,) = run_data.runs.glob("*/state")
        os.truncate(state, state.stat().st_size // 2)

    monkeypatch.setattr(Saving, "complete", cut)
    record = await ended(a_request(SNAPSHOT), run_data)
    assert record.outcome == "failed"
    assert record.reason
    assert record.reason.startswith("destination: qemu-system-x86_64 exited with 1")
    assert "load of migration failed" in record.reason
    assert names(record)[-2:] == ["recover", "load"]
    assert record.saved
    assert record.saved.load_seconds is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "1 s: bandwidth-mib-s=9"}, "'1 s: bandwidth-mib-s=9' is no step of a snapshot"),
        ({"schedule": "iteration 2: cancel"}, "is no step of a snapshot, which sends each page once"),
        ({"pause_iterations": 2}, "'iteration 2: pause' is no step of a snapshot"),
        ({"attempts": 2}, "want 1 with background_snapshot"),
        ({"transport": "tcp", "hosts": "ssh"}, "it is loaded on this host"),
    ],
)
def test_what_no_snapshot_can_have_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadValueError, match=words):
        replace(SNAPSHOT, **changes)
    assert replace(SNAPSHOT, schedule="2 s: cancel").name.startswith("background-snapshot.")


@pytest.mark.parametrize(
    ("changes", "hardware", "words"),
    [
        ({}, Hardware(), None),
        ({"transport": "unix", "tls": "psk"}, Hardware(), None),
        ({"transport": "unix", "multifd_channels": 2}, Hardware(), "not compatible with multifd"),
        ({"xbzrle_cache_percent": 10}, Hardware(), "not compatible with xbzrle"),
        ({"auto_converge_increment": 10}, Hardware(), "not compatible with auto-converge"),
        ({"transport": "unix", "switchover_ack": True}, Hardware(), "only beside return-path"),
        ({"transport": "mapped-ram"}, Hardware(), "a mapped-ram file that it cannot load"),
        ({"transport": "unix"}, Hardware(disk_mib=64), "a snapshot holds no disk"),
    ],
)
def test_what_a_qemu_refuses_beside_a_snapshot_is_told_before_boot(
    changes: dict[str, Any], hardware: Hardware, words: str | None
) -> None:
    answers = Path(__file__).with_name("data") / "answers" / "10.0.json.xz"
    facts = BinaryFacts.parse(json.loads(lzma.decompress(answers.read_bytes())))
    found = unsupported(replace(SNAPSHOT, **changes), hardware, facts)
    assert found == words or (words is not None and found is not None and words in found)


async def test_without_userfaultfd_no_snapshot_is_begun(qemu_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.check.userfaultfd_refusal", lambda: "userfaultfd is for root only here")
    binary = await binary_facts(str(qemu_binary))
    reason = await refusal(SNAPSHOT, Hardware(), binary, binary)
    assert reason
    assert reason.startswith("background-snapshot: userfaultfd is for root only here: sysctl")


async def proved(place: Path, destination: FakeQemu, taken: Taken, tick: int = 7) -> list[str]:
    """What is marked when a copy goes on whose first tick is of that number."""
    run, console = RunDir(path=place), place / "console"
    lines: list[Tick | Xor] = [
        Tick(line=1, sequence=tick, guest_ns=5),
        Xor(line=2, vcpu=0, sequence=1, guest_ns=9, bytes=9, taken_ns=4),
    ]
    console.write_text("".join(map(write, lines)))
    ledger = Ledger(run, replay.recording("7.2-background-snapshot").record)
    async with Guest(1, {"destination": console}, READY, homes=()) as guest:
        guest.read_rest()
        await prove(None, destination, guest, ledger, taken)
    return [mark.name for mark in read_marks(run)]


async def test_a_copy_goes_on_from_the_moment_of_its_snapshot_or_is_none(tmp_path: Path) -> None:
    loaded = FakeQemu(role="destination", replies=[reply("active"), reply("completed")])
    assert await proved(tmp_path, loaded, Taken(first_tick=5, last_tick=30)) == ["loaded", "copy-went-on"]
    assert loaded.commands == ["cont"]
    with pytest.raises(CopyLostError, match="goes on with tick 7, its snapshot was taken between ticks 8 and 30"):
        await proved(tmp_path, loaded, Taken(first_tick=8, last_tick=30))
    failed = FakeQemu(role="destination", replies=[reply("failed") | {"error-desc": "load of migration failed"}])
    with pytest.raises(RefusedError, match="load of migration failed"):
        await proved(tmp_path, failed, Taken(first_tick=5, last_tick=30))
    assert failed.commands == []


async def test_a_copy_that_says_nothing_is_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.guest.SILENCE_SECONDS", 0.1)
    async with Guest(1, {"destination": tmp_path / "console"}, READY, homes=()) as guest:
        with pytest.raises(CopyLostError, match=r"printed nothing in 0\.1 s of going on from its snapshot"):
            await guest.copy_goes_on("destination")


@pytest.mark.parametrize("kind", ["snapshot", "observed"])
@pytest.mark.parametrize("name", captures.names("*-background-snapshot"))
def test_a_recorded_snapshot_stands_still_once_at_its_source_and_then_runs_on(name: str, kind: str) -> None:
    events = [
        Event(time_ns=int(line.seconds * 1e9), role="source", name=line.data["event"],
              detail=f"status={status}" if (status := line.data.get("data", {}).get("status")) else None)
        for line in captures.read(name) if line.kind == "event" and line.vm == "src"
    ]  # fmt: skip
    start, end = events[0].time_ns, events[-1].time_ns
    marks = [Event(time_ns=start, role="driver", name="phase.migrate"),
             Event(time_ns=end, role="driver", name="phase.recover")]  # fmt: skip
    record = RunRecord(
        run="r", kind=kind, clock=Clock.now(), scenario=None, hardware=None, workload=None,
        host=replay.recording(name).record.host,
    )  # fmt: skip
    times = timeline(record, [*events, *marks])
    assert times.stays
    assert times.stop_ns
    assert times.resume_ns
    assert 0.0005 < (times.resume_ns - times.stop_ns) * 1e-9 < 0.003
    assert times.under_way
    assert (times.under_way.start_ns, times.under_way.end_ns) == (times.resume_ns, end)
    assert times.recover
    assert times.recover.start_ns == end


@pytest.mark.parametrize("name", recordings.names("*-background-snapshot*"))
def test_a_snapshot_is_told_as_one(name: str, tmp_path: Path) -> None:
    run = recordings.install(name, DataDir.open(tmp_path / "data"))
    record, summary = recordings.record_of(name), history.summary(run)
    words = in_words(figures_of(record, summary))
    assert "migrate" not in words
    assert words.startswith("was not saved within its limit on schedule" if "cancelled" in name else "completed, after")
    assert "cancelled" in name or summary.during_access_seconds_p99
    assert what_was_run([record]).startswith("One snapshot of a guest with 1 vCPU")


@pytest.mark.parametrize("name", captures.names("*-background-snapshot"))
def test_no_verdict_is_said_of_a_recorded_snapshot_but_what_it_sent(name: str) -> None:
    found = [each for each in replay.migration_samples(name, SNAPSHOT) if each.measurement == "verdict"]
    assert found
    for sample in found:
        assert (sample.fields["stalled"], sample.fields["not_converging"]) == (0.0, 0.0)
        assert "iteration_remaining_bytes" not in sample.fields
    assert 0.3 < found[-1].fields["transfer_ratio"] < 1  # type: ignore[operator] # a number
