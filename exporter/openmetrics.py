"""Stored runs as OpenMetrics text with exact times: what `promtool tsdb create-blocks-from openmetrics` takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from driver.datadir import RunDir
from driver.record import read_record
from exporter.mirror.exact import ExactEncoder
from exporter.mirror.prompb import Labels
from exporter.recorded import recorded_parts
from workload.errors import BadValueError, BrokenError

NAME = "__name__"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def write_openmetrics(runs: Iterable[RunDir], path: Path) -> int:
    """Write runs to one file; returns how many values it holds.

    Series, values and milliseconds are those of remote write. The stale markers are left out, since the text has none:
    a series ends 5 minutes after its last value, as Prometheus' lookback has it. A file that cannot be written whole is
    not left behind.

    Raises:
        BadValueError: a run has no samples.
        MigrascopeError: a run is damaged.
        BrokenError: the disk refuses.
    """
    series: dict[Labels, dict[int, float]] = {}
    for run in runs:
        before = len(series)
        for labels, time_ms, value in _values(run):
            if not math.isnan(value):
                series.setdefault(labels, {})[time_ms] = value
        if len(series) == before and not run.samples.is_dir():
            raise BadValueError(f"run {run.run}: has no samples to export")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w") as file:
            # the samples of one name stand together, each series in the order of time
            for labels in sorted(series, key=lambda labels: (dict(labels)[NAME], labels)):
                named = dict(labels)
                words = ",".join(f'{name}="{word.translate(_ESCAPES)}"' for name, word in labels if name != NAME)
                for time_ms, value in sorted(series[labels].items()):
                    file.write(f"{named[NAME]}{{{words}}} {value!r} {time_ms // 1000}.{time_ms % 1000:03}\n")
            file.write("# EOF\n")
        part.replace(path)
    except OSError as error:
        raise BrokenError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return sum(map(len, series.values()))


def _values(run: RunDir) -> Iterator[tuple[Labels, int, float]]:
    for header, samples in recorded_parts(run):
        encoder = ExactEncoder(run.run, read_record(run))
        yield from encoder.rows(header, samples)
        yield from encoder.last()
