"""Statistics over the history: figures against hand-computed ones, verdicts that cannot come from too few runs, and a
recommendation that follows its rule."""

from __future__ import annotations

import random

import pytest

from exporter.index import RunRow
from exporter.statistics import METRICS, Rate, distribution, lost_seconds, rate, statistics_of
from exporter.statistics_contests import BETTER, CANNOT_TELL, CONVERGENCE, WORSE, contests, least_runs, verdict_on
from exporter.statistics_groups import GIVEN, WAY, grouped
from exporter.statistics_recommendation import CLEAR, LEANING, Findings, Recommendation, findings
from tests.statistics_rows import a_row, failed, rows

APART = ([1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [2.0, 2.1, 2.2, 2.3, 2.4, 2.5])


def told(*runs: list[RunRow]) -> Findings:
    grouping = grouped([row for some in runs for row in some])
    return findings(grouping, [statistics_of(group) for group in grouping.groups])


def advice(*runs: list[RunRow]) -> Recommendation:
    (found,) = told(*runs).recommendations
    return found


def test_a_rate_has_wilsons_interval() -> None:
    found = rate(8, 10)
    assert (found.count, found.of, found.share) == (8, 10, 0.8)
    assert [found.low, found.high] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert rate(5, 5).low == pytest.approx(0.5655, abs=1e-4)
    assert rate(0, 0) == Rate(count=0, of=0, low=0.0, high=1.0)
    assert rate(0, 0).share is None


def test_a_distribution_has_median_and_nearest_rank_percentile_with_intervals_that_hold_them() -> None:
    found = distribution([float(value) for value in range(1, 101)])
    assert (found.median, found.p95) == (50.5, 95.0)
    low, high = found.median_interval or (0.0, 0.0)
    # a binomial's 95 % interval of the median's rank among 100: 40 to 61
    assert low == pytest.approx(40.5, abs=3)
    assert high == pytest.approx(60.5, abs=3)
    assert found.p95_interval
    assert found.p95_interval[0] <= 95 <= found.p95_interval[1]
    assert found == distribution(found.values), "the draw has a fixed seed"
    assert distribution([3.0, 4.0]).median_interval is None
    assert distribution([3.0] * 5).median_interval == (3.0, 3.0)


def test_the_bootstrap_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    drawn = random.Random(5)
    held = 0
    for _ in range(100):
        interval = distribution([drawn.lognormvariate(0, 1) for _ in range(25)]).median_interval
        held += interval is not None and interval[0] <= 1.0 <= interval[1]
    assert held >= 88  # 95 wanted; its standard deviation over 100 draws is 2.2


def test_lost_seconds_are_the_work_that_the_guest_did_not_do() -> None:
    # 3 s at two thirds of its pace cost 1 s, 0.5 s dark cost 0.5 s, 1 s of recover at half its pace 0.5 s
    row = a_row(1, total=3.0, blackout=0.5, slowdown=1.5, figures={
        "recover_seconds_per_gib_mean": 0.4, "resume_ns": 3_000_000_000.0,
    })  # fmt: skip
    assert lost_seconds(row) == pytest.approx(1.0 + 0.5 + 0.5)
    assert lost_seconds(a_row(1, slowdown=0.8, blackout=0.1)) == pytest.approx(0.1), "a faster guest has lost nothing"
    assert lost_seconds(a_row(1, outcome="failed")) is None


def test_every_metric_is_read_from_a_completed_row() -> None:
    row = a_row(1, total=2.0)
    assert {name: figure(row) for name, figure in METRICS.items()} == {
        "total_seconds": 2.0, "blackout_seconds": 0.02, "slowdown": pytest.approx(1.5),
        "lost_seconds": pytest.approx(2 / 3 + 0.02), "source_cpu_seconds": 3.0, "destination_cpu_seconds": 1.0,
        "sent_bytes_per_gib": 2048.0 * (1 << 20), "extra_memory_bytes": 4096.0,
    }  # fmt: skip


def test_way_and_conditions_share_every_setting_of_a_run() -> None:
    assert not set(WAY) & set(GIVEN)
    assert {"bandwidth_mib_s", "downtime_limit_ms", "memory_mib", "working_set_mib", "source_qemu"} <= set(GIVEN)
    assert {"post_copy_iterations", "auto_converge_max", "transport", "tls", "schedule"} <= set(WAY)


def test_runs_are_grouped_by_way_under_each_condition_that_differs() -> None:
    runs = [
        a_row(number, strategy, given={"memory_mib": memory})
        for number, (strategy, memory) in enumerate(
            [("none", 1024), ("post-copy", 256), ("none", 256), ("none", 256), ("post-copy", 1024)]
        )
    ]
    found = grouped(runs)
    assert found.versus == "strategy"
    assert [(group.way, group.condition, len(group.rows)) for group in found.groups] == [
        ("pre-copy", {"memory_mib": 256}, 2), ("post-copy-3", {"memory_mib": 256}, 1),
        ("pre-copy", {"memory_mib": 1024}, 1), ("post-copy-3", {"memory_mib": 1024}, 1),
    ]  # fmt: skip
    assert found.common["bandwidth_mib_s"] == 32
    assert "memory_mib" not in found.common


def test_one_way_with_one_field_that_differs_is_compared_by_that_field() -> None:
    runs = [a_row(number, given={"source_qemu": version}) for number, version in enumerate(["7.2.22", "10.0.0"] * 2)]
    found = grouped(runs)
    assert found.versus == "source_qemu"
    assert found.conditions == [{}]
    assert [(group.way, len(group.rows)) for group in found.groups] == [
        ("source_qemu=7.2.22", 2), ("source_qemu=10.0.0", 2),
    ]  # fmt: skip


def test_what_is_no_fault_of_the_strategy_does_not_count_against_it() -> None:
    runs = rows("none", [1.0, 2.0]) + failed("none", 1, 10) + failed("none", 3, 20, "broken")
    (group,) = told(runs).groups
    assert (group.convergence.count, group.convergence.of) == (2, 3)
    assert group.outcomes == {"completed": 2, "not_converged": 1, "broken": 3}
    assert group.figures["total_seconds"].values == (1.0, 2.0)


def test_four_runs_a_side_are_the_least_that_can_tell_anything() -> None:
    assert least_runs() == 4
    assert least_runs(0.001) == 7
    for count, verdict in ((3, CANNOT_TELL), (4, BETTER)):
        found = told(rows("post-copy", APART[0][:count]), rows("none", APART[1][:count], 50))
        said, contest = verdict_on(found.contests, {}, "total_seconds", "post-copy-3", "pre-copy")
        assert contest
        assert said == verdict
        assert contest.enough_runs is (count == 4)
        assert contest.p == pytest.approx({3: 0.1, 4: 2 / 70}[count])


def test_a_contest_is_told_from_both_sides_with_the_ratio_of_the_medians() -> None:
    found = told(rows("post-copy", APART[0]), rows("none", APART[1], 50)).contests
    assert verdict_on(found, {}, "total_seconds", "post-copy-3", "pre-copy")[0] == BETTER
    said, contest = verdict_on(found, {}, "total_seconds", "pre-copy", "post-copy-3")
    assert said == WORSE
    assert contest
    assert contest.ratio == pytest.approx(1.25 / 2.25)
    low, high = contest.ratio_interval or (0.0, 0.0)
    assert 0.4 < low < 1.25 / 2.25 < high < 0.8
    assert verdict_on(found, {}, "blackout_seconds", "post-copy-3", "pre-copy")[0] == CANNOT_TELL, "all alike"
    assert verdict_on(found, {}, "total_seconds", "post-copy-3", "xbzrle")[1] is None


@pytest.mark.parametrize(
    ("one", "others", "p"),
    [
        ([1.0], [1.0, 2.0], 1.0),  # ranks 1.5, 1.5 and 3: none of them is nearer to the middle than this one
        ([2.0], [1.0, 1.0], 1 / 3),
        ([1.0], [2.0], 1.0),
        ([1.0], [2.0, 3.0, 4.0], 0.5),
    ],
)
def test_a_single_run_is_set_against_others_as_a_campaign_that_was_stopped_leaves_it(
    one: list[float], others: list[float], p: float
) -> None:
    for first, second in ((one, others), (others, one)):
        found = told(rows("post-copy", first), rows("none", second, 50)).contests
        said, contest = verdict_on(found, {}, "total_seconds", "post-copy-3", "pre-copy")
        assert contest
        assert contest.p == pytest.approx(p)
        assert said == CANNOT_TELL


def test_convergence_is_told_by_fishers_test() -> None:
    found = told(rows("post-copy", APART[0]), failed("none", 6, 50)).contests
    said, contest = verdict_on(found, {}, CONVERGENCE, "post-copy-3", "pre-copy")
    assert contest
    assert said == BETTER
    assert contest.p == pytest.approx(2 / 924)


def test_where_nothing_differs_a_verdict_is_rare() -> None:
    """Twenty reports of five ways that are all the same: with false discovery controlled, few of them say anything."""
    drawn = random.Random(3)
    with_a_verdict = 0
    for _ in range(20):
        ways = ("none", "post-copy", "pause", "auto-converge", "xbzrle")
        runs = [
            row
            for place, way in enumerate(ways)
            for row in rows(way, [drawn.gauss(5, 1) for _ in range(6)], place * 10)
        ]  # fmt: skip
        grouping = grouped(runs)
        found = contests([statistics_of(group) for group in grouping.groups], ["total_seconds"])
        with_a_verdict += any(contest.verdict != CANNOT_TELL for contest in found)
    assert with_a_verdict <= 4  # 1 expected at 5 %


def test_conditions_are_never_set_against_each_other() -> None:
    runs = [a_row(number, "none", given={"memory_mib": memory}) for number, memory in enumerate([256, 1024] * 4)]
    runs += [a_row(90 + number, "pause", given={"memory_mib": 256}) for number in range(4)]
    pairs = {(contest.first, contest.second, contest.condition["memory_mib"]) for contest in told(runs).contests}
    assert pairs == {("pre-copy", "pause-5", 256)}


def test_the_way_that_completes_is_recommended_over_one_that_does_not() -> None:
    found = advice(failed("none", 6), rows("post-copy", APART[0], 50))
    assert (found.way, found.strength) == ("post-copy-3", CLEAR)
    assert [group.group.way for group in found.unreliable] == ["pre-copy"]


def test_of_ways_that_complete_the_one_that_costs_the_guest_least_work_wins_and_its_drawbacks_are_told() -> None:
    dear = [a_row(place, "auto-converge", total=total, slowdown=9.0, blackout=0.01 + place / 1e4)
            for place, total in enumerate(APART[1])]  # fmt: skip
    cheap = [a_row(50 + place, "post-copy", total=total, slowdown=1.2, blackout=0.03 + place / 1e4)
             for place, total in enumerate(APART[1])]  # fmt: skip
    found = advice(dear, cheap)
    assert (found.way, found.strength, found.decided_by) == ("post-copy-3", CLEAR, "lost_seconds")
    assert [contest.metric for contest in found.beaten] == ["lost_seconds"]
    assert "blackout_seconds" in [contest.metric for contest in found.exceptions]


def test_plain_pre_copy_is_taken_where_it_cannot_be_told_from_the_cheapest() -> None:
    found = advice(rows("post-copy", [1.0, 1.2, 1.4, 1.6]), rows("none", [1.1, 1.3, 1.5, 1.7], 50))
    assert (found.way, found.strength, found.tied) == ("pre-copy", LEANING, ("post-copy-3",))


def test_plain_pre_copy_is_taken_where_another_way_would_save_next_to_nothing() -> None:
    post_copy = [a_row(50 + n, "post-copy", total=0.10 + n / 1e3, slowdown=1.1) for n in range(6)]
    found = advice([a_row(n, total=0.10 + n / 1e3, slowdown=1.6) for n in range(6)], post_copy)
    assert (found.way, found.strength, found.tied) == ("pre-copy", CLEAR, ())
    assert "lost_seconds" in [contest.metric for contest in found.exceptions]
    dearer = advice([a_row(n, total=2.0 + n / 1e3, slowdown=1.6) for n in range(6)], post_copy)
    assert dearer.way == "post-copy-3"


def test_a_single_run_recommends_nothing_for_sure_and_no_completed_run_nothing_at_all() -> None:
    assert advice(rows("post-copy", [1.0])).strength == LEANING
    found = advice(failed("none", 9))
    assert (found.way, found.winner) == (None, None)
    assert [group.group.way for group in found.unreliable] == ["pre-copy"]


def test_each_condition_has_its_own_recommendation() -> None:
    slow = {"bandwidth_mib_s": 16}
    runs = [a_row(n, "none", outcome="not_converged", given=slow) for n in range(5)]
    runs += [a_row(10 + n, "post-copy", total=2 + n / 10, given=slow) for n in range(5)]
    runs += rows("none", [1.0, 1.1, 1.2, 1.3], 20) + rows("post-copy", [1.0, 1.1, 1.2, 1.3], 30)
    assert [(one.condition, one.way) for one in told(runs).recommendations] == [
        ({"bandwidth_mib_s": 16}, "post-copy-3"), ({"bandwidth_mib_s": 32}, "pre-copy"),
    ]  # fmt: skip


def test_no_runs_tell_nothing() -> None:
    found = told([])
    assert found.groups == ()
    assert found.recommendations == ()
