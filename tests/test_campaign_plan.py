"""A campaign's file: what it says is planned, and what is wrong in it is told with file, line and field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from driver.campaign_cells import cells
from driver.campaign_file import read_campaign
from driver.campaign_order import ordered
from driver.campaign_plan import BINARIES, FIELDS, SECTIONS, STRATEGY, Campaign
from workload.errors import BadValueError
from workload.value import settings_of

Write = Callable[[str], Path]

PLAN = """\
name = "night"
repeats = 4
order = "interleaved"
warm_start = true

[labels]
rack = "b12"

[scenario]
bandwidth_mib_s = 32
post_copy_iterations = 7

[hardware]
memory_mib = 128

[grid]
strategy = ["none", "post-copy"]
downtime_limit_ms = [100, 300]
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "plan.toml"
        path.write_text(text)
        return path

    return written


def test_no_two_values_have_a_field_of_the_same_name() -> None:
    names = [name for kind in SECTIONS.values() for name in settings_of(kind)]
    assert len(names) == len(set(names)) == len(FIELDS)
    assert not {STRATEGY, *BINARIES} & set(names)


def test_a_grid_is_the_cross_product_of_its_fields_over_the_plans_base(write: Write) -> None:
    campaign = read_campaign(write(PLAN))
    found = cells(campaign, {})
    assert (campaign.repeats, campaign.order, campaign.labels) == (4, "interleaved", {"rack": "b12"})
    assert [(c.request.scenario.strategy, c.request.scenario.downtime_limit_ms) for c in found] == [
        ("none", 100), ("none", 300), ("post-copy", 100), ("post-copy", 300),
    ]  # fmt: skip
    assert {c.request.scenario.bandwidth_mib_s for c in found} == {32}
    assert {c.request.hardware.memory_mib for c in found} == {128}
    assert all(c.request.warm_start and c.request.campaign == campaign.campaign for c in found)


def test_a_destination_host_holds_for_every_cell_and_makes_another_campaign(write: Write) -> None:
    plan = PLAN.replace("repeats = 4", 'repeats = 4\ndestination_host = "there"\ndestination_address = "10.0.0.2"')
    here, there = (read_campaign(write(text)) for text in (PLAN, plan))
    assert here.campaign != there.campaign
    assert {(c.request.destination_host, c.request.scenario.transport) for c in cells(there, {})} == {("there", "tcp")}
    assert not {c.cell for c in cells(here, {})} & {c.cell for c in cells(there, {})}
    with pytest.raises(BadValueError, match="want an ssh destination"):
        read_campaign(write(plan.replace('"there"', '"-oProxyCommand=x"')))


def test_the_base_tells_how_a_strategy_is_set_and_its_name_whether_it_is_on(write: Write) -> None:
    without, _, post_copy, _ = cells(read_campaign(write(PLAN)), {})
    assert without.request.scenario.post_copy_iterations == 0
    assert post_copy.request.scenario.post_copy_iterations == 7


def test_every_field_of_a_strategy_is_told_from_those_of_all(write: Write) -> None:
    text = """
    [scenario]
    auto_converge_initial = 80
    multifd_level = 3
    schedule = "stalled: downtime-limit-ms=900"
    transport = "tcp"
    return_path = false
    [grid]
    strategy = ["none", "auto-converge", "retune"]
    """
    none, converge, retune = (cell.request.scenario for cell in cells(read_campaign(write(text)), {}))
    assert none.name == "pre-copy.125mib-s.300ms.no-return-path.tcp"
    assert (converge.auto_converge_initial, converge.multifd_level, converge.schedule) == (80, 0, "")
    assert (retune.auto_converge_initial, retune.schedule) == (20, "stalled: downtime-limit-ms=900")


def test_a_base_without_a_strategys_name_is_taken_as_it_stands(write: Write) -> None:
    (only,) = cells(read_campaign(write("[scenario]\npost_copy_iterations = 7\n")), {})
    assert only.request.scenario.strategy == "post-copy"


def test_members_of_comparisons_are_crossed_with_the_grid_and_equal_cells_run_once(write: Write) -> None:
    text = """
    [[comparison]]
    name = "throttles"
    members = [{strategy = "none"}, {strategy = "auto-converge", auto_converge_increment = 40}]
    [[comparison]]
    name = "rescues"
    members = [{strategy = "none"}, {strategy = "post-copy", memory_mib = 512}]
    [grid]
    bandwidth_mib_s = [16, 32]
    """
    found = cells(read_campaign(write(text)), {})
    assert [(c.request.comparison, c.request.scenario.strategy, c.request.scenario.bandwidth_mib_s) for c in found] == [
        ("throttles", "none", 16), ("throttles", "none", 32),
        ("throttles", "auto-converge", 16), ("throttles", "auto-converge", 32),
        ("rescues", "post-copy", 16), ("rescues", "post-copy", 32),
    ]  # fmt: skip
    assert found[2].request.scenario.auto_converge_increment == 40
    assert found[4].request.hardware.memory_mib == 512
    assert len({c.name for c in found}) == 6
    assert "memory_mib=512" in found[4].name


def test_a_named_comparison_is_planned_by_its_guests_pace_under_the_plans_own_values(write: Write) -> None:
    campaign = read_campaign(write('[scenario]\nmax_time_seconds = 7\n[[comparison]]\nname = "demo"\n'))
    slow, fast = (cells(campaign, {"demo": pace * (1 << 30)}) for pace in (1, 8))
    assert [c.request.scenario.strategy for c in slow] == ["none", "auto-converge", "post-copy"]
    assert {c.request.scenario.max_time_seconds for c in slow} == {7}
    assert fast[0].request.scenario.bandwidth_mib_s > slow[0].request.scenario.bandwidth_mib_s


def test_the_campaigns_id_follows_what_is_measured_and_not_how_often(write: Write) -> None:
    first = read_campaign(write(PLAN)).campaign
    assert first.startswith("night-")
    assert read_campaign(write(PLAN.replace("repeats = 4", "repeats = 9").replace("interleaved", "shuffled"))).campaign == first  # fmt: skip  # noqa: E501 - one sentence
    assert read_campaign(write("# a remark\n" + PLAN)).campaign == first
    for was, now in (("300]", "301]"), ('"b12"', '"b13"'), ("true", "false"), ("= 128", "= 256"), ("night", "day")):
        assert read_campaign(write(PLAN.replace(was, now))).campaign != first


def test_a_cells_id_does_not_depend_on_the_plan_around_it(write: Write) -> None:
    wide = cells(read_campaign(write(PLAN)), {})
    narrow = cells(read_campaign(write(PLAN.replace("[100, 300]", "[300]").replace("night", "other"))), {})
    assert [cell.cell for cell in narrow] == [wide[1].cell, wide[3].cell]


def test_a_binary_with_a_slash_is_taken_from_the_files_directory(write: Write, tmp_path: Path) -> None:
    text = '[binaries]\nqemu = "bin/qemu"\n[grid]\ndestination_qemu = ["qemu-system-x86_64", "./new/qemu"]\n'
    same, new = (cell.request for cell in cells(read_campaign(write(text)), {}))
    assert same.source_binary == new.source_binary == str(tmp_path / "bin/qemu")
    assert same.destination_binary == "qemu-system-x86_64"
    assert new.destination_binary == str(tmp_path / "new/qemu")


def test_every_order_runs_everything_once_and_interleaving_goes_to_and_fro() -> None:
    names = ["a", "b", "c"]
    everything = {(name, repeat) for name in names for repeat in (1, 2, 3)}
    for order in ("sequential", "shuffled", "interleaved"):
        found = ordered(names, 3, order, 5)
        assert len(found) == 9
        assert set(found) == everything
    assert [name for name, _ in ordered(names, 2, "sequential", 0)] == ["a", "a", "b", "b", "c", "c"]
    assert [name for name, _ in ordered(names, 3, "interleaved", 0)] == list("abccbaabc")
    assert ordered(names, 9, "shuffled", 1) == ordered(names, 9, "shuffled", 1) != ordered(names, 9, "shuffled", 2)


BAD = {
    "repeats = 0": "line 1: campaign.repeats=0: want 1 to 100000 runs",
    "\nrepeats = true": "line 2: campaign.repeats=True: want a whole number",
    "\nrepeets = 3": "line 2: repeets is not known; did you mean 'repeats'?",
    'order = "random"': "line 1: campaign.order='random': want one of sequential, shuffled, interleaved",
    'name = "No Spaces"': "line 1: campaign.name='No Spaces': want lower-case letters, digits and dashes",
    "name = 3": "line 1: campaign.name=3: want a word",
    "[grid]\n\nbandwith_mib_s = [1]": "line 3: bandwith_mib_s is not known; did you mean 'bandwidth_mib_s'?",
    "[grid]\nbandwidth_mib_s = 32": "line 2: grid.bandwidth_mib_s=32: want a list of values",
    "[grid]\nbandwidth_mib_s = []": "line 2: grid.bandwidth_mib_s=[]: want a list of values",
    "[grid]\nbandwidth_mib_s = [32, 0]": "line 2: scenario.bandwidth_mib_s=0: want 1 to",
    '[grid]\nbandwidth_mib_s = [32, "x"]': "line 2: scenario.bandwidth_mib_s='x': want a whole number",
    "[grid]\nbandwidth_mib_s = [32, 32]": "line 2: grid.bandwidth_mib_s: names a value twice",
    '[grid]\nstrategy = ["post-copi"]': "line 2: strategy 'post-copi' is not known; did you mean 'post-copy'?",
    "[grid]\nstrategy = [3]": "line 2: strategy=3: want a word",
    "[scenario]\ndowntime_limit_ms = 0": "line 2: scenario.downtime_limit_ms=0: want 1 to 2000000 ms",
    "[scenario]\nmemory_mib = 128": "line 2: memory_mib is not known",
    "scenario.downtime_limit_ms = 0": "line 1: scenario.downtime_limit_ms=0: want",
    "scenario = 3": "line 1: scenario=3: want a table, [scenario]",
    "[hardware]\nvcpus = 1.5": "line 2: hardware.vcpus=1.5: want a whole number",
    "[settle]\nsettle_seconds = 0": "line 2: settle.settle_seconds=0: want 0.1 to 600 s",
    "[sampling]\nactive_hz = 5000": "line 2: sampling.active_hz=5000: want 0.1 to 1000 Hz",
    "[sampling]\nactive = 5": "line 2: sampling.active is not known; did you mean 'active_hz'?",
    "[labels]\nrack = 12": "line 2: labels.rack=12: want a word in quotes",
    "[[comparison]]\nname = 'demp'": "line 2: comparison 'demp' is not known; did you mean 'demo'?",
    "[[comparison]]\nmembers = [{}]": "line 1: comparison.name: want a word in quotes",
    "[[comparison]]\nname = 'a'\nmembers = 3": "line 3: comparison.members: want a list of tables",
    "[[comparison]]\nname = 'a'\nmember = []": "line 3: comparison.member is not known; did you mean 'members'?",
    "[comparison]\nname = 'demo'": "line 1: comparison: want one table each, [[comparison]]",
    "[[comparison]]\nname = 'a'\nmembers = [\n {vcpus = 1},\n {vcpus = 0},\n]": "line 5: hardware.vcpus=0: want 1",
    "[[comparison]]\nname='a'\nmembers=[{vcpus = 1}]\n[grid]\nvcpus=[2]": "grid: vcpus stands in a member",
    "[scenario]\nauto_converge_increment=10\n[grid]\nauto_converge_max=[10]": "line 4: scenario.auto_converge_initial",
    "[hardware]\naccelerator='tcg'\ndirty_ring_size=4096": "line 3: hardware.dirty_ring_size=4096: only KVM",
    "[grid]\nvcpus = [1, 2": "line 2: is no TOML",
    "a = 1\na = 2": "line 2: is no TOML: Cannot overwrite a value",
    "repeats = 3\n= 4": "line 2: is no TOML",
}


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_told_with_file_line_and_field(write: Write, text: str) -> None:
    path = write(text)
    with pytest.raises(BadValueError) as raised:
        read_campaign(path)
    said = str(raised.value)
    assert said.startswith(f"campaign {path} line ")
    assert BAD[text] in said
    assert "\n" not in said


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match="No such file"):
        read_campaign(tmp_path / "none.toml")
    (tmp_path / "image.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadValueError, match="is not UTF-8 at byte 0"):
        read_campaign(tmp_path / "image.toml")


def test_a_plan_without_a_name_has_its_files(tmp_path: Path) -> None:
    path = tmp_path / "My Plan.toml"
    path.write_text("repeats = 2\n")
    assert read_campaign(path).name == "my-plan"


def test_a_campaign_is_refused_where_a_value_is_made_that_no_file_could_hold() -> None:
    with pytest.raises(BadValueError, match=r"campaign\.deadline_seconds=5: want 0"):
        Campaign(name="a", deadline_seconds=5)
