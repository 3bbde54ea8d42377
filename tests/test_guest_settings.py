"""The guest's reading of its settings: the same bounds as ours, and each bad one named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.native_guest import run_native
from workload.console import GuestError, Parser
from workload.errors import BadValueError
from workload.image import guest_command_line
from workload.settings import LONGEST_PHASES, NO_PHASES, PHASED, Workload
from workload.settings import WORKLOADS as WORKLOADS_BY_NAME
from workload.value import Setting, bounds, settings_of


def refusal(native: Path, command_line: str) -> str:
    """The text of the one error record that the guest answers with."""
    records = Parser().feed(run_native(native, "settings", command_line))
    assert len(records) == 1
    assert isinstance(records[0], GuestError)
    return records[0].text


SETTINGS = {name: facts for name, (_, _, facts) in settings_of(Workload).items() if name != "phases"}


def a_value(facts: Setting) -> st.SearchStrategy[int | str]:
    """Any value that a setting takes."""
    if facts.choices:
        return st.sampled_from(facts.choices)
    numbers = st.integers(int(facts.low or 0), int(facts.high or 0))
    return st.one_of(st.just(0), numbers) if facts.zero else numbers


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    own = draw(st.fixed_dictionaries({name: a_value(facts) for name, facts in SETTINGS.items()}))
    own["working_set_mib"] = 1024 * draw(st.integers(1, 1024))  # whole pages of any size
    values = st.fixed_dictionaries({}, optional={name: a_value(SETTINGS[name]) for name in PHASED})
    phases = draw(st.lists(st.tuples(st.integers(1, 86_400), values.filter(bool)), max_size=3))
    words = (f"{seconds}:" + ",".join(f"{name}={value}" for name, value in settings.items())
             for seconds, settings in phases)  # fmt: skip
    text = "/".join(words) or NO_PHASES
    assume(len(text) <= LONGEST_PHASES)
    return Workload(**own, phases=text)  # type: ignore[arg-type] # as drawn for each


@given(workloads(), st.integers(1, 1024))
@settings(max_examples=40)
def test_the_guest_reads_each_phases_settings_as_the_workload_tells_them(
    native: Path, workload: Workload, vcpus: int
) -> None:
    said = _lines(native, "settings", guest_command_line(workload, vcpus))
    wanted = []
    end = 0
    for seconds, phase in workload.timeline():
        end = end + seconds if seconds else 0
        wanted += [f"{end} {name}={getattr(phase, name)}" for name in SETTINGS] + [f"{end} vcpus={vcpus}"]
    assert said == wanted


@given(workloads(), workloads())
def test_two_workloads_that_do_different_things_have_different_names(one: Workload, other: Workload) -> None:
    """What only changes how it is watched (lines, ticks, probe), or how much memory it is, is not in the name."""

    def done(workload: Workload) -> list[tuple[int | None, list[object]]]:
        named = (*PHASED, "guest_page_size")
        return [(seconds, [getattr(phase, name) for name in named if _matters(phase, name)])
                for seconds, phase in workload.timeline()]  # fmt: skip

    if done(one) != done(other):
        assert one.name != other.name


def _matters(workload: Workload, name: str) -> bool:
    if name.startswith("hot_"):
        return workload.pattern == "hotset"
    return workload.pattern == "zipf" if name.startswith("zipf_") else True


def test_the_guest_has_the_bounds_of_the_workload(native: Path) -> None:
    found = {name: (phased == "1", words) for name, phased, words in (x.split("|") for x in _lines(native, "bounds"))}
    del found["vcpus"]  # the hardware's, not the workload's
    known = settings_of(Workload)
    assert found == {
        name: (name in PHASED, ", ".join(facts.choices) or bounds(facts).removesuffix(facts.unit).strip())
        for name, (_, _, facts) in known.items()
        if name != "phases"
    }


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("tick_ms=abc", "migrascope.tick_ms=abc: want 0 (off) or 1 to 10000"),
        ("tick_ms=", "migrascope.tick_ms=: want 0 (off) or 1 to 10000"),
        ("tick_ms", "migrascope.tick_ms: want 0 (off) or 1 to 10000"),
        ("tick_ms=10001", "migrascope.tick_ms=10001: want 0 (off) or 1 to 10000"),
        ("tick_ms=10ms", "migrascope.tick_ms=10ms: want 0 (off) or 1 to 10000"),
        ("working_set_mib=0", "migrascope.working_set_mib=0: want 1 to 1048576"),
        ("working_set_mib=-1", "migrascope.working_set_mib=-1: want 1 to 1048576"),
        ("working_set_mib=+1", "migrascope.working_set_mib=+1: want 1 to 1048576"),
        (
            "working_set_mib=99999999999999999999999",
            "migrascope.working_set_mib=99999999999999999999999: want 1 to 1048576",
        ),
        ("granularity_mib=1@*2", "migrascope.granularity_mib=1??2: want 1 to 65536"),
        ("granularity=1", "migrascope.granularity=1: no such setting"),
        ("pattern=zapf", "migrascope.pattern=zapf: want sequential, random, once, hotset, zipf, idle"),
        ("guest_page_size=", "migrascope.guest_page_size=: want any, 4k, 2m, 2m-hugetlb, 1g-hugetlb"),
        ("change_percent=0", "migrascope.change_percent=0: want 1 to 100"),
        ("=1", "migrascope.=1: no such setting"),
        ("x" * 2000, f"migrascope.{'x' * 80}: no such setting"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_wanted(native: Path, setting: str, text: str) -> None:
    assert refusal(native, guest_command_line(Workload(), 1, f"migrascope.{setting}")) == text


@pytest.mark.parametrize(
    ("phases", "text"),
    [
        ("5", "migrascope.phases: 5: want SECONDS:NAME=VALUE, 1 to 86400 s"),
        ("5s:pattern=idle", "migrascope.phases: 5s: want SECONDS:NAME=VALUE, 1 to 86400 s"),
        ("0:pattern=idle", "migrascope.phases: 0: want SECONDS:NAME=VALUE, 1 to 86400 s"),
        ("86401:pattern=idle", "migrascope.phases: 86401: want SECONDS:NAME=VALUE, 1 to 86400 s"),
        ("5:patern=idle", "migrascope.patern=idle: no such setting"),
        ("5:write_percent=101", "migrascope.write_percent=101: want 0 to 100"),
        ("5:tick_ms=5", "migrascope.phases: tick_ms: holds for the whole run, not a phase"),
        ("/".join(["1:pattern=idle"] * 17), "migrascope.phases: want at most 16 of them"),
    ],
)
def test_a_bad_phase_is_named_with_what_was_wanted(native: Path, phases: str, text: str) -> None:
    assert refusal(native, guest_command_line(Workload(), 1, f"migrascope.phases={phases}")) == text


@pytest.mark.parametrize(
    ("phases", "text"),
    [
        ("5", "'5': want SECONDS:NAME=VALUE"),
        ("0:pattern=idle", "want SECONDS:NAME=VALUE"),
        ("86401:pattern=idle", "want SECONDS:NAME=VALUE"),
        ("5:pattern=idle/", "want SECONDS:NAME=VALUE"),
        ("5:patern=idle", "'patern=idle': want NAME=VALUE with one of rate_limit_mib_s, pattern"),
        ("5:tick_ms=5", "'tick_ms=5': want NAME=VALUE"),
        ("5:write_percent=", "'write_percent=': want 0 to 100 percent"),
        ("5:write_percent=101", "workload.write_percent=101: want 0 to 100 percent"),
        ("5:pattern=zapf", "workload.pattern='zapf': did you mean 'zipf'? want one of sequential"),
        ("5:pattern=idle hot", "want one of sequential"),
        ("/".join(["1:pattern=idle"] * 17), "want at most 16 of them in 512 characters, found 17 in 254"),
    ],
)
def test_a_bad_phase_is_refused_before_anything_runs(phases: str, text: str) -> None:
    with pytest.raises(BadValueError) as caught:
        Workload(phases=phases)
    assert str(caught.value).startswith("workload.phases: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "page_mib"), [("2m-hugetlb", 2), ("1g-hugetlb", 1024)])
def test_a_working_set_of_no_whole_huge_pages_is_refused(size: str, page_mib: int) -> None:
    with pytest.raises(BadValueError, match=f"working_set_mib=33: want a multiple of {page_mib} MiB with guest_page"):
        Workload(working_set_mib=33, guest_page_size=size)


def test_two_usual_workloads_never_share_a_name() -> None:
    made = {name: Workload(**fields).name for name, fields in WORKLOADS_BY_NAME.items()}  # type: ignore[arg-type]
    assert len(set(made.values())) == len(made)
    assert made["worst"] == "worst"


def test_a_name_tells_the_phases_and_then_the_workload() -> None:
    workload = Workload(pattern="zipf", rate_limit_mib_s=20, phases="5:pattern=hotset/2:pattern=sequential")
    assert workload.name == "5s-hotset-90-10.rate-20-then-2s-rate-20-then-zipf-0.99.rate-20"


def test_a_missing_setting_is_named(native: Path) -> None:
    given = guest_command_line(Workload(), 1).replace("migrascope.tick_ms=10", "")
    assert refusal(native, given) == "migrascope.tick_ms is missing on the kernel command line"
    given = guest_command_line(Workload(), 1).replace(f"migrascope.phases={NO_PHASES}", "")
    assert refusal(native, given) == "migrascope.phases is missing on the kernel command line"


def _lines(native: Path, *arguments: str) -> list[str]:
    return run_native(native, *arguments).decode().splitlines()
