"""Every alert against every recorded case: it fires where it is deserved, and nowhere else, as promtool has it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from dashboards.rules import alerts
from driver.datadir import DataDir
from exporter import history
from tests import captures, recordings
from tests.alert_cases import deserved, table
from tests.promtool import case, fired
from tests.replay import recording

pytestmark = pytest.mark.server

DOCS = Path(__file__).parent.parent / "docs" / "alerts.md"
BEGIN, END = "<!-- cases: pytest --update -->\n", "<!-- end -->\n"


@pytest.mark.timeout(240)
def test_each_recorded_run_raises_the_alerts_that_it_deserves_and_no_other(tmp_path: Path, promtool: Path) -> None:
    data = DataDir.open(tmp_path / "data")
    cases = []
    for name in recordings.names():
        summary = history.summary(recordings.install(name, data))
        cases.append(case(name, recordings.load(name), asdict(summary)))
    found = fired(promtool, tmp_path, cases)
    wrong = {name: (raised, deserved(name)) for name, raised in found.items() if raised != deserved(name)}
    assert wrong == {}, "case: (fired, deserved)"


def test_every_alert_about_a_migration_is_deserved_by_a_recorded_case() -> None:
    raised = {alert for name in recordings.names() for alert in deserved(name)}
    about_migrations = {alert.name for alert in alerts() if alert.name.startswith(("Migration", "Guest"))}
    assert raised == about_migrations


@pytest.mark.timeout(240)
def test_captures_of_migrations_that_finish_raise_nothing(tmp_path: Path, promtool: Path) -> None:
    """Streams of QEMU alone, without a guest that prints: those of the decision matrix that were rescued."""
    names = [name for name in captures.names("*-m-*") if "rescue" in name or "-converge" in name]
    assert len(names) >= 8
    found = fired(promtool, tmp_path, [case(name, recording(name, outcome="completed"), {}) for name in names])
    assert {name: raised for name, raised in found.items() if raised} == {}


def test_the_table_in_the_docs_is_that_of_the_cases(request: pytest.FixtureRequest) -> None:
    text = DOCS.read_text()
    before, _, rest = text.partition(BEGIN)
    found, _, after = rest.partition(END)
    wanted = table(recordings.names())
    if request.config.getoption("--update"):
        DOCS.write_text(before + BEGIN + wanted + END + after)
        found = wanted
    assert found == wanted, "run pytest --update"
