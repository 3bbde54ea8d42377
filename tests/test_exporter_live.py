"""The exporter on two real QEMUs: what it records is what happened, and it outlives whatever happens to it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from driver.datadir import DataDir
from driver.progress import Progress
from driver.scenario import Scenario
from driver.watch import ExporterClient, LiveState, Sampling, find_exporter
from exporter.journal import JournalReader
from exporter.sample import Sample
from exporter.start import LINGER_VARIABLE, start_exporter
from tests.live_pair import LivePair, PlainMonitor
from tests.waiting import wait_until

pytestmark = pytest.mark.qemu

COUNTERS = ("transferred_bytes", "normal_pages", "zero_pages", "iteration")


@pytest.fixture
async def exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ExporterClient]:
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    client = await start_exporter(DataDir.open(tmp_path))
    yield client
    await stop(DataDir.open(tmp_path))


async def stop(data: DataDir) -> None:
    """End the exporter that serves now, and wait until it has gone."""
    client = find_exporter(data)
    if client is None:
        return
    os.kill(client.info.pid, signal.SIGTERM)
    await asyncio.to_thread(os.waitpid, client.info.pid, 0)


def recorded(pair: LivePair) -> list[Sample]:
    """All samples of a run that has not been compacted."""
    return [
        sample
        for path in pair.dir.journals()
        for batch in JournalReader(path=path).batches()
        for sample in batch.samples
    ]


def polls(samples: list[Sample], role: str = "source") -> list[Sample]:
    return [sample for sample in samples if sample.measurement == "migration" and sample.tags["role"] == role]


class Poller(threading.Thread):
    """Asks for query-migrate on a third monitor, and notes the monotonic moments before and after each answer."""

    def __init__(self, pair: LivePair) -> None:
        super().__init__()
        self.monitor = PlainMonitor(pair.sockets / "source-poller")
        self.replies: list[tuple[int, int, dict[str, Any]]] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.025):
            before = time.monotonic_ns()
            reply = self.monitor.execute("query-migrate")
            self.replies.append((before, time.monotonic_ns(), reply))

    def end(self) -> None:
        self.done.set()
        self.join()
        self.monitor.close()


async def test_an_independent_poller_sees_the_same_migration(
    tmp_path: Path, exporter: ExporterClient, qemu_binary: Path, cache: Path, sockets: Path
) -> None:
    with LivePair(DataDir.open(tmp_path), qemu_binary, cache, sockets) as pair:
        await exporter.attach(pair.run, Sampling())
        states: list[LiveState] = []
        watching = asyncio.create_task(collect(exporter, pair.run, states))
        await asyncio.to_thread(pair.boot)
        await asyncio.sleep(0.5)
        poller = Poller(pair)
        poller.start()
        pair.migrate()
        await asyncio.sleep(4.5)
        pair.control["source"].execute("migrate-start-postcopy")
        await asyncio.to_thread(wait_until, lambda: pair.status() == "completed")
        await asyncio.sleep(0.3)
        poller.end()
        scrape = await asyncio.to_thread(fetch, exporter.info.port)
        pair.end("completed")
        await exporter.detach(pair.run)
        samples = recorded(pair)
        await exporter.stored(pair.run)
        await watching

    source = polls(samples)
    assert_equal_in_the_final_reply(source[-1], poller.replies[-1][2])
    assert between(pair, source, poller) > 50
    active = [sample for sample in source if sample.fields.get("status") == "active"]
    # every tick that was due has its number, also one that a busy host let pass
    ticks = float(active[-1].fields["sequence"]) - float(active[0].fields["sequence"])
    assert ticks / (active[-1].time_ns - active[0].time_ns) * 1e9 == pytest.approx(Sampling().active_hz, rel=0.1)
    before = [sample for sample in source if "status" not in sample.fields]
    assert before, "before this run's migrate mark no status counts"
    assert_whole(samples)
    assert states[-1].outcome == "completed"
    assert states[-1].transferred_bytes == source[-1].fields["transferred_bytes"]
    assert {"settle", "migrate"} <= {state.phase for state in states}
    assert 'migrascope_source_up{role="source",source="monitor",vm="vm0"} 1.0' in scrape
    assert (pair.dir.samples / "migration.parquet").exists()
    assert not pair.dir.journals()


async def collect(exporter: ExporterClient, run: str, states: list[LiveState]) -> None:
    states.extend([state async for state in exporter.watch(run)])


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def assert_equal_in_the_final_reply(last: Sample, reply: dict[str, Any]) -> None:
    expected = Progress.parse(reply)
    assert last.fields["status"] == expected.status == "completed"
    assert {name: last.fields[name] for name in expected.fields} == expected.fields


def between(pair: LivePair, source: list[Sample], poller: Poller) -> int:
    """Check that each counter of each active reply lies between those recorded before and after it; returns how many.

    A reply is recorded with the stamp of its arrival, so the one after the poller's next is surely later asked for.
    """
    checked = 0
    counted = [(sample.time_ns, sample.fields) for sample in source if "transferred_bytes" in sample.fields]
    for began, ended, reply in poller.replies:
        progress = Progress.parse(reply)
        earlier = [fields for stamp, fields in counted if stamp <= pair.clock.stamp(began)]
        later = [fields for stamp, fields in counted if stamp >= pair.clock.stamp(ended)]
        if progress.status != "active" or not earlier or len(later) < 2:
            continue
        for name in COUNTERS:
            assert float(earlier[-1][name]) <= progress.fields[name] <= float(later[1][name])
        checked += 1
    return checked


def assert_whole(samples: list[Sample]) -> None:
    """Every series rises strictly in time, its counters never fall, and nothing is missing."""
    last: dict[tuple[str, ...], Sample] = {}
    for sample in samples:
        key = (sample.measurement, *sample.tags.values())
        if (before := last.get(key)) is not None:
            assert sample.time_ns > before.time_ns
            if sample.measurement == "qemu_cpu":
                assert float(sample.fields["cpu_seconds"]) >= float(before.fields["cpu_seconds"])
        last[key] = sample
    kinds = {(s.tags["role"], s.tags["kind"]) for s in last.values() if s.measurement == "qemu_cpu"}
    assert {("source", "vcpu"), ("source", "migration"), ("source", "main"), ("destination", "process")} <= kinds
    events = {(s.tags["role"], s.tags["name"]) for s in last.values() if s.measurement == "event"}
    assert {("source", "MIGRATION_PASS"), ("source", "STOP"), ("destination", "RESUME")} <= events
    assert {("driver", "phase.migrate"), ("driver", "outcome.completed")} <= events
    assert any(s.measurement == "verdict" for s in samples)
    ticks = [s for s in samples if s.measurement == "guest_tick"]
    assert all("offset_seconds" in tick.fields for tick in ticks)
    arrived = {int(tick.fields["sequence"]): tick.time_ns for tick in ticks}
    assert len(arrived) == len(ticks), "no line is recorded twice"
    missing = set(range(min(arrived), max(arrived))) - arrived.keys()
    # QEMU may cut the line that is being written as it stops: half of it on each console (docs/blackout.md)
    stop = next(s.time_ns for s in samples if s.tags.items() >= {"role": "source", "name": "STOP"}.items())
    assert len(missing) <= 1
    assert all(arrived[number - 1] <= stop + 50_000_000 and arrived[number + 1] > stop for number in missing)


async def test_an_exporter_killed_in_the_middle_of_a_run_is_followed_by_another_that_goes_on(
    tmp_path: Path, exporter: ExporterClient, qemu_binary: Path, cache: Path, sockets: Path
) -> None:
    data = DataDir.open(tmp_path)
    with LivePair(data, qemu_binary, cache, sockets, Scenario(bandwidth_mib_s=16, downtime_limit_ms=10)) as pair:
        await exporter.attach(pair.run, Sampling())
        await asyncio.to_thread(pair.boot)
        pair.migrate()
        await asyncio.sleep(1.5)
        os.kill(exporter.info.pid, signal.SIGKILL)
        await asyncio.sleep(0.5)
        second = await start_exporter(data)
        assert second.info.pid != exporter.info.pid
        await second.attach(pair.run, Sampling())
        await asyncio.sleep(1.5)
        pair.control["source"].execute("migrate_cancel")
        pair.end("not_converged")
        await second.detach(pair.run)
        segments = pair.dir.journals()
        samples = recorded(pair)
        await second.stored(pair.run)

    assert len(segments) == 2
    ticks = [int(s.fields["sequence"]) for s in samples if s.measurement == "guest_tick"]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks))), "no console line is lost or recorded twice"
    seen = ["offset_seconds" in s.fields for s in samples if s.measurement == "guest_tick"]
    blocks = [(known, len(list(block))) for known, block in itertools.groupby(seen)]
    assert [known for known, _ in blocks] == [True, False, True], "one block of lines arrived unseen"
    assert blocks[1][1] >= 20
    sequences = [int(s.fields["sequence"]) for s in polls(samples)]
    jumps = [later - earlier for earlier, later in itertools.pairwise(sequences)]
    assert max(jumps) >= 2, "the gap in polling is known by its numbers"
    marks = [s.tags["name"] for s in samples if s.measurement == "event" and s.tags["role"] == "driver"]
    assert marks == ["phase.boot", "phase.settle", "phase.migrate", "outcome.not_converged"]


async def test_a_qemu_that_dies_ends_neither_the_other_sources_nor_the_scrape(
    tmp_path: Path, exporter: ExporterClient, qemu_binary: Path, cache: Path, sockets: Path
) -> None:
    with LivePair(DataDir.open(tmp_path), qemu_binary, cache, sockets) as pair:
        await exporter.attach(pair.run, Sampling())
        await asyncio.to_thread(pair.boot)
        pair.processes["destination"].kill()
        pair.processes["destination"].wait()
        await asyncio.sleep(0.7)
        before = len(recorded(pair))
        await asyncio.to_thread(wait_until, lambda: len(polls(recorded(pair)[before:])) >= 3)
        after = recorded(pair)
        scrape = await asyncio.to_thread(fetch, exporter.info.port)
        pair.end("broken")
        await exporter.detach(pair.run)
        await exporter.stored(pair.run)
    assert any(sample.measurement == "guest_tick" for sample in after[before:])
    assert 'migrascope_source_up{role="destination",source="monitor",vm="vm0"} 0.0' in scrape
    assert 'migrascope_source_up{role="source",source="monitor",vm="vm0"} 1.0' in scrape
