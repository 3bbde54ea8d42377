from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.blackout import Blackout, Tick, blackout, longest_silence, lost_ticks

SWITCHOVERS = Path(__file__).parent / "data" / "switchover"
MS = 1_000_000


def a_tick(number: int, arrival_ms: float, guest_ms: float, *, known: bool = True) -> Tick:
    offset = (arrival_ms - guest_ms) / 1000 if known else None
    return Tick(time_ns=round(arrival_ms * MS), guest_seconds=guest_ms / 1000, offset_seconds=offset, sequence=number)


def ticks_around(pause_ms: float, *, count: int = 100, late_ms: float = 0.0, jump_ms: float = 0.0) -> list[Tick]:
    """A tick each 10 ms of the guest's clock; it stands still for `pause_ms` before tick 50, or jumps by `jump_ms`."""
    found = []
    for number in range(count):
        moved = number >= 50
        guest_ms = number * 10 + (jump_ms if moved else 0)
        arrival_ms = number * 10 + (pause_ms if moved else 0) + (late_ms if number % 5 else 0)
        found.append(a_tick(number, arrival_ms, guest_ms))
    return found


STOP_NS = round(490.1 * MS)


def judged(ticks: list[Tick], pause_ms: float, *, kvm: bool = False) -> Blackout:
    return blackout(ticks, STOP_NS, round((490.5 + pause_ms) * MS), kvm=kvm)


def the_recorded(version: str) -> tuple[list[Tick], int, int]:
    lines = [json.loads(line) for line in (SWITCHOVERS / f"{version}-isa-serial.jsonl").read_text().splitlines()]
    ticks = [
        Tick(
            time_ns=round(line["t_mono"] * 1e9),
            guest_seconds=line["guest_us"] / 1e6,
            offset_seconds=line["t_mono"] - line["guest_us"] / 1e6,
            sequence=line["passes"] // 4,
        )
        for line in lines
        if "guest_us" in line
    ]
    stop, resume = (
        next(round(line["t_mono"] * 1e9) for line in lines if line.get("event") == name and line["vm"] == vm)
        for name, vm in (("STOP", "src"), ("RESUME", "dst"))
    )
    return ticks, stop, resume


@pytest.mark.parametrize(("version", "stop_resume_ms"), [("7.2", 13.6), ("10.0", 12.8)])
def test_a_recorded_switchover_was_dark_for_as_long_as_from_stop_to_resume(version: str, stop_resume_ms: float) -> None:
    ticks, stop_ns, resume_ns = the_recorded(version)
    found = blackout(ticks, stop_ns, resume_ns, kvm=False)
    assert (resume_ns - stop_ns) / MS == pytest.approx(stop_resume_ms, abs=0.05)
    assert found.seconds is not None
    assert found.seconds * 1000 == pytest.approx(stop_resume_ms, abs=1.2)


@pytest.mark.parametrize(("version", "shift_ms"), [("7.2", 15.5), ("10.0", 18.1)])
def test_the_least_of_a_window_is_better_than_the_two_lines_next_to_the_switchover(
    version: str, shift_ms: float
) -> None:
    ticks, stop_ns, resume_ns = the_recorded(version)
    last = [tick for tick in ticks if tick.time_ns < resume_ns][-1:]
    first = [tick for tick in ticks if tick.time_ns >= resume_ns][:1]
    bare = blackout([*last, *first], stop_ns, resume_ns, kvm=False).seconds
    whole = blackout(ticks, stop_ns, resume_ns, kvm=False).seconds
    assert bare is not None
    assert whole is not None
    assert bare * 1000 == pytest.approx(shift_ms, abs=0.1)
    true = (resume_ns - stop_ns) / 1e9
    assert abs(whole - true) < abs(bare - true)


@given(st.floats(min_value=1, max_value=60_000), st.floats(min_value=0, max_value=9))
def test_the_blackout_is_the_time_the_guest_clock_stood_still_however_late_the_lines_are(
    pause_ms: float, late_ms: float
) -> None:
    found = judged(ticks_around(pause_ms, late_ms=late_ms), pause_ms)
    assert found.why is None
    assert found.seconds == pytest.approx(pause_ms / 1000, abs=1e-4)
    assert not found.upper_bound


def test_a_source_line_that_arrives_after_stop_still_belongs_to_the_time_before() -> None:
    ticks = ticks_around(30)
    late = a_tick(49, 495, 490)
    found = judged([*ticks[:49], late, *ticks[50:]], 30)
    assert found.seconds == pytest.approx(0.03)


def test_a_throttled_guest_without_a_tick_in_the_window_is_judged_by_its_nearest_ticks() -> None:
    ticks = [a_tick(0, 1000, 1000), a_tick(1, 9000, 8000)]
    found = blackout(ticks, 5000 * MS, 6000 * MS, kvm=False)
    assert found.seconds == pytest.approx(1.0)


def test_under_kvm_a_jump_of_the_guest_clock_is_added_and_the_figure_is_an_upper_bound() -> None:
    ticks = ticks_around(40, jump_ms=40)
    assert judged(ticks, 40, kvm=False).seconds == pytest.approx(0.0, abs=1e-9)
    found = judged(ticks, 40, kvm=True)
    assert found.seconds == pytest.approx(0.04)
    assert found.upper_bound


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ticks: ticks[:50], "no tick after the switchover"),
        (lambda ticks: ticks[50:], "no tick before the switchover"),
        (lambda ticks: [*ticks[:47], *ticks[49:]], "2 ticks around the switchover are lost"),
        (lambda ticks: [*ticks[:49], *ticks[51:]], "2 ticks around the switchover are lost"),
        (
            lambda ticks: [*ticks[:40], a_tick(40, 400, 400, known=False), *ticks[41:]],
            "ticks around the switchover are older than the exporter's start",
        ),
    ],
)
def test_a_blackout_that_cannot_be_known_is_refused_with_the_reason(spoil: object, reason: str) -> None:
    assert callable(spoil)
    found = judged(spoil(ticks_around(30)), 30)
    assert (found.seconds, found.why) == (None, reason)


def test_what_was_lost_half_a_second_away_does_not_matter() -> None:
    ticks = ticks_around(30, count=200)
    spoilt = [*ticks[:120], *ticks[130:]]
    assert judged(spoilt, 30).seconds == pytest.approx(0.03)


def test_the_longest_silence_is_the_largest_gap_of_arrivals_in_its_span() -> None:
    ticks = ticks_around(70)
    assert longest_silence(ticks, 0, 10_000 * MS).seconds == pytest.approx(0.08)
    assert longest_silence(ticks, 0, 480 * MS).seconds == pytest.approx(0.01)


def test_a_silence_that_holds_lost_ticks_is_refused() -> None:
    ticks = ticks_around(70)
    found = longest_silence([*ticks[:49], *ticks[51:]], 0, 10_000 * MS)
    assert (found.seconds, found.why) == (None, "2 ticks are lost in the longest silence")
    assert longest_silence([*ticks[:20], *ticks[21:]], 0, 10_000 * MS).seconds == pytest.approx(0.08)


def test_ticks_older_than_the_exporter_refuse_the_longest_silence() -> None:
    ticks = [a_tick(n, n * 10, n * 10, known=n > 20) for n in range(50)]
    assert longest_silence(ticks, 0, 490 * MS).seconds is None
    assert longest_silence(ticks, 300 * MS, 490 * MS).seconds == pytest.approx(0.01)


@given(st.sets(st.integers(min_value=0, max_value=99), min_size=1))
def test_lost_ticks_are_counted_between_the_first_and_the_last(kept: set[int]) -> None:
    ticks = [a_tick(number, number, number) for number in sorted(kept)]
    assert lost_ticks(ticks) == max(kept) - min(kept) + 1 - len(kept)
