"""The commands on campaigns: what they print, their exit statuses, and the guide's own example."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from driver.campaign_cells import cells
from driver.campaign_events import append_event
from driver.campaign_file import read_campaign
from driver.datadir import DataDir
from driver.lock import VARIABLE
from migrascope.main import main
from tests.test_campaign_state import PLANNED, ended

ROOT = Path(__file__).resolve().parent.parent
GUIDE, EXAMPLE = ROOT / "docs" / "campaigns.md", ROOT / "docs" / "rescue.toml"
NO_QEMU = '[binaries]\nqemu = "qemu-nope"\n[grid]\nstrategy = ["none", "post-copy"]\n'


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    path = tmp_path / "plan.toml"
    path.write_text(NO_QEMU)
    return path


def json_of(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 0) -> dict[str, object]:
    assert main([*map(str, words), "--json"]) == status
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def test_a_plan_that_cannot_run_here_is_checked_with_its_reasons_and_status_6(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data-dir", tmp_path / "data")
    told = json_of(capsys, "campaign", "check", plan, *data, status=6)
    assert told["runs"] == 0
    assert isinstance(told["cells"], list)
    assert {cell["name"].split(".")[0] for cell in told["cells"]} == {"pre-copy", "post-copy-3"}
    assert all("qemu-nope is neither on the path nor in the cache" in cell["unsupported"] for cell in told["cells"])
    assert main(["campaign", "check", str(plan), *map(str, data)]) == 6
    printed = capsys.readouterr().out
    assert printed.count("unsupported here: QEMU: qemu-nope is neither on the path nor in the cache") == 2
    assert "2 of 2 cells cannot run here" in printed


def test_such_a_plan_is_run_by_parking_every_cell_and_no_run_is_made(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDir.open(tmp_path / "data")
    told = json_of(capsys, "campaign", "run", plan, "--data-dir", data.path, status=6)
    assert (told["state"], told["ended_runs"], told["runs_left"]) == ("finished", 0, 0)
    assert data.all_runs() == []
    again = json_of(capsys, "campaign", "status", plan, "--data-dir", data.path)
    assert isinstance(again["cells"], list)
    assert all("unsupported here" in cell["parked"] for cell in again["cells"])
    report = tmp_path / "report.html"
    assert main(["campaign", "report", "latest", "-o", str(report), "--data-dir", str(data.path)]) == 0
    assert "No run has ended yet" in report.read_text()


def test_campaigns_are_listed_and_one_is_shown_cell_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataDir.open(tmp_path / "data")
    assert main(["campaign", "status", "--data-dir", str(data.path)]) == 0
    assert "no campaigns in" in capsys.readouterr().err
    place = data.campaign("night-1")
    place.path.mkdir(parents=True)
    for event in (PLANNED, *ended("a1", 1), *ended("a1", 2, "not_converged")):
        append_event(place, event)
    assert main(["campaign", "status", "--data-dir", str(data.path)]) == 0
    assert re.search(r"night-1 +died +2 of 4 +", capsys.readouterr().out)
    assert main(["campaign", "status", "night", "--data-dir", str(data.path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"none +2 of 2 +✓ completed 1  ✗ not converged 1 +5.00 s", printed)
    assert "night-1: died, 2 of 4 runs have ended, 20.0 s to go" in printed


def test_a_mistake_in_a_plan_leaves_no_campaign_behind(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text("[grid]\nvcpus = [0]\n")
    assert main(["campaign", "run", str(plan), "--data-dir", str(tmp_path / "data")]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"migrascope: campaign {plan} line 2: hardware.vcpus=0: want 1 to 255\n"
    assert not (tmp_path / "data" / "campaigns").exists()


def test_the_guides_example_is_a_plan_of_six_cells_and_stands_in_the_guide_word_for_word() -> None:
    campaign = read_campaign(EXAMPLE)
    assert [cell.name for cell in cells(campaign, {})] == [
        f"{way}.{bandwidth}mib-s.100ms.t10s"
        for way in ("pre-copy", "post-copy-3", "auto-converge-80-19-99") for bandwidth in (32, 256)
    ]  # fmt: skip
    assert f"```toml\n{EXAMPLE.read_text()}```" in GUIDE.read_text()


def test_every_plan_in_the_guide_is_one_that_the_program_takes(tmp_path: Path) -> None:
    for block in re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        path = tmp_path / "part.toml"
        path.write_text(block)
        assert cells(read_campaign(path), {})
