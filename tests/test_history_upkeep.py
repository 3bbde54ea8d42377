"""Keeping a history: verify, prune, compact, rebuild-index and export, through the command."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from driver.datadir import DataDir, read_json, write_json
from driver.record import write_record
from exporter import compaction, history, query
from exporter.extract import VIEWS
from exporter.journal import JournalWriter
from migrascope.main import main
from tests.recorded import a_record, a_run, header, samples, write_journal

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """Three stored runs, the last two of a campaign."""
    data = DataDir.open(tmp_path / "data")
    for name in ("r1", "r2", "r3"):
        write_record(a_run(data, name), replace(a_record(name), campaign=None if name == "r1" else "night"))
    history.runs(data)
    return data


def said(data: DataDir, capsys: Captured, *words: str, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["history", words[0], "--data-dir", str(data.path), *words[1:]]) == status
    told = capsys.readouterr()
    return told.out, told.err


def test_a_whole_history_has_no_faults(data: DataDir, capsys: Captured) -> None:
    assert said(data, capsys, "verify") == ("", "history: 3 runs read, 0 with faults\n")


def test_each_kind_of_damage_is_named_with_its_run_and_nothing_else(data: DataDir, capsys: Captured) -> None:
    one, two, three = data.all_runs()
    one.record.write_bytes(b'{"schema": 1')
    raw = (two.samples / "guest_tick.parquet").read_bytes()
    (two.samples / "guest_tick.parquet").write_bytes(raw[:1000] + bytes(6000) + raw[7000:])
    table = compaction.stored(three, "qemu_memory")
    compaction.write_table(three.samples / "qemu_memory.parquet", table.take([1, 0, *range(3, table.num_rows)]))
    three.summary.write_bytes(b"[]")
    write_journal(four := data.run("r4"), samples()[:200])
    write_record(four, a_record("r4", outcome=None))
    (path,) = four.journals()
    path.write_bytes(path.read_bytes().replace(b"guest_tick", b"guest_tock", 1))

    out, err = said(data, capsys, "verify", status=1)
    lines = out.splitlines()
    assert err == "history: 4 runs read, 4 with faults\n"
    for line, words in zip(
        lines,
        [
            "run r1: " + str(one.record) + ": is no JSON",
            f"run r2: {two.samples}/guest_tick.parquet: is damaged",
            f"run r3: {three.samples}/qemu_memory.parquet: 1 rows are not later",
            f"run r3: {three.samples}: hold {len(samples()) - 1} samples of {len(samples())}",
            f"run r3: {three.summary}: want an object",
            f"run r4: {path}: 1 damaged lines",
        ],
        strict=True,
    ):
        assert line.startswith(words), line
    told = json.loads(said(data, capsys, "verify", "--json", "--run", "r2", status=1)[0])
    assert list(told["faults"]) == ["r2"]


def test_prune_wants_to_be_told_which_and_says_first_what_would_go(data: DataDir, capsys: Captured) -> None:
    assert "prune wants to be told which runs" in said(data, capsys, "prune", status=2)[1]
    out, err = said(data, capsys, "prune", "--campaign", "night", "--dry-run")
    assert [line.split(":")[0] for line in out.splitlines()] == ["run r2", "run r3"]
    assert "2 runs" in err
    assert "would go" in err
    assert len(data.all_runs()) == 3
    said(data, capsys, "prune", "--campaign", "night")
    assert [run.run for run in data.all_runs()] == ["r1"]
    assert [row.run for row in history.runs(data)] == ["r1"]
    assert said(data, capsys, "prune", "--until", "2020-01-01")[0] == ""


def test_prune_of_samples_keeps_the_list_and_its_figures(data: DataDir, capsys: Captured) -> None:
    before = history.runs(data)
    freed = json.loads(said(data, capsys, "prune", "--samples-only", "--run", "r2", "--json")[0])
    assert freed[0]["freed_bytes"] > 10_000
    assert not data.run("r2").samples.exists()
    said(data, capsys, "rebuild-index")
    assert history.runs(data) == before
    assert [row for (row,) in query.execute(data, "SELECT DISTINCT run FROM guest_tick ORDER BY 1").rows] == [
        "r1",
        "r3",
    ]
    assert said(data, capsys, "verify")[1] == "history: 3 runs read, 0 with faults\n"


def test_a_run_that_goes_on_or_is_written_is_not_pruned(data: DataDir, capsys: Captured) -> None:
    run = a_run(data, "r4", outcome=None)
    handle = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "run r4: kept: it goes on" in said(data, capsys, "prune", "--run", "r4")[0]
    os.close(handle)
    write_record(run, a_record("r4"))
    with JournalWriter(run.new_journal(), header("r4")):
        assert "an exporter still writes its journal" in said(data, capsys, "prune", "--run", "r4")[0]
    said(data, capsys, "prune", "--run", "r4")
    assert not run.path.exists()


def test_compact_closes_and_stores_what_the_dead_have_left(data: DataDir, capsys: Captured) -> None:
    a_run(data, "r4", outcome=None)
    busy = a_run(data, "r5")
    with JournalWriter(busy.new_journal(), header("r5")):
        out, err = said(data, capsys, "compact")
    assert out == "run r5: an exporter still writes its journal, or it is damaged\n"
    assert err.startswith("history: 1 run stored, 1 wait; ")
    assert not data.run("r4").journals()
    assert {row.run: row.outcome for row in history.runs(data)}["r4"] == "abandoned"
    assert said(data, capsys, "compact")[1].startswith("history: 0 runs stored, 0 wait")


def test_the_index_is_made_anew_from_the_runs_and_tells_of_damage(data: DataDir, capsys: Captured) -> None:
    data.index.write_bytes(b"no database")
    write_json(data.run("r2").record, read_json(data.run("r2").record) | {"surprise": 1})
    out, err = said(data, capsys, "rebuild-index")
    assert out.startswith("run r2: ")
    assert "unknown key 'surprise'" in out
    assert err == "history: 3 runs in the index, 1 damaged\n"


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_exported_views_hold_what_a_query_tells(data: DataDir, capsys: Captured, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    out, _ = said(data, capsys, "export", kind, "-o", str(folder), "--campaign", "night")
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{view}.{kind}" for view in VIEWS)
    assert f"{folder}/guest_tick.{kind}: 1400 rows" in out.splitlines()
    wanted = query.execute(data, "SELECT run, vcpu, seconds_per_gib FROM guest WHERE run <> 'r1' ORDER BY run, time_ns")
    path = folder / f"guest.{kind}"
    rows: list[dict[str, object]]
    if kind == "parquet":
        rows = pq.read_table(path).to_pylist()
    elif kind == "csv":
        with path.open() as file:
            rows = [dict(row) for row in csv.DictReader(file)]
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["run"], row["vcpu"]) for row in rows] == [found[:2] for found in wanted.rows]
    paces = [float(str(row["seconds_per_gib"])) for row in rows]
    assert paces == pytest.approx([pace for _, _, pace in wanted.rows])


def test_an_export_that_fails_leaves_nothing_half_written(data: DataDir, capsys: Captured, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert "view 'gust' is not known" in said(data, capsys, "export", "csv", "gust", "-o", str(folder), status=2)[1]
    assert not folder.exists()
    folder.write_text("a file")
    assert "cannot be made: File exists" in said(data, capsys, "export", "csv", "guest", "-o", str(folder), status=7)[1]
    folder.unlink()
    (data.run("r1").samples / "guest_tick.parquet").write_bytes(b"PAR1")
    _, err = said(data, capsys, "export", "csv", "guest_tick", "-o", str(folder))
    assert "r1/samples/guest_tick.parquet: is damaged and left out" in err
    assert [path.name for path in folder.iterdir()] == ["guest_tick.csv"]
    shutil.rmtree(folder)
