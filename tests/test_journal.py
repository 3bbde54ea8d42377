from __future__ import annotations

import io
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.datadir import RunDir
from exporter import compaction
from exporter.journal import Batch, JournalReader, JournalWriter
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.sample import Sample
from tests.recorded import batches, header, samples, write_journal
from workload.errors import BrokenError

RUN = "20261123-1"
WHOLE = samples()[:200]
Row = tuple[int, dict[str, float | str]]
words = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def a_sample(draw: st.DrawFn) -> Sample:
    name = draw(st.sampled_from(sorted(MEASUREMENTS)))
    known = MEASUREMENTS[name]
    fields: dict[str, float | str] = {}
    for field in known.fields or ("remaining_bytes", "sequence", "a_new_number"):
        if draw(st.booleans()):
            fields[field] = draw(numbers)
    for field in known.words:
        if draw(st.booleans()):
            fields[field] = draw(words)
    tags = {tag: draw(st.sampled_from(("source", "0", "1", "ü,=\n"))) for tag in known.tags}
    return Sample(name, draw(st.integers(min_value=0, max_value=50)), fields, tags)


def by_series(found: Sequence[Sample]) -> dict[tuple[str, frozenset[tuple[str, str]]], list[Row]]:
    """What history must hold: each series by time, in the order of writing where times are equal, ties moved on."""
    series: dict[tuple[str, frozenset[tuple[str, str]]], list[Row]] = defaultdict(list)
    for sample in found:
        series[sample.measurement, frozenset(sample.tags.items())].append((sample.time_ns, dict(sample.fields)))
    for key, rows in series.items():
        moved: list[Row] = []
        for time_ns, fields in sorted(rows, key=lambda row: row[0]):
            moved.append((max(time_ns, moved[-1][0] + 1) if moved else time_ns, fields))
        series[key] = moved
    return dict(series)


def from_history(run: RunDir) -> dict[tuple[str, frozenset[tuple[str, str]]], list[Row]]:
    series: dict[tuple[str, frozenset[tuple[str, str]]], list[Row]] = defaultdict(list)
    for name, known in MEASUREMENTS.items():
        for row in compaction.load(run, name).to_pylist():
            time_ns = row.pop("time_ns")
            assert {tag: row.pop(tag) for tag in RUN_TAGS} == header(run.run).tags()
            tags = frozenset((tag, row.pop(tag)) for tag in known.tags)
            series[name, tags].append((time_ns, {field: value for field, value in row.items() if value is not None}))
    return dict(series)


@settings(max_examples=60, deadline=None)
@given(st.lists(a_sample(), max_size=40), st.integers(min_value=1, max_value=3))
def test_samples_come_back_from_parquet_as_they_were_journalled(found: list[Sample], segments: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        run = RunDir(path=Path(place) / RUN)
        size = len(found) // segments + 1
        for start in range(0, len(found) or 1, size):
            write_journal(run, found[start : start + size])
        expected = by_series(found)
        assert from_history(run) == expected  # read from the journal itself
        assert compaction.compact(run).samples == len(found)
        compaction.discard_journal(run)
        assert not run.journals()
        assert from_history(run) == expected


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    run = RunDir(path=tmp_path_factory.mktemp("whole") / RUN)
    write_journal(run, WHOLE)
    return run.journals()[0].read_bytes()


@settings(max_examples=80, deadline=None)
@given(cut=st.floats(min_value=0, max_value=1))
def test_a_journal_cut_off_at_any_byte_loses_only_its_tail(whole: bytes, cut: float) -> None:
    kept = whole[: round(cut * len(whole))]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "journal.0000"
        path.write_bytes(kept)
        reader = JournalReader(path=path)
        found = [sample for batch in reader.batches() for sample in batch.samples]
    lines = kept.count(b"\n")  # the header, then a line a batch of 50
    assert found == WHOLE[: max(0, lines - 1) * 50]
    assert reader.damaged_lines == bool(kept and not kept.endswith(b"\n"))


@settings(max_examples=80, deadline=None)
@given(place=st.integers(min_value=0), byte=st.integers(min_value=0, max_value=255))
def test_a_damaged_byte_costs_at_most_two_lines_and_is_counted(whole: bytes, place: int, byte: int) -> None:
    place %= len(whole)
    spoilt = whole[:place] + bytes([byte]) + whole[place + 1 :]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.0000"
        path.write_bytes(spoilt)
        reader = JournalReader(path=path)
        found = [sample for batch in reader.batches() for sample in batch.samples]
    assert len(found) >= len(WHOLE) - 100
    assert (reader.damaged_lines > 0) == (spoilt != whole)
    assert all(sample in WHOLE for sample in found)


def test_a_segment_without_its_header_still_gives_its_samples_under_the_runs_name(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    write_journal(run, samples()[:100])
    path = run.journals()[0]
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    rows = [row for name in MEASUREMENTS for row in compaction.load(run, name).to_pylist()]
    assert len(rows) == 100
    assert {row["run"] for row in rows} == {RUN}
    assert {row["vm"] for row in rows} == {None}


def test_a_journal_that_is_still_written_is_read_but_not_compacted(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    run.path.mkdir()
    with JournalWriter(run.new_journal(), header(RUN)) as writer:
        for batch in batches(samples()):
            writer.append(batch)
        with pytest.raises(BrokenError, match=r"an exporter still writes its journal journal\.0000"):
            compaction.compact(run)
        assert compaction.load(run, "guest_tick").num_rows == 700
    assert not run.samples.exists()
    assert compaction.compact(run).samples == len(samples())


def test_a_segment_that_comes_after_compaction_joins_what_was_stored(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    write_journal(run, samples()[:1000])
    compaction.compact(run)
    compaction.discard_journal(run)
    write_journal(run, samples()[1000:])
    assert from_history(run) == by_series(samples())  # Parquet and journal together
    assert compaction.compact(run).samples == len(samples())
    compaction.discard_journal(run)
    assert from_history(run) == by_series(samples())


def test_the_damage_that_was_met_is_kept_with_the_samples(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    write_journal(run, samples()[:200])
    with run.journals()[0].open("ab") as file:
        file.write(b"garbage\n\nmore garbage\ntorn")
    compaction.compact(run)
    compaction.discard_journal(run)
    assert compaction.read_compaction(run).damaged_lines == 3


def test_a_value_of_the_wrong_type_is_dropped_and_counted(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    fields: dict[str, Any] = {"bytes": "many", "seconds": 1.0, "run": 7.0}
    write_journal(run, [Sample("guest_xor", 1, fields, {"vcpu": "0"})])
    found = compaction.compact(run)
    assert (found.samples, found.dropped_values) == (1, 2)
    (row,) = compaction.load(run, "guest_xor").to_pylist()
    assert (row["bytes"], row["seconds"], row["run"]) == (None, 1.0, RUN)


def test_a_measurement_that_is_not_declared_is_stored_with_what_it_has(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    write_journal(run, [Sample("novelty", 1, {"x": 1.0}, {"side": "left"}), Sample("novelty", 2, {"word": "w"})])
    compaction.compact(run)
    first, second = compaction.load(run, "novelty").to_pylist()
    assert (first["x"], first["side"], first["word"]) == (1.0, "left", None)
    assert (second["x"], second["side"], second["word"]) == (None, None, "w")


def test_an_empty_batch_and_an_empty_journal_are_no_error(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path / RUN)
    run.path.mkdir()
    with JournalWriter(run.new_journal(), header(RUN)) as writer:
        writer.append(Batch(samples=[]))
    run.new_journal().touch()
    assert compaction.compact(run).samples == 0
    assert compaction.load(run, "guest_xor").num_rows == 0
    assert compaction.load(run, "guest_xor").column_names == [
        "time_ns",
        *RUN_TAGS,
        "vcpu",
        "bytes",
        "seconds",
        "sequence",
    ]


class Growing(io.RawIOBase):
    """A file that its writer goes on writing: each chunk stands behind what was its end when it was read."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = [each for chunk in chunks for each in (chunk, b"")]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._chunks.pop(0) if self._chunks else b""
        buffer[: len(chunk)] = chunk
        return len(chunk)


def test_a_line_that_is_written_while_it_is_read_is_read_later_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.0000"
    with JournalWriter(path, header(RUN)) as writer:
        for number in range(3):
            writer.append(Batch(samples=[WHOLE[number]]))
    whole = path.read_bytes()
    _, first, second, _ = whole.splitlines(keepends=True)
    begun = whole.index(second)
    half = begun + len(second) // 2
    growing = SimpleNamespace(open=lambda _mode: io.BufferedReader(Growing(whole[:half], whole[half:])))
    reader = JournalReader(path=cast("Path", growing))
    assert [batch.samples for batch in reader.batches()] == [[WHOLE[0]]]
    assert reader.offset == begun == whole.index(first) + len(first)
    rest = JournalReader(path=path)
    assert [batch.samples for batch in rest.batches(reader.offset)] == [[WHOLE[1]], [WHOLE[2]]]
