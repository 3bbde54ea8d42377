"""Runs as reports of guestperf: real recordings of every strategy go out in its form and come home as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.datadir import DataDir
from driver.hardware import Hardware
from driver.record import read_record, write_record
from driver.scenario import Scenario
from exporter import history
from exporter.guestperf_form import SCENARIO
from exporter.index import RunRow
from exporter.sample import Sample
from migrascope.main import main
from tests import recordings
from tests.recorded import a_record, a_run, at, samples, write_journal

REPORTS = Path(__file__).with_name("data") / "guestperf"
FIGURES = (
    "total_seconds", "qemu_downtime_seconds", "iterations", "transferred_bytes", "max_throttle_percent",
    "time_to_first_throttle_seconds",
)  # fmt: skip
"""What guestperf's form holds of a run's figures as it is. Phases it does not know, so that paces differ a little."""

Captured = pytest.CaptureFixture[str]


def exported(data: DataDir, folder: Path, capsys: Captured, *runs: str) -> tuple[list[dict[str, Any]], list[str]]:
    capsys.readouterr()
    assert main(["export", "guestperf", *runs, "-o", str(folder), "--json", "--data-dir", str(data.path)]) == 0
    told = capsys.readouterr()
    return json.loads(told.out), told.err.splitlines()


def came_home(path: Path, tmp_path: Path, capsys: Captured) -> RunRow:
    """The row of a report that is imported into a history of its own, which has nothing to say about it."""
    other = DataDir.open(tmp_path / "other")
    assert main(["import", "guestperf", str(path), "--data-dir", str(other.path)]) == 0
    assert capsys.readouterr().err == ""
    (row,) = history.runs(other)
    return row


def near(after: RunRow, before: RunRow, figure: str, **within: Any) -> bool:
    """Whether a figure is the same, or known of neither."""
    one, other = after.figures.get(figure), before.figures.get(figure)
    return other == one if one is None or other is None else bool(one == pytest.approx(other, **within))


def shape(value: object) -> object:
    """The keys and kinds of a report: of lists those of their first element."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


ALIKE = ("-psk", "-zstd", "-saturated", "-preempt")
"""The ends of names of recordings that leave out and bring home no more than others do."""

MIGRATIONS = [
    name for name in recordings.names("7.2-*")
    if recordings.record_of(name).kind == "migration" and not name.endswith(ALIKE)
]  # fmt: skip


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_run_of_every_strategy_comes_home_with_its_figures(
    name: str, data: DataDir, tmp_path: Path, capsys: Captured
) -> None:
    (done,), _ = exported(data, tmp_path / "out", capsys, recordings.install(name, data).run)
    (before,) = history.runs(data)
    after = came_home(Path(done["file"]), tmp_path, capsys)
    untold = [line for line in done["left_out"] if line.startswith(f"outcome: {before.outcome}")]
    assert after.outcome == before.outcome or untold
    assert bool(untold) == (name in ("7.2-cancel-on-a-stall", "7.2-guest-lost", "7.2-post-copy-loses-its-link"))
    for figure in FIGURES:
        assert near(after, before, figure, rel=1e-6, abs=0.02), figure
    early = any(line.startswith("lines of the guest: ") for line in done["left_out"])
    assert early or near(after, before, "settle_seconds_per_gib_mean", rel=0.1)
    assert near(after, before, "source_cpu_seconds", abs=0.25)
    for setting, switch in SCENARIO.values():
        if switch is None or before.conditions[setting]:
            assert after.conditions[setting] == before.conditions[setting], setting
    assert after.conditions["memory_mib"] == before.conditions["memory_mib"]


def test_a_report_has_the_keys_and_kinds_of_guestperfs_own(data: DataDir, tmp_path: Path, capsys: Captured) -> None:
    run = recordings.install("10.0-auto-converge", data)
    (done,), _ = exported(data, tmp_path / "out", capsys, run.run)
    report = json.loads(Path(done["file"]).read_text())
    theirs = shape(json.loads((REPORTS / "precopy-unlimited.json").read_text()))
    for row in report["guest_timings"]:
        assert row.pop("bytes") > 0
    assert shape(report) == theirs
    assert [row["now"] for row in report["progress_history"]] == sorted(
        row["now"] for row in report["progress_history"]
    )


def test_a_restored_source_and_lines_before_the_first_look_at_qemu_do_not_upset_guestperfs_plot(
    data: DataDir, tmp_path: Path, capsys: Captured
) -> None:
    run = data.run("r1")
    restored = Sample("migration", at(2.001), {"status": "completed", "sequence": 0.0}, {"role": "source"})
    early = Sample("guest_xor", at(-0.1), {"bytes": 1e6, "seconds": 0.1, "sequence": 0.0}, {"vcpu": "0"})
    write_journal(run, sorted([*samples(), restored, early], key=lambda sample: sample.time_ns))
    write_record(run, a_record("r1"))
    (done,), _ = exported(data, tmp_path, capsys, "r1")
    report = json.loads((tmp_path / "r1.json").read_text())
    assert [row["status"] for row in report["progress_history"]] == ["active"] * 9 + ["completed"]
    assert report["qemu_timings"][0]["timestamp"] < report["guest_timings"][0]["timestamp"]
    assert done["left_out"][-1].startswith("lines of the guest: 1, older than the first reading of CPU")


def test_what_a_report_has_no_place_for_is_told(data: DataDir, tmp_path: Path, capsys: Captured) -> None:
    a_run(data, "r1")
    run = data.run("r1")
    scenario = Scenario(multifd_channels=4, multifd_compression="zstd", multifd_level=3, tls="psk", transport="tcp")
    machine = Hardware(machine="q35", source_cpus="0-1", destination_nodes="0", huge_pages_mib=2, locked_pages=True)
    write_record(run, replace(a_record("r1"), scenario=scenario, hardware=machine))
    (done,), told = exported(data, tmp_path, capsys, "r1")
    assert told == [f"migrascope: run r1: left out: {line}" for line in done["left_out"]]
    settings, replies, cpu, measurements = done["left_out"]
    assert settings == (
        "settings: scenario.multifd_level=3, scenario.tls=psk, hardware.machine=q35, workload.working_set_mib=32,"
        " the size of huge pages, 2 MiB"
    )
    assert replies.startswith("replies to query-migrate: ")
    assert cpu.startswith("CPU: the destination's")
    assert measurements == "measurements: event, guest_tick, qemu_memory"
    report = json.loads((tmp_path / "r1.json").read_text())
    assert report["scenario"] | {"name": ""} == {
        **json.loads((REPORTS / "precopy-unlimited.json").read_text())["scenario"], "name": "", "downtime": 300,
        "bandwidth": 125, "max_iters": 100, "multifd": True, "multifd_channels": 4, "multifd_compression": "zstd",
    }  # fmt: skip
    assert report["hardware"] == {
        "cpus": 1, "mem": 0.25, "src_mem_bind": [], "dst_mem_bind": ["0"], "src_cpu_bind": ["0-1"], "dst_cpu_bind": [],
        "prealloc_pages": False, "huge_pages": True, "locked_pages": True, "dirty_ring_size": 0,
    }  # fmt: skip
    other = DataDir.open(tmp_path / "other")
    assert main(["import", "guestperf", str(tmp_path / "r1.json"), "--data-dir", str(other.path)]) == 0
    assert "hardware.huge_pages is ignored: guestperf does nothing with it" in capsys.readouterr().err
    assert read_record(other.all_runs()[0]).hardware == replace(machine, machine="pc", huge_pages_mib=0)


def test_runs_that_the_form_has_no_place_for_are_refused_and_nothing_is_written(
    data: DataDir, tmp_path: Path, capsys: Captured
) -> None:
    a_run(data, "good")
    for name, record in (
        ("observed", replace(a_record("observed"), kind="observed", scenario=None, hardware=None, vm="guest1")),
        ("saved", replace(a_record("saved"), kind="save")),
        ("early", replace(a_record("early"), phases=a_record("early").phases[:2], outcome="broken", reason="no guest")),
    ):
        a_run(data, name)
        write_record(data.run(name), record)
    empty = data.run("empty")
    empty.path.mkdir()
    write_record(empty, replace(a_record("empty"), phases=(), outcome="unsupported"))
    words = ["export", "guestperf", "--data-dir", str(data.path)]
    for name, line in {
        "observed": "run observed: has no scenario and hardware, without which guestperf has no report",
        "saved": "run saved: is of kind save: guestperf's form holds live migrations only",
        "early": "run early: its migration never began (no guest)",
        "empty": "run empty: has no samples to export",
    }.items():
        assert main([*words, "good", name, "-o", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err == f"migrascope: {line}\n"
    assert main([*words, "good"]) == 2
    assert "want a directory for the reports, -o DIR" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    assert main([*words, "good", "-o", str(tmp_path / "file")]) == 7
    assert "cannot be written" in capsys.readouterr().err


def test_a_report_of_guestperfs_own_goes_out_as_it_came_in(data: DataDir, tmp_path: Path, capsys: Captured) -> None:
    for path in sorted(REPORTS.glob("*.json")):
        assert main(["import", "guestperf", str(path), "--json", "--data-dir", str(data.path)]) == 0
        (imported,) = json.loads(capsys.readouterr().out)
        (done,), _ = exported(data, tmp_path, capsys, imported["run"])
        ours, theirs = (json.loads(Path(each).read_text()) for each in (done["file"], path))
        for part in ("hardware", "scenario"):
            assert ours[part] | {"name": ""} == theirs[part] | {"name": ""}
        for row, their_row in zip(ours["progress_history"], theirs["progress_history"], strict=True):
            assert row["status"] == their_row["status"]
            assert row["ram"] == pytest.approx(their_row["ram"])
            assert row["duration"] == their_row["duration"]
        assert [row["value"] for row in ours["guest_timings"]] == pytest.approx(
            [row["value"] for row in sorted(theirs["guest_timings"], key=lambda row: row["timestamp"])]
        )
