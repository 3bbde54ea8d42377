"""Stored runs as OpenMetrics text: real promtool makes blocks of it, and a real Prometheus answers from them."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.record import read_record, write_record
from exporter import history
from exporter.journal import JournalWriter
from exporter.mirror.exact import JOB, ExactEncoder
from exporter.recorded import recorded_parts
from migrascope.main import main
from tests.recorded import START_NS, a_record, batches, header, samples
from tests.servers import running_prometheus

SECOND_NS = 1_000_000_000


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """Two runs of the last minutes (a Prometheus forgets what is older than its retention), not yet stored."""
    data = DataDir.open(tmp_path / "data")
    for name, ago in (("r1", 300), ("r2", 200)):
        shift = time.time_ns() - ago * SECOND_NS - START_NS
        record = a_record(name)
        phases = [
            replace(phase, start_ns=phase.start_ns + shift, end_ns=phase.end_ns and phase.end_ns + shift)
            for phase in record.phases
        ]
        clock = Clock(boot_id="b", wall_ns=START_NS + shift, monotonic_ns=0)
        run = data.run(name)
        run.path.mkdir()
        with JournalWriter(run.new_journal(), replace(header(name), clock=clock)) as journal:
            for batch in batches([replace(sample, time_ns=sample.time_ns + shift) for sample in samples()]):
                journal.append(batch)
        write_record(run, replace(record, clock=clock, phases=tuple(phases)))
    return data


def remote_written(run: RunDir) -> Iterator[tuple[frozenset[tuple[str, str]], int, float]]:
    """What remote write sends of a run, its stale markers apart."""
    for head, found in recorded_parts(run):
        encoder = ExactEncoder(run.run, read_record(run))
        for labels, time_ms, value in [*encoder.rows(head, found), *encoder.last()]:
            if not math.isnan(value):
                yield frozenset(labels), time_ms, value


@pytest.mark.server
def test_prometheus_tells_of_backfilled_runs_what_remote_write_would_have_sent(
    data: DataDir, tmp_path: Path, prometheus_binary: Path, promtool: Path
) -> None:
    text = tmp_path / "runs.txt"
    assert main(["export", "openmetrics", "r1", "r2", "-o", str(text), "--data-dir", str(data.path)]) == 0
    folder = tmp_path / "prometheus"
    command: list[str | Path] = [promtool, "tsdb", "create-blocks-from", "openmetrics", text, folder / "data"]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    wanted = {(labels, time_ms): value for run in data.all_runs() for labels, time_ms, value in remote_written(run)}
    assert len(wanted) > 5000
    with running_prometheus(prometheus_binary, folder) as server:
        found = {
            (frozenset(series["metric"].items()), round(seconds * 1000)): float(value)
            for series in server.query(f'{{job="{JOB}"}}[1h]')
            for seconds, value in series["values"]
        }
    assert found == wanted


def test_a_run_without_samples_or_a_file_that_cannot_be_written_is_one_line(
    data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = data.run("r9")
    empty.path.mkdir()
    write_record(empty, replace(a_record("r9"), phases=()))
    history.runs(data)
    words = ["export", "openmetrics", "--data-dir", str(data.path)]
    assert main([*words, "r9", "-o", str(tmp_path / "out")]) == 2
    assert "run r9: has no samples to export" in capsys.readouterr().err
    assert main([*words, "r1", "-o", str(tmp_path / "missing" / "out")]) == 7
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    assert main([*words, "r1"]) == 2
    assert "want a file to write, -o FILE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
