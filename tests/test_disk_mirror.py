"""A guest's disk on its way to the destination: real mirrors on both QEMUs, and what is told where one cannot be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboards.disk_rows import disk_rows
from driver.check import unsupported
from driver.datadir import DataDir, RunDir
from driver.disk import check_room, disk_options, make_disk
from driver.disk_mirror import DiskMirror, MirrorLostError
from driver.hardware import Hardware
from driver.kit import check_fits
from driver.marks import read_marks
from driver.migration import Migration
from driver.monitor import Event, RefusedError
from driver.qemu import Qemu
from driver.record import RunRecord
from driver.request import Request
from driver.run import run_migration
from driver.scenario import Scenario
from driver.strategy import capabilities
from driver.stream import Route
from driver.targets import read_targets
from exporter import history
from exporter.start import LINGER_VARIABLE, start_exporter
from tests.driver_process import HARDWARE, NEVER, WORKLOAD, a_request
from tests.fake_qemu import FakeQemu, Notebook, event, reply
from tests.live_pair import PlainMonitor
from tests.real_runs import ended, names, no_qemu_of, phase_of, running
from tests.test_check import recorded
from tests.waiting import until
from workload.errors import BadValueError, BrokenError

MIB = 1 << 20
DISK_MIB = 32
EASY = Scenario(bandwidth_mib_s=100, downtime_limit_ms=500, max_time_seconds=30)
SECURE = replace(EASY, transport="tcp", tls="psk", disk_copy_mode="write-blocking")
ROUTE = Route(runtime=Path("/run/x"), address="10.0.0.2", state=Path("/data/state"))


def with_disk(request: Request, write_mib_s: int = 24) -> Request:
    return replace(
        request,
        hardware=replace(HARDWARE, disk_mib=DISK_MIB),
        workload=replace(WORKLOAD, rate_limit_mib_s=50, disk_write_mib_s=write_mib_s),
    )


def mirror_marks(data: DataDir, record: RunRecord) -> dict[str, Mapping[str, Any]]:
    return {mark.name: mark.detail for mark in read_marks(data.run(record.run)) if mark.name.startswith("mirror")}


def disks(run: RunDir) -> list[bytes]:
    return [run.disk(role).read_bytes() for role in ("source", "destination")]


@pytest.mark.qemu
@pytest.mark.parametrize(("version", "scenario"), [("qemu_binary", EASY), ("qemu_10_binary", SECURE)])
async def test_both_disks_hold_the_same_when_the_guest_goes_on_at_the_destination(
    version: str, scenario: Scenario, run_data: DataDir, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = str(request.getfixturevalue(version))
    execute = Qemu.execute
    seen: list[bytes] = []

    async def looked_at(self: Qemu, command: str, *arguments: Any, **more: Any) -> Any:
        run = RunDir(path=self.launch.log.parent)
        if command == "migrate-continue":  # the guest stands still, and nothing is on its way any more
            source, destination = disks(run)
            assert source == destination
            seen.append(source)
        return await execute(self, command, *arguments, **more)

    end = Qemu.end

    async def looked_at_before(self: Qemu, *, at_once: bool = False) -> None:
        if self.role == "destination" and len(seen) == 1:
            seen.append(self.launch.disk.read_bytes() if self.launch.disk else b"")
        await end(self, at_once=at_once)

    monkeypatch.setattr(Qemu, "execute", looked_at)
    monkeypatch.setattr(Qemu, "end", looked_at_before)
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    record = await run_migration(with_disk(a_request(scenario, binary=binary)), run_data, start_exporter)
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    await until(lambda: not list(runtime.iterdir()))  # the exporter's, which goes by itself
    assert record.outcome == "completed", record.reason
    assert names(record)[-6:] == ["settle", "mirror", "migrate", "switchover", "recover", "end"]
    assert "pause-before-switchover" in record.negotiated["capabilities"]
    at_switchover, afterwards = seen
    assert len(at_switchover) == DISK_MIB * MIB
    written = [any(at_switchover[at : at + 4096]) for at in range(0, len(at_switchover), MIB)]
    assert sum(written) > 16
    assert afterwards != at_switchover  # the guest writes on, to the destination's disk
    marks = mirror_marks(run_data, record)
    assert marks["mirror"] == {
        "server": "inet" if scenario is SECURE else "unix", "copy_mode": scenario.disk_copy_mode
    }  # fmt: skip
    assert 0 <= marks["mirror-ended"]["lag_bytes"] < DISK_MIB * MIB
    assert 0 < marks["mirror-ended"]["seconds"] < 5
    run = run_data.run(record.run)
    assert no_qemu_of(run)
    assert not [path.name for path in run.path.iterdir() if "disk" in path.name]
    _is_recorded(run_data, run, marks["mirror-ended"])


def _is_recorded(data: DataDir, run: RunDir, ended_mark: Mapping[str, Any]) -> None:
    """Whether the exporter saw the mirror and the guest's writes as they were."""
    jobs = history.load(data, run, "block_job").to_pylist()
    assert {(row["role"], row["job"], row["type"]) for row in jobs} == {("source", "disk-mirror", "mirror")}
    assert any(row["ready"] for row in jobs)
    assert all(row["lag_bytes"] == max(row["total_bytes"] - row["done_bytes"], 0) for row in jobs)
    found = history.summary(run)
    assert found.disk_mirror_ready_seconds
    assert 0 < found.disk_mirror_ready_seconds < 20
    assert found.disk_mirror_copied_bytes
    assert found.disk_mirror_copied_bytes >= DISK_MIB * MIB
    assert found.disk_mirror_lag_bytes is not None
    # QEMU's own stamps of pre-switchover and of what follows lie around what the driver measured
    assert found.disk_mirror_switchover_seconds
    assert 0.5 * ended_mark["seconds"] < found.disk_mirror_switchover_seconds < ended_mark["seconds"] + 1
    assert found.settle_disk_bytes_per_second
    assert 10 * MIB < found.settle_disk_bytes_per_second < 26 * MIB
    assert found.migrate_disk_write_seconds
    assert found.migrate_disk_write_seconds_max
    assert found.migrate_disk_write_seconds_max >= found.migrate_disk_write_seconds
    assert "guest's disk writes migrating" in dict(disk_rows(found))
    both = history.load(data, run, "guest_disk").to_pylist()
    assert {row["role"] for row in both} == {"source", "destination"}


@pytest.mark.qemu
async def test_a_mirror_that_never_catches_up_reaches_the_time_limit_and_leaves_no_disk(run_data: DataDir) -> None:
    slow = replace(EASY, disk_mirror_mib_s=1, max_time_seconds=1)
    record = await ended(with_disk(a_request(slow)), run_data)
    assert (record.outcome, record.limit_reached) == ("not_converged", "time")
    assert record.reason
    assert record.reason.startswith("time limit reached before RAM was sent: the disk's mirror is still ")
    assert "migrate" not in names(record)
    assert not list(run_data.run(record.run).path.glob("disk*"))


@pytest.mark.qemu
async def test_a_mirror_that_loses_its_destination_ends_the_run_as_failed(run_data: DataDir) -> None:
    async with running(with_disk(a_request(NEVER)), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        watch = next(target.monitor for target in read_targets(run).targets if target.role == "destination")
        monitor = PlainMonitor(Path(watch))
        monitor.execute("nbd-server-stop")
        monitor.close()
        record = await task
    assert record.outcome == "failed"
    assert record.reason
    assert record.reason.startswith("source: the disk's mirror to the destination failed: ")
    assert not list(run.path.glob("disk*"))


class FakePair:
    """Both QEMUs as far as a mirror needs them; `jobs` are the answers to query-block-jobs, the last one for ever."""

    def __init__(self, *jobs: list[dict[str, Any]]) -> None:
        self.jobs = list(jobs)
        self.taken_ports = 0
        self.said: list[tuple[str, Mapping[str, Any]]] = []

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None, **_: Any) -> Any:
        if command == "query-block-jobs":
            return self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]
        if command == "nbd-server-start" and self.taken_ports:
            self.taken_ports -= 1
            raise RefusedError("destination", command, "Failed to bind socket: Address already in use")
        self.said.append((command, arguments or {}))
        return {}


def a_job(**fields: Any) -> list[dict[str, Any]]:
    return [{"device": "disk-mirror", "len": 10, "offset": 10, "ready": True, "status": "ready"} | fields]


def a_mirror(pair: FakePair, scenario: Scenario) -> tuple[DiskMirror, Notebook]:
    notebook = Notebook()
    return DiskMirror(scenario, pair, pair, ROUTE, notebook), notebook


async def test_the_order_is_export_mirror_end_close_and_go_on_and_is_gone_through_once() -> None:
    pair = FakePair(a_job(offset=3), a_job(offset=3, status="waiting"), a_job(status="concluded"))
    pair.taken_ports = 2
    mirror, notebook = a_mirror(pair, replace(SECURE, disk_mirror_mib_s=7))
    await mirror.begin()
    await mirror.let_go()
    await mirror.let_go()
    assert [command for command, _ in pair.said] == [
        "nbd-server-start", "block-export-add", "blockdev-add", "blockdev-mirror", "block-job-cancel", "job-dismiss",
        "blockdev-del", "nbd-server-stop", "migrate-continue",
    ]  # fmt: skip
    said = dict(pair.said)
    address = {"type": "inet", "data": {"host": "10.0.0.2", "port": "10811"}}
    assert said["nbd-server-start"] == {"addr": address, "tls-creds": "migrascope-tls"}
    assert said["blockdev-add"]["server"] == {"type": "inet", "host": "10.0.0.2", "port": "10811"}
    assert (said["blockdev-add"]["tls-creds"], said["blockdev-add"]["tls-hostname"]) == ("migrascope-tls", "localhost")
    assert (said["blockdev-mirror"]["speed"], said["blockdev-mirror"]["copy-mode"]) == (7 * MIB, "write-blocking")
    assert notebook.actions[-1][0] == "mirror-ended"
    assert notebook.actions[-1][1]["lag_bytes"] == 7


async def test_a_failed_or_vanished_mirror_is_never_let_go_of() -> None:
    for jobs, words in ((a_job(status="concluded", error="No space left on device"), "No space left"), ([], "is gone")):
        pair = FakePair(jobs)
        mirror, _ = a_mirror(pair, EASY)
        await mirror.begin()
        with pytest.raises(MirrorLostError, match=f"source: the disk's mirror to the destination failed: .*{words}"):
            await mirror.let_go()
        assert "migrate-continue" not in [command for command, _ in pair.said]


async def test_a_failure_that_the_migration_tells_of_itself_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.disk_mirror.WATCH_SECONDS", 0.01)
    monkeypatch.setattr("driver.disk_mirror.MIGRATIONS_WORD_SECONDS", 0.01)
    mirror, _ = a_mirror(FakePair(a_job(error="Broken pipe")), EASY)
    await mirror.begin()
    looks = iter([False, False, True])
    with pytest.raises(MirrorLostError, match="Broken pipe"):
        await mirror.watch(lambda: next(looks))
    assert next(looks, None) is None


@pytest.mark.parametrize(
    ("hardware", "scenario", "words"),
    [
        (Hardware(disk_mib=64), Scenario(transport="file"), "file saves the guest to a file"),
        (Hardware(disk_mib=64), Scenario(transport="exec-file"), "exec-file saves the guest to a file"),
        (Hardware(disk_mib=64), Scenario(attempts=2), "attempts=2 may want another"),
        (Hardware(disk_mib=64), Scenario(hosts="ssh", transport="tcp"), None),
        (Hardware(disk_mib=64), Scenario(transport="tcp"), None),
        (Hardware(), Scenario(transport="file"), None),
    ],
)
def test_a_disk_goes_only_to_a_destination_that_listens(
    hardware: Hardware, scenario: Scenario, words: str | None
) -> None:
    found = unsupported(scenario, hardware, recorded("10.0"))
    assert (words is None and found is None) or (words and found and words in found)
    assert {*capabilities(scenario, disk=True)} - {*capabilities(scenario)} == {"pause-before-switchover"}


def test_a_disk_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match=r"hardware\.disk_mib=9: want 0 on a microvm"):
        Hardware(machine="microvm", disk_mib=9)
    with pytest.raises(BadValueError, match=r"workload\.disk_write_mib_s=5: want hardware\.disk_mib above 0"):
        check_fits(HARDWARE, replace(WORKLOAD, phases="1:disk_write_mib_s=5"))
    with pytest.raises(BadValueError, match=r"hardware\.disk_mib=16777216: 2 of them want 33554432 MiB .* MiB free"):
        check_room(Hardware(disk_mib=1 << 24), tmp_path)
    check_room(Hardware(disk_mib=1), tmp_path)


def test_a_disk_begins_empty_or_as_another_and_stays_sparse(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second, with a comma"
    make_disk(first, 64)
    with first.open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"written" * 1000)
    make_disk(second, 64, like=first)
    assert second.read_bytes() == first.read_bytes()
    assert max(path.stat().st_blocks * 512 for path in (first, second)) < MIB
    assert second.stat().st_mode & 0o777 == 0o600
    assert f"file.filename={tmp_path}/second,, with a comma" in disk_options(second)[1]
    with pytest.raises(BrokenError, match=r"guest's disk: cp: .*nowhere"):
        make_disk(tmp_path / "third", 1, like=tmp_path / "nowhere")


def test_a_scenarios_name_tells_how_its_disk_is_copied() -> None:
    assert Scenario(disk_copy_mode="write-blocking", disk_mirror_mib_s=50).name.endswith(
        ".write-blocking.mirror-50mib-s"
    )
    assert "mirror" not in Scenario().name


async def test_pre_switchover_is_answered_by_who_holds_it() -> None:
    source = FakeQemu(role="source", replies=[reply("active"), reply("pre-switchover", 2), reply("completed", 3, 0)])
    queue: asyncio.Queue[Event] = asyncio.Queue()
    queue.put_nowait(event("destination", "RESUME"))
    asked: list[str] = []

    async def let_go() -> None:
        asked.append("now")

    migration = Migration(EASY, source, FakeQemu(role="destination"), queue, Notebook(), let_go=let_go)
    await migration.start("unix:somewhere")
    assert (await migration.steer()).outcome == "completed"
    assert asked == ["now"]
