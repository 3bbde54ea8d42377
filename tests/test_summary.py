from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.datadir import DataDir, RunDir, read_json, write_json
from driver.record import RunRecord
from exporter import compaction, figures
from exporter.compaction import Compaction
from exporter.derivation import summarise
from exporter.sample import Sample
from exporter.summary import Gap, Summary, read_summary, write_summary
from tests.recorded import (
    BLACKOUT_SECONDS,
    MIGRATE_SECONDS_PER_GIB,
    RECOVER_SECONDS_PER_GIB,
    RESUME,
    SETTLE_SECONDS_PER_GIB,
    STOP,
    THROTTLED_AFTER_SECONDS,
    a_record,
    at,
    samples,
    write_journal,
)
from workload.errors import BadValueError, MigrascopeError
from workload.settings import Workload


def loader(place: Path, found: Sequence[Sample]) -> Callable[[str], pa.Table]:
    run = RunDir(path=place / "r1")
    write_journal(run, found)
    return lambda measurement: compaction.load(run, measurement)


def summary_of(place: Path, found: Sequence[Sample], record: RunRecord | None = None) -> Summary:
    return summarise(record or a_record("r1"), Compaction(samples=len(found)), loader(place, found))


def named(sample: Sample, role: str, name: str) -> bool:
    return sample.measurement == "event" and sample.tags == {"role": role, "name": name}


def test_every_figure_of_a_migration_is_what_happened_in_it(tmp_path: Path) -> None:
    found = summary_of(tmp_path, samples())
    assert found.settle_seconds_per_gib_mean == pytest.approx(SETTLE_SECONDS_PER_GIB)
    assert found.settle_seconds_per_gib_p95 == pytest.approx(SETTLE_SECONDS_PER_GIB)
    assert found.migrate_seconds_per_gib_mean == pytest.approx(MIGRATE_SECONDS_PER_GIB, rel=0.01)
    assert found.recover_seconds_per_gib_mean == pytest.approx(RECOVER_SECONDS_PER_GIB)
    assert found.blackout_seconds == pytest.approx(BLACKOUT_SECONDS, abs=1e-6)
    assert not found.blackout_upper_bound
    assert found.stop_resume_seconds == pytest.approx(RESUME - STOP)
    assert (found.qemu_downtime_seconds, found.total_seconds) == (0.012, 3.02)
    assert found.longest_silence_seconds is not None
    assert 0.02 < found.longest_silence_seconds < 0.035
    assert found.iterations == 8
    assert found.transferred_bytes == pytest.approx(3.045e7)
    assert found.time_to_first_throttle_seconds == pytest.approx(THROTTLED_AFTER_SECONDS, abs=0.011)
    assert found.max_throttle_percent == 30
    assert found.cpu_seconds["source"] == {
        "process": pytest.approx(1.5 * 3.018),  # from the migrate phase to QEMU's `completed`
        "vcpu": pytest.approx(3.018),
        "migration": pytest.approx(1.5),
    }
    assert found.peak_resident_bytes == {"source": pytest.approx(1.07e8)}
    assert (found.migrate_start_ns, found.stop_ns, found.resume_ns) == (at(2), at(STOP), at(RESUME))
    assert found.migrate_end_ns == at(STOP + 0.018)
    unsaid = {name for name in found.why if "_access_seconds_" not in name and "disk_" not in name}
    assert unsaid == {"precopy_bytes", "downtime_bytes", "postcopy_bytes", "multifd_bytes"}
    assert (found.missed_polls, found.gaps) == (0, ())


def test_extra_memory_is_what_the_source_took_on_while_it_migrated(tmp_path: Path) -> None:
    # it grows by 1 MB a second, and the migration takes from 2 s to 5.02 s; the last sample before it is of 1.9 s
    assert summary_of(tmp_path, samples()).source_extra_resident_bytes == pytest.approx(3.1e6)


def test_every_absent_figure_has_its_reason(tmp_path: Path) -> None:
    for record, found in ((a_record("r1"), samples()), (replace(a_record("r1"), phases=(), final={}), [])):
        summary = summary_of(tmp_path / str(len(found)), found, record)
        absent = {name for name, value in vars(summary).items() if value is None and not name.endswith("_ns")}
        assert absent == set(summary.why)
        assert all(summary.why.values())


def test_a_run_that_did_not_converge_has_its_pace_and_no_switchover(tmp_path: Path) -> None:
    record = replace(a_record("r1"), outcome="not_converged", final={"status": "cancelled"},
                     phases=a_record("r1").phases[:3])  # fmt: skip
    kept = [sample for sample in samples() if sample.time_ns < at(4.99) and not named(sample, "driver", "phase.end")]
    ended: dict[str, float | str] = {"count": 1.0, "detail": "status=cancelled"}
    found = summary_of(
        tmp_path, [*kept, Sample("event", at(4.985), ended, {"role": "source", "name": "MIGRATION"})], record
    )
    assert found.migrate_seconds_per_gib_mean == pytest.approx(MIGRATE_SECONDS_PER_GIB, rel=0.01)
    assert found.recover_seconds_per_gib_mean is None
    assert found.blackout_seconds is None
    assert found.stop_resume_seconds is None
    assert found.why["blackout_seconds"] == "the guest never resumed at the destination"
    assert found.transferred_bytes == pytest.approx(2.98e7, rel=0.01)  # the final reply holds only the status
    assert found.migrate_end_ns == at(4.985)
    assert found.longest_silence_seconds is not None


def test_a_paused_guest_is_dark_from_its_early_stop(tmp_path: Path) -> None:
    others = [s for s in samples() if s.measurement != "guest_tick"]
    moved = [replace(sample, time_ns=at(3.0)) if named(sample, "source", "STOP") else sample for sample in others]
    before = [s for s in samples() if s.measurement == "guest_tick" and s.time_ns < at(3)]
    after = [s for s in samples() if s.measurement == "guest_tick" and s.time_ns > at(RESUME)]
    lines = len(before) - int(after[0].fields["sequence"])
    seconds = lines / 100  # what the guest did not live through, and its clock does not show
    moved += [
        Sample("guest_tick", s.time_ns, {
            "sequence": float(s.fields["sequence"]) + lines,
            "guest_seconds": float(s.fields["guest_seconds"]) + seconds,
            "offset_seconds": float(s.fields["offset_seconds"]) - seconds,
        })
        for s in after
    ]  # fmt: skip
    found = summary_of(tmp_path, [*moved, *before])
    assert found.stop_resume_seconds == pytest.approx(RESUME - 3)
    assert found.blackout_seconds == pytest.approx(BLACKOUT_SECONDS - seconds, abs=1e-6)
    assert seconds < -2


def test_a_stop_that_the_source_took_back_is_not_the_switchover(tmp_path: Path) -> None:
    more = [Sample("event", at(when), {"count": 1.0}, {"role": "source", "name": name})
            for when, name in ((4.0, "STOP"), (4.5, "RESUME"))]  # fmt: skip
    assert summary_of(tmp_path, [*samples(), *more]).stop_ns == at(STOP)


def test_the_marks_stand_in_for_phases_that_a_dead_driver_did_not_record(tmp_path: Path) -> None:
    found = summary_of(tmp_path, samples(), replace(a_record("r1"), phases=()))
    assert found.settle_seconds_per_gib_mean == pytest.approx(SETTLE_SECONDS_PER_GIB)
    assert found.migrate_start_ns == at(2)
    assert found.blackout_seconds == pytest.approx(BLACKOUT_SECONDS, abs=1e-6)


def test_a_blackout_whose_ticks_are_older_than_the_exporter_is_refused(tmp_path: Path) -> None:
    spoilt = [
        replace(s, fields={k: v for k, v in s.fields.items() if k != "offset_seconds"})
        if s.measurement == "guest_tick" and s.time_ns < at(RESUME)
        else s
        for s in samples()
    ]
    found = summary_of(tmp_path, spoilt)
    assert (found.blackout_seconds, found.longest_silence_seconds) == (None, None)
    assert found.why["blackout_seconds"] == "every tick before the switchover is older than the exporter's start"
    assert found.stop_resume_seconds is not None


def test_under_kvm_the_blackout_is_labelled_an_upper_bound(tmp_path: Path) -> None:
    found = summary_of(tmp_path, samples(), replace(a_record("r1"), accelerator="kvm"))
    assert found.blackout_upper_bound
    assert found.blackout_seconds == pytest.approx(BLACKOUT_SECONDS, abs=1e-6)


def test_a_workload_without_ticks_says_so(tmp_path: Path) -> None:
    record = replace(a_record("r1"), workload=Workload(tick_ms=0))
    found = summary_of(tmp_path, [s for s in samples() if s.measurement != "guest_tick"], record)
    assert found.why["blackout_seconds"] == "the workload prints no ticks (tick_ms=0)"
    assert found.why["longest_silence_seconds"] == "the workload prints no ticks (tick_ms=0)"


def test_lasting_gaps_in_polling_are_told_and_skipped_polls_are_counted(tmp_path: Path) -> None:
    polls = [s for s in samples() if s.measurement == "migration"]
    gone = {10, *range(100, 180)}
    rest = [s for s in samples() if s.measurement != "migration"]
    kept = [s for s in polls if int(s.fields["sequence"]) not in gone]
    lost = Sample("event", at(6), {"count": 1.0, "detail": "9 samples could not be written"},
                  {"role": "exporter", "name": "gap"})  # fmt: skip
    found = summary_of(tmp_path, [*rest, *kept, lost])
    assert found.missed_polls == 81
    assert found.gaps == (
        Gap(role="source", start_ns=polls[99].time_ns, end_ns=polls[180].time_ns),
        Gap(role="exporter", start_ns=at(6), end_ns=at(6)),
    )


def test_a_summary_is_read_back_as_it_was_written_and_strictly(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path / "data")
    run = data.run("r1")
    run.path.mkdir()
    written = replace(
        summary_of(tmp_path, samples()), gaps=(Gap(role="source", start_ns=1, end_ns=2),), why={"iterations": "lost"}
    )
    write_summary(run, written)
    assert read_summary(run) == written
    whole = read_json(run.summary)
    for spoilt, message in (
        (whole | {"surprise": 1}, "unknown key 'surprise'"),
        ({k: v for k, v in whole.items() if k != "blackout_seconds"}, "key 'blackout_seconds' is missing"),
        (whole | {"gaps": [{"role": "x"}]}, "key 'end_ns' is missing"),
        ([], "want an object"),
    ):
        write_json(run.summary, spoilt)
        with pytest.raises(MigrascopeError, match=message):
            read_summary(run)
    write_json(run.summary, whole | {"schema": 2})
    with pytest.raises(BadValueError, match="summary has schema 2, this migrascope knows 1"):
        read_summary(run)


def test_the_95th_percentile_is_the_least_value_that_95_percent_do_not_exceed() -> None:
    assert figures.percentile([float(n) for n in range(1, 101)], 95) == 95
    assert figures.percentile([3.0], 95) == 3
    assert figures.percentile([1.0, 2.0], 50) == 1


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1), st.floats(min_value=1, max_value=100))
def test_a_percentile_is_one_of_its_values_and_enough_of_them_lie_below(values: list[float], percent: float) -> None:
    found = figures.percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-6
