"""The parts of a destination on another host by themselves: clocks, ssh's command line, what the keeper is made of."""

from __future__ import annotations

import ast
import asyncio
import base64
import fcntl
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.clock import Clock, ClockOffset, RoundTrip, clock_offset
from driver.datadir import RunDir
from driver.keeper_host import LOCK, sweep
from driver.remote import BOOTSTRAP, KEEPER
from driver.request import Request, on_hosts
from driver.scenario import Scenario
from driver.ssh import check_destination, ssh_command
from driver.targets import Elsewhere, Target, Targets, read_targets, write_targets
from exporter.journal import Batch
from exporter.rates import Pace
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sources.console import Resume
from exporter.sources.remote import RemoteConsoleSource, RemoteThreadsSource
from tests.driver_process import a_request
from workload.console import Tick, write
from workload.errors import BadValueError

DRIVER = Path(__file__).parent.parent / "driver"
OFFSET = ClockOffset(monotonic_ns=10**12, wall_ns=10**18, uncertainty_ns=1000, round_trips=24)
PID, VCPU, NEW = 100, 101, 102


@given(
    offset_ns=st.integers(-(10**15), 10**15),
    ways=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=30),
)
def test_the_true_offset_lies_within_the_uncertainty_whatever_the_ways_take(
    offset_ns: int, ways: list[tuple[int, int]]
) -> None:
    trips = [
        RoundTrip(
            sent_ns=number, monotonic_ns=number + there + offset_ns, wall_ns=number + there + 7,
            arrived_ns=number + there + back,
        )
        for number, (there, back) in enumerate(ways)
    ]  # fmt: skip
    found = clock_offset(trips)
    assert abs(found.monotonic_ns - offset_ns) <= found.uncertainty_ns
    assert abs(found.wall_ns - 7) <= found.uncertainty_ns
    assert found.uncertainty_ns == (min(there + back for there, back in ways) + 1) // 2


def test_a_later_measurement_tells_the_drift_and_the_stamps_keep_their_offset() -> None:
    later = clock_offset([RoundTrip(sent_ns=0, arrived_ns=4000, monotonic_ns=10**12 + 5000, wall_ns=0)], OFFSET)
    assert later == replace(OFFSET, uncertainty_ns=2000, round_trips=25, drift_ns=3000)
    assert later.bound_ns == 5000


@pytest.mark.parametrize("word", ["-oProxyCommand=reboot", "a b", "$(reboot)", "a;b", "", "'a'", "a\nb"])
def test_what_is_no_ssh_destination_is_refused(word: str) -> None:
    with pytest.raises(BadValueError, match="want an ssh destination"):
        check_destination(word)


def test_ssh_is_asked_for_a_connection_of_its_own_that_asks_nobody() -> None:
    line = ssh_command("ssh://me@there:2222", {Path("/run/a.sock"): Path("/tmp/b.sock")}, ["true"])
    assert line[-3:] == ["--", "ssh://me@there:2222", "true"]
    assert line[line.index("-L") + 1] == "/run/a.sock:/tmp/b.sock"
    assert {"BatchMode=yes", "ControlPath=none", "ServerAliveInterval=2", "ServerAliveCountMax=3"} <= set(line)


def test_a_destination_host_goes_with_its_kind_of_scenario_only() -> None:
    with pytest.raises(BadValueError, match="goes with hosts=ssh, and only with that"):
        replace(a_request(Scenario()), destination_host="there")
    with pytest.raises(BadValueError, match="goes with hosts=ssh"):
        a_request(Scenario(hosts="ssh", transport="tcp"))
    with pytest.raises(BadValueError, match=r"transport='fd': does not leave the host"):
        on_hosts(Scenario(transport="fd"), "there")
    with pytest.raises(BadValueError, match="want a host's name or IP address"):
        Request(**{**vars(a_request(Scenario(), host="there")), "destination_address": "tcp:1.2.3.4;"})


@pytest.mark.parametrize("name", KEEPER)
def test_the_keeper_is_python_3_8_of_the_standard_library(name: str) -> None:
    text = (DRIVER / f"{name}.py").read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    sent = {f"driver.{each}" for each in KEEPER[: KEEPER.index(name)]}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert all(each in sent or each.partition(".")[0] in sys.stdlib_module_names for each in names), names


def test_a_python_that_is_too_old_is_told() -> None:
    old = f"import sys; sys.version_info, sys.version = (3, 7), '3.7.3 (default)'; {BOOTSTRAP}"
    said = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, check=False, timeout=60)
    assert (said.returncode, said.stderr) == (1, "python3 is 3.7.3, want 3.8 or newer\n")
    assert "'" not in BOOTSTRAP
    assert "!" not in BOOTSTRAP.replace("!=", "")


def test_what_a_killed_keeper_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead, living, young = (tmp_path / f"migrascope-{name}" for name in ("dead", "living", "young"))
    for folder in (dead, living, young):
        folder.mkdir()
        (folder / LOCK).touch()
    for folder in (dead, living):
        os.utime(folder / LOCK, (time.time() - 3600,) * 2)
    with (living / LOCK).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["migrascope-living", "migrascope-young"]


def test_targets_tell_what_is_elsewhere(tmp_path: Path) -> None:
    run = RunDir(path=tmp_path)
    target = Target(role="destination", pid=7, monitor="/m", console="/c",
                    elsewhere=Elsewhere(samples="/s", clock=OFFSET))  # fmt: skip
    here = replace(target, role="source", elsewhere=None)
    written = Targets(run="r", campaign=None, scenario="s", host="h", clock=Clock.now(), targets=(here, target))
    write_targets(run, written)
    assert read_targets(run) == written


class Keeper:
    """A keeper of a few lines: answers each request for threads with the next reading, and tells a console."""

    def __init__(self, path: Path, readings: list[dict[str, object]]) -> None:
        self.path = path
        self.readings = readings
        self.console: list[dict[str, object]] = []
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            match orjson.loads(line)["op"]:
                case "threads":
                    answers, self.readings = self.readings[:1], self.readings[1:]
                case "hello":
                    answers = [{"pid": PID}]
                case "console":
                    answers = self.console
                case _:
                    answers = [{"rest": True}]
            for answer in answers:
                writer.write(orjson.dumps(answer) + b"\n")
        writer.close()
        await writer.wait_closed()
        self.left.set()


async def gathered(source: RemoteThreadsSource | RemoteConsoleSource, wanted: int) -> list[Sample]:
    """The samples of a source, until there are as many as wanted."""
    samples: list[Sample] = []
    enough = asyncio.Event()

    def take(batch: Batch) -> None:
        samples.extend(batch.samples)
        if len(samples) >= wanted:
            enough.set()

    async with asyncio.timeout(20), source:
        following = asyncio.create_task(source.follow(take))
        await asyncio.wait({following, asyncio.create_task(enough.wait())}, return_when=asyncio.FIRST_COMPLETED)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return samples


async def test_a_thread_that_ends_elsewhere_stays_in_the_figures_and_stamps_are_carried_over(sockets: Path) -> None:
    names = {str(PID): "qemu", str(VCPU): "CPU 0/TCG", str(NEW): "live_migration"}
    stamp_ns = time.monotonic_ns() + OFFSET.monotonic_ns
    keeper = Keeper(
        sockets / "s",
        [
            {"names": names, "stamp_ns": stamp_ns, "threads": [[PID, 5, 0], [VCPU, 10**9, 10**6], [NEW, 2 * 10**9, 0]],
             "process": {"cpu_seconds": 3.5, "resident_bytes": 4096}},
            {"stamp_ns": stamp_ns + 10**6, "threads": [[PID, 8, 0], [VCPU, 15 * 10**8, 10**6]]},
        ],
    )  # fmt: skip
    clock = Clock.now()
    server = await asyncio.start_unix_server(keeper.serve, keeper.path)
    async with server:
        source = RemoteThreadsSource(
            "destination",
            Elsewhere(samples=str(keeper.path), clock=OFFSET),
            clock,
            Pace(100, 100),
            SelfMetrics(),
        )
        samples = await gathered(source, 8)
        await keeper.left.wait()
    figures = [(s.tags.get("kind"), s.fields.get("cpu_seconds")) for s in samples]
    assert figures == [
        ("main", 5e-9), ("vcpu", 1.0), ("migration", 2.0), ("process", 3.5), (None, None),
        ("migration", 2.0), ("main", 8e-9), ("vcpu", 1.5),
    ]  # fmt: skip
    assert {s.time_ns for s in samples} == {
        clock.stamp(stamp_ns - OFFSET.monotonic_ns), clock.stamp(stamp_ns + 10**6 - OFFSET.monotonic_ns)
    }  # fmt: skip


async def test_a_console_elsewhere_is_stamped_there_and_its_torn_lines_are_joined(sockets: Path) -> None:
    ticks = [Tick(line=number, guest_ns=number * 10**9, sequence=number) for number in (1, 2, 3)]
    lines = "".join(map(write, ticks)).encode()
    cut = len(lines) // 2
    keeper = Keeper(sockets / "s", [])
    clock, there_ns = Clock.now(), time.monotonic_ns() + OFFSET.monotonic_ns
    pieces = [(there_ns, lines[:cut]), (there_ns + 10**7, lines[cut:])]
    keeper.console = [
        {"unseen_bytes": 0},
        *({"stamp_ns": stamp, "data": base64.b64encode(data).decode()} for stamp, data in pieces),
    ]
    elsewhere = Elsewhere(samples=str(keeper.path), clock=OFFSET)
    server = await asyncio.start_unix_server(keeper.serve, keeper.path)
    async with server:
        source = RemoteConsoleSource("destination", Path("/none"), elsewhere, clock, Resume(), SelfMetrics())
        samples = await gathered(source, 3)
        await keeper.left.wait()
    here_ns = clock.stamp(there_ns - OFFSET.monotonic_ns)
    assert [s.fields["guest_seconds"] for s in samples] == [1.0, 2.0, 3.0]
    assert [s.time_ns for s in samples] == [here_ns, here_ns + 10**7, here_ns + 10**7]
