"""The named comparisons: guestperf's with its values, ours beside them, each planned, estimated and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from driver.campaign_cells import cells
from driver.campaign_check import refused_cells
from driver.campaign_plan import Campaign, PlannedComparison
from driver.check import unsupported
from driver.check_members import refused_members
from driver.comparison import COMPARISONS
from driver.comparison_plan import NOMINAL_PACE, Member
from driver.datadir import DataDir
from driver.estimate import estimate_seconds
from driver.kit import KERNEL_MIB, KERNEL_SHARE
from driver.request import Request
from driver.scenario import Scenario
from migrascope.main import main
from tests.real_runs import ended
from tests.test_check import recorded
from workload.settings import Workload

MEMBERS = {name: each.plan(NOMINAL_PACE).members for name, each in COMPARISONS.items()}

GUESTPERF: dict[str, dict[str, list[object]]] = {
    "pause-iters": {"pause_iterations": [0, 1, 5, 20]},
    "post-copy-bandwidth": {"bandwidth_mib_s": [12, 37, 125, 1250, 12500], "post_copy_iterations": [5] * 5},
    "post-copy-iters": {"post_copy_iterations": [0, 1, 5, 20]},
    "auto-converge-iters": {"auto_converge_increment": [5, 10, 20]},
    "auto-converge-bandwidth": {
        "bandwidth_mib_s": [12, 37, 125, 1250, 12500], "auto_converge_increment": [10] * 5,
    },
    "compr-mt": {"compress_threads": [1, 2, 4]},
    "compr-xbzrle": {"xbzrle_cache_percent": [5, 10, 20, 50]},
    "compr-multifd": {"multifd_channels": [4, 8, 32, 64]},
    "compr-multifd-compression": {
        "multifd_channels": [2] * 4, "multifd_compression": ["zlib", "zstd", "qpl", "uadk"],
    },
    "compr-dirty-limit-period": {"dirty_limit_period_ms": [500, 800, 1000]},
    "compr-dirty-limit": {"dirty_limit_mib_s": [10, 20, 50]},
}  # fmt: skip
"""peers: guestperf's comparisons with the values that they vary, XBZRLE's third one corrected."""


@pytest.mark.parametrize("name", GUESTPERF)
def test_guestperfs_comparisons_have_its_values(name: str) -> None:
    scenarios = [member.scenario for member in MEMBERS[name]]
    for field, wanted in GUESTPERF[name].items():
        assert [getattr(each, field) for each in scenarios] == wanted
    for each in scenarios:
        assert (each.downtime_limit_ms, each.max_iterations, each.max_time_seconds) == (500, 30, 300)
        assert each.bandwidth_mib_s == 125_000 or "bandwidth" in name


def test_what_guestperf_does_after_no_iteration_is_done_at_once() -> None:
    assert MEMBERS["pause-iters"][0].scenario.schedule == "0.01 s: pause"
    assert MEMBERS["post-copy-iters"][0].scenario.post_copy_seconds == 0.01


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_members_of_a_comparison_differ_and_fit_into_their_guests(name: str) -> None:
    members = MEMBERS[name]
    assert len(set(members)) == len(members) > 1
    for each in members:
        kept_mib = KERNEL_MIB + KERNEL_SHARE * each.hardware.memory_mib
        assert each.workload.working_set_mib + kept_mib <= each.hardware.memory_mib <= 256
    assert 10 < COMPARISONS[name].seconds < 600


def test_only_what_needs_kvm_or_a_device_or_is_a_known_fault_is_unsupported_by_both_versions() -> None:
    def refused(member: Member) -> bool:
        versions = (recorded("7.2"), recorded("10.0"))
        return all(unsupported(member.scenario, member.hardware, each) for each in versions)

    left = {member.scenario for members in MEMBERS.values() for member in members if refused(member)}
    for scenario in left:
        assert (
            scenario.dirty_limit_mib_s
            or scenario.multifd_compression in ("qpl", "uadk", "qatzip")
            or {"multifd", "post-copy"} <= set(scenario.strategies)
            or scenario.transport == "rdma"
        ), scenario.name


def test_the_ramps_end_where_their_projects_let_them_end() -> None:
    _, nova, ovirt, kubevirt = (member.scenario for member in MEMBERS["downtime-ramps"])

    def limits(scenario: Scenario) -> list[int | None]:
        return [scenario.downtime_limit_ms, *(step.value for step in scenario.steps)]

    assert limits(nova) == list(range(50, 501, 45))
    assert limits(ovirt) == [100, 150, 200, 300, 400, 500]
    assert (limits(kubevirt)[0], limits(kubevirt)[-1]) == (150, 1050)


def test_an_estimate_follows_the_values() -> None:
    never = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100)
    member = MEMBERS["throttle"][0]

    def estimate(scenario: Scenario, *, warm_start: bool = True) -> float:
        return estimate_seconds(scenario, member.hardware, Workload(working_set_mib=16), warm_start=warm_start)

    def over(**fields: object) -> Scenario:
        return Scenario(**({"bandwidth_mib_s": 32, "downtime_limit_ms": 100} | fields))  # type: ignore[arg-type]

    assert estimate(never) > estimate(over(post_copy_iterations=9)) > estimate(over(post_copy_iterations=2))
    assert estimate(over(max_time_seconds=4)) == pytest.approx(4.5 + 4)
    assert estimate(over(schedule="stalled: downtime-limit-ms=200; stalled: downtime-limit-ms=900")) > estimate(
        over(schedule="stalled: downtime-limit-ms=900")
    )
    assert estimate(over(auto_converge_increment=5)) > estimate(over(auto_converge_increment=40))
    assert estimate(never, warm_start=False) > estimate(never)


@pytest.mark.qemu
async def test_members_that_the_installed_qemu_cannot_run_are_told_with_their_reasons() -> None:
    refused = await refused_members([COMPARISONS["multifd-compression"]], "qemu-system-x86_64")
    places = refused["multifd-compression"]
    methods = {MEMBERS["multifd-compression"][place].scenario.multifd_compression for place in places}
    assert {"qpl", "uadk", "qatzip"} >= methods
    assert "none" not in methods
    gone = (await refused_members([COMPARISONS["recovery"]], "/does/not/exist"))["recovery"]
    assert gone.keys() == {0, 1, 2}
    assert "/does/not/exist is no program that this user may run" in gone[0]


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["qemu-versions", "multifd-compression"])
async def test_a_campaign_of_a_named_comparison_is_refused_what_the_list_says(name: str) -> None:
    campaign = Campaign(name="of-it", comparisons=(PlannedComparison(name=name),))
    planned = cells(campaign, {})
    asked = [(each.request.source_binary, each.request.destination_binary) for each in planned]
    assert asked == [(each.qemu or "qemu-system-x86_64", each.destination_qemu) for each in MEMBERS[name]]
    by_cell = await refused_cells(planned)
    by_member = (await refused_members([COMPARISONS[name]], "qemu-system-x86_64"))[name]
    assert {place: by_cell[each.cell] for place, each in enumerate(planned) if each.cell in by_cell} == by_member


@pytest.mark.qemu
def test_list_shows_every_comparison_with_its_estimate_and_what_is_unsupported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told] == list(COMPARISONS)
    for each in told:
        assert isinstance(each, Mapping)
        assert each["seconds"] > 0
        assert len(each["members"]) == len(MEMBERS[each["name"]])
    limited = next(each for each in told if each["name"] == "compr-dirty-limit")
    assert all(member["unsupported"] for member in limited["members"])
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "unsupported here, 3 of 3" in " ".join(shown.split())


@pytest.mark.qemu
async def test_xbzrle_pays_where_a_write_changes_little_of_a_page(run_data: DataDir, qemu_binary: Path) -> None:
    members = MEMBERS["xbzrle-pays"]
    little = [member for member in members if member.workload.change_percent == 2]
    outcomes = {}
    for member in little:
        asked = Request(
            scenario=member.scenario, hardware=member.hardware, workload=member.workload,
            source_binary=str(qemu_binary), warm_start=True,
        )  # fmt: skip
        record = await ended(asked, run_data)
        outcomes[member.scenario.xbzrle_cache_percent] = record.outcome
        if member.scenario.xbzrle_cache_percent:
            # a page of which 2 % change takes a small part of its bytes once it has been seen twice
            cache = record.final["xbzrle-cache"]
            assert cache["pages"] > 1000
            assert cache["bytes"] < 0.1 * 4096 * cache["pages"]
    assert outcomes == {0: "not_converged", 50: "completed"}
