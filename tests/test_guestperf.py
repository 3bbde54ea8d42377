"""Reports of guestperf in the history: four real ones, and what else guestperf is known to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboards import report
from driver.datadir import DataDir
from driver.hardware import Hardware
from driver.record import read_record
from exporter import history, query, upkeep
from migrascope.main import main
from tests.recorded import a_run

REPORTS = Path(__file__).with_name("data") / "guestperf"
NAMES = sorted(path.stem for path in REPORTS.glob("*.json"))

Captured = pytest.CaptureFixture[str]


def imported(data: DataDir, capsys: Captured, *files: Path, status: int = 0) -> tuple[list[dict[str, Any]], list[str]]:
    capsys.readouterr()
    words = ["import", "guestperf", "--json", "--data-dir", str(data.path), *map(str, files)]
    assert main(words) == status
    told = capsys.readouterr()
    return json.loads(told.out), told.err.splitlines()


def spoilt(tmp_path: Path, change: Callable[[dict[str, Any]], object], name: str = "postcopy-bw200-iters2") -> Path:
    """A real report with something changed in it."""
    data = json.loads((REPORTS / f"{name}.json").read_text())
    change(data)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(data))
    return path


def test_real_reports_stand_beside_our_own_runs_in_lists_queries_and_reports(
    data: DataDir, capsys: Captured, tmp_path: Path
) -> None:
    a_run(data, "20261123-005000-0000")
    done, notes = imported(data, capsys, *(REPORTS / f"{name}.json" for name in NAMES))
    assert notes == []
    assert [item["new"] for item in done] == [True] * 4
    rows = {row.run: row for row in history.runs(data) if row.kind == "guestperf"}
    by_name = {Path(item["file"]).stem: rows[item["run"]] for item in done}
    assert {name: row.strategy for name, row in by_name.items()} == {
        "pause-bw200-iters2": "pause", "postcopy-bw200-iters2": "post-copy", "precopy-unlimited": "none",
        "precopy-unlimited-qemu72": "none",
    }  # fmt: skip
    assert all(row.outcome == "completed" for row in rows.values()), "whatever guestperf says of paused runs"
    row = by_name["postcopy-bw200-iters2"]
    assert (row.conditions["bandwidth_mib_s"], row.conditions["post_copy_iterations"]) == (200, 2)
    assert row.conditions["memory_mib"] == 1024
    assert row.figures["total_seconds"] == pytest.approx(7.127)
    assert row.figures["qemu_downtime_seconds"] == pytest.approx(0.002)
    assert row.figures["iterations"] == 3
    assert row.figures["transferred_bytes"] == 2251960794
    # /proc says 19.75 s of CPU over the whole of its 33 s; the migration took 7.1 of them
    assert row.figures["source_cpu_seconds"] == pytest.approx(4.9, abs=2.5)
    sql = "SELECT kind, count(*), median(seconds_per_gib) < 1 FROM guest JOIN runs USING (run) GROUP BY 1 ORDER BY 1"
    lines = sum(len(json.loads(path.read_text())["guest_timings"]) for path in REPORTS.glob("*.json"))
    assert query.execute(data, sql).rows[0] == ("guestperf", lines, True)
    assert upkeep.verify(data) == {run.run: [] for run in data.all_runs()}
    report.write(data, data.all_runs(), tmp_path / "all.html")
    assert "pause-2.200mib-s" in (tmp_path / "all.html").read_text()


def test_every_record_of_a_report_is_there_and_no_zero_stands_for_what_was_not_said(
    data: DataDir, capsys: Captured
) -> None:
    path = REPORTS / "postcopy-bw200-iters2.json"
    theirs = json.loads(path.read_text())
    (done,), _ = imported(data, capsys, path)
    run = data.run(done["run"])
    lines = history.load(data, run, "guest_xor")
    assert [seconds * 1000 for seconds in lines.column("seconds").to_pylist()] == pytest.approx(
        [record["value"] for record in sorted(theirs["guest_timings"], key=lambda record: record["timestamp"])]
    )
    replies = history.load(data, run, "migration").to_pylist()
    assert len(replies) == len(theirs["progress_history"])
    for ours, record in zip(replies, theirs["progress_history"], strict=True):
        assert ours["status"] == record["status"]
        assert ours["remaining_bytes"] == record["ram"]["remaining_bytes"]
        assert ours["total_seconds"] == pytest.approx(record["duration"] / 1000)
        assert ours["time_ns"] == pytest.approx(record["now"] * 1e9)
    assert replies[0]["downtime_seconds"] is None
    assert replies[0]["throttle_percent"] is None
    cpu = history.load(data, run, "qemu_cpu").to_pylist()
    readings = [row["cpu_seconds"] for row in cpu if row["kind"] == "process"]
    assert readings == pytest.approx([record["value"] / 1000 for record in theirs["qemu_timings"]])


def test_a_second_import_finds_the_first(data: DataDir, capsys: Captured) -> None:
    path = REPORTS / f"{NAMES[0]}.json"
    (first,), _ = imported(data, capsys, path)
    (second,), _ = imported(data, capsys, path)
    assert (first["run"], first["new"], second["new"]) == (second["run"], True, False)
    assert len(history.runs(data)) == 1


def cancelled(theirs: dict[str, Any]) -> None:
    """What guestperf writes of a migration that it cancelled: only the status is left, all else is zero."""
    last = theirs["progress_history"][-1]
    last["status"] = "cancelled"
    last["ram"] = dict.fromkeys(last["ram"], 0)
    last |= {name: 0 for name, value in last.items() if isinstance(value, int)}


def test_a_cancelled_migration_keeps_the_last_figures_that_were_said(
    data: DataDir, capsys: Captured, tmp_path: Path
) -> None:
    (done,), notes = imported(data, capsys, spoilt(tmp_path, cancelled))
    assert notes == []
    record = read_record(data.run(done["run"]))
    assert (record.outcome, record.limit_reached) == ("not_converged", "time")
    assert record.reason == "guestperf cancelled it at its limit on time"
    (row,) = history.runs(data)
    before = json.loads((REPORTS / "postcopy-bw200-iters2.json").read_text())["progress_history"][-2]
    assert row.figures["iterations"] == before["ram"]["iterations"] > 0
    assert row.figures["qemu_downtime_seconds"] == pytest.approx(before["downtime"] / 1000)


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        (lambda d: d.pop("result"), []),
        (lambda d: d.update(guest_timings=[]), []),
        (lambda d: d.update(qemu_timings=[], vcpu_timings=[]), []),
        (lambda d: d.pop("guest_timings"), ["key 'guest_timings' is missing"]),
        (lambda d: d.update(guest_timings={}), ["guest_timings: want list, found dict"]),
        (lambda d: d.update(colour="red"), ["unknown key 'colour' is ignored"]),
        (lambda d: d["scenario"].update(rdma_pin=True), ["unknown key 'scenario.rdma_pin' is ignored"]),
        (lambda d: d["scenario"].pop("dirty_limit"), ["key 'scenario.dirty_limit' is missing"]),
        (lambda d: d["progress_history"][0].pop("downtime"), ["key 'progress_history[0].downtime' is missing"]),
        (lambda d: d["guest_timings"].insert(0, {"tid": 1}), ["guest_timings[0]: has no timestamp, and is left out"]),
        (lambda d: d.pop("hardware"), ["key 'hardware' is missing"]),
        (lambda d: d.pop("scenario"), ["key 'scenario' is missing"]),
    ],
)
def test_what_a_report_lacks_or_has_besides_is_named_and_the_rest_is_read(
    data: DataDir, capsys: Captured, tmp_path: Path, change: Callable[[dict[str, Any]], object], notes: list[str]
) -> None:
    path = spoilt(tmp_path, change)
    _, told = imported(data, capsys, path)
    assert told == [f"migrascope: {path}: {line}" for line in notes]
    (row,) = history.runs(data)
    assert row.outcome == "completed"
    assert row.figures["total_seconds"] == pytest.approx(7.127)


def test_what_guestperf_binds_and_compresses_with_is_read(data: DataDir, capsys: Captured, tmp_path: Path) -> None:
    def change(theirs: dict[str, Any]) -> None:
        theirs["hardware"] |= {"src_cpu_bind": ["0-1", "3"], "dst_mem_bind": ["1"], "src_mem_bind": None}
        theirs["hardware"] |= {"prealloc_pages": True, "huge_pages": True}
        theirs["scenario"] |= {"compression_mt": True, "compression_mt_threads": 4}

    (done,), notes = imported(data, capsys, path := spoilt(tmp_path, change))
    assert notes == [f"migrascope: {path}: hardware.huge_pages is ignored: guestperf does nothing with it"]
    record = read_record(data.run(done["run"]))
    assert record.hardware == Hardware(
        memory_mib=1024, source_cpus="0-1,3", destination_nodes="1", prealloc=True
    )  # fmt: skip
    assert record.scenario is not None
    assert (record.scenario.compress_threads, record.scenario.compress_decompress_threads) == (4, 4)


def test_a_report_without_any_progress_is_a_run_that_says_so(data: DataDir, capsys: Captured, tmp_path: Path) -> None:
    imported(data, capsys, spoilt(tmp_path, lambda theirs: theirs.update(progress_history=[])))
    (row,) = history.runs(data)
    assert (row.outcome, row.reason) == ("broken", "the report holds no progress")


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is no JSON"), ("[]", "is no report of guestperf"), ("{}", "is no report of guestperf"), (None, "No such")],
)
def test_a_file_that_is_no_report_is_told_and_the_others_are_read(
    data: DataDir, capsys: Captured, tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    done, notes = imported(data, capsys, path, REPORTS / f"{NAMES[0]}.json", status=1)
    assert len(done) == 1
    assert len(notes) == 1
    assert words in notes[0]
    assert len(data.all_runs()) == 1


def test_a_scenario_that_qemu_could_not_have_run_is_refused_with_its_field(
    data: DataDir, capsys: Captured, tmp_path: Path
) -> None:
    _, notes = imported(data, capsys, spoilt(tmp_path, lambda d: d["scenario"].update(downtime=-1)), status=1)
    assert "scenario.downtime_limit_ms=-1: want" in notes[0]
    assert data.all_runs() == []
