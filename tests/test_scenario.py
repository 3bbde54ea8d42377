"""Scenarios as values: schedules spelled and parsed, names that differ as values do, gates that know what may come."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.scenario import STRATEGIES, Scenario, changed, step_to_come, strategy_fields
from driver.schedule import CHANGEABLE, parse_schedule, spell_schedule
from migrascope.options import Parser, add_value_options, scenario_from
from workload.errors import BadValueError
from workload.value import Setting, settings_of

SAMPLE = "iteration 3: downtime-limit-ms=1000; 2.5 s: bandwidth-mib-s=400; stalled: post-copy; post-copy 0.05 s: cut"


def another(plain: type[Any], default: Any, facts: Setting) -> Any:
    """A value of a setting that is not its default."""
    if plain is bool:
        return not default
    if facts.choices:
        return next(word for word in facts.choices if word != default)
    if plain is str:
        return SAMPLE
    if default == 0:
        return plain(facts.low)
    return default + 1 if default < (facts.high or 0) else default - 1


def values(plain: type[Any], default: Any, facts: Setting) -> st.SearchStrategy[Any]:
    """A few values of a setting: names have to tell them apart, bounds are another matter."""
    if plain is str and not facts.choices:
        return st.sampled_from(["", SAMPLE, "stalled: cancel", "1 s: post-copy-bandwidth-mib-s=7; 1 s: pause"])
    found = {default, another(plain, default, facts)}
    if plain is not bool and not facts.choices:
        found |= {plain((facts.low or 0) + more) for more in (2, 3)}
    return st.sampled_from(sorted(found))


def scenarios() -> st.SearchStrategy[Scenario | None]:
    drawn = st.fixed_dictionaries({name: values(*facts) for name, facts in settings_of(Scenario).items()})

    def built(fields: dict[str, Any]) -> Scenario | None:
        if fields["transport"] != "tcp":  # else few drawn values would go together
            fields |= {"hosts": "here", "link_mbit_s": 0}
        try:
            return Scenario(**fields)
        except BadValueError:  # values that do not go together
            return None

    return drawn.map(built)


COMPANIONS: dict[str, dict[str, Any]] = {
    "hosts": {"transport": "tcp"},
    "link_mbit_s": {"transport": "tcp", "hosts": "namespaces"},
}
"""What a field's other values need beside them."""


@pytest.mark.parametrize("field", settings_of(Scenario))
def test_a_scenario_of_another_value_has_another_name_of_plain_characters(field: str) -> None:
    plain, default, facts = settings_of(Scenario)[field]
    base = Scenario(auto_converge_increment=9, multifd_channels=2, multifd_compression="zstd")
    fields: dict[str, Any] = {field: another(plain, default, facts)}
    for plainest in (Scenario(), base):
        one = dataclasses.replace(plainest, **COMPANIONS.get(field, {}))
        other = dataclasses.replace(one, **fields)
        assert other != one
        assert other.name != one.name
        assert re.fullmatch(r"[a-z0-9.-]+", other.name)


@given(scenarios(), scenarios())
def test_two_scenarios_have_one_name_only_if_they_are_one(one: Scenario | None, other: Scenario | None) -> None:
    if one and other:
        assert (one.name == other.name) == (one == other)


def test_names_tell_what_is_done_and_when() -> None:
    for fields, name in (
        ({}, "pre-copy.125mib-s.300ms"),
        ({"post_copy_seconds": 2.5, "post_copy_preempt": True}, "post-copy-2.5s.125mib-s.300ms.preempt"),
        (
            {"schedule": "stalled: downtime-limit-ms=150; stalled: downtime-limit-ms=200; iteration 9: post-copy"},
            "post-copy-9.downtime-stalled-150-200.125mib-s.300ms",
        ),
        ({"schedule": "1 s: downtime-limit-ms=95; 2 s: downtime-limit-ms=140; 1.5 s: cancel"},
         "downtime-1s-95-2s-140.1.5s-cancel.125mib-s.300ms"),
        ({"multifd_channels": 4, "multifd_compression": "zstd", "multifd_level": 3, "tls": "psk"},
         "multifd-4-zstd-3.125mib-s.300ms.tls-psk"),
        ({"return_path": False}, "pre-copy.125mib-s.300ms.no-return-path"),
    ):  # fmt: skip
        assert Scenario(**fields).name == name


def test_a_schedule_is_spelled_in_one_way() -> None:
    assert spell_schedule(parse_schedule(SAMPLE)) == SAMPLE
    untidy = Scenario(schedule=" iteration  3 :downtime_limit_ms= 1000;;  2.50s: bandwidth-mib-s=400 ")
    assert untidy == Scenario(schedule="iteration 3: downtime-limit-ms=1000; 2.5 s: bandwidth-mib-s=400")


def test_a_step_that_has_a_field_of_its_own_is_the_same_experiment_as_the_field() -> None:
    assert Scenario(schedule="iteration 5: pause") == Scenario(pause_iterations=5)
    assert Scenario(schedule="2 s: post-copy") == Scenario(post_copy_seconds=2)
    assert Scenario(schedule="iteration 3: post-copy", post_copy_iterations=3) == Scenario(post_copy_iterations=3)
    both = Scenario(schedule="iteration 3: post-copy; stalled: post-copy")
    assert (both.post_copy_iterations, both.schedule) == (3, "stalled: post-copy")
    assert Scenario(schedule="iteration 9: post-copy", post_copy_iterations=3).schedule == "iteration 9: post-copy"


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("soon: pause", "'soon: pause': want WHEN: WHAT"),
        ("pause", "'pause': want WHEN: WHAT"),
        ("iteration 0: pause", "want more than 0"),
        ("0 s: pause", "want more than 0"),
        ("iteration 2000000: pause", "at most 1000000"),
        ("stalled: pauze", "did you mean 'pause'"),
        ("stalled: downtime-ms=4", "did you mean 'downtime-limit-ms'"),
        ("stalled: max-iterations=4", "want one of pause, post-copy"),
        ("stalled: downtime-limit-ms=0", "want 1 to 2000000 ms"),
        ("stalled: downtime-limit-ms=some", "want 1 to 2000000 ms"),
        ("stalled: downtime-limit-ms", "want one of"),
        ("stalled: cut", "want `post-copy N s: cut`"),
        ("post-copy 1 s: pause", "of no use once post-copy has begun"),
        ("stalled: cancel; stalled: cancel", "'stalled: cancel' stands twice"),
        ("stalled: auto-converge-max=50", "want auto_converge_increment above 0 from the start"),
        ("stalled: dirty-limit-mib-s=50", "want dirty_limit_mib_s above 0 from the start"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_in_one_line(schedule: str, words: str) -> None:
    with pytest.raises(BadValueError, match=r"^scenario\.schedule: [^\n]+$") as refused:
        Scenario(schedule=schedule)
    assert words in str(refused.value)


def test_values_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(BadValueError, match="multifd_level=10: want at most 9 for zlib"):
        Scenario(multifd_channels=2, multifd_compression="zlib", multifd_level=10)
    with pytest.raises(BadValueError, match="multifd_level=10: want at most 9 for qatzip"):
        Scenario(multifd_channels=2, multifd_compression="qatzip", multifd_level=10)
    with pytest.raises(BadValueError, match="multifd_level=1: want 0, uadk has no levels"):
        Scenario(multifd_channels=2, multifd_compression="uadk", multifd_level=1)
    with pytest.raises(BadValueError, match="auto_converge_initial=20: want at most auto_converge_max=10"):
        Scenario(auto_converge_increment=5, schedule="stalled: auto-converge-max=10")


def test_what_a_transport_cannot_carry_is_refused() -> None:
    for transport, fields, words in (
        ("exec", {"tls": "psk"}, "has no way back, which TLS needs"),
        ("exec", {"post_copy_iterations": 3}, "has no way back, which post-copy needs"),
        ("fd", {"post_copy_iterations": 3, "post_copy_preempt": True}, "one channel only, preempt wants another"),
        ("fd", {"multifd_channels": 2}, "one channel only, multifd wants several"),
    ):
        with pytest.raises(BadValueError, match=f"scenario.transport='{transport}': .*{words}"):
            Scenario(transport=transport, **fields)


def test_every_changeable_setting_can_be_changed() -> None:
    base = Scenario(auto_converge_increment=5, dirty_limit_mib_s=5)
    for field in CHANGEABLE:
        (step,) = parse_schedule(f"stalled: {field.replace('_', '-')}=77")
        assert getattr(changed(base, step), field) == 77


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategys_usual_fields_turn_it_on(name: str) -> None:
    assert name in Scenario(**strategy_fields(name)).strategies


def test_strategies_are_joined_with_their_schedules() -> None:
    joined = Scenario(**strategy_fields("retune+recover+auto-converge"))
    assert joined.strategy == "post-copy+recover+retune+auto-converge"
    assert joined.schedule == "stalled: downtime-limit-ms=1000; post-copy 0.05 s: cut"


def test_the_gate_waits_for_every_step_of_the_schedule_but_a_cancel() -> None:
    scenario = Scenario(schedule="stalled: downtime-limit-ms=500; 9 s: post-copy; post-copy 1 s: cut; 60 s: cancel")
    assert step_to_come(scenario, (), None) == "post-copy"
    assert step_to_come(scenario, ("post-copy",), None) == "retune"
    assert step_to_come(scenario, ("stalled: downtime-limit-ms=500",), None) == "post-copy"
    assert step_to_come(scenario, ("post-copy", "stalled: downtime-limit-ms=500"), None) is None


def test_the_gate_knows_the_throttles_maximum_as_the_schedule_left_it() -> None:
    step = "iteration 9: auto-converge-max=80"
    scenario = Scenario(auto_converge_increment=10, auto_converge_max=50, schedule=step)
    assert step_to_come(scenario, (), 50) == "retune"
    assert step_to_come(scenario, (step,), 50) == "auto-converge"
    assert step_to_come(scenario, (step,), 80) is None


def test_the_gate_waits_for_dirty_limit_until_it_limits() -> None:
    scenario = Scenario(dirty_limit_mib_s=10)
    assert step_to_come(scenario, (), None) == "dirty-limit"
    assert step_to_come(scenario, (), None, dirty_limited=True) is None


def test_the_command_line_takes_switches_and_schedules() -> None:
    parser = Parser()
    add_value_options(parser, Scenario)
    arguments = parser.parse_args(["--no-return-path", "--post-copy-blocktime", "--schedule", "stalled: post-copy"])
    scenario = scenario_from(arguments)
    assert scenario == Scenario(return_path=False, post_copy_blocktime=True, schedule="stalled: post-copy")
    spec = "post-copy:post_copy_preempt=true,return-path=false,schedule=iteration 2: downtime-limit-ms=400"
    assert scenario_from(parser.parse_args([]), spec) == Scenario(
        post_copy_iterations=3, post_copy_preempt=True, return_path=False,
        schedule="iteration 2: downtime-limit-ms=400",
    )  # fmt: skip
    with pytest.raises(BadValueError, match=r"scenario\.post_copy_preempt='yes': want true or false"):
        scenario_from(parser.parse_args([]), "post-copy:post_copy_preempt=yes")
