"""What the exporter says of a migration at its boundaries and after its switchover, on recorded QEMU 7.2 and 10.0."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.bottleneck import bottleneck, in_words
from driver.boundary import Boundary, dirtied_ratios
from driver.downtime import Switchover, expected_blackout, link_speed
from driver.eta import Publication, estimate, fit
from driver.progress import Progress
from driver.scenario import Scenario
from exporter.sample import Sample
from exporter.verdicts import Verdicts
from tests import captures
from tests.replay import migration_samples

MIB = 1 << 20
PLAIN = Scenario(downtime_limit_ms=100, bandwidth_mib_s=32)
RESCUE = replace(PLAIN, downtime_limit_ms=200, auto_converge_initial=80, auto_converge_increment=19)
SLOW = [name for name in captures.names("*-slow-*") if "rate46" not in name]


def verdict_samples(name: str, scenario: Scenario) -> list[Sample]:
    return [sample for sample in migration_samples(name, scenario) if sample.measurement == "verdict"]


def at_boundaries(name: str, scenario: Scenario = PLAIN) -> list[Sample]:
    return [sample for sample in verdict_samples(name, scenario) if "iteration_remaining_bytes" in sample.fields]


def number(sample: Sample, field: str) -> float:
    value = sample.fields[field]
    assert isinstance(value, float)
    return value


def boundary(iteration: int, remaining: float, *, sent: float = 10e6, dirtied: float = 9e6) -> Boundary:
    return Boundary(
        iteration=iteration, time_ns=iteration * 10**9, remaining_bytes=remaining, threshold_bytes=1e6,
        bandwidth_bytes_per_second=1e7, iteration_seconds=sent / 1e7, sent_bytes=sent, dirtied_bytes=dirtied,
    )  # fmt: skip


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_each_boundary_tells_what_its_iteration_sent_and_dirtied(version: str) -> None:
    for sample in at_boundaries(f"{version}-m-nonconverge-ws16-bw32-dl100")[2:]:
        assert number(sample, "iteration_sent_bytes") / (16 * MIB) == pytest.approx(1, abs=0.05)
        assert number(sample, "iteration_dirtied_bytes") / (16 * MIB) == pytest.approx(1, abs=0.05)
        assert number(sample, "dirtied_ratio") == pytest.approx(1, abs=0.05)
        assert number(sample, "threshold_bytes") / (3.2 * MIB) == pytest.approx(1, abs=0.03)
        assert number(sample, "iteration_seconds") == pytest.approx(0.5, abs=0.1)
        assert sample.fields["bottleneck"] == "cap+dirtying"
        assert ("eta_seconds" in sample.fields) == (sample.fields["stalled"] == 0.0)


def test_the_first_iteration_has_a_range_that_holds_the_time_it_took() -> None:
    name = "7.2-slow-bw40-rate34-ws48-dl100"
    first = [sample for sample in verdict_samples(name, PLAIN) if sample.fields["iteration"] == 1.0]
    stop = next(line.seconds for line in captures.read(name) if line.kind == "event" and line.data["event"] == "STOP")
    assert len(first) >= 2
    for sample in first:
        assert number(sample, "eta_low_seconds") < stop - sample.time_ns / 1e9
        assert "eta_seconds" not in sample.fields


@pytest.mark.parametrize("name", SLOW)
def test_the_estimate_of_a_slow_converger_is_within_a_twelfth_of_the_whole_in_the_median(name: str) -> None:
    lines = captures.read(name)
    start = next(line.seconds for line in lines if line.kind == "query-migrate")
    stop = next(line.seconds for line in lines if line.kind == "event" and line.data["event"] == "STOP")
    errors = [
        abs(number(sample, "completion_timestamp_seconds") - stop) / (stop - start)
        for sample in at_boundaries(name)
        if "completion_timestamp_seconds" in sample.fields
    ]
    assert len(errors) >= 0.8 * len(at_boundaries(name))
    assert median(errors) < 1 / 12


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1000)), min_size=1, max_size=30))
def test_a_published_estimate_never_moves_back_by_less_than_a_twentieth(steps: list[tuple[float, float]]) -> None:
    publication, now = Publication(), 0
    for gone, seconds in steps:
        now += round(gone * 1e9)
        before = publication.completion_ns
        after = publication.publish(now, seconds)
        assert after is not None
        if before is not None and after > before and before > now:
            assert seconds > 1.05 * (before - now) / 1e9


def test_no_end_is_in_sight_where_as_much_is_dirtied_as_is_sent() -> None:
    stuck = [boundary(number, 10e6, dirtied=10e6) for number in range(2, 8)]
    falling = [boundary(number, 10e6, dirtied=5e6) for number in range(2, 8)]
    assert estimate(stuck, capped=True) is not None
    assert estimate(stuck, capped=True).seconds is None  # type: ignore[union-attr] # asserted above
    found = estimate(falling, capped=True)
    assert found is not None
    assert found.seconds is not None
    assert found.low < found.seconds <= (found.high or 0)
    assert fit(falling, 1e7).exponent == 1  # type: ignore[union-attr] # iterations after the first are known


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_post_copy_takes_the_verdict_back_and_tells_its_downtime_and_its_risk(version: str) -> None:
    name = f"{version}-m-postcopy-rescue"
    last = verdict_samples(name, replace(PLAIN, post_copy_iterations=3))[-1].fields
    assert (last["stalled"], last["not_converging"], last["step_to_come"]) == (0.0, 0.0, "none")
    assert float(last["post_copy_risk_seconds"]) > 0.01
    parts = [float(last[f"downtime_{part}_seconds"]) for part in ("device_state", "resume")]
    assert 0 < sum(parts) < 0.1
    assert "downtime_last_pass_seconds" not in last


@pytest.mark.parametrize("name", ["7.2-unix-ws64", "10.0-unix-ws64", "10.0-kvm-converge"])
def test_the_parts_of_the_downtime_add_up_to_stop_to_resume(name: str) -> None:
    events = {
        line.data["event"]: line.seconds
        for line in captures.read(name)
        if line.kind == "event" and (line.vm, line.data["event"]) in (("src", "STOP"), ("dst", "RESUME"))
    }
    last = verdict_samples(name, Scenario(bandwidth_mib_s=100))[-1].fields
    parts = {field: float(value) for field, value in last.items() if field.startswith("downtime_")}
    assert parts.keys() == {f"downtime_{part}_seconds" for part in ("sync", "last_pass", "resume")}
    assert sum(parts.values()) == pytest.approx(events["RESUME"] - events["STOP"], abs=1e-6)
    assert parts["downtime_last_pass_seconds"] > 0.005
    assert float(last["transfer_ratio"]) > 0.5


@pytest.mark.parametrize("name", ["7.2-m-autoconverge-i80-s19", "10.0-unix-ws64", "10.0-m-autoconverge-i80-s19"])
def test_the_last_pass_s_own_sync_is_no_boundary_and_the_last_word_is_not_stalled(name: str) -> None:
    stop = next(line.seconds for line in captures.read(name) if line.kind == "event" and line.data["event"] == "STOP")
    samples = verdict_samples(name, RESCUE)
    assert not [each for each in samples if each.time_ns > stop * 1e9 and "iteration_remaining_bytes" in each.fields]
    assert samples[-1].time_ns > stop * 1e9
    assert samples[-1].fields["stalled"] == samples[-1].fields["not_converging"] == 0.0


def test_an_iteration_in_which_the_throttle_changed_says_nothing_of_what_the_guest_dirties_now() -> None:
    mixed = replace(boundary(9, 10e6, dirtied=10e6), mixed=True)
    assert dirtied_ratios([mixed]) == []
    assert fit([mixed], 1e7) is None
    found = fit([mixed, boundary(10, 10e6, dirtied=2e6)], 1e7)
    assert found is not None
    assert found.scale == pytest.approx(2e6)


def test_a_guest_that_goes_on_at_the_source_has_not_been_switched_over() -> None:
    switchover = Switchover()
    switchover.happened("source", "STOP", None, 1)
    switchover.happened("source", "RESUME", None, 2)
    switchover.happened("destination", "RESUME", None, 3)
    assert switchover.parts() == {}


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_a_throttle_that_went_higher_than_it_had_to_is_told(version: str) -> None:
    last = verdict_samples(f"{version}-m-autoconverge-i80-s19", RESCUE)[-1].fields
    assert 1 < float(last["first_throttle_seconds"]) < 6
    assert 0 <= float(last["throttle_overshoot_ratio"]) <= 0.19


def test_the_bottleneck_names_who_holds_the_sending_and_whether_the_guest_keeps_up() -> None:
    stuck = [boundary(number, 10e6, dirtied=10e6) for number in range(3, 6)]
    free = [boundary(number, 10e6, dirtied=2e6) for number in range(3, 6)]

    def of(boundaries: list[Boundary], **changes: object) -> str | None:
        known: dict[str, object] = {
            "throttle_climbs": False, "bandwidth_limit": 1e7, "sender_cores": None, "link_bytes_per_second": None,
            "downtime_limit_seconds": 0.1,
        }  # fmt: skip
        return bottleneck(boundaries, **(known | changes))  # type: ignore[arg-type] # the keywords of bottleneck

    assert of(free) == "cap"
    assert of(stuck) == "cap+dirtying"
    assert of(stuck, link_bytes_per_second=1e9) == "cap+dirtying+switchover-estimate"
    assert of(stuck, link_bytes_per_second=2e7) == "cap+dirtying"
    assert of(free, bandwidth_limit=None) == "link"
    assert of(free, bandwidth_limit=None, sender_cores=0.97) == "sender"
    assert of(stuck, throttle_climbs=True) == "throttle+dirtying"
    assert of([]) is None
    assert in_words("cap+dirtying") == "bandwidth cap, guest keeps pace"


def test_the_blackout_to_expect_under_a_cap_wants_earlier_last_passes() -> None:
    assert link_speed([]) is None
    speed = link_speed([(20e6, 0.01), (30e6, 0.01), (0, 0.01), (40e6, 0.01)])
    assert speed == 3e9
    assert expected_blackout(0.3, 1e8, None, capped=True) is None
    assert expected_blackout(0.3, 1e8, speed, capped=True) == pytest.approx(0.84 * 0.3 * 1e8 / 3e9)
    assert expected_blackout(0.3, 1e8, None, capped=False) == pytest.approx(0.84 * 0.3)


def test_a_migration_that_is_not_ours_is_not_called_hopeless_while_its_throttle_climbs() -> None:
    verdicts = Verdicts(None)
    verdicts.limits({"downtime-limit": 100, "max-bandwidth": 10_000_000, "max-cpu-throttle": 99})
    found: list[Sample] = []
    for iteration in range(1, 12):
        fields = {"iteration": float(iteration), "remaining_bytes": 1e7, "bandwidth_bytes_per_second": 1e7,
                  "throttle_percent": 80.0}  # fmt: skip
        found += verdicts.progressed(iteration * 10**9, Progress(status="active", fields=fields))
    assert [sample.fields["step_to_come"] for sample in found] == ["auto-converge"] * 10
    assert found[-1].fields["stalled"] == 1.0
    assert found[-1].fields["not_converging"] == 0.0
