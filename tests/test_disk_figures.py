"""A disk's figures of a run: from QEMU's events and block jobs, and from what the guest says that it wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboards.disk_rows import disk_rows
from dashboards.report_tables import disk_table
from driver.datadir import RunDir
from exporter import compaction
from exporter.block_jobs import MOST_JOBS, block_job_samples
from exporter.compaction import Compaction
from exporter.derivation import summarise
from exporter.sample import Sample
from exporter.sinks.mapping import series_of
from exporter.summary import Summary
from tests import recorded
from tests.recorded import STOP, at

MIB = 1 << 20


def job(**fields: Any) -> dict[str, Any]:
    return {"device": "m0", "len": 100, "offset": 40, "ready": False, "type": "mirror", "status": "running"} | fields


def event(seconds: float, name: str, detail: str) -> Sample:
    fields: dict[str, float | str] = {"count": 1.0, "detail": detail}
    return Sample("event", at(seconds), fields, {"role": "source", "name": name})


def written(seconds: float, mib: float, mean_ms: float, most_ms: float, role: str = "source") -> Sample:
    """A line of the last 0.1 s."""
    writes = mib * 16
    fields: dict[str, float | str] = {
        "bytes": mib * MIB, "seconds": 0.1, "writes": writes, "write_seconds": writes * mean_ms / 1e3,
        "most_seconds": most_ms / 1e3, "sequence": 1.0,
    }  # fmt: skip
    return Sample("guest_disk", at(seconds), fields, {"role": role})


def summary_of(place: Path, more: list[Sample], disk_mib: int = 64) -> Summary:
    run = RunDir(path=place / "r1")
    recorded.write_journal(run, [*recorded.samples(), *more])
    record = recorded.a_record("r1")
    assert record.hardware
    record = replace(record, hardware=replace(record.hardware, disk_mib=disk_mib))
    return summarise(record, Compaction(), lambda measurement: compaction.load(run, measurement))


def test_a_reply_becomes_one_sample_a_job_and_what_cannot_be_is_left_out() -> None:
    (sample,) = block_job_samples([job(), job(len=-1), job(offset="x"), None, 7], 5, "source")
    assert (sample.measurement, sample.tags) == ("block_job", {"role": "source", "job": "m0"})
    assert sample.fields == {
        "total_bytes": 100.0, "done_bytes": 40.0, "lag_bytes": 60.0, "ready": 0.0, "type": "mirror", "status": "running"
    }  # fmt: skip
    assert {metric.name: value for metric, _, value in series_of(sample)} == {
        "migrascope_block_job_bytes": 100.0, "migrascope_block_job_done_bytes": 40.0,
        "migrascope_block_job_lag_bytes": 60.0, "migrascope_block_job_ready": 0.0,
    }  # fmt: skip
    assert [s.fields["lag_bytes"] for s in block_job_samples([job(offset=101, ready=True)], 5, "source")] == [0.0]
    assert len(block_job_samples([job(device=f"m{number}") for number in range(99)], 5, "source")) == MOST_JOBS
    assert block_job_samples(None, 5, "source") == block_job_samples({"a": 1}, 5, "source") == []


def test_the_figures_are_those_of_the_mirror_and_of_the_writes_in_their_windows(tmp_path: Path) -> None:
    found = summary_of(
        tmp_path,
        [
            event(1.8, "JOB_STATUS_CHANGE", "status=created id=m0"),
            event(1.95, "BLOCK_JOB_READY", "device=m0 type=mirror"),
            event(STOP + 0.004, "MIGRATION", "status=pre-switchover"),
            event(STOP + 0.010, "MIGRATION", "status=device"),
            *block_job_samples([job(len=90 * MIB, offset=88 * MIB)], at(STOP), "source"),
            *block_job_samples([job(len=90 * MIB, offset=90 * MIB)], at(STOP + 0.006), "source"),
            written(1.5, 2, 1, 3), written(2.05, 2, 9, 9), written(3.0, 1, 4, 20), written(3.5, 3, 2, 7),
            written(6.0, 2, 1, 30, role="destination"),
        ],
    )  # fmt: skip
    assert found.disk_mirror_ready_seconds == pytest.approx(0.15)
    assert found.disk_mirror_lag_bytes == 2 * MIB
    assert found.disk_mirror_drain_seconds == pytest.approx(0.004)
    assert found.disk_mirror_switchover_seconds == pytest.approx(0.006)
    assert found.disk_mirror_copied_bytes == 90 * MIB
    assert found.disk_written_bytes == 10 * MIB
    assert found.settle_disk_bytes_per_second == pytest.approx(20 * MIB)
    assert found.settle_disk_write_seconds == pytest.approx(0.001)
    assert found.migrate_disk_bytes_per_second == pytest.approx(20 * MIB)  # the line of 2.05 s began before it
    assert found.migrate_disk_write_seconds == pytest.approx(0.0025)
    assert found.migrate_disk_write_seconds_max == pytest.approx(0.030)
    shown = dict(disk_rows(found))
    assert shown["mirror behind as the guest stopped"] == "2.00 MiB"
    assert shown["mirror held the switchover for"] == "6.00 ms"
    assert shown["guest's disk writes migrating"] == "20.0 MiB/s, 2.50 ms each"
    assert "6.00 ms" in disk_table(found)


def test_a_guest_without_a_disk_and_a_disk_without_a_mirror_say_why(tmp_path: Path) -> None:
    without, unwritten = summary_of(tmp_path / "a", [], disk_mib=0), summary_of(tmp_path / "b", [])
    told = {name: why for name, why in without.why.items() if "disk_" in name}
    assert len(told) == 11
    assert set(told.values()) == {"the guest has no disk (disk_mib=0)"}
    assert unwritten.why.keys() >= told.keys()
    assert unwritten.why["disk_mirror_ready_seconds"] == "QEMU told of no mirror that became ready"
    assert unwritten.why["migrate_disk_bytes_per_second"] == "the guest wrote nothing to its disk in that time"
    assert disk_rows(without) == disk_rows(unwritten) == []
    assert disk_table(without) == ""
