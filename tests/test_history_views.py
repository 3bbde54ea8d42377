"""The ready views and the choice of runs, on a recorded run whose true figures are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.record import write_record
from driver.scenario import Scenario
from exporter import history, query
from exporter.index import RunRow, damaged_row
from exporter.measurements import MEASUREMENTS
from exporter.selection import EVERYTHING, Selection, moment_ns
from exporter.views import READY
from migrascope.main import main
from tests.recorded import (
    MIGRATE_SECONDS_PER_GIB,
    RECOVER_SECONDS_PER_GIB,
    RESUME,
    SETTLE_SECONDS_PER_GIB,
    START_NS,
    THROTTLED_AFTER_SECONDS,
    a_record,
    a_run,
    at,
)
from workload.errors import BadValueError

POST_COPY = Scenario(bandwidth_mib_s=64, post_copy_iterations=3)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """Two runs of a campaign, one of no campaign, and one whose record is damaged."""
    data = DataDir.open(tmp_path)
    for name, scenario in (("r1", None), ("r2", POST_COPY)):
        run = a_run(data, name, scenario=scenario)
        write_record(run, replace(a_record(name, scenario=scenario), campaign="night"))
    a_run(data, "r3")
    history.store_run(data, spoilt := a_run(data, "r4"))
    spoilt.record.write_bytes(b"{")
    return data


def test_the_guests_pace_by_strategy_and_phase(data: DataDir) -> None:
    sql = """
        SELECT strategy, phase, median(seconds_per_gib) FROM guest
        WHERE phase IN ('settle', 'migrate', 'recover') AND run < 'r3' GROUP BY ALL ORDER BY 1, 3
    """
    paces = [("settle", SETTLE_SECONDS_PER_GIB), ("recover", RECOVER_SECONDS_PER_GIB),
             ("migrate", MIGRATE_SECONDS_PER_GIB)]  # fmt: skip
    assert query.execute(data, sql).rows == [
        (strategy, phase, pytest.approx(pace))
        for strategy in ("auto-converge", "post-copy")
        for phase, pace in sorted(paces, key=lambda pair: pair[1])
    ]


def test_every_sample_says_where_it_stands_in_its_run(data: DataDir) -> None:
    sql = "SELECT time_ns, phase, migration_seconds FROM event WHERE run = 'r1' AND role <> 'driver' ORDER BY 1"
    assert query.execute(data, sql).rows == [
        (at(0), "boot", pytest.approx(-2.0)),
        (at(2.001), "migrate", pytest.approx(0.001)),
        (at(2.002), "migrate", pytest.approx(0.002)),
        (at(5), "switchover", pytest.approx(3.0)),
        (at(5.018), "switchover", pytest.approx(3.018)),
        (at(RESUME), "recover", pytest.approx(3.021)),
    ]
    for name in MEASUREMENTS:
        told = query.execute(data, f"SELECT count(*), count(migration_seconds) FROM {name} WHERE run = 'r1'").rows
        assert told[0][0] == told[0][1], name


def test_threads_use_of_cores_is_smoothed_over_a_tenth_of_a_second(data: DataDir) -> None:
    sql = """
        SELECT kind, min(cores), max(cores), count(cores) FROM cpu
        WHERE run = 'r1' AND phase IN ('settle', 'migrate') AND migration_seconds < 2.95 GROUP BY 1 ORDER BY 1
    """
    close = pytest.approx
    assert query.execute(data, sql).rows == [
        ("migration", close(0.5), close(0.5), 28),
        ("process", close(1.5), close(1.5), 45),
        ("vcpu", close(1.0), close(1.0), 45),
    ]


def test_an_iteration_is_one_row_with_its_throttle_and_its_guest(data: DataDir) -> None:
    sql = """
        SELECT iteration, migration_seconds, duration_seconds, sent_bytes, throttle_percent, guest_seconds_per_gib
        FROM iterations WHERE run = 'r1' ORDER BY 1
    """
    found = query.execute(data, sql).rows
    assert [row[0] for row in found] == list(range(1, 9))
    for number, began, lasted, sent, throttle, pace in found:
        assert began == pytest.approx(0.005 + 0.4 * (number - 1))
        assert lasted == pytest.approx(0.4 if number < 8 else 0.24, abs=0.011)
        assert sent == pytest.approx(0.39e7 if number < 8 else 0.24e7, rel=0.01)
        assert throttle == (None if began + 0.39 < THROTTLED_AFTER_SECONDS else 20 if began < 2 else 30)
        assert pace == pytest.approx(MIGRATE_SECONDS_PER_GIB)


@pytest.mark.parametrize(
    ("selection", "runs"),
    [
        (EVERYTHING, ["r1", "r2", "r3", "r4"]),
        (Selection(runs=frozenset({"r2", "r4"})), ["r2", "r4"]),
        (Selection(campaign="ni*"), ["r1", "r2"]),
        (Selection(strategy="post-copy", campaign="night"), ["r2"]),
        (Selection(scenario="*64mib-s*"), ["r2"]),
        (Selection(since_ns=START_NS), ["r1", "r2", "r3"]),
        (Selection(since_ns=START_NS + 1), []),
        (Selection(until_ns=START_NS), []),
    ],
)
def test_a_query_is_of_the_runs_that_are_meant(data: DataDir, selection: Selection, runs: list[str]) -> None:
    assert [row.run for row in selection.of(history.runs(data))] == runs
    found = query.execute(data, "SELECT DISTINCT run FROM guest_tick ORDER BY 1", selection)
    assert [run for (run,) in found.rows] == runs
    assert query.execute(data, "SELECT run FROM runs ORDER BY 1", selection).rows == [(run,) for run in runs]
    assert len(found.warnings) == ("r4" in runs)


def test_a_damaged_run_is_meant_by_its_id_alone() -> None:
    row: RunRow = damaged_row("r9", "no JSON")
    assert Selection(runs=frozenset({"r9"})).admits(row)
    assert not Selection(since_ns=0).admits(row)
    assert not Selection(campaign="*?").admits(row)


NOW = 1_795_395_600_000_000_000  # 2026-11-23T01:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("90m", 5400), ("90min", 5400), ("1.5h", 5400), ("7d", 604_800), ("2w", 1_209_600), ("2026-11-23T00:30", 1800),
     ("2026-11-23T01:30:00+01:00", 1800), ("2026-11-23", 3600), ("2026-11-23 00:59:59Z", 1)],
)  # fmt: skip
def test_a_moment_is_an_age_or_a_date(text: str, seconds_ago: float) -> None:
    assert moment_ns(text, NOW) == NOW - round(seconds_ago * 1e9)


@pytest.mark.parametrize("text", ["", "yesterday", "7", "-1d", "2026-13-01", "7 days"])
def test_a_moment_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(BadValueError, match=r"want an age such as 90m, 24h or 7d, or ISO 8601"):
        moment_ns(text, NOW)


def test_the_command_lists_views_and_takes_a_views_name(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-dir", str(data.path)]
    assert main(["query", *where, "--json"]) == 0
    listed = capsys.readouterr().out
    assert all(f'"view": "{name}"' in listed for name in ("runs", *READY, *MEASUREMENTS))
    assert main(["query", *where, "iterations", "--run", "r1", "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run,campaign,scenario,strategy,host,vm,iteration,phase,migration_seconds")
    assert len(lines) == 9
    assert main(["query", *where, "runs", "--campaign", "nigh?", "--csv"]) == 0
    assert [line[:3] for line in capsys.readouterr().out.splitlines()[1:]] == ["r1,", "r2,"]
    assert main(["runs", *where, "--since", "1h"]) == 0
    assert "none of the 4 runs" in capsys.readouterr().err
    assert main(["runs", *where, "--since", "yesterday"]) == 2
    assert capsys.readouterr().err.startswith("migrascope: time 'yesterday': want an age")
