"""Every transport and pair of hosts: real runs on both QEMUs, real refusals, and the values behind them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from driver.clock import Clock
from driver.datadir import DataDir
from driver.namespaces import NAMES, Namespace, joined_namespaces, left_behind, shaper_commands
from driver.runtime import OWNER, sweep
from driver.saving import Saving
from driver.scenario import Scenario
from driver.stream import Route
from driver.transport import TRANSPORTS
from tests.driver_process import a_request
from tests.fake_qemu import FakeQemu
from tests.real_runs import ended, names, no_qemu_of, phase_of, pids, running
from tests.waiting import until
from workload.cache import cache_dir
from workload.errors import BadValueError, BrokenError, UnsupportedError

QUICK = Scenario(bandwidth_mib_s=1000, downtime_limit_ms=500, max_time_seconds=30)
OLD, NEW = "qemu_binary", "qemu_10_binary"
LIVE = [name for name, facts in TRANSPORTS.items() if not facts.saves and name != "rdma"]
REFUSED_BY_OLD = ("file", "mapped-ram", "mapped-ram-direct-io")
ROUTE = Route(runtime=Path("/run/x"), address="127.0.0.1", state=Path("/data/state"))


@pytest.fixture(params=[OLD, NEW])
def binary(request: pytest.FixtureRequest) -> str:
    """Each of the two QEMUs."""
    return str(request.getfixturevalue(request.param))


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    """`ip`, of the system or of the cache."""
    found = shutil.which("ip", path=f"{os.environ['PATH']}:{cache_dir() / 'bin'}")
    return subprocess.run([found or "/no/ip", *words], capture_output=True, text=True, check=False)


def namespaces() -> set[str]:
    listed = ip("netns", "list").stdout
    return {line.split()[0] for line in listed.splitlines() if line.startswith("migrascope-")}


def may_make_namespaces() -> bool:
    name = f"migrascope-try-{os.getpid()}"
    try:
        made = ip("netns", "add", name).returncode == 0
    except FileNotFoundError:
        return False
    ip("netns", "delete", name)
    return made


needs_namespaces = pytest.mark.skipif(
    not may_make_namespaces(),
    reason="network namespaces: want root and iproute2 (in the cache)",
)


@pytest.mark.qemu
@pytest.mark.parametrize("transport", LIVE)
async def test_every_transport_carries_a_guest(run_data: DataDir, binary: str, transport: str) -> None:
    record = await ended(a_request(replace(QUICK, transport=transport), binary=binary), run_data)
    assert (record.outcome, record.kind) == ("completed", "migration"), record.reason
    assert record.saved is None
    assert record.final["ram"]["transferred"] > 16 << 20


@pytest.mark.qemu
@pytest.mark.skipif(any(Path("/sys/class").glob("infiniband/*")), reason="an RDMA device is here")
async def test_rdma_without_a_device_is_unsupported_in_qemus_own_words(run_data: DataDir, binary: str) -> None:
    record = await ended(a_request(replace(QUICK, transport="rdma"), binary=binary), run_data)
    assert record.outcome == "unsupported"
    assert record.reason
    assert record.reason.startswith("destination: QEMU refused migrate-incoming: RDMA ERROR: ")
    assert "settle" not in names(record)


@pytest.mark.qemu
@pytest.mark.parametrize("transport", [name for name, facts in TRANSPORTS.items() if facts.saves])
async def test_a_guest_goes_through_a_file_and_on_or_the_older_qemu_says_why_not(
    run_data: DataDir, binary: str, transport: str, qemu_binary: Path
) -> None:
    record = await ended(a_request(replace(QUICK, transport=transport), binary=binary), run_data)
    assert record.kind == "save"
    assert not run_data.run(record.run).state.exists()
    if binary == str(qemu_binary) and transport in REFUSED_BY_OLD:
        assert record.outcome == "unsupported"
        assert "cannot migrate to a file" in (record.reason or "")
        assert "settle" not in names(record)
        return
    assert record.outcome == "completed", record.reason
    saved, switchover = record.saved, record.phase("switchover")
    assert saved
    assert switchover
    assert saved.load_seconds
    assert saved.save_seconds >= record.final["total-time"] / 1000
    # the guest stands still from the last pass of the save to the end of the load
    assert (switchover.end_ns or 0) - switchover.start_ns > saved.load_seconds * 1e9
    assert saved.file_bytes > 32 << 20
    holes = transport.startswith("mapped-ram")
    assert saved.disk_bytes < saved.file_bytes if holes else saved.file_bytes > 0.9 * record.final["ram"]["transferred"]


@pytest.mark.qemu
@pytest.mark.parametrize("transport", [name for name, facts in TRANSPORTS.items() if facts.saves and facts.multifd])
async def test_a_guest_is_saved_by_several_channels_at_once(
    run_data: DataDir, qemu_10_binary: Path, transport: str
) -> None:
    scenario = replace(QUICK, transport=transport, multifd_channels=2)
    record = await ended(a_request(scenario, binary=str(qemu_10_binary)), run_data)
    assert record.outcome == "completed", record.reason
    assert {"multifd", "mapped-ram"} <= set(record.negotiated["capabilities"])
    assert record.negotiated["parameters"].get("direct-io", False) is (transport == "mapped-ram-direct-io")
    assert record.saved
    assert record.saved.disk_bytes < record.saved.file_bytes


@pytest.mark.qemu
@needs_namespaces
@pytest.mark.parametrize("shaper", ["tbf", "htb"])
async def test_a_link_between_two_namespaces_limits_the_migration(run_data: DataDir, binary: str, shaper: str) -> None:
    scenario = replace(QUICK, transport="tcp", hosts="namespaces", link_mbit_s=400, link_shaper=shaper)
    record = await ended(a_request(scenario, binary=binary), run_data)
    assert record.outcome == "completed", record.reason
    seconds = record.final["total-time"] / 1000
    mbit_s = record.final["ram"]["transferred"] * 8e-6 / seconds
    assert 100 < mbit_s < 440
    assert not namespaces()


@pytest.mark.qemu
@needs_namespaces
async def test_a_source_in_a_namespace_reports_the_destinations_death(run_data: DataDir) -> None:
    scenario = replace(QUICK, transport="tcp", hosts="namespaces", link_mbit_s=100, downtime_limit_ms=50)
    async with running(a_request(scenario), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        assert len(namespaces()) == 2
        os.kill(pids(run)["destination"], signal.SIGKILL)
        record = await task
    assert record.outcome == "failed"
    assert no_qemu_of(run)
    assert not namespaces()


@pytest.mark.qemu
async def test_a_pipe_between_two_commands_leaves_no_command_behind(run_data: DataDir) -> None:
    scenario = replace(QUICK, transport="exec", bandwidth_mib_s=8, downtime_limit_ms=50)
    async with running(a_request(scenario), run_data) as (task, run, cancel):
        await until(lambda: phase_of(run) == "settle")  # the destination's command waits for the source's
        cancel.set()
        assert (await task).outcome == "cancelled"
        pipes = f"{os.environ['XDG_RUNTIME_DIR']}/"
        await until(lambda: not _commands_with(pipes))
    async with running(a_request(scenario), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "migrate")
        os.kill(pids(run)["destination"], signal.SIGKILL)
        assert (await task).outcome == "failed"
        await until(lambda: not _commands_with(pipes))


def _commands_with(word: str) -> list[str]:
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if word in line and "migrate.pipe" in line]


@needs_namespaces
@pytest.mark.usefixtures("cached_tools")
async def test_namespaces_are_gone_with_their_context_and_a_dead_drivers_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_namespaces(0, "tbf", tmp_path) as (first, second):
        assert {first.name, second.name} <= namespaces()
        assert talk(first, second) == b"hello\n"
        dead = tmp_path / "migrascope-dead"
        dead.mkdir()
        (dead / NAMES).write_text((tmp_path / NAMES).read_text())
        (dead / OWNER).write_text("999999999 1.0\n")
        assert left_behind(dead) == [first.name, second.name]
        sweep(tmp_path)
        assert not {first.name, second.name} & namespaces()
    assert not dead.exists()
    assert not (tmp_path / NAMES).exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="ip is not on the path; apt-get install iproute2"):
        async with joined_namespaces(0, "tbf", tmp_path):
            pass


def talk(first: Namespace, second: Namespace) -> bytes:
    """What a listener at its address in the second namespace says to who calls from the first."""
    listen = [*second.prefix, sys.executable, "-c", LISTEN, second.address]
    with subprocess.Popen(listen, stdout=subprocess.PIPE) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == b"listening\n"
        ask = [*first.prefix, sys.executable, "-c", ASK, second.address]
        return subprocess.run(ask, capture_output=True, check=True).stdout


LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 7)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"hello\\n")
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7)) as connection:
    sys.stdout.write(connection.makefile().readline())
"""


@needs_namespaces
@pytest.mark.usefixtures("cached_tools")
async def test_what_tc_refuses_is_unsupported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driver.namespaces.DEVICE", "a-name-too-long-for-a-device")
    before = namespaces()
    with pytest.raises(UnsupportedError, match=r"hosts=namespaces: nsenter .* ip .*a-name-too-long.* want root"):
        async with joined_namespaces(100, "tbf", tmp_path):
            pass
    assert namespaces() == before


def test_a_shapers_bucket_holds_what_passes_between_two_timer_ticks() -> None:
    assert shaper_commands(0, "tbf") == []
    assert shaper_commands(1000, "tbf")[0][-6:] == ["rate", "1000mbit", "burst", "500000", "latency", "50ms"]
    root, shape = shaper_commands(10, "htb")
    assert root[-3:] == ["htb", "default", "1"]
    assert shape[-6:] == ["rate", "10mbit", "burst", "65536", "cburst", "65536"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"link_mbit_s": 1000}, "link_mbit_s=1000: want hosts=namespaces"),
        ({"hosts": "namespaces"}, r"transport='unix': does not leave the host, .*want one of tcp, rdma"),
        ({"transport": "exec", "post_copy_iterations": 3}, r"'exec': has no way back, .*want one of unix, tcp, fd"),
        (
            {"transport": "fd", "multifd_channels": 2},
            "'fd': has one channel only, multifd wants",
        ),
        ({"transport": "carrier-pigeon"}, "want one of unix, tcp, fd, exec"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadValueError, match=words):
        Scenario(**changes)


def test_a_scenarios_name_tells_transport_hosts_and_link() -> None:
    base = Scenario(transport="tcp", hosts="namespaces")
    found = [
        Scenario(transport="mapped-ram").name, base.name, replace(base, link_mbit_s=1000).name,
        replace(base, link_mbit_s=1000, link_shaper="htb").name, replace(base, link_shaper="htb").name,
        Scenario(link_shaper="htb").name, Scenario(transport="tcp").name,
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert ".tcp.namespaces.link-1000mbit" in found[2]


async def test_a_saved_guest_whose_file_is_never_complete_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driver.saving.WRITTEN_SECONDS", 0.05)
    destination = FakeQemu(role="destination")
    saving = Saving("exec-file", replace(ROUTE, state=tmp_path / "state"), destination, Clock.now())
    (tmp_path / "state.part").write_bytes(b"QEVM")
    with pytest.raises(BrokenError, match="state was not written to its end"):
        await saving.load()
    assert destination.commands == []
    assert saving.saved(0, None) is None
