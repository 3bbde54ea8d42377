"""A run of the history is judged again by today's rules, and gets what it got when it was live."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dashboards.verdict_table import boundaries_of
from driver.datadir import DataDir
from driver.record import read_record
from driver.scenario import Scenario
from exporter import history
from exporter.compaction import load
from exporter.judged import judged_again
from migrascope.main import main
from tests.report_runs import replayed_run

NEVER = Scenario(downtime_limit_ms=100, bandwidth_mib_s=32)
CASES = {
    "7.2-m-nonconverge-ws16-bw32-dl100": (NEVER, "not_converged"),
    "10.0-m-postcopy-rescue": (replace(NEVER, post_copy_iterations=3), "completed"),
}


@pytest.mark.parametrize("capture", CASES)
def test_history_judged_again_says_what_was_said_live(capture: str, tmp_path: Path) -> None:
    scenario, outcome = CASES[capture]
    data = DataDir.open(tmp_path)
    run = replayed_run(data, "20261124-000000-aaaa", capture, scenario, outcome=outcome)
    history.store_run(data, run)
    again = judged_again(run, read_record(run))
    live = load(run, "verdict").to_pylist()
    assert boundaries_of(again)
    assert len(boundaries_of(again)) == sum(row["iteration_remaining_bytes"] is not None for row in live)
    hopeless = [sample for sample in again if sample.fields["not_converging"] == 1.0]
    assert bool(hopeless) == (outcome == "not_converged")


def test_show_lists_every_boundary_of_a_run_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataDir.open(tmp_path)
    replayed_run(data, "20261124-000000-aaaa", "7.2-m-nonconverge-ws16-bw32-dl100", NEVER, outcome="not_converged")
    arguments = ["show", "latest", "--verdicts", "--data-dir", str(tmp_path)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "not converging; bandwidth cap, guest keeps pace" in " ".join(text.split())
    assert main([*arguments, "--json"]) == 0
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    assert verdicts[-1]["iteration"] == 13.0
    assert verdicts[-1]["bottleneck"] == "cap+dirtying"
