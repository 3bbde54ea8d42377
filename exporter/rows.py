"""Journal segments as Arrow tables: the one shape that a measurement's rows have in history."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from driver import progress
from exporter.journal import JournalReader
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from exporter.sample import Sample

NUMBER, WORD = pa.float64(), pa.string()
TAG = pa.dictionary(pa.int32(), pa.string())
RESERVED = frozenset({"time_ns", *RUN_TAGS})


def declared_fields(measurement: str) -> dict[str, pa.DataType]:
    """The fields that a measurement's table always has, with their types; more may be found in the samples."""
    known = MEASUREMENTS.get(measurement)
    if known is None:
        return {}
    numbers = known.fields
    if numbers is None:  # open-ended: the names that QEMU 7.2 to 10 use, and the poll's number
        numbers = ("sequence", *(name for name, _ in progress.FIELDS.values()))
    return dict.fromkeys(numbers, NUMBER) | dict.fromkeys(known.words, WORD)


def tags_of(measurement: str) -> tuple[str, ...]:
    """All tags of a measurement's rows: the run's, then its own."""
    known = MEASUREMENTS.get(measurement)
    return RUN_TAGS + (known.tags if known else ())


def empty_table(measurement: str) -> pa.Table:
    """A table without rows, with the declared columns."""
    return arranged(measurement, [_Rows(measurement).table({})])


def arranged(measurement: str, tables: Sequence[pa.Table]) -> pa.Table:
    """Join tables of one measurement: series by series, in each of them by time, and ties moved on by 1 ns."""
    plain = [_recast(table, TAG, WORD) for table in tables]
    whole = pa.concat_tables(plain, promote_options="default").combine_chunks()
    fields = declared_fields(measurement)
    tags = [name for name in whole.column_names if name in tags_of(measurement)]
    others = sorted(name for name in whole.column_names if name not in {*tags, *fields, "time_ns"})
    whole = whole.select(["time_ns", *tags, *fields, *others])
    whole = whole.sort_by([(name, "ascending") for name in (*tags, "time_ns")])
    whole = whole.set_column(0, "time_ns", _rising(whole, tags))
    for name in tags:
        place = whole.column_names.index(name)
        whole = whole.set_column(place, name, whole.column(name).cast(TAG))
    return whole.replace_schema_metadata(None)


class Segment:
    """One journal segment, read once by `tables`; the counts are known after that."""

    def __init__(self, run: str, path: Path) -> None:
        self.run = run
        self.path = path
        self.samples = 0
        self.damaged_lines = 0
        self.dropped_values = 0

    def tables(self) -> dict[str, pa.Table]:
        """Every measurement's rows in the order of writing. A segment that lost its header knows only the run."""
        rows: dict[str, _Rows] = {}
        reader = JournalReader(path=self.path)
        for batch in reader.batches():
            self.samples += len(batch.samples)
            for sample in batch.samples:
                if (mine := rows.get(sample.measurement)) is None:
                    mine = rows[sample.measurement] = _Rows(sample.measurement)
                mine.add(sample)
        self.damaged_lines = reader.damaged_lines
        self.dropped_values = sum(mine.dropped_values for mine in rows.values())
        labels = reader.header.tags() if reader.header else {"run": self.run}
        return {name: mine.table(labels) for name, mine in rows.items()}


class _Rows:
    """Columns under construction: eight bytes a number (not-a-number means absent), a reference a word."""

    def __init__(self, measurement: str) -> None:
        known = MEASUREMENTS.get(measurement)
        fields = declared_fields(measurement)
        self.dropped_values = 0
        self._times = array("q")
        self._tags: dict[str, list[str | None]] = {name: [] for name in (known.tags if known else ())}
        self._numbers = {name: array("d") for name, kind in fields.items() if kind == NUMBER}
        self._words: dict[str, list[str | None]] = {name: [] for name, kind in fields.items() if kind == WORD}

    def add(self, sample: Sample) -> None:
        """Append a sample; a column is filled up to its row only when it is next needed."""
        row = len(self._times)
        self._times.append(sample.time_ns)
        for name, word in sample.tags.items():
            column = self._tags.setdefault(name, [])
            column.extend([None] * (row - len(column)))
            column.append(word)
        for name, value in sample.fields.items():
            if name in RESERVED or name in self._tags:
                self.dropped_values += 1
            elif isinstance(value, str):
                self._add_word(row, name, value)
            elif isinstance(value, int | float):  # JSON has no not-a-number: it comes back as None, absent
                self._add_number(row, name, value)

    def table(self, labels: Mapping[str, str]) -> pa.Table:
        """The rows as a table with plain string tags; `labels` are the run's tags."""
        rows = len(self._times)
        columns: dict[str, pa.Array] = {"time_ns": pa.array(self._times, pa.int64())}
        columns |= {name: pa.repeat(pa.scalar(labels.get(name), WORD), rows) for name in RUN_TAGS}
        for name, words in (self._tags | self._words).items():
            words.extend([None] * (rows - len(words)))
            columns[name] = pa.array(words, WORD)
        for name, numbers in self._numbers.items():
            numbers.extend([math.nan] * (rows - len(numbers)))
            values = pa.Array.from_buffers(NUMBER, rows, [None, pa.py_buffer(numbers)])
            columns[name] = pc.if_else(pc.is_nan(values), pa.scalar(None, NUMBER), values)
        return pa.table(columns)

    def _add_number(self, row: int, name: str, value: float) -> None:
        column = self._numbers.get(name)
        if column is None:
            if name in self._words:
                self.dropped_values += 1
                return
            column = self._numbers[name] = array("d")
        if len(column) < row:
            column.extend([math.nan] * (row - len(column)))
        column.append(value)

    def _add_word(self, row: int, name: str, value: str) -> None:
        if name in self._numbers:
            self.dropped_values += 1
            return
        column = self._words.setdefault(name, [])
        column.extend([None] * (row - len(column)))
        column.append(value)


def _rising(table: pa.Table, tags: Sequence[str]) -> pa.Array:
    """The times of a table sorted by tags and time, each at least 1 ns after the one before it in its series."""
    times = array("q")
    before_key: tuple[str | None, ...] | None = None
    last = 0
    keys = zip(*(table.column(name).to_pylist() for name in tags), strict=True)
    for key, time_ns in zip(keys, table.column("time_ns").to_pylist(), strict=True):
        last = time_ns if key != before_key or time_ns > last else last + 1
        before_key = key
        times.append(last)
    return pa.array(times, pa.int64())


def _recast(table: pa.Table, old: pa.DataType, new: pa.DataType) -> pa.Table:
    fields = [pa.field(field.name, new if field.type == old else field.type) for field in table.schema]
    return table.cast(pa.schema(fields))
