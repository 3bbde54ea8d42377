"""Negotiation, steering and outcomes of one migration, on a QEMU that answers from a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from driver.marks import Mark
from driver.migration import Migration
from driver.monitor import Event, RefusedError
from driver.negotiation import negotiate
from driver.progress import Progress
from driver.scenario import STRATEGIES as NAMES
from driver.scenario import Scenario
from driver.strategy import STRATEGIES
from exporter.sample import Sample
from exporter.verdicts import Verdicts
from tests.fake_qemu import FakeQemu, Notebook, event, reply
from workload.errors import BrokenError, UnsupportedError

FAILED = {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}


def a_migration(scenario: Scenario, source: FakeQemu, *events: Event) -> tuple[Migration, FakeQemu, Notebook]:
    destination, notebook = FakeQemu(role="destination"), Notebook()
    queue: asyncio.Queue[Event] = asyncio.Queue()
    for each in events:
        queue.put_nowait(each)
    return Migration(scenario, source, destination, queue, notebook), destination, notebook


def source_with(*replies: dict[str, Any], **on: list[dict[str, Any]]) -> FakeQemu:
    return FakeQemu(role="source", replies=list(replies), on={name.replace("_", "-", 9): r for name, r in on.items()})


def test_every_named_strategy_is_built() -> None:
    assert STRATEGIES.keys() == NAMES.keys()


async def test_negotiation_sets_limits_and_the_strategies_settings_on_both_sides() -> None:
    source, destination = FakeQemu(role="source"), FakeQemu(role="destination")
    scenario = Scenario(bandwidth_mib_s=32, downtime_limit_ms=200, auto_converge_increment=10, post_copy_iterations=3)
    await negotiate(source, destination, scenario, 256 << 20)
    for qemu in (source, destination):
        assert qemu.commands == ["migrate-set-capabilities", "migrate-set-parameters"]
        capabilities, parameters = qemu.arguments
        switched = {each["capability"] for each in capabilities["capabilities"] if each["state"]}
        assert switched == {"events", "return-path", "postcopy-ram", "auto-converge"}
        assert parameters["max-bandwidth"] == parameters["max-postcopy-bandwidth"] == 32 << 20
        assert parameters["downtime-limit"] == 200
        assert parameters["cpu-throttle-increment"] == 10


async def test_what_a_qemu_does_not_know_or_refuses_is_unsupported_and_named() -> None:
    scenario = Scenario(post_copy_iterations=3)
    old = FakeQemu(role="destination", capabilities=("events", "return-path"))
    with pytest.raises(UnsupportedError, match="destination: this QEMU does not know 'postcopy-ram'"):
        await negotiate(FakeQemu(role="source"), old, scenario, 256 << 20)
    refusing = FakeQemu(role="destination", refuses=("migrate-set-capabilities",))
    with pytest.raises(UnsupportedError, match=r"refused migrate-set-capabilities: Postcopy is not supported"):
        await negotiate(FakeQemu(role="source"), refusing, scenario, 256 << 20)


async def test_a_migration_that_completes_reports_switchover_and_recovery() -> None:
    source = source_with(reply("active"), reply("completed", 2, 0))
    migration, _, notebook = a_migration(
        Scenario(), source, event("source", "MIGRATION_PASS", **{"pass": 1}), event("source", "STOP"),
        event("destination", "RESUME"),
    )  # fmt: skip
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "completed"
    assert notebook.phases == ["switchover", "recover"]
    assert migration.running_on == "destination"
    assert not migration.under_way


async def test_completed_with_no_times_is_asked_again() -> None:
    early = reply("completed", 2, 0) | {"total-time": 0}
    source = source_with(early, early, reply("completed", 2, 0))
    migration, _, _ = a_migration(Scenario(), source, event("destination", "RESUME"))
    await migration.start("unix:somewhere")
    await migration.steer()
    assert migration.final["total-time"] == 1000


async def test_each_step_is_taken_once_after_its_iteration_and_tells_what_it_acted_on() -> None:
    for scenario, command, name in (
        (Scenario(post_copy_iterations=2), "migrate-start-postcopy", "post-copy"),
        (Scenario(pause_iterations=2), "stop", "pause"),
    ):
        active = [reply("active", iteration) for iteration in (1, 2, 2, 3, 3, 4)]
        source = source_with(*active, reply("completed", 4, 0))
        migration, destination, notebook = a_migration(scenario, source)
        if name == "pause":  # a stopped guest arrives stopped
            destination.status = {"status": "paused", "running": False}
        await migration.start("unix:somewhere")
        assert (await migration.steer()).outcome == "completed"
        assert source.commands == ["migrate", command]
        assert [action for action, _ in notebook.actions] == [name]
        assert notebook.actions[0][1]["iteration"] == 3
        assert notebook.actions[0][1]["verdict_iteration"] == 3
        assert destination.commands == (["cont"] if name == "pause" else [])


async def test_a_limit_cancels_once_and_says_which() -> None:
    cases = (
        (Scenario(max_iterations=2), [reply("active", 1), reply("active", 3)], "iterations"),
        (Scenario(max_time_seconds=1), [reply("active", 1)], "time"),
    )
    for scenario, replies, limit in cases:
        source = source_with(*replies, migrate_cancel=[reply("cancelling", 3), {"status": "cancelled"}])
        source.on["migrate_cancel"] = source.on.pop("migrate-cancel")
        migration, _, notebook = a_migration(scenario, source)
        await migration.start("unix:somewhere")
        ending = await migration.steer()
        assert (ending.outcome, ending.limit_reached) == ("not_converged", limit)
        assert source.commands == ["migrate", "migrate_cancel"]
        assert notebook.actions[-1][1]["limit"] == limit


async def test_a_migration_that_completes_while_it_is_cancelled_has_completed() -> None:
    source = source_with(reply("active", 9))
    source.on["migrate_cancel"] = [reply("completed", 9, 0)]
    migration, _, _ = a_migration(Scenario(max_iterations=2), source, event("destination", "RESUME"))
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "completed"


async def test_a_guest_that_a_strategy_paused_goes_on_after_the_cancel() -> None:
    source = source_with(reply("active", 2))
    source.on["migrate_cancel"] = [{"status": "cancelled"}]
    migration, _, _ = a_migration(Scenario(pause_iterations=1, max_time_seconds=1), source)
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "not_converged"
    assert source.commands == ["migrate", "stop", "migrate_cancel", "cont"]


async def test_a_failed_migration_gives_qemus_reason_and_a_cut_post_copy_its_own() -> None:
    for last, reason in ((FAILED, "Broken pipe"), (reply("postcopy-paused"), "post-copy lost its link")):
        migration, _, _ = a_migration(Scenario(), source_with(reply("active"), last))
        await migration.start("unix:somewhere")
        ending = await migration.steer()
        assert ending.outcome == "failed"
        assert reason in (ending.reason or "")


async def test_a_destination_that_never_runs_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.migration.RESUME_SECONDS", 0.3)
    migration, destination, _ = a_migration(Scenario(), source_with(reply("completed", 2, 0)))
    destination.status = {"status": "inmigrate", "running": False}
    await migration.start("unix:somewhere")
    with pytest.raises(BrokenError, match="destination: the guest does not run"):
        await migration.steer()


async def test_post_copy_is_not_cancelled_by_the_user_or_by_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.migration.POST_COPY_GRACE_SECONDS", 0.0)
    source = source_with(reply("active", 2), reply("postcopy-active", 2))
    migration, _, _ = a_migration(Scenario(post_copy_iterations=1, max_time_seconds=1), source)
    await migration.start("unix:somewhere")
    ending = await migration.steer()
    assert (ending.outcome, ending.limit_reached) == ("failed", "time")
    assert (await migration.abandon()).outcome == "cancelled"
    assert "migrate_cancel" not in source.commands


def stalling(boundaries: int) -> list[dict[str, Any]]:
    """Replies at so many boundaries that gain nothing."""
    return [reply("active", iteration, 64 << 20) for iteration in range(1, boundaries + 1) for _ in range(2)]


async def test_each_stalled_verdict_takes_the_next_step_that_waits_for_one() -> None:
    first, second = "stalled: downtime-limit-ms=500", "stalled: downtime-limit-ms=900"
    source = source_with(*stalling(9), reply("completed", 9, 0))
    migration, _, notebook = a_migration(
        Scenario(downtime_limit_ms=100, schedule=f"{first}; {second}"), source, event("destination", "RESUME")
    )
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "completed"
    assert source.commands == ["migrate", "migrate-set-parameters", "migrate-set-parameters"]
    assert source.arguments[1:] == [{"downtime-limit": 500}, {"downtime-limit": 900}]
    assert [(name, detail["step"], detail["stalled"]) for name, detail in notebook.actions] == [
        ("retune", first, True), ("retune", second, True),
    ]  # fmt: skip
    before, after = (detail["iteration"] for _, detail in notebook.actions)
    assert after - before > 3  # what was seen before the limit changed says nothing about the new one


async def test_a_step_changes_every_parameter_that_follows_from_its_setting() -> None:
    source = source_with(reply("active", 2), reply("active", 3), reply("completed", 3, 0))
    scenario = Scenario(post_copy_iterations=50, schedule="iteration 2: bandwidth-mib-s=400")
    migration, _, _ = a_migration(scenario, source, event("destination", "RESUME"))
    await migration.start("unix:somewhere")
    await migration.steer()
    assert source.arguments[1] == {"max-bandwidth": 400 << 20, "max-postcopy-bandwidth": 400 << 20}


async def test_a_step_at_a_time_is_taken_no_earlier() -> None:
    source = source_with(reply("active", 2))
    source.on["stop"] = [reply("completed", 2, 0)]
    migration, destination, _ = a_migration(Scenario(schedule="0.3 s: pause"), source)
    destination.status = {"status": "paused", "running": False}
    loop = asyncio.get_running_loop()
    began = loop.time()
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "completed"
    assert loop.time() - began >= 0.3
    assert source.commands == ["migrate", "stop"]


async def test_a_schedule_that_cancels_is_a_limit_of_its_own() -> None:
    source = source_with(*stalling(9))
    source.on["migrate_cancel"] = [{"status": "cancelled"}]
    migration, _, _ = a_migration(Scenario(downtime_limit_ms=100, schedule="stalled: cancel"), source)
    await migration.start("unix:somewhere")
    ending = await migration.steer()
    assert (ending.outcome, ending.limit_reached) == ("not_converged", "schedule")
    assert "cancelled by its schedule in iteration 5; stalled" in (ending.reason or "")
    assert source.commands == ["migrate", "migrate_cancel"]


class LosesItAgain(FakeQemu):
    """A destination whose link is lost again as soon as it listens."""

    tell: Callable[[], None]

    async def execute(self, command: str, arguments: Any = None, **more: Any) -> Any:
        answer = await super().execute(command, arguments, **more)
        if command == "migrate-recover":
            asyncio.get_running_loop().call_later(0.1, self.tell)
        return answer


async def test_a_source_that_is_not_connected_yet_has_not_lost_its_link_again() -> None:
    paused = [reply("postcopy-paused", 3)] * 4
    source = source_with(*paused, reply("postcopy-active", 3), reply("completed", 3, 0))
    lost = event("destination", "MIGRATION", status="postcopy-paused")
    scenario = Scenario(post_copy_iterations=2, post_copy_recoveries=1)
    migration, _, notebook = a_migration(scenario, source, event("destination", "RESUME"), lost)
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "completed"
    assert [name for name, _ in notebook.actions] == ["recover"]


async def test_a_lost_link_is_recovered_as_often_as_the_scenario_says_and_then_is_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("driver.migration.RECONNECT_SECONDS", 0.3)
    source = source_with(reply("active", 3), reply("postcopy-active", 3), reply("postcopy-paused", 3))
    lost = [event("destination", "MIGRATION", status="postcopy-paused")]
    source.on["migrate-start-postcopy"] = [reply("postcopy-active", 3), reply("postcopy-paused", 3)]
    scenario = Scenario(post_copy_iterations=2, post_copy_recoveries=2)
    destination, queue, notebook = LosesItAgain(role="destination"), asyncio.Queue[Event](), Notebook()
    for each in (event("destination", "RESUME"), *lost):
        queue.put_nowait(each)
    destination.tell = lambda: queue.put_nowait(lost[0])
    migration = Migration(scenario, source, destination, queue, notebook)
    await migration.start("unix:somewhere")
    ending = await migration.steer()
    assert ending.outcome == "failed"
    assert ending.reason == "post-copy lost its link after 2 recoveries: QEMU says postcopy-paused"
    assert destination.commands == ["migrate-recover"] * 2
    assert destination.arguments[0] == {"uri": "unix:somewhere"}
    assert source.commands == ["migrate", "migrate-start-postcopy", "migrate", "migrate"]
    assert source.arguments[-1] == {"uri": "unix:somewhere", "resume": True}
    assert [name for name, _ in notebook.actions] == ["post-copy", "recover", "recover"]


@pytest.mark.parametrize("recoveries", [0, 1])
async def test_a_link_lost_when_the_whole_guest_has_arrived_leaves_the_migration_completed(recoveries: int) -> None:
    source = source_with(reply("active", 3))
    source.on["migrate-start-postcopy"] = [reply("postcopy-active", 3), reply("postcopy-paused", 3)]
    scenario = Scenario(post_copy_iterations=2, post_copy_recoveries=recoveries)
    events = (event("destination", name, **data) for name, data in (
        ("RESUME", {}), ("MIGRATION", {"status": "postcopy-active"}), ("MIGRATION", {"status": "completed"}),
    ))  # fmt: skip
    migration, destination, notebook = a_migration(scenario, source, *events)
    await migration.start("unix:somewhere")
    ending = await migration.steer()
    assert ending.outcome == "completed"
    assert ending.reason
    assert "lost its link when the destination had the whole guest" in ending.reason
    assert destination.commands == []
    assert [name for name, _ in notebook.actions] == ["post-copy"]
    assert (migration.running_on, migration.split, migration.under_way) == ("destination", False, False)


async def test_a_destination_that_never_resumes_has_not_completed_whatever_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("driver.migration.RESUME_SECONDS", 0.3)
    arrived = event("destination", "MIGRATION", status="completed")
    migration, destination, _ = a_migration(Scenario(), source_with(reply("postcopy-paused", 3)), arrived)
    destination.status = {"status": "inmigrate", "running": False}
    await migration.start("unix:somewhere")
    with pytest.raises(BrokenError, match="destination: the guest does not run"):
        await migration.steer()


async def test_a_destination_that_does_not_notice_the_loss_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.recovery.PAUSED_SECONDS", 0.2)
    source = source_with(reply("postcopy-paused", 3))
    scenario = Scenario(post_copy_iterations=2, post_copy_recoveries=1)
    migration, _, _ = a_migration(scenario, source, event("destination", "MIGRATION", status="postcopy-active"))
    await migration.start("unix:somewhere")
    with pytest.raises(BrokenError, match=r"still postcopy-active 0\.2 s after post-copy lost its link"):
        await migration.steer()


def test_the_exporters_gate_hears_of_steps_by_the_drivers_marks() -> None:
    step = "stalled: downtime-limit-ms=500"
    verdicts = Verdicts(Scenario(downtime_limit_ms=100, schedule=step))

    def last_of(boundaries: range) -> dict[str, float | str]:
        found: list[Sample] = []
        for iteration in boundaries:
            for part in (1, 2):
                now = (2 * iteration + part) * 500_000_000
                found += verdicts.progressed(now, Progress.parse(reply("active", iteration, 64 << 20)))
        return dict(found[-1].fields)

    before = last_of(range(1, 12))
    assert (before["stalled"], before["not_converging"]) == (1.0, 0.0)
    verdicts.marked(Mark(kind="action", name="retune", time_ns=1, detail={"step": step}))
    assert last_of(range(12, 24))["not_converging"] == 1.0


async def test_a_recovery_takes_a_later_port_where_the_old_one_is_still_taken() -> None:
    class Taken(FakeQemu):
        async def execute(self, command: str, arguments: Any = None, **more: Any) -> Any:
            if command == "migrate-recover" and arguments["uri"].endswith((":4444", ":4445")):
                raise RefusedError(self.role, command, "Failed to find an available port: Address already in use")
            return await super().execute(command, arguments, **more)

    source = source_with(reply("postcopy-paused", 3), reply("completed", 3, 0))
    destination, queue, notebook = Taken(role="destination"), asyncio.Queue[Event](), Notebook()
    queue.put_nowait(event("destination", "RESUME"))
    queue.put_nowait(event("destination", "MIGRATION", status="postcopy-paused"))
    scenario = Scenario(transport="tcp", post_copy_iterations=2, post_copy_recoveries=1)
    migration = Migration(scenario, source, destination, queue, notebook)
    await migration.start("tcp:127.0.0.1:4444")
    assert (await migration.steer()).outcome == "completed"
    assert source.arguments[-1] == {"uri": "tcp:127.0.0.1:4446", "resume": True}
