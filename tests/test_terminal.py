"""What a terminal shows: the live view in 80 columns, plain lines elsewhere, and the tables."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from dashboards import tables
from dashboards.colours import MEANINGS, OUTCOME_MEANINGS, RUNS, run_colour, run_dash
from dashboards.labels import short_names
from dashboards.query_table import query_table
from dashboards.terminal import PlainLines, follow, live_view
from dashboards.units import digits, duration, milliseconds, pace, percent, size
from driver.comparison import COMPARISONS
from driver.datadir import DataDir
from driver.doctor import Finding
from driver.record import OUTCOMES, read_record
from driver.watch import LiveState
from exporter import history
from exporter.index import RunRow
from tests.report_runs import SCENARIO, replayed_run

MIB = 1 << 20
STATE = LiveState(
    run="r", scenario="auto-converge-80-19-99.32mib-s.100ms", phase="migrate", seconds=7.4, status="active",
    iteration=12, remaining_bytes=31.2 * MIB, total_bytes=128.0 * MIB, dirty_bytes_per_second=33.1 * MIB,
    bandwidth_bytes_per_second=32.0 * MIB, throttle_percent=99.0, guest_seconds_per_gib=81.204,
    baseline_seconds_per_gib=0.291, source_cpu_cores=1.87, destination_cpu_cores=0.24, implied_downtime_seconds=0.93,
    eta_seconds=12.4, bottleneck="throttle still climbs, guest keeps pace",
    stalled=True, verdict="stalled; auto-converge is still to come",
)  # fmt: skip


def printed(renderable: RenderableType, width: int = 80) -> list[str]:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(renderable)
    return console.export_text().rstrip("\n").split("\n")


async def stream(states: Sequence[LiveState]) -> AsyncIterator[LiveState]:
    for state in states:
        yield state


def test_the_live_view_says_everything_with_units_in_80_columns() -> None:
    lines = printed(live_view(STATE))
    text = "\n".join(lines)
    for words in ("migrate · QEMU active · 7.40 s", "31.2 MiB", "iteration 12", "33.1 MiB/s", "32.0 MiB/s", "99 %",
                  "81,204 ms/GiB (279 x settled)", "source 187 %, destination 24 %", "930 ms",
                  "about 12.4 s", "throttle still climbs, guest keeps pace",
                  "stalled; auto-converge is still to come"):  # fmt: skip
        assert words in text
    assert "…" not in text
    assert max(map(len, lines)) <= 80


def test_the_live_view_keeps_its_height_so_that_nothing_jumps() -> None:
    sparse = LiveState(run="r", scenario="pre-copy", phase="boot")
    long = replace(STATE, verdict="not converging under present conditions, and no step is left", not_converging=True)
    heights = {len(printed(live_view(state))) for state in (sparse, STATE, long, replace(STATE, scenario="x" * 200))}
    assert heights == {7}


async def test_without_a_terminal_each_change_is_one_line_and_samples_are_none() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    states = [replace(STATE, seconds=7.4 + n / 10, remaining_bytes=float(30 - n) * MIB) for n in range(30)]
    boot = LiveState(run="r", scenario=STATE.scenario, phase="boot")
    last = await follow(stream([boot, *states, replace(states[-1], phase="end", outcome="completed")]), console)
    assert last is not None
    assert last.outcome == "completed"
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.partition(": ")[2] for line in lines[:2]] == ["boot", "migrate"]
    assert len(lines) == 6, lines
    assert "\x1b" not in "".join(lines)
    assert lines[-1].startswith("✓ completed after 10.3 s")


def test_iterations_in_quick_succession_are_not_a_flood() -> None:
    plain = PlainLines()
    states = [replace(STATE, seconds=n / 20, iteration=n, verdict=None) for n in range(1, 101)]
    lines = [line for state in states for line in plain.lines(state)]
    assert len([line for line in lines if "iteration" in line]) == 5


async def test_on_a_terminal_the_block_gives_way_to_one_line() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    await follow(stream([STATE, replace(STATE, outcome="not_converged")]), console)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.rstrip().endswith("✗ not converged after 7.40 s, iteration 12  auto-converge-80-19-99.32mib-s.100ms")


async def test_a_stream_without_a_state_shows_nothing() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    assert await follow(stream([]), console) is None
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    place = DataDir.open(tmp_path / "data")
    replayed_run(place, "20261123T235500-aaaa", "7.2-m-nonconverge-ws16-bw32-dl100", outcome="not_converged")
    strategy = replace(SCENARIO, auto_converge_initial=80, auto_converge_increment=19)
    replayed_run(place, "20261123T235600-bbbb", "7.2-m-autoconverge-i80-s19", strategy)
    return place


def test_the_end_table_compares_runs_in_80_columns(data: DataDir) -> None:
    lines = printed(tables.outcome_table(history.runs(data)))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert "✗ not converged" in text
    assert "✓ completed" in text
    assert "…" not in text
    row = next(line for line in lines if line.startswith("auto-converge"))
    assert row.split()[1:] == ["8.13", "16", "5.16", "4.00", "2.05", "x", "5.7", "/", "1.2", "246"]
    assert "all: 32mib-s 100ms t15s" in text


def test_show_tells_every_missing_figure_with_its_reason(data: DataDir) -> None:
    run = data.find_run("aaaa")
    text = "\n".join(
        line for table in tables.run_tables(read_record(run), history.summary(run)) for line in printed(table)
    )
    assert "the guest never resumed at the destination" in text
    assert "did not converge" in text
    assert "working set" in text


def test_runs_are_listed_with_whole_ids_even_where_it_is_narrow(data: DataDir) -> None:
    text = "\n".join(printed(tables.runs_table(history.runs(data)), width=80))
    assert text.index("20261123T235500-aaaa") < text.index("20261123T235600-bbbb")


def test_show_tells_conditions_that_hold_something_and_names_those_that_are_off(data: DataDir) -> None:
    run = replayed_run(data, "r1", "7.2-m-postcopy-rescue", replace(SCENARIO, post_copy_iterations=3))
    lines = [line for table in tables.run_tables(read_record(run), history.summary(run)) for line in printed(table)]
    words = [" ".join(line.split()) for line in lines]
    assert "post-copy after iterations 3 iterations" in words
    assert "attempts 1 attempt" in words
    assert "return path on" in words
    off = " ".join(words[next(place for place, line in enumerate(words) if line.startswith("off ")) :])
    assert "schedule" in off
    assert "post-copy preempt" in off
    assert not any("WHEN:WHAT" in line or line.endswith("LIST") for line in words)
    assert max(map(len, lines)) <= 80


def test_doctor_names_what_is_missing_and_the_remedy() -> None:
    findings = [
        Finding(subject="QEMU", found=True, detail="7.2.22"),
        Finding(subject="KVM", found=False, needed=False, detail="[red]no[/red] /dev/kvm", disables="native speed"),
        Finding(subject="kernel", found=False, detail="none", remedy="apt-get install x"),
    ]
    text = "\n".join(printed(tables.findings_table(findings)))
    for words in ("✓ found", "○ absent", "✗ missing", "disables: native speed", "get it:   apt-get install x",
                  "[red]no[/red] /dev/kvm"):  # fmt: skip
        assert words in text


def test_a_query_shows_nulls_as_nothing_and_markup_as_it_is() -> None:
    text = "\n".join(printed(query_table(["n", "[b]word[/b]"], [(1, "[bold]x[/bold]"), (2.5, None)])))
    assert "[bold]x[/bold]" in text
    assert "[b]word[/b]" in text
    assert "None" not in text


@pytest.mark.parametrize("width", range(60, 120, 7))
def test_a_query_that_is_too_wide_is_shown_in_bands_with_no_cell_broken(width: int) -> None:
    columns = ["run", "iteration", *(f"column_{'x' * number}" for number in range(12))]
    rows = [("20261124-200341-ba4d", number, *([number * 1234567.125] * 12)) for number in (7, 8)]
    lines = printed(query_table(columns, rows), width)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("the same in all 2 rows: run 20261124-200341-ba4d")
    headings = [line.split() for line in lines if "column_" in line]
    assert len(headings) > 1
    assert all(words[0] == "iteration" for words in headings), "each band says which row is which"
    assert [word for words in headings for word in words[1:]] == columns[2:]
    assert sum("9.87654e+06" in line for line in lines) == len(headings)


def test_a_query_that_fits_is_one_table_with_all_its_columns() -> None:
    lines = printed(query_table(["run", "share"], [("r1", [0.35141216000000003, 2]), ("r1", None)]))
    assert [line.split() for line in lines if "─" not in line] == [["run", "share"], ["r1", "[0.351412,", "2]"], ["r1"]]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_list_shows_every_comparison_with_no_name_broken(width: int) -> None:
    table = tables.comparisons_table(list(COMPARISONS.values()), {"demo": {1: "for a reason"}})
    text = "\n".join(printed(table, width))
    assert "unsupported here, 1 of 3: for a reason" in " ".join(text.split())
    assert all(name in text for name in COMPARISONS)


def test_common_parts_leave_the_names_and_are_said_once() -> None:
    names, common = short_names(["pre-copy.32mib-s.100ms", "post-copy-3.32mib-s.100ms"])
    assert (names, common) == (["pre-copy", "post-copy-3"], "32mib-s 100ms")
    assert short_names(["pre-copy.32mib-s"]) == (["pre-copy.32mib-s"], "")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (duration(0.0155), "15.5 ms"), (duration(8.314), "8.31 s"), (duration(125), "2 min 5 s"),
        (duration(3725), "62 min 5 s"), (duration(7300), "2 h 1 min"), (duration(None), "—"),
        (milliseconds(5.1), "5,100 ms"), (size(1.25 * (1 << 30)), "1.25 GiB"), (size(512), "0.500 KiB"),
        (size(0), "0 MiB"), (pace(0.5704), "570 ms/GiB"), (percent(1.87), "187 %"), (digits(0.9996), "1.00"),
        (digits(99.96), "100"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_that_say_something_and_a_unit(text: str, wanted: str) -> None:
    assert text == wanted


def test_every_outcome_has_its_colour_and_every_run_of_an_overlay_differs() -> None:
    assert set(OUTCOME_MEANINGS) == set(OUTCOMES)
    looks = {(run_colour(place), run_dash(place)) for place in range(4 * len(RUNS))}
    assert len(looks) == 4 * len(RUNS)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_colour_of_text_and_lines_stands_out_from_its_ground(mode: str) -> None:
    def brightness(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground = brightness(getattr(MEANINGS["ground"], mode))
    for name, colour in MEANINGS.items():
        if name in ("ground", "grid", "guest-vcpu") or name.startswith("phase"):
            continue
        high, low = sorted((brightness(getattr(colour, mode)), ground), reverse=True)
        wanted = 4.5 if name in ("text", "quiet", "good", "bad", "undecided", "blackout") else 3.0
        assert (high + 0.05) / (low + 0.05) >= wanted, name


def test_the_list_of_runs_is_the_same_whether_its_lines_must_fold_or_not() -> None:
    rows = [
        RunRow(
            run=f"r{number}", scenario="pre-copy." * (1 + number % 3), outcome="completed", conditions={}, figures={}
        )
        for number in range(5)
    ]
    wide, narrow = (printed(tables.runs_table(rows), width=width) for width in (200, 70))
    assert [line.split() for line in wide] == [line.split() for line in narrow]
    folded = printed(tables.runs_table(rows), width=45)
    assert len(folded) > len(wide)
    assert [line.split()[0] for line in folded if line.startswith("r")][1:] == [row.run for row in rows]
