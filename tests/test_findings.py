"""The page of findings: what its tables ask for is what its campaign plans, and what it shows is what was recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from docs.findings_tables import (
    TABLES,
    WAYS,
    Cell,
    Runs,
    alone,
    changed,
    compressed,
    filled,
    post_copies,
    throttled,
)
from driver.campaign_cells import cells
from driver.campaign_file import read_campaign
from driver.datadir import DataDir
from workload.errors import BadValueError
from workload.value import settings_of

DOCS = Path(__file__).parent.parent / "docs"
CELLS: dict[str, Callable[[], list[Cell]]] = {
    "ways": lambda: [each.cell for each in WAYS],
    "compression": lambda: list(compressed().values()),
    "xbzrle": lambda: list(changed().values()),
    "throttle": lambda: list(throttled().values()),
    "access": lambda: list(post_copies().values()),
    "alone": lambda: list(alone().values()),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_row_of_a_table_is_one_cell_of_the_campaign(name: str) -> None:
    planned = cells(read_campaign(DOCS / "findings.toml"), {})
    for wanted in CELLS[name]():
        found = 0
        for each in planned:
            request = each.request
            values = (request.scenario, request.hardware, request.workload)
            known = {field: getattr(value, field) for value in values for field in settings_of(type(value))}
            assert wanted.wanted.keys() <= known.keys()
            found += (
                (request.comparison, request.scenario.strategy) == (wanted.comparison, wanted.strategy)
                and wanted.wanted.items() <= known.items()
            )  # fmt: skip
        assert found == 1, wanted


def test_every_table_has_its_place_in_the_page_and_another_page_is_refused(data: DataDir) -> None:
    page = (DOCS / "findings.md").read_text()
    emptied = filled(page, Runs(data))
    assert emptied != page, "without runs the tables hold no figures"
    for name in TABLES:
        assert f"<!-- table {name} -->\n| " in emptied
    with pytest.raises(BadValueError, match=r"findings.md: has no place for table ways: want <!-- table ways -->"):
        filled("# nothing", Runs(data))
