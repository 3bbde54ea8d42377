from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from driver import progress
from driver.datadir import DataDir
from driver.scenario import Scenario
from exporter import history, query
from exporter.measurements import MEASUREMENTS, RUN_TAGS
from tests.recorded import BLACKOUT_SECONDS, a_run, at
from workload.errors import BadValueError


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir.open(tmp_path / "it's a data directory")


def test_samples_of_all_runs_are_one_view_and_ended_runs_are_stored_first(data: DataDir) -> None:
    for name in ("r1", "r2"):
        a_run(data, name)
    found = query.execute(
        data, "SELECT run, count(*) AS ticks, max(time_ns) AS last FROM guest_tick GROUP BY ALL ORDER BY 1"
    )
    assert found.columns == ["run", "ticks", "last"]
    assert found.types == ["VARCHAR", "BIGINT", "BIGINT"]
    assert [row[:2] for row in found.rows] == [("r1", 700), ("r2", 700)]
    assert found.warnings == []
    assert not data.run("r1").journals()


def test_runs_join_samples_on_their_moments(data: DataDir) -> None:
    a_run(data, "r1")
    a_run(data, "r2", scenario=Scenario(bandwidth_mib_s=64))
    sql = """
        SELECT runs.run, bandwidth_mib_s, round(blackout_seconds, 4), accelerator, started::VARCHAR,
               count(*) FILTER (time_ns BETWEEN migrate_start_ns AND stop_ns)
        FROM runs JOIN guest_tick USING (run) GROUP BY ALL ORDER BY 1
    """
    assert query.execute(data, sql).rows == [
        ("r1", 32, BLACKOUT_SECONDS, "tcg", "2026-11-23 00:50:00", 300),
        ("r2", 64, BLACKOUT_SECONDS, "tcg", "2026-11-23 00:50:00", 300),
    ]


def test_an_empty_history_has_every_view_with_its_columns(data: DataDir) -> None:
    for name, known in MEASUREMENTS.items():
        found = query.execute(data, f"SELECT * FROM {name}")
        assert found.rows == []
        assert found.columns[:6] == ["time_ns", *RUN_TAGS]
        assert set(known.tags) | set(known.fields or ()) | set(known.words) <= set(found.columns)
    numbers = {name for name, _ in progress.FIELDS.values()}
    assert numbers <= set(query.execute(data, "SELECT * FROM migration").columns)
    assert query.execute(data, "SELECT run, blackout_seconds, working_set_mib FROM runs").rows == []


def test_a_file_lacks_nothing_that_a_view_has_and_may_have_more(data: DataDir) -> None:
    run = a_run(data, "r1")
    history.store_run(data, run)
    a_run(data, "r2")
    path = run.samples / "migration.parquet"
    table = pq.read_table(path)
    table = table.drop_columns(["status"]).append_column("brand_new", table.column("iteration"))
    pq.write_table(table, path)
    sql = "SELECT run, count(status) > 0, count(brand_new) > 0 FROM migration GROUP BY 1 ORDER BY 1"
    assert query.execute(data, sql).rows == [("r1", False, True), ("r2", True, False)]


@pytest.mark.parametrize("part", ["end", "middle"])
def test_a_damaged_file_is_told_and_left_out(data: DataDir, part: str) -> None:
    for name in ("r1", "r2"):
        history.store_run(data, a_run(data, name))
    path = data.run("r1").samples / "guest_tick.parquet"
    raw = path.read_bytes()
    path.write_bytes(raw[:-10] if part == "end" else raw[:1000] + os.urandom(6000) + raw[7000:])
    found = query.execute(data, "SELECT run, count(*), sum(offset_seconds) > 0 FROM guest_tick GROUP BY 1")
    assert found.rows == [("r2", 700, True)]
    (warning,) = found.warnings
    assert warning.startswith(f"{path}: is damaged and left out (")
    assert "\n" not in warning


def test_a_damaged_run_json_is_told_and_its_samples_are_still_there(data: DataDir) -> None:
    run = a_run(data, "r1")
    history.store_run(data, run)
    run.record.write_bytes(b"{")
    found = query.execute(data, "SELECT run, count(*) FROM guest_tick GROUP BY 1")
    assert found.rows == [("r1", 700)]
    assert len(found.warnings) == 1
    assert "run r1: is damaged" in found.warnings[0]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT * FROM nope", "Catalog Error: Table with name nope does not exist!"),
        (
            "SELECT remaining FROM migration",
            '"remaining" not found in FROM clause!; Candidate bindings: "remaining_bytes"',
        ),
        ("", "found 0 statements, want one SELECT"),
        ("SELECT 1; SELECT 2", "found 2 statements, want one SELECT"),
        ("DROP VIEW runs", "DROP is refused, want a SELECT: the history is only read"),
        ("COPY runs TO 'stolen.csv'", "COPY is refused"),
        ("INSTALL httpfs", "LOAD is refused"),
        ("SET enable_external_access = true", "SET is refused"),
        ("SELECT * FROM read_csv('/etc/passwd')", 'Cannot access file "/etc/passwd"'),
        ("SELECT * FROM 'https://example.org/x.parquet'", "query: "),
        ("SELECT * FROM data", "Catalog Error: Table with name data does not exist!"),
        ("SELECT 1 / 'x'", "Conversion Error"),
    ],
)
def test_a_statement_that_will_not_do_is_refused_in_one_line(data: DataDir, sql: str, message: str) -> None:
    a_run(data, "r1")
    with pytest.raises(BadValueError) as raised:
        query.execute(data, sql)
    assert message in str(raised.value)
    assert str(raised.value).startswith("query: ")
    assert "\n" not in str(raised.value)
    assert not Path("stolen.csv").exists()


def test_describe_and_explain_are_answered(data: DataDir) -> None:
    described = query.execute(data, "DESCRIBE guest_xor")
    assert [row[:2] for row in described.rows][-6:] == [
        *((name, "DOUBLE") for name in ("bytes", "seconds", "sequence")),
        ("strategy", "VARCHAR"), ("phase", "VARCHAR"), ("migration_seconds", "DOUBLE"),
    ]  # fmt: skip
    assert query.execute(data, "EXPLAIN SELECT * FROM runs").rows


def test_a_live_run_is_listed_as_running_and_its_samples_come_when_it_has_ended(data: DataDir) -> None:
    run = a_run(data, "r1", outcome=None)
    run.lock.touch()
    with run.lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert query.execute(data, "SELECT outcome FROM runs").rows == [("running",)]
        assert query.execute(data, "SELECT * FROM guest_tick").rows == []
    assert query.execute(data, "SELECT outcome FROM runs").rows == [("abandoned",)]
    assert query.execute(data, f"SELECT count(*) FROM guest_tick WHERE time_ns < {at(1)}").rows != [(0,)]
