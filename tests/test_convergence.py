"""The rules of the verdicts, and what they rest on; tests/test_verdict_cases.py has every recorded case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.boundary import Boundary
from driver.convergence import Judge, without_gain
from driver.progress import Progress
from driver.scenario import Scenario, step_to_come
from tests import captures

PLAIN = Scenario(downtime_limit_ms=100, bandwidth_mib_s=32)
AUTO_CONVERGE = replace(PLAIN, auto_converge_increment=10)


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_without_its_gate_the_rule_alarms_on_migrations_that_auto_converge_rescues(version: str) -> None:
    name = f"{version}-m-autoconverge-i20-s10"
    gated, ungated = captures.verdicts(name, AUTO_CONVERGE), captures.verdicts(name, PLAIN)
    assert any(verdict.stalled for verdict in gated)
    assert all(verdict.step_to_come == "auto-converge" for verdict in gated)
    assert sum(v.not_converging for v in gated) <= sum(v.not_converging for v in ungated)


def test_remaining_at_the_boundary_is_the_working_set_of_a_guest_that_dirties_all_of_it() -> None:
    verdicts = captures.verdicts("7.2-m-nonconverge-ws16-bw32-dl100", PLAIN)
    for verdict in verdicts[1:]:
        assert verdict.iteration_remaining_bytes / (16 << 20) == pytest.approx(1, abs=0.01)
        assert verdict.implied_downtime_seconds == pytest.approx(0.5, abs=0.02)


def test_the_verdict_comes_within_six_seconds_of_a_migration_that_never_converges() -> None:
    name = "7.2-m-nonconverge-ws16-bw32-dl100"
    start = captures.replies(name)[0][0]
    first = next(v for v in captures.verdicts(name, PLAIN) if v.not_converging)
    assert (first.time_ns - start) / 1e9 < 6


def test_no_step_is_to_come_once_a_strategy_has_acted_or_the_throttle_is_at_its_maximum() -> None:
    assert step_to_come(PLAIN, (), None) is None
    assert step_to_come(replace(PLAIN, post_copy_iterations=3), (), None) == "post-copy"
    assert step_to_come(replace(PLAIN, post_copy_iterations=3), ("post-copy",), None) is None
    assert step_to_come(AUTO_CONVERGE, (), 98) == "auto-converge"
    assert step_to_come(AUTO_CONVERGE, (), 99) is None


def boundaries(*remaining: float, threshold: float = 1.0) -> list[Boundary]:
    return [
        Boundary(iteration=index, time_ns=index, remaining_bytes=value, threshold_bytes=threshold)
        for index, value in enumerate(remaining, start=2)
    ]


def test_too_few_boundaries_or_remaining_near_the_threshold_are_no_stall() -> None:
    assert not without_gain(boundaries(2, 2, 2), 3, 1.05)
    assert without_gain(boundaries(2, 2, 2, 2), 3, 1.05)
    assert not without_gain(boundaries(2, 2, 2, 1.04), 3, 1.05)
    assert not without_gain(boundaries(2, 2, 2, 1.9), 3, 1.05)


@given(st.lists(st.floats(min_value=1e3, max_value=1e12), min_size=4, max_size=30), st.floats(0.01, 1e12))
def test_a_migration_that_gains_five_percent_a_boundary_never_stalls(start: list[float], threshold: float) -> None:
    falling = [start[0] * 0.95**index for index in range(len(start))]
    assert not without_gain(boundaries(*falling, threshold=threshold), 3, 1.05)


def test_a_change_of_the_limits_makes_history_start_again_and_the_same_limits_do_not() -> None:
    judge = Judge(downtime_limit_seconds=0.1, bandwidth_limit=1e6)
    for iteration in range(1, 6):
        fields = {"iteration": float(iteration), "remaining_bytes": 1e6, "bandwidth_bytes_per_second": 1e6}
        judge.sample(iteration * 10**9, Progress(status="active", fields=fields), None)
    assert len(judge.boundaries) == 4
    judge.retuned(0.1, 1e6)
    assert len(judge.boundaries) == 4
    judge.retuned(0.2, 1e6)
    assert not judge.boundaries
