from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.blackout import Blackout, Tick, blackout, longest_silence

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
    last = [tick.offset_seconds for tick in ticks if tick.time_ns < resume_ns][-1]
    first = next(tick.offset_seconds for tick in ticks if tick.time_ns >= resume_ns)
    assert last is not None
    assert first is not None
    bare = first - last
    whole = blackout(ticks, stop_ns, resume_ns, kvm=False).seconds
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


def test_a_throttled_guest_whose_last_ticks_are_late_is_judged_by_those_of_the_seconds_before() -> None:
    punctual = [a_tick(number, number * 1000, number * 1000) for number in range(8)]
    late = [a_tick(8, 8700, 8000), a_tick(9, 9900, 9000)]
    resumed = [a_tick(number, 10_040 + (number - 10) * 10, 10_000 + (number - 10) * 10) for number in range(10, 40)]
    found = blackout([*punctual, *late, *resumed], 9990 * MS, 10_030 * MS, kvm=False)
    assert found.seconds == pytest.approx(0.04)
    alone = blackout([*late, *resumed], 9990 * MS, 10_030 * MS, kvm=False)
    assert alone.seconds is None


def test_an_earlier_standstill_of_the_source_is_no_part_of_the_blackout() -> None:
    before = [a_tick(number, number * 10, number * 10) for number in range(100)]
    again = [a_tick(number, number * 10 + 300, number * 10) for number in range(100, 150)]
    after = [a_tick(number, number * 10 + 320, number * 10) for number in range(150, 200)]
    ticks, stop_ns, resume_ns = [*before, *again, *after], 1795 * MS, 1815 * MS
    found = blackout(ticks, stop_ns, resume_ns, kvm=False, running_ns=1295 * MS)
    assert found.seconds == pytest.approx(0.02)
    assert blackout(ticks, stop_ns, resume_ns, kvm=False).seconds == pytest.approx(0.32)


def test_lines_of_the_source_that_are_read_only_after_resume_do_not_shorten_the_blackout() -> None:
    ticks = ticks_around(30)
    overdue = [a_tick(number, 525, number * 10) for number in range(30, 50)]  # so their offsets come down to 35 ms
    resumed = [a_tick(number, number * 10 + 80, number * 10) for number in range(50, 100)]
    found = blackout([*ticks[:30], *overdue, *resumed], round(490.1 * MS), 520 * MS, kvm=False)
    assert found.seconds == pytest.approx(0.08)


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
        (lambda ticks: ticks[49:], "only one tick before the switchover: it may have come late"),
        (lambda ticks: ticks[:51], "only one tick after the switchover: it may have come late"),
        (
            lambda ticks: [a_tick(0, 14, 0), *ticks[49:]],
            "no tick confirms the least offset before the switchover: the next is 14 ms above it",
        ),
        (
            lambda ticks: [a_tick(n, n * 10, n * 10, known=False) for n in range(50)] + ticks[50:],
            "every tick before the switchover is older than the exporter's start",
        ),
    ],
)
def test_a_blackout_that_cannot_be_known_is_refused_with_the_reason(spoil: object, reason: str) -> None:
    assert callable(spoil)
    found = judged(spoil(ticks_around(30)), 30)
    assert (found.seconds, found.why) == (None, reason)


@given(st.sets(st.integers(min_value=0, max_value=99), max_size=60), st.floats(min_value=0, max_value=9))
def test_whichever_ticks_are_lost_the_blackout_is_right_to_a_tick_period_or_refused(
    lost: set[int], late_ms: float
) -> None:
    ticks = [tick for tick in ticks_around(30, late_ms=late_ms) if tick.sequence not in lost]
    found = judged(ticks, 30)
    assert found.why or found.seconds == pytest.approx(0.03, abs=0.01)


def test_a_tick_that_stop_cut_in_two_takes_nothing_from_the_blackout() -> None:
    ticks = ticks_around(30)
    assert judged([*ticks[:49], *ticks[50:]], 30).seconds == pytest.approx(0.03)


def test_ticks_from_before_the_exporters_start_do_not_spoil_those_that_it_saw() -> None:
    ticks = [a_tick(n, n * 10, n * 10, known=False) for n in range(40)] + ticks_around(30)[40:]
    assert judged(ticks, 30).seconds == pytest.approx(0.03)


def test_the_longest_silence_is_the_largest_gap_of_arrivals_in_its_span() -> None:
    ticks = ticks_around(70)
    assert longest_silence(ticks, 0, 10_000 * MS).seconds == pytest.approx(0.08)
    assert longest_silence(ticks, 0, 480 * MS).seconds == pytest.approx(0.01)


def test_a_silence_that_holds_lost_ticks_is_refused() -> None:
    ticks = ticks_around(70)
    found = longest_silence([*ticks[:49], *ticks[51:]], 0, 10_000 * MS)
    assert (found.seconds, found.why) == (None, "2 ticks are lost in the longest silence")
    assert longest_silence([*ticks[:20], *ticks[21:]], 0, 10_000 * MS).seconds == pytest.approx(0.08)


def test_a_line_that_stop_cut_in_two_is_no_sign_of_life_within_the_silence() -> None:
    ticks = ticks_around(70)
    cut = [*ticks[:49], *ticks[50:]]
    assert longest_silence(cut, 0, 10_000 * MS).seconds is None
    assert longest_silence(cut, 0, 10_000 * MS, 565 * MS).seconds == pytest.approx(0.09)
    assert longest_silence([*ticks[:48], *ticks[50:]], 0, 10_000 * MS, 565 * MS).seconds is None


def test_lines_that_were_read_out_of_their_order_are_not_lost() -> None:
    ticks = ticks_around(70)
    found = longest_silence([*ticks[:40], *ticks[45:50], *ticks[40:45], *ticks[50:]], 0, 10_000 * MS)
    assert found.why is None


def test_ticks_older_than_the_exporter_refuse_the_longest_silence() -> None:
    ticks = [a_tick(n, n * 10, n * 10, known=n > 20) for n in range(50)]
    assert longest_silence(ticks, 0, 490 * MS).seconds is None
    assert longest_silence(ticks, 300 * MS, 490 * MS).seconds == pytest.approx(0.01)
