"""The guest's reading of its settings: the same bounds as ours, and each bad one named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native_guest import build_native, run_native
from workload.console import GuestError, Parser
from workload.image import guest_command_line
from workload.settings import Workload
from workload.value import settings_of


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_native(tmp_path_factory.mktemp("native"))


def refusal(native: Path, command_line: str) -> str:
    """The text of the one error record that the guest answers with."""
    records = Parser().feed(run_native(native, "settings", command_line))
    assert len(records) == 1
    assert isinstance(records[0], GuestError)
    return records[0].text


def test_the_guest_reads_the_settings_that_the_command_line_says(native: Path) -> None:
    workload = Workload(working_set_mib=48, granularity_mib=3, tick_ms=0, rate_limit_mib_s=200)
    assert run_native(native, "settings", guest_command_line(workload, 7)).decode().split() == [
        "working_set_mib=48", "granularity_mib=3", "tick_ms=0", "rate_limit_mib_s=200", "vcpus=7",
    ]  # fmt: skip


def test_the_guest_has_the_bounds_of_the_workload(native: Path) -> None:
    found = {name: (low, high, zero) for name, low, high, zero in map(str.split, _lines(native, "bounds"))}
    del found["vcpus"]  # the hardware's, not the workload's
    assert found == {
        name: (f"{facts.low:.0f}", f"{facts.high:.0f}", f"{facts.zero:d}")
        for name, (_, _, facts) in settings_of(Workload).items()
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
        ("=1", "migrascope.=1: no such setting"),
        ("x" * 2000, f"migrascope.{'x' * 80}: no such setting"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_wanted(native: Path, setting: str, text: str) -> None:
    assert refusal(native, guest_command_line(Workload(), 1, f"migrascope.{setting}")) == text


def test_a_missing_setting_is_named(native: Path) -> None:
    given = guest_command_line(Workload(), 1).replace("migrascope.tick_ms=10", "")
    assert refusal(native, given) == "migrascope.tick_ms is missing on the kernel command line"


def _lines(native: Path, *arguments: str) -> list[str]:
    return run_native(native, *arguments).decode().splitlines()
