"""Hostile input: consoles garbled ten thousand times and monitors that speak nonsense harm nothing and pass nothing."""

from __future__ import annotations

import asyncio
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from driver.clock import Clock
from driver.progress import TOO_LARGE
from exporter.journal import Batch, JournalReader, JournalWriter
from exporter.observer import DestinationObserver, RunObserver, SourceObserver
from exporter.qmp import Connection, QmpError
from exporter.rates import Pace
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks import exposition
from exporter.sinks.prometheus import PrometheusSink
from exporter.sources.console import ConsoleSource, Resume
from exporter.sources.monitor import MonitorSource
from exporter.verdicts import Verdicts
from tests import captures
from tests.replay import recording
from workload.console import Parser, Tick, Xor, write

GARBLED_LINES = 10_000
CAPTURES = ("7.2-m-autoconverge-i80-s19", "10.0-m-postcopy-rescue", "10.0-m-nonconverge-ws16-bw32-dl100")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["event", "data", "timestamp", "return", "error", "QMP", "status", "pass", "ram", "downtime-limit", "max-bandwidth",
     "seconds", "microseconds", "total-time", "cpu-throttle-percentage", "postcopy-latency-dist"]
)  # fmt: skip
RAM_KEYS = st.sampled_from(["remaining", "total", "transferred", "dirty-sync-count", "mbps", "normal", "page-size"])
MESSAGES = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS | RAM_KEYS, JSON, max_size=5), max_size=5)


class Monitored:
    """A monitor source on a connection that is fed by hand; what it hands on goes to a journal and to /metrics."""

    def __init__(self, folder: Path, role: str = "source") -> None:
        run = recording(CAPTURES[0])
        self.own = SelfMetrics()
        self.sink = PrometheusSink(self.own, lambda: 30.0)
        self.sink.attach(run.header, run.record)
        self.registry = CollectorRegistry()
        self.registry.register(self.sink)
        self.run = run.header.run
        self.path = folder / "journal.0000"
        self.journal = JournalWriter(self.path, run.header)
        self.samples = 0
        self.lost = 0
        observer = RunObserver(
            verdicts=Verdicts(run.record.scenario), migration=Pace(10, 100), post_copy=Pace(10, 100), counts=True,
            changed=[],
        )  # fmt: skip
        side = SourceObserver(observer) if role == "source" else DestinationObserver(observer)
        self.source = MonitorSource(role, "", Clock.now(), Pace(10, 100), side, self.own, 0)
        self.source._take = self.take
        self.connect()

    def connect(self) -> None:
        """A fresh connection, as the boundary around a source opens one after a failure."""
        self.connection = Connection(self.source._on_event)
        self.source._qmp = self.connection

    def feed(self, line: bytes, *, parameters: bool = False) -> None:
        """Bytes from QEMU while an answer is awaited; nothing of what comes of it may pass the connection."""
        taken = self.source._take_limits if parameters else self.source._take_reply
        self.connection._waiting.append(taken)
        self.connection.data_received(line + b"\n")
        self.connection._waiting.clear()
        if self.connection.ended.done():
            error = self.connection.ended.exception()
            assert isinstance(error, QmpError), f"{error!r} of {line!r}"
            self.lost += 1
            self.connect()

    def take(self, batch: Batch) -> None:
        for sample in batch.samples:
            self.samples += 1
            for field, value in sample.fields.items():
                if isinstance(value, float) and sample.measurement == "migration":
                    assert math.isfinite(value), field
                    assert 0 <= value < TOO_LARGE * 1e6, field
        self.journal.append(batch)
        self.sink.take(self.run, batch.samples)

    def close(self) -> None:
        """All of it can be read back, and shown."""
        self.journal.close()
        assert exposition.text(self.registry)
        assert not any(self.own.scrape_errors.values.values())
        reader = JournalReader(path=self.path)
        assert sum(len(batch.samples) for batch in reader.batches()) == self.samples
        assert reader.damaged_lines == 0


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("role", ["source", "destination"])
async def test_recorded_streams_with_flipped_bits_crash_nothing_and_no_impossible_number_passes(
    name: str, role: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{name} {role}")
    monitored = Monitored(tmp_path, role)
    for line in captures.read(name):
        if line.vm != "src" or not isinstance(line.data, dict):
            continue
        message = line.data if line.kind == "event" else {"return": line.data}
        for flips in (0, 1, 4):
            raw = bytearray(json.dumps(message).encode())
            for _ in range(flips):
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            monitored.feed(bytes(raw).replace(b"\n", b" "), parameters=line.kind == "parameters")
    monitored.close()
    assert monitored.samples > 20
    assert monitored.lost > 0


@settings(max_examples=120, deadline=None)
@given(messages=st.lists(MESSAGES | JSON, min_size=1, max_size=6), parameters=st.booleans())
def test_no_message_whatever_crashes_a_monitor_s_source(
    messages: list[Any], parameters: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def feed() -> None:
        monitored = Monitored(tmp_path_factory.mktemp("hostile"))
        for message in messages:
            monitored.feed(json.dumps(message).encode(), parameters=parameters)
        monitored.close()

    asyncio.run(feed())


async def test_values_of_a_wrong_type_negative_or_beyond_all_bounds_are_dropped_and_counted(tmp_path: Path) -> None:
    monitored = Monitored(tmp_path)
    ram = {"remaining": -1, "transferred": 2**63, "normal": "many", "total": 4096, "mbps": 1e308, "duplicate": True}
    monitored.feed(json.dumps({"return": {"status": "active", "ram": ram, "total-time": [1]}}).encode())
    monitored.feed(b'{"event": "MIGRATION_PASS", "data": {"pass": "third"}, "timestamp": {"seconds": "now"}}')
    monitored.feed(b'{"event": "STOP", "data": [1, 2], "timestamp": 3}')
    monitored.feed(b'{"return": {"downtime-limit": 1' + b"0" * 400 + b', "max-bandwidth": -5}}', parameters=True)
    assert monitored.own.dropped_values.values == {("negative",): 1.0, ("too_large",): 2.0, ("type",): 5.0}
    monitored.close()


def test_no_number_of_ten_thousand_garbled_console_lines_is_taken_for_one_that_the_guest_said() -> None:
    rng = random.Random(11)
    said: dict[int, Tick | Xor] = {}
    garbled = bytearray()
    for number in range(GARBLED_LINES):
        record: Tick | Xor = (
            Tick(line=number, sequence=number, guest_ns=number * 10_000_000)
            if number % 3
            else Xor(line=number, vcpu=number % 2, sequence=number, guest_ns=number * 10_000_000, bytes=16 << 20,
                     taken_ns=rng.randrange(1, 10**9))
        )  # fmt: skip
        said[number] = record
        garbled += garble(rng, write(record).encode())
    parser = Parser()
    found = [record for record in parser.feed(bytes(garbled)) if isinstance(record, Tick | Xor)]
    assert len(found) < GARBLED_LINES / 2
    assert parser.garbage_lines > GARBLED_LINES / 4
    for record in found:
        assert record == said[record.line]


def garble(rng: random.Random, line: bytes) -> bytes:
    """Do to a line what a torn, shared or noisy console does, so that it no longer says what it said."""
    raw = bytearray(line)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.randrange(1, 4)):
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        case 1:
            del raw[rng.randrange(len(raw)) :]
        case 2:
            place = rng.randrange(1, len(raw))
            raw[place:place] = b"[    1.234567] kernel says\n"
        case 3:
            first, second = sorted(rng.sample(range(len(raw)), 2))
            raw[first], raw[second] = raw[second], raw[first]
        case _:
            place = rng.randrange(len(raw))
            raw[place : place + 1] = bytes(rng.randrange(256) for _ in range(rng.randrange(6)))
    return bytes(raw)


async def test_a_console_of_garbage_is_counted_and_yields_no_sample(tmp_path: Path) -> None:
    rng = random.Random(5)
    path, own = tmp_path / "console", SelfMetrics()
    good = write(Tick(line=0, sequence=7, guest_ns=5)).encode()
    path.write_bytes(b"".join(rng.randbytes(40).replace(b"@", b"#") + b"\n" for _ in range(GARBLED_LINES)) + good)
    source = ConsoleSource("source", path, Clock.now(), Resume(), own)
    async with source:
        batch = await source.rest()
    assert [sample.fields["sequence"] for sample in only_ticks(batch)] == [7.0]
    assert own.dropped_lines.values["source",] >= GARBLED_LINES


def only_ticks(batch: Batch) -> list[Sample]:
    return [sample for sample in batch.samples if sample.measurement == "guest_tick"]
