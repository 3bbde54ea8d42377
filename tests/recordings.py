"""Real runs that migrascope itself made, one of every strategy on QEMU 7.2 and 10.0, for tests of what reads runs.

Each is a directory of tests/data/recordings: run.json, marks.jsonl and the journal (xz). `python -m
tests.make_recordings` makes them anew.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driver.datadir import DataDir, RunDir
from driver.record import RunRecord, parse_record
from exporter.journal import JournalReader
from exporter.sample import Sample
from tests.replay import Recording

RECORDINGS = Path(__file__).with_name("data") / "recordings"
RECORD, MARKS, JOURNAL = "run.json", "marks.jsonl", "journal.jsonl.xz"


def names(pattern: str = "*") -> list[str]:
    """The recordings' names, VERSION-STRATEGY: `7.2-post-copy`."""
    return sorted(path.parent.name for path in RECORDINGS.glob(f"{pattern}/{RECORD}"))


def record_of(name: str) -> RunRecord:
    """The run's record. A field that is younger than the recording had its default."""
    place = RECORDINGS / name / RECORD
    data = json.loads(place.read_text())
    fresh = {field.name: field.default for field in dataclasses.fields(RunRecord) if _has_default(field)}
    return parse_record(fresh | data, str(place))


def load(name: str) -> Recording:
    """The run as sinks saw it: labels, record, and its samples in order of time."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(lzma.decompress((RECORDINGS / name / JOURNAL).read_bytes()))
        file.flush()
        reader = JournalReader(path=Path(file.name))
        samples = [sample for batch in reader.batches() for sample in batch.samples]
    assert reader.header is not None
    assert reader.damaged_lines == 0
    return Recording(
        header=reader.header, record=record_of(name), samples=tuple(sorted(samples, key=lambda each: each.time_ns))
    )


def install(name: str, data: DataDir) -> RunDir:
    """Put the run into a data directory as its exporter left it when it had ended, not yet compacted."""
    record = record_of(name)
    run = data.run(record.run)
    run.path.mkdir(mode=0o700, parents=True)
    run.record.write_text(json.dumps(dataclasses.asdict(record)))
    run.marks.write_bytes((RECORDINGS / name / MARKS).read_bytes())
    run.new_journal().write_bytes(lzma.decompress((RECORDINGS / name / JOURNAL).read_bytes()))
    return run


def samples_of(rows: Mapping[str, list[dict[str, Any]]], tags: Mapping[str, tuple[str, ...]]) -> list[Sample]:
    """Turn stored rows back into samples; `rows` and `tags` are by measurement."""
    found = []
    for measurement, each in rows.items():
        for row in each:
            own = {tag: row[tag] or "" for tag in tags[measurement]}
            fields = {
                key: value for key, value in row.items()
                if value is not None and key not in own and isinstance(value, float | str) and key not in LABELS
            }  # fmt: skip
            found.append(Sample(measurement, row["time_ns"], fields, own))
    return sorted(found, key=lambda sample: sample.time_ns)


LABELS = frozenset({"run", "campaign", "scenario", "host", "vm"})


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING
