"""The machine type that two QEMUs share: by recorded answers of 7.2 and 10.0, and by runs between the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.check import refusal, unsupported
from driver.check_binary import BinaryFacts
from driver.datadir import DataDir
from driver.facts import binary_facts
from driver.hardware import Hardware
from driver.machine import common_machine_type, machine_type
from driver.record import read_record
from driver.scenario import Scenario
from tests.driver_process import a_request
from tests.real_runs import ended
from tests.test_check import recorded
from workload.errors import UnsupportedError

OLD, NEW = recorded("7.2"), recorded("10.0")
EASY = Scenario(bandwidth_mib_s=64, downtime_limit_ms=1000, max_time_seconds=30)


def knowing(binary: BinaryFacts, *names: str, deprecated: tuple[str, ...] = ()) -> BinaryFacts:
    return replace(binary, machines=dict.fromkeys(names, False) | dict.fromkeys(deprecated, True))


@pytest.mark.parametrize(("alias", "wanted"), [("pc", "pc-i440fx-7.2"), ("q35", "pc-q35-7.2"), ("microvm", "microvm")])
def test_an_alias_becomes_the_newest_type_that_both_know_and_microvm_has_no_versions(alias: str, wanted: str) -> None:
    assert common_machine_type(alias, OLD, NEW) == common_machine_type(alias, NEW, OLD) == wanted


def test_two_builds_of_one_version_agree_on_what_its_alias_means() -> None:
    assert common_machine_type("q35", NEW, NEW) == "pc-q35-10.0"
    assert common_machine_type("pc", OLD, OLD) == "pc-i440fx-7.2"


def test_versions_are_numbers_and_a_deprecated_type_is_the_last_resort() -> None:
    both = ("pc-q35-9.2", "pc-q35-10.0", "pc-q35-10.0.1", "pc-q35-noble", "pc-i440fx-11.0")
    assert common_machine_type("q35", knowing(OLD, *both), knowing(NEW, *both)) == "pc-q35-10.0.1"
    ours, theirs = knowing(OLD, *both), knowing(NEW, "pc-q35-9.2", deprecated=("pc-q35-10.0",))
    assert common_machine_type("q35", ours, theirs) == common_machine_type("q35", theirs, ours) == "pc-q35-9.2"
    last = knowing(NEW, deprecated=("pc-q35-9.2", "pc-q35-10.0"))
    assert common_machine_type("q35", ours, last) == "pc-q35-10.0"


def test_where_no_version_is_in_common_the_newest_of_each_are_named() -> None:
    theirs = knowing(NEW, "pc-q35-rhel9.6.0", "pc-q35-rhel9.4.0")
    with pytest.raises(UnsupportedError) as told:
        common_machine_type("q35", OLD, theirs)
    assert str(told.value) == (
        "machine q35: QEMU 7.2.22 and QEMU 10.0.2 know no version of it in common"
        " (their newest: pc-q35-7.2 and pc-q35-rhel9.6.0); take another pair of QEMUs (--qemu, --destination-qemu)"
    )
    with pytest.raises(UnsupportedError, match=r"newest: pc-i440fx-7\.2 and none"):
        common_machine_type("pc", OLD, theirs)


def test_a_qemu_built_without_the_machine_is_told_before_it_starts() -> None:
    assert unsupported(Scenario(), Hardware(machine="microvm"), NEW) is None
    without = replace(NEW, machines={name: old for name, old in NEW.machines.items() if name != "microvm"})
    reason = unsupported(Scenario(), Hardware(machine="microvm"), without)
    assert reason == "this QEMU 10.0.2 was built without the machine type microvm"


@pytest.mark.qemu
async def test_one_binary_keeps_its_alias_and_two_are_asked(qemu_binary: Path, qemu_10_binary: Path) -> None:
    old, new = await binary_facts(str(qemu_binary)), await binary_facts(str(qemu_10_binary))
    assert await machine_type("pc", old, replace(old, path="/another/copy")) == "pc"
    shared = await machine_type("pc", old, new)
    assert shared.startswith("pc-i440fx-")
    assert await refusal(EASY, Hardware(), old, new) is None


@pytest.mark.qemu
@pytest.mark.parametrize("upwards", [True, False])
async def test_a_guest_goes_from_one_version_to_the_other_and_the_record_says_on_which_machine(
    run_data: DataDir, qemu_binary: Path, qemu_10_binary: Path, upwards: bool
) -> None:
    first, second = map(str, (qemu_binary, qemu_10_binary) if upwards else (qemu_10_binary, qemu_binary))
    record = await ended(replace(a_request(EASY, warm_start=False, binary=first), destination_binary=second), run_data)
    assert record.outcome == "completed", record.reason
    assert record.source_binary
    assert record.destination_binary
    assert record.source_binary.version != record.destination_binary.version
    shared = await machine_type("pc", record.source_binary, record.destination_binary)
    assert read_record(run_data.run(record.run)).negotiated["machine"] == shared
