"""What earlier runs of the history say of the link's own speed, which the blackout to expect is worked out with."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.scenario import Scenario
from exporter.index import RunRow, opened
from exporter.link_speed import known_link_speed
from tests.recorded import a_record


def row(run: str, *, size: float, seconds: float, strategy: str = "none", transport: str = "unix",
        outcome: str = "completed") -> RunRow:  # fmt: skip
    figures = {"downtime_bytes": size, "qemu_downtime_seconds": seconds}
    return RunRow(
        run=run, strategy=strategy, outcome=outcome, conditions={"transport": transport}, figures=figures
    )  # fmt: skip


def test_only_last_passes_of_the_same_transport_count(tmp_path: Path) -> None:
    data, record = DataDir.open(tmp_path), a_record("r", scenario=Scenario())
    assert known_link_speed(data, record) is None
    with opened(data.index) as index:
        for each in (
            row("a", size=20e6, seconds=0.01),
            row("b", size=40e6, seconds=0.01),
            row("c", size=60e6, seconds=0.01, strategy="auto-converge"),
            row("d", size=900e6, seconds=0.01, strategy="post-copy"),
            row("e", size=900e6, seconds=0.01, strategy="auto-converge+multifd"),
            row("f", size=900e6, seconds=0.01, transport="tcp"),
            row("g", size=900e6, seconds=0.01, outcome="failed"),
            row("h", size=0, seconds=0.01),
        ):
            index.put("stamp", each)
    assert known_link_speed(data, record) == pytest.approx(4e9)
