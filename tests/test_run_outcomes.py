"""Whole runs on real QEMUs under TCG: each strategy, each limit, each way to lose something, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.marks import read_marks
from driver.record import read_record
from driver.run import run_migration
from driver.runtime import OWNER, sweep
from driver.scenario import Scenario
from driver.targets import read_targets
from tests.driver_process import HARDWARE, NEVER, WORKLOAD, a_request
from tests.real_runs import ended, names, no_qemu_of, phase_of, pids, running
from tests.waiting import until, wait_until
from workload.errors import BadValueError, MigrascopeError

pytestmark = pytest.mark.qemu

ROOT_ALONE_HAS_USERFAULTFD = (
    os.getuid() == 0 and Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "0"
)
SLOW = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, max_time_seconds=30)
EASY = Scenario(bandwidth_mib_s=64, downtime_limit_ms=1000, max_time_seconds=30)


async def test_a_cold_run_over_tcp_completes_and_its_record_says_all(run_data: DataDir) -> None:
    record = await ended(
        replace(a_request(replace(EASY, transport="tcp"), warm_start=False), comparison="demo"), run_data
    )
    assert record.outcome == "completed"
    assert names(record) == ["start", "negotiate", "boot", "settle", "migrate", "switchover", "recover", "end"]
    assert record.source_binary == record.destination_binary
    assert record.source_binary
    assert record.source_binary.version[0].isdigit()
    assert record.guest
    assert record.guest.loop
    assert (record.guest.settled_bytes_per_second or 0) > 1e7
    assert record.accelerator == "tcg"
    assert record.comparison == "demo"
    assert record.final["status"] == "completed"
    assert record.final["total-time"] > 0
    switchover = record.phase("switchover")
    assert switchover
    assert 0 < (switchover.end_ns or 0) - switchover.start_ns < 2_000_000_000


async def test_a_microvm_boots_and_migrates(run_data: DataDir) -> None:
    request = a_request(EASY, warm_start=False)
    record = await ended(replace(request, hardware=replace(HARDWARE, machine="microvm")), run_data)
    assert record.outcome == "completed"


async def test_a_warm_run_restores_a_saved_guest_and_its_console_goes_on(run_data: DataDir) -> None:
    for _ in range(2):
        record = await ended(a_request(EASY), run_data)
        assert record.outcome == "completed"
        assert record.warm_start
        assert names(record)[1:4] == ["restore", "negotiate", "settle"]
        assert record.guest
        assert record.guest.loop
    console = run_data.run(record.run).console("source").read_bytes()
    assert b" ready " not in console
    assert int(console.split(b"@m1 ")[1].split()[0]) > 100


async def test_a_guest_that_cannot_converge_is_cancelled_at_its_time_limit_and_goes_on(run_data: DataDir) -> None:
    record = await ended(a_request(replace(NEVER, max_time_seconds=4)), run_data)
    assert (record.outcome, record.limit_reached) == ("not_converged", "time")
    assert "recover" in names(record)
    assert read_marks(run_data.run(record.run))[-3].name == "recovered"


async def test_the_iteration_limit_is_a_limit(run_data: DataDir) -> None:
    record = await ended(a_request(replace(SLOW, max_iterations=2)), run_data)
    assert (record.outcome, record.limit_reached) == ("not_converged", "iterations")


async def test_post_copy_rescues(run_data: DataDir) -> None:
    record = await ended(a_request(replace(SLOW, post_copy_iterations=2)), run_data)
    assert record.outcome == "completed", record.reason
    action = next(mark for mark in read_marks(run_data.run(record.run)) if mark.name == "post-copy")
    assert action.detail["iteration"] == 3
    assert action.detail["iteration_remaining_bytes"] > 0


async def test_auto_converge_rescues(run_data: DataDir) -> None:
    # bandwidth x limit holds what a guest of 3 GiB/s dirties in the second that a sync takes at 99 % (docs/qemu.md),
    # and the working set is two and a half times as much, so that it does not converge by itself
    scenario = replace(
        SLOW, bandwidth_mib_s=128, downtime_limit_ms=300, auto_converge_initial=80, auto_converge_increment=19
    )
    request = replace(
        a_request(scenario), hardware=replace(HARDWARE, memory_mib=192), workload=replace(WORKLOAD, working_set_mib=96)
    )
    record = await ended(request, run_data)
    assert record.outcome == "completed", record.reason


async def test_a_paused_guest_is_dark_from_stop_to_resume_and_lives_on(run_data: DataDir) -> None:
    record = await ended(a_request(replace(SLOW, pause_iterations=2)), run_data)
    assert record.outcome == "completed", record.reason
    switchover = record.phase("switchover")
    assert switchover
    # what was left of 16 MiB at 32 MiB/s, not the few milliseconds that QEMU calls downtime
    assert (switchover.end_ns or 0) - switchover.start_ns > 100_000_000
    assert record.final["downtime"] < 100


async def test_post_copy_that_the_destination_refuses_is_unsupported(run_data: DataDir, tmp_path: Path) -> None:
    wrapper = tmp_path / "without-userfaultfd"
    wrapper.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec qemu-system-x86_64 --version\n'
        'exec setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace qemu-system-x86_64 "$@"\n'
    )
    wrapper.chmod(0o755)
    request = a_request(replace(SLOW, post_copy_iterations=2), warm_start=False)
    if not ROOT_ALONE_HAS_USERFAULTFD:
        pytest.skip("userfaultfd: this user or host cannot be made to refuse it")
    request = replace(request, destination_binary=str(wrapper))
    record = await ended(request, run_data)
    assert record.outcome == "unsupported"
    assert "Postcopy is not supported" in (record.reason or "")
    assert names(record) == ["start", "negotiate"]


async def test_a_missing_qemu_is_unsupported_and_a_foreign_binary_refused(run_data: DataDir) -> None:
    record = await ended(a_request(binary="no-such-qemu"), run_data)
    assert record.outcome == "unsupported"
    assert "apt-get install qemu-system-x86" in (record.reason or "")
    with pytest.raises(BadValueError, match="is not QEMU"):
        await run_migration(a_request(binary="/bin/ls"), run_data, None)
    with pytest.raises(BadValueError, match="cannot be read"):
        await run_migration(replace(a_request(), kernel=Path("/no/such/kernel")), run_data, None)
    assert [run.run for run in run_data.all_runs()] == [record.run]


async def test_a_qemu_that_exits_at_once_is_told_with_its_last_words(run_data: DataDir, tmp_path: Path) -> None:
    wrapper = tmp_path / "bad-option"
    wrapper.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec qemu-system-x86_64 --version\n'
        'exec qemu-system-x86_64 "$@" -device no-such-device\n'
    )
    wrapper.chmod(0o755)
    record = await ended(a_request(binary=str(wrapper), warm_start=False), run_data)
    assert record.outcome == "broken"
    assert f"QEMU: {wrapper} -M none exited with 1 before it answered: " in (record.reason or "")
    assert "no-such-device" in (record.reason or "")


async def test_a_destination_killed_in_mid_migration_fails_it_and_the_guest_goes_on(run_data: DataDir) -> None:
    async with running(a_request(), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        await asyncio.sleep(0.5)
        os.kill(pids(run)["destination"], signal.SIGKILL)
        record = await task
    assert record.outcome == "failed"
    assert "destination: qemu-system-x86_64 was killed by SIGKILL" in (record.reason or "")
    assert "recovered" in [mark.name for mark in read_marks(run)]
    assert no_qemu_of(run)


async def test_a_source_killed_in_mid_migration_loses_the_guest(run_data: DataDir) -> None:
    async with running(a_request(), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        os.kill(pids(run)["source"], signal.SIGKILL)
        record = await task
    assert record.outcome == "guest_lost"
    assert "source: qemu-system-x86_64 was killed by SIGKILL" in (record.reason or "")
    assert no_qemu_of(run)


async def test_a_stopped_qemu_is_broken_and_killed_within_the_grace_period(run_data: DataDir) -> None:
    async with running(a_request(), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        os.kill(pids(run)["source"], signal.SIGSTOP)
        async with asyncio.timeout(30):
            record = await task
    assert record.outcome == "broken"
    assert "was stopped by a signal" in (record.reason or "")
    assert no_qemu_of(run)


async def test_a_guest_that_panics_is_lost_with_its_words(run_data: DataDir, tmp_path: Path) -> None:
    wrapper = tmp_path / "panics-on-nmi"
    wrapper.write_text(
        '#!/bin/bash\nexec qemu-system-x86_64 "${@/mitigations=off/mitigations=off unknown_nmi_panic}"\n'
    )
    wrapper.chmod(0o755)
    async with running(a_request(binary=str(wrapper), warm_start=False), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "settle")
        monitor = next(target.monitor for target in read_targets(run).targets if target.role == "source")
        reader, writer = await asyncio.open_unix_connection(monitor)
        writer.write(b'{"execute": "qmp_capabilities"} {"execute": "inject-nmi"}\n')
        record = await task
        writer.close()
        await writer.wait_closed()
        assert b'"QMP"' in await reader.readline()
    assert record.outcome == "guest_lost"
    assert "guest: Kernel panic" in (record.reason or "")


async def test_a_guest_that_boots_into_nothing_is_broken(run_data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.guest.BOOT_SECONDS", 0.5)
    record = await ended(a_request(warm_start=False), run_data)
    assert record.outcome == "broken"
    assert "guest: did not say ready within 0.5 s" in (record.reason or "")


@pytest.mark.parametrize("phase", ["start", "restore", "settle", "migrate", "recover"])
async def test_a_user_may_cancel_in_any_phase(run_data: DataDir, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if phase == "recover":  # a guest that is never judged to be back, so that the phase cannot end before the cancel
        monkeypatch.setattr("driver.guest.RECOVERED_SHARE", 100.0)
        monkeypatch.setattr("driver.guest.STEADY_SPREAD", -1.0)
    cancel = asyncio.Event()
    scenario = EASY if phase == "recover" else NEVER
    task = asyncio.create_task(run_migration(a_request(scenario), run_data, None, cancel=cancel))
    await until(lambda: run_data.all_runs() and phase_of(run_data.all_runs()[0]) == phase)
    if phase == "recover":  # which begins with RESUME: until the source says `completed` too, that word comes first
        await asyncio.sleep(0.5)
    cancel.set()
    async with asyncio.timeout(15):
        record = await task
    assert record.outcome == "cancelled"
    assert names(record)[-1] == phase
    assert read_record(run_data.run(record.run)) == record
    assert no_qemu_of(run_data.run(record.run))


@pytest.mark.parametrize("phase", ["start", "migrate"])
async def test_a_second_interrupt_ends_the_run_at_once(run_data: DataDir, phase: str) -> None:
    task = asyncio.create_task(run_migration(a_request(), run_data, None))
    await until(lambda: run_data.all_runs() and phase_of(run_data.all_runs()[0]) == phase)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run = run_data.all_runs()[0]
    record = read_record(run)
    assert (record.outcome, record.reason) == ("cancelled", "by the user, at once")
    assert names(record)[-1] == phase, "nothing is waited for: no migration's end, no guest that recovers"
    assert not [mark for mark in read_marks(run) if mark.name == "recovered"]
    assert no_qemu_of(run)


async def test_a_second_driver_is_refused(run_data: DataDir) -> None:
    async with running(a_request(), run_data):
        with pytest.raises(MigrascopeError, match="another migrascope is running"):
            await run_migration(a_request(), run_data, None)


def test_a_killed_driver_leaves_no_qemu_and_its_sockets_are_swept(run_data: DataDir) -> None:
    driver = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("driver_process.py"), run_data.path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    wait_until(lambda: run_data.all_runs() and phase_of(run_data.all_runs()[0]) == "migrate")
    driver.kill()
    driver.wait()
    run = run_data.all_runs()[0]
    wait_until(lambda: no_qemu_of(run))
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    assert list(runtime.glob(f"*/{OWNER}"))
    sweep(runtime)
    assert not list(runtime.iterdir())
    assert read_record(run).outcome is None
