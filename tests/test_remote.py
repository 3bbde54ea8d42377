"""A destination on another host: real runs over a real sshd, what is left there after every kind of end, refusals."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import driver.remote
import driver.ssh
from dashboards.conditions import conditions
from driver.campaign_cells import cells
from driver.campaign_check import refused_cells
from driver.campaign_plan import Axis, Campaign
from driver.datadir import DataDir
from driver.marks import ATTEMPT, read_marks
from driver.qemu import Qemu
from driver.record import RunRecord, read_record
from driver.request import on_hosts
from driver.run import run_migration
from driver.runtime import sweep
from driver.scenario import Scenario
from exporter import history
from exporter.start import start_exporter
from tests.driver_process import HARDWARE, NEVER, WORKLOAD, a_request
from tests.other_host import AHEAD_SECONDS, OtherHost, other_host
from tests.real_runs import phase_of, running
from tests.test_transports import needs_namespaces
from tests.waiting import until, wait_until
from workload.cache import cache_dir
from workload.image import build_initrd

pytestmark = [pytest.mark.qemu, needs_namespaces]

NODES = Path("/sys/devices/system/node/node0")
QUICK = Scenario(bandwidth_mib_s=200, downtime_limit_ms=300, max_time_seconds=30)


@pytest.fixture
def programs(sshd_binary: Path, ssh_binary: Path) -> tuple[Path, Path]:
    return sshd_binary, ssh_binary


@pytest.fixture
def there(
    programs: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cached_tools: None,  # noqa: ARG001 - `ip` makes it
) -> Iterator[OtherHost]:
    """A host that `ssh there` reaches; at the end nothing of a run is left on it."""
    with other_host(tmp_path / "host", *programs, hidden=cache_dir() / "initrd") as host:
        monkeypatch.setenv("PATH", f"{host.path}:{os.environ['PATH']}")
        yield host
        wait_until(lambda: not host.left(), what=f"left there: {host.left()}")


def stamps(data: DataDir, record: RunRecord, measurement: str, **tags: str) -> list[int]:
    table = history.load(data, data.run(record.run), measurement).to_pylist()
    return [row["time_ns"] for row in table if all(row[name] == value for name, value in tags.items())]


async def test_a_guest_goes_to_another_host_at_the_second_attempt_and_is_watched_there(
    there: OtherHost, watched_data: DataDir
) -> None:
    data = watched_data
    scenario = replace(QUICK, tls="psk", attempts=2, schedule="0.3 s: cancel")
    record = await run_migration(a_request(scenario, host="there"), data, start_exporter)
    assert record.outcome == "completed", record.reason
    assert record.scenario
    assert (record.scenario.hosts, record.scenario.transport) == ("ssh", "tcp")
    assert [mark.name for mark in read_marks(data.run(record.run))].count(ATTEMPT) == 1
    assert record.destination_host
    assert record.destination_host.kernel == record.host.kernel

    clock = record.clock_offset
    assert clock
    assert clock.drift_ns is not None
    assert 0 < clock.uncertainty_ns < 50_000_000
    assert abs(clock.monotonic_ns - AHEAD_SECONDS * 10**9) <= clock.uncertainty_ns
    assert abs(clock.drift_ns) <= 2 * clock.uncertainty_ns
    (facts,) = dict(conditions([record]))["Host"]
    told = f"{clock.monotonic_ns / 1e6:+.3f} ms against the source's, known to {clock.uncertainty_ns / 1e6:.3f} ms, "
    assert facts["destination's clock"].startswith(told)

    (recover,) = [phase for phase in record.phases if phase.name == "recover"]
    begin_ns, end_ns = record.phases[0].start_ns, (record.phases[-1].end_ns or 0) + 5 * 10**9
    for measurement in ("qemu_cpu", "qemu_memory", "migration", "event"):
        found = stamps(data, record, measurement, role="destination")
        assert found, measurement
        assert begin_ns < min(found) <= max(found) < end_ns, measurement
    run = data.run(record.run)
    table = history.load(data, run, "qemu_cpu").to_pylist()
    vcpu = [row for row in table if (row["role"], row["kind"]) == ("destination", "vcpu")]
    before = [row["cpu_seconds"] for row in vcpu if row["time_ns"] < recover.start_ns]
    assert max(before) < 0.1  # it waits for its guest
    assert vcpu[-1]["cpu_seconds"] > max(before) + 0.1
    assert [row["cpu_seconds"] for row in vcpu] == sorted(row["cpu_seconds"] for row in vcpu)

    summary = history.summary(run)
    assert summary
    assert summary.stop_resume_seconds
    assert summary.blackout_seconds is not None, summary.why
    # both ends of it were stamped by different clocks, 1000 s apart
    assert abs(summary.blackout_seconds - summary.stop_resume_seconds) < 0.2
    assert summary.cpu_seconds["destination"]
    assert run.console("destination").stat().st_size > 1000

    initrd = build_initrd(cache_dir())
    assert (there.cache / "migrascope" / "copies" / initrd.sha256).read_bytes() == initrd.path.read_bytes()


async def test_a_guest_with_a_disk_goes_encrypted_over_ipv6_to_cpus_and_memory_of_its_own(
    there: OtherHost, run_data: DataDir, qemu_10_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, seen = Qemu.execute, []

    async def looked_at(self: Qemu, command: str, *arguments: Any, **more: Any) -> Any:
        if command == "migrate-continue":  # the guest stands still, and both disks are to hold the same
            seen.append((self.launch.disk.read_bytes() if self.launch.disk else b"", there.disk()))
        return await execute(self, command, *arguments, **more)

    monkeypatch.setattr(Qemu, "execute", looked_at)
    cpu = max(os.sched_getaffinity(0))
    nodes = "0" if shutil.which("numactl") and NODES.is_dir() else ""  # noqa: ASYNC240 - of sysfs
    scenario = replace(QUICK, tls="x509", multifd_channels=2, transport="tcp")
    hardware = replace(HARDWARE, disk_mib=16, destination_cpus=str(cpu), destination_nodes=nodes, prealloc=True)
    asked = replace(a_request(scenario, host="there6", binary=str(qemu_10_binary)), hardware=hardware)
    asked = replace(asked, workload=replace(WORKLOAD, disk_write_mib_s=8))
    async with running(asked, run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "settle")
        pid = there.qemu()
        assert os.sched_getaffinity(pid) == {cpu}
        assert not nodes or "bind:0" in Path(f"/proc/{pid}/numa_maps").read_text()  # noqa: ASYNC240 - a file of /proc
        assert psutil.Process(pid).memory_info().rss > hardware.memory_bytes
        record = await task
    assert record.outcome == "completed", record.reason
    ((source, destination),) = seen
    assert source == destination
    assert any(source)
    assert {"multifd", "pause-before-switchover"} <= set(record.negotiated["capabilities"])
    assert not run.disk("destination").exists()


async def test_post_copy_with_preempt_goes_to_another_host_and_its_threads_are_seen_there(
    there: OtherHost, watched_data: DataDir, qemu_10_binary: Path
) -> None:
    assert there
    scenario = replace(
        QUICK, bandwidth_mib_s=32, downtime_limit_ms=20, post_copy_iterations=1, post_copy_preempt=True, transport="tcp"
    )
    record = await run_migration(
        a_request(scenario, host="there", binary=str(qemu_10_binary)), watched_data, start_exporter
    )
    assert record.outcome == "completed", record.reason
    summary = history.summary(watched_data.run(record.run))
    assert summary
    assert summary.postcopy_bytes
    assert summary.cpu_seconds["destination"]["post-copy"] > 0
    assert summary.blackout_seconds is not None, summary.why


async def test_a_cancelled_run_leaves_nothing_there(there: OtherHost, run_data: DataDir) -> None:
    async with running(a_request(NEVER, host="there"), run_data) as (task, run, cancel):
        await until(lambda: phase_of(run) == "migrate")
        assert any("qemu" in line for line in there.processes())
        cancel.set()
        assert (await task).outcome == "cancelled"
    assert there.left() == []


def test_a_killed_driver_takes_its_qemu_there_along(there: OtherHost, run_data: DataDir) -> None:
    driver = subprocess.Popen([sys.executable, "-m", "tests.driver_process", str(run_data.path), "there"])
    try:
        wait_until(lambda: [run for run in run_data.all_runs() if phase_of(run) == "migrate"])
        assert len(there.processes()) == 2, there.processes()
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not there.left(), seconds=10)
    sweep(Path(os.environ["XDG_RUNTIME_DIR"]))


async def test_a_lost_link_ends_the_run_in_one_line_and_the_qemu_there(
    there: OtherHost, run_data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.remote, "SILENCE_SECONDS", 4.0)
    monkeypatch.setitem(driver.ssh.OPTIONS, "ServerAliveInterval", 1)
    async with running(a_request(NEVER, host="there"), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        there.link("down")
        async with asyncio.timeout(20):
            record = await task
    assert record.outcome == "broken"
    assert record.reason
    assert re.fullmatch(
        r"destination host there: ssh ended with status 255: Timeout, server \S+ not responding\.", record.reason
    )
    assert read_record(run) == record
    await until(lambda: not there.left(), seconds=10)


async def test_what_cannot_be_done_there_is_told_before_a_guest_boots(there: OtherHost, run_data: DataDir) -> None:
    wanted = {
        "nobody": r"destination host nobody: ssh ended with status 255: .*Connection refused",
        "stranger": r"destination host stranger: ssh ended with status 255: .*Permission denied \(publickey.*",
        "there": r"destination host there: no-such-qemu is not on the path there",
    }
    for host, words in wanted.items():
        request = replace(a_request(QUICK, host=host), destination_binary="no-such-qemu")
        record = await run_migration(request, run_data, None)
        assert record.outcome == "unsupported", record.reason
        assert re.fullmatch(words, record.reason or ""), record.reason
    bound = replace(a_request(QUICK, host="there"), hardware=replace(HARDWARE, destination_cpus="0,4000"))
    record = await run_migration(bound, run_data, None)
    assert record.outcome == "unsupported"
    assert re.fullmatch(
        r"hardware\.destination_cpus=0,4000: CPU 4000 cannot be had on destination host there, only 0.*",
        record.reason or "",
    )
    lost = "no-such-qemu"
    plan = Campaign(
        name="night",
        destination_host="there",
        grid=(Axis(field="destination_qemu", values=("qemu-system-x86_64", lost)),),
    )
    good, bad = cells(plan, {})
    assert await refused_cells([good, bad]) == {bad.cell: f"destination host there: {lost} is not on the path there"}
    assert there.left() == []


async def test_an_sshd_that_forwards_no_sockets_is_told(
    programs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_data: DataDir
) -> None:
    with other_host(tmp_path / "host", *programs, settings="AllowStreamLocalForwarding no") as host:
        monkeypatch.setenv("PATH", f"{host.path}:{os.environ['PATH']}")
        record = await run_migration(a_request(QUICK, host="there"), run_data, None)
        assert record.outcome == "unsupported"
        assert re.fullmatch(
            r"destination host there: its sshd forwards no unix sockets: .*open failed.*; want AllowStream.* there",
            record.reason or "",
        ), record.reason
        assert host.left() == []


def test_a_destination_host_makes_a_scenario_of_its_own() -> None:
    assert on_hosts(QUICK, None) is QUICK
    assert on_hosts(QUICK, "there").name == f"{QUICK.name}.tcp.ssh"
