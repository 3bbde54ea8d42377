from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from driver.datadir import DataDir, RunDir, read_json, write_json
from driver.record import Phase, read_record, write_record
from driver.scenario import Scenario
from exporter import compaction, history
from exporter.index import CONDITIONS, FIGURES, RunRow, version_of
from exporter.journal import JournalWriter
from exporter.measurements import MEASUREMENTS
from exporter.resume import read_left
from exporter.summary import read_summary
from tests.recorded import BLACKOUT_SECONDS, a_record, a_run, at, header, samples, write_journal
from workload.errors import BrokenError, MigrascopeError

DATA = Path(__file__).parent / "data"


class Killed(BaseException):
    """What a kill -9 is to the code: nothing after it runs but what the kernel does."""


def everything(data: DataDir, run: RunDir) -> dict[str, list[dict[str, Any]]]:
    return {name: history.load(data, run, name).to_pylist() for name in MEASUREMENTS}


def only_row(data: DataDir) -> RunRow:
    (row,) = history.runs(data)
    return row


def test_a_stored_run_is_parquet_summary_and_index_row_and_no_journal(data: DataDir) -> None:
    run = a_run(data, "r1")
    before = everything(data, run)
    history.store_run(data, run)
    assert sorted(path.name for path in run.path.iterdir()) == ["run.json", "samples", "summary.json"]
    assert everything(data, run) == before
    assert sum(map(len, before.values())) == len(samples()) == read_summary(run).samples
    history.store_run(data, run)
    assert everything(data, run) == before
    row = only_row(data)
    assert (row.run, row.outcome, row.strategy) == ("r1", "completed", "auto-converge")
    assert row.started == "2026-11-23T00:50:00Z"
    assert row.seconds == pytest.approx(7.1)
    assert row.figures["blackout_seconds"] == pytest.approx(BLACKOUT_SECONDS)


def test_samples_are_packed_as_the_format_promises(data: DataDir) -> None:
    run = a_run(data, "r1")
    history.store_run(data, run)
    facts = pq.read_metadata(run.samples / "guest_tick.parquet").row_group(0)
    columns = {facts.column(n).path_in_schema: facts.column(n) for n in range(facts.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["offset_seconds"].encodings
    assert "DELTA_BINARY_PACKED" in columns["time_ns"].encodings
    assert "RLE_DICTIONARY" in columns["run"].encodings


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Raise `Killed` at the given step of those that touch the disk; returns how many there were so far."""
    count = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                raise Killed
            return real(*args, **kwargs)

        return call

    for owner, names in ((os, ("fsync",)), (Path, ("rename", "replace", "unlink")), (shutil, ("rmtree",))):
        for name in names:
            monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    monkeypatch.setattr(pq, "write_table", dying(pq.write_table))
    return lambda: count


def test_a_crash_at_any_step_of_storing_loses_nothing(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = data.run("r1")
    some = samples()[::10]
    write_journal(run, some[:100])
    compaction.compact(run)  # an earlier part is there already: the longest way through
    write_journal(run, some[100:])
    write_record(run, a_record(run.run))
    before = everything(data, run)
    assert all(before[name] for name in ("guest_tick", "guest_xor", "qemu_cpu", "migration", "event"))
    unstored = shutil.copytree(data.path, tmp_path / "unstored")
    step = 0
    while True:
        step += 1
        shutil.rmtree(data.path)
        shutil.copytree(unstored, data.path)
        with monkeypatch.context() as patch:
            steps = killed_at(patch, step)
            try:
                history.store_run(data, run)
            except Killed:
                died = True
            else:
                died = False
        if died:
            history.store_run(data, run)
        assert everything(data, run) == before, f"killed at step {step}"
        assert sorted(path.name for path in run.path.iterdir()) == ["run.json", "samples", "summary.json"]
        assert read_summary(run).samples == len(some)
        if not died:
            break
    assert step == steps() + 1
    assert step > 15


def test_a_full_disk_is_one_line_and_keeps_the_journal(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(data, "r1")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(BrokenError, match=r"run r1: its samples cannot be written to .*: No space left on device"):
            history.store_run(data, run)
        assert only_row(data).figures["blackout_seconds"] == pytest.approx(BLACKOUT_SECONDS)  # from the journal
    assert len(run.journals()) == 1
    history.store_run(data, run)
    assert not run.journals()


def test_runs_are_listed_oldest_first_and_stored_where_nobody_did(data: DataDir) -> None:
    for name in ("20260102-b", "20260101-a", "20260103-c"):
        a_run(data, name)
    assert [row.run for row in history.runs(data)] == ["20260101-a", "20260102-b", "20260103-c"]
    assert not any(run.journals() for run in data.all_runs())
    assert all(run.summary.exists() for run in data.all_runs())


def test_a_damaged_run_json_hides_no_other_run(data: DataDir) -> None:
    for name in ("r1", "r2", "r3", "r4"):
        a_run(data, name)
    data.run("r1").record.write_bytes(b'{"schema": 1, ')
    write_json(data.run("r2").record, read_json(data.run("r2").record) | {"surprise": 1})
    data.run("r4").record.unlink()
    one, two, three, four = history.runs(data)
    assert [row.outcome for row in (one, two, three, four)] == ["damaged", "damaged", "completed", "damaged"]
    assert "is no JSON" in (one.reason or "")
    assert "unknown key 'surprise'" in (two.reason or "")
    assert "No such file" in (four.reason or "")
    write_record(data.run("r1"), a_record("r1"))
    assert history.runs(data)[0].outcome == "completed"


def test_a_run_that_is_older_than_a_setting_ran_with_its_default(data: DataDir) -> None:
    run = a_run(data, "old")
    written = read_json(run.record)
    del written["workload"]["pattern"], written["scenario"]["transport"]
    write_json(run.record, written)
    assert read_record(run) == a_record("old")
    del written["host"]["cores"]
    write_json(run.record, written)
    with pytest.raises(MigrascopeError, match="host: key 'cores' is missing"):
        read_record(run)


def test_a_run_json_of_the_first_version_is_read_and_one_with_an_unknown_or_a_missing_key_is_not(
    data: DataDir,
) -> None:
    written = json.loads((DATA / "records" / "first-schema-1.json").read_bytes())
    assert not {"vm", "negotiated", "saved"} & written.keys()
    run = data.run(written["run"])
    run.path.mkdir()
    write_json(run.record, written)
    record = read_record(run)
    assert (record.vm, record.saved, dict(record.negotiated)) == (None, None, {})
    assert (record.scenario, record.scenario_name) == (
        Scenario(downtime_limit_ms=500, bandwidth_mib_s=1000), "pre-copy.1000mib-s.500ms",
    )  # fmt: skip
    assert json.loads(json.dumps(asdict(record)))["phases"] == written["phases"]
    assert [(row.run, row.outcome) for row in history.runs(data)] == [(record.run, "completed")]
    write_record(run, record)
    assert read_record(run) == record
    for spoilt, what in (
        (written | {"surprise": 1}, "unknown key 'surprise'"),
        ({name: value for name, value in written.items() if name != "outcome"}, "key 'outcome' is missing"),
        (written | {"scenario": written["scenario"] | {"surprise": 1}}, "scenario: unknown key 'surprise'"),
    ):
        write_json(run.record, spoilt)
        with pytest.raises(MigrascopeError, match=what):
            read_record(run)


def test_a_newer_run_json_is_read_again_and_an_old_one_is_not(data: DataDir) -> None:
    run = a_run(data, "r1")
    history.runs(data)
    write_record(run, replace(a_record("r1"), outcome="failed", reason="QEMU said so"))
    row = only_row(data)
    assert (row.outcome, row.reason) == ("failed", "QEMU said so")
    kept = run.record.stat()
    run.record.write_bytes(b"no longer JSON, but of the same time")
    os.utime(run.record, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert only_row(data) == row


def test_a_run_whose_directory_is_gone_leaves_the_list(data: DataDir) -> None:
    a_run(data, "r1")
    gone = a_run(data, "r2")
    assert len(history.runs(data)) == 2
    shutil.rmtree(gone.path)
    assert only_row(data).run == "r1"


@pytest.mark.parametrize("spoil", [b"", b"this is no database at all" * 100, None])
def test_a_damaged_or_foreign_index_is_rebuilt(data: DataDir, spoil: bytes | None) -> None:
    a_run(data, "r1")
    before = only_row(data)
    if spoil is None:
        raw = data.index.read_bytes()
        data.index.write_bytes(raw[:60] + b"\x00\x00\x00\x63" + raw[64:])  # user_version 99
    else:
        data.index.write_bytes(spoil)
    assert only_row(data) == before


def test_an_index_that_is_older_than_a_setting_is_rebuilt_so_that_all_rows_have_it(data: DataDir) -> None:
    a_run(data, "r1")
    want = only_row(data)
    older = version_of(*(name for name in CONDITIONS if name != "disk_mib"), *FIGURES)
    row = replace(want, conditions={name: value for name, value in want.conditions.items() if name != "disk_mib"})
    run = data.run("r1")
    run.summary.write_bytes(orjson.dumps(orjson.loads(run.summary.read_bytes()) | {"schema": None}))
    with closing(sqlite3.connect(data.index, isolation_level=None)) as database:
        database.execute("UPDATE runs SET row = ?", (orjson.dumps(row.to_json()),))
        database.execute(f"PRAGMA user_version = {older}")
    assert only_row(data) == want
    assert read_summary(run), "it too is of now"
    assert want.conditions["disk_mib"] == 0


def test_a_history_whose_index_cannot_be_written_is_still_listed(data: DataDir) -> None:
    a_run(data, "r1")
    data.index.mkdir()
    assert only_row(data).outcome == "completed"


def a_held_lock(run: RunDir) -> int:
    handle = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def test_a_run_whose_driver_lives_is_running_and_one_whose_driver_died_is_closed_and_stored(data: DataDir) -> None:
    run = a_run(data, "r1", outcome=None)
    handle = a_held_lock(run)
    row = only_row(data)
    assert (row.outcome, row.reason) == ("running", None)
    assert read_record(run).outcome is None
    assert len(run.journals()) == 1
    os.close(handle)
    row = only_row(data)
    assert (row.outcome, row.reason) == ("abandoned", "the driver died in phase migrate")
    record = read_record(run)
    assert (record.outcome, record.phases[-1]) == ("abandoned", Phase(name="migrate", start_ns=at(2)))
    assert not run.journals()
    assert row.figures["settle_seconds_per_gib_mean"] == pytest.approx(0.3)
    assert row.figures["blackout_seconds"] == pytest.approx(BLACKOUT_SECONDS)


def test_an_ended_run_keeps_its_journal_for_the_next_exporter_as_long_as_its_driver_lives(data: DataDir) -> None:
    run = a_run(data, "r1")
    handle = a_held_lock(run)
    row = only_row(data)  # its exporter was killed, and somebody lists runs before another goes on
    assert row.outcome == "completed"
    assert row.figures["blackout_seconds"] == pytest.approx(BLACKOUT_SECONDS)
    assert len(run.journals()) == 1
    assert read_left(run, lambda _: None).last_mark_ns
    os.close(handle)
    assert only_row(data).outcome == "completed"
    assert not run.journals()


def test_an_abandoned_run_that_an_exporter_still_writes_is_closed_and_stored_later(data: DataDir) -> None:
    run = data.run("r1")
    run.path.mkdir()
    write_record(run, a_record("r1", outcome=None))
    with JournalWriter(run.new_journal(), header("r1")):
        assert only_row(data).outcome == "abandoned"
        assert not run.samples.exists()
    assert only_row(data).outcome == "abandoned"
    assert run.samples.is_dir()


def test_a_run_without_samples_has_a_row_a_summary_and_empty_tables(data: DataDir) -> None:
    run = data.run("r1")
    run.path.mkdir()
    write_record(run, replace(a_record("r1"), outcome="unsupported", reason="no userfaultfd", phases=(), final={}))
    assert only_row(data).outcome == "unsupported"
    found = history.summary(run)
    assert found.samples == 0
    assert found.why["blackout_seconds"] == "the guest never resumed at the destination"
    assert history.load(data, run, "migration").num_rows == 0
    assert "remaining_bytes" in history.load(data, run, "migration").column_names


def test_a_damaged_parquet_file_is_named_and_costs_only_its_run_the_figures(data: DataDir) -> None:
    spoilt, whole = a_run(data, "r1"), a_run(data, "r2")
    history.runs(data)
    (spoilt.samples / "guest_tick.parquet").write_bytes(b"PAR1 truncated")
    spoilt.summary.unlink()
    with pytest.raises(MigrascopeError, match=r"r1/samples/guest_tick\.parquet: is damaged"):
        history.load(data, spoilt, "guest_tick")
    one, two = history.runs(data)
    assert (one.outcome, one.figures) == ("completed", {})
    assert two.figures["blackout_seconds"] == pytest.approx(BLACKOUT_SECONDS)
    assert history.load(data, whole, "guest_tick").num_rows == 700


def test_a_rows_conditions_are_those_that_ran(data: DataDir) -> None:
    a_run(data, "r1", scenario=Scenario(bandwidth_mib_s=77, post_copy_iterations=4))
    conditions = only_row(data).conditions
    assert (conditions["bandwidth_mib_s"], conditions["post_copy_iterations"]) == (77, 4)
    assert (conditions["accelerator"], conditions["memory_mib"], conditions["working_set_mib"]) == ("tcg", 128, 32)
