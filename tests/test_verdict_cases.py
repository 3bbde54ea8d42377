"""Every recorded migration gets the verdict that docs/convergence.md argues for it; the table there is read here."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from driver.convergence import Verdict
from driver.scenario import Scenario
from tests import captures

PAGE = Path(__file__).parent.parent / "docs" / "convergence.md"
HEAD = "| captures | cap | limit | strategy | stalled | not converging | bottleneck | why |"
STRATEGY_FIELDS = {
    "none": (),
    "pause": ("pause_iterations",),
    "post-copy": ("post_copy_iterations",),
    "auto-converge": ("auto_converge_initial", "auto_converge_increment", "auto_converge_max"),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    patterns: tuple[str, ...]
    cap_mib_s: int
    scenario: Scenario
    stalled: str
    not_converging: str
    bottleneck: str

    def matches(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.patterns)

    def verdicts(self, name: str) -> list[Verdict]:
        return captures.verdicts(name, self.scenario, cap_bytes_per_second=float(self.cap_mib_s << 20) or None)


def table() -> list[Row]:
    lines = PAGE.read_text().splitlines()
    start = lines.index(HEAD) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        names, cap, limit, strategy, stalled, not_converging, bottleneck, why = (
            cell.strip() for cell in line.strip("|").split("|")
        )
        assert len(why) > 5, line
        kind, *values = strategy.split()
        fields = dict(zip(STRATEGY_FIELDS[kind], map(int, values), strict=True))
        rows.append(
            Row(
                patterns=tuple(names.split(", ")),
                cap_mib_s=int(cap),
                scenario=Scenario(downtime_limit_ms=int(limit), bandwidth_mib_s=int(cap) or 1, **fields),  # type: ignore[arg-type] # all whole numbers
                stalled=stalled,
                not_converging=not_converging,
                bottleneck=bottleneck,
            )
        )
    return rows


ROWS = table()


def row_of(name: str) -> Row:
    return next(row for row in ROWS if row.matches(name))


@pytest.mark.parametrize("name", captures.names())
def test_each_recorded_migration_gets_the_verdict_that_was_argued_for_it(name: str) -> None:
    row = row_of(name)
    verdicts = row.verdicts(name)
    assert_count(row.stalled, sum(verdict.stalled for verdict in verdicts))
    assert_count(row.not_converging, sum(verdict.not_converging for verdict in verdicts))
    if row.bottleneck != "-":
        last = verdicts[-1].bottleneck
        assert last is not None
        assert set(row.bottleneck.split("+")) <= set(last.split("+")), last


def assert_count(expected: str, found: int) -> None:
    """At least one where it must be, none where it never may, at most so many where the table says a number."""
    if expected == "must":
        assert found > 0
    elif re.fullmatch(r"\d+", expected):
        assert found <= int(expected)
    elif expected == "never":
        assert found == 0
    else:
        assert expected == "may"


def test_every_line_of_the_table_is_some_recorded_case_and_every_pattern_matches_one() -> None:
    names = captures.names()
    for row in ROWS:
        for pattern in row.patterns:
            assert fnmatch.filter(names, pattern), pattern
        assert any(row_of(name) is row for name in names), row
