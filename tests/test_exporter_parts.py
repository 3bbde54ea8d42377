"""The exporter's parts on their own: thread names, stamps, a full disk, tickers, its one place in a data directory."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from driver.clock import Clock
from driver.datadir import DataDir
from driver.marks import Mark
from driver.progress import Progress
from driver.scenario import Scenario
from driver.watch import ExporterClient, Sampling
from exporter import recorder as recorder_module
from exporter.journal import Batch, Header, JournalReader, JournalWriter
from exporter.rates import Pace
from exporter.recorder import Recorder
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sources.thread_accounts import classify
from exporter.sources.threads import ThreadsSource
from exporter.start import LINGER_VARIABLE, start_exporter
from exporter.verdicts import Verdicts
from tests.test_follow import open_descriptors
from tests.waiting import until
from workload.errors import MigrascopeError

MOST = 1000

NAMES_7_2 = {
    "CPU 0/TCG": ("vcpu", "0"), "CPU 11/KVM": ("vcpu", "11"), "live_migration": ("migration", ""),
    "multifdsend_0": ("multifd", "0"), "multifdrecv_15": ("multifd", "15"), "return path": ("return-path", ""),
    "postcopy/listen": ("post-copy", ""), "fault-default": ("post-copy", ""), "fault-fast": ("post-copy", ""),
    "IO mon_iothread": ("io", ""), "call_rcu": ("other", ""),
}  # fmt: skip
NAMES_10_0 = {
    "CPU 0/TCG": ("vcpu", "0"), "mig/src/main": ("migration", ""), "mig/src/send_3": ("multifd", "3"),
    "mig/dst/recv_12": ("multifd", "12"), "mig/src/return": ("return-path", ""), "mig/dst/listen": ("post-copy", ""),
    "mig/dst/fault": ("post-copy", ""), "mig/dst/preempt": ("post-copy", ""), "IO mon_iothread": ("io", ""),
}  # fmt: skip


@pytest.mark.parametrize("names", [NAMES_7_2, NAMES_10_0], ids=["7.2", "10.0"])
def test_threads_are_told_apart_by_their_names(names: dict[str, tuple[str, str]]) -> None:
    assert {name: classify(name) for name in names} == names


async def test_a_thread_that_ends_leaves_its_cpu_time_in_the_figures() -> None:
    def burn() -> None:
        with (Path("/proc/thread-self") / "schedstat").open() as spent:
            while int(spent.read().split()[0]) < 50_000_000:
                spent.seek(0)
        burnt.set()
        alive.wait()

    own = SelfMetrics()
    burnt, alive = threading.Event(), threading.Event()
    async with ThreadsSource("source", os.getpid, time.time_ns, Pace(10, 100), own) as source:
        worker = threading.Thread(target=burn, daemon=True)
        worker.start()
        assert await asyncio.to_thread(burnt.wait, 60)
        await source.rest()  # the first look at a thread that seems unnamed
        source.list_soon()
        before = cpu_seconds(await source.rest(), "other")
        alive.set()
        worker.join()
        after = cpu_seconds(await source.rest(), "other")
    assert before >= 0.05
    assert after >= before


def cpu_seconds(batch: Batch, kind: str) -> float:
    [sample] = [s for s in batch.samples if s.measurement == "qemu_cpu" and s.tags["kind"] == kind]
    return float(sample.fields["cpu_seconds"])


def header() -> Header:
    return Header(run="r", campaign=None, scenario="s", host="h", vm="vm0", clock=Clock.now())


def tick(time_ns: int) -> Sample:
    return Sample("guest_tick", time_ns, {"guest_seconds": 1.0})


async def test_stamps_rise_strictly_also_where_two_samples_came_together(tmp_path: Path) -> None:
    path = tmp_path / "journal.0000"
    recorder = Recorder(JournalWriter(path, header()), header(), [], SelfMetrics(), {("guest_tick",): 100})
    recorder.take(Batch(samples=[tick(100), tick(100), tick(90), tick(200)]))
    recorder.close()
    [batch] = JournalReader(path=path).batches()
    assert [sample.time_ns for sample in batch.samples] == [101, 102, 103, 200]


class FullDisk(JournalWriter):
    """A journal on a disk that is full until told otherwise."""

    full = True

    def append(self, batch: Batch) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().append(batch)


async def test_samples_wait_for_a_full_disk_and_what_is_dropped_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_PENDING_SAMPLES", MOST)
    path, own = tmp_path / "journal.0000", SelfMetrics()
    taken: list[Sample] = []

    def take(samples: Sequence[Sample]) -> None:
        taken.extend(samples)

    journal = FullDisk(path, header())
    recorder = Recorder(journal, header(), [take], own, {})
    recorder.take(Batch(samples=[tick(number) for number in range(1, MOST + 11)]))
    await until(lambda: own.journal_errors.values.get((), 0) >= 1)
    assert not taken, "nobody sees what the journal has not acknowledged"
    journal.full = False
    recorder.close()
    [batch] = JournalReader(path=path).batches()
    assert batch.samples[0].time_ns == 11
    assert batch.samples[-1].tags["name"] == "gap"
    assert batch.samples[-1].fields["detail"] == "10 samples could not be written"
    assert own.journal_lost_samples.values[()] == 10
    assert len(taken) == len(batch.samples)


async def test_late_ticks_are_skipped_and_counted_never_queued() -> None:
    own = SelfMetrics()
    stamps_ns: list[int] = []

    def on_tick() -> bool:
        stamps_ns.append(time.monotonic_ns())
        if len(stamps_ns) == 2:
            time.sleep(0.105)
        return True

    with Pace(100, 100).ticker("threads", own, on_tick) as ticker:
        async with asyncio.timeout(10):
            while len(stamps_ns) < 4:  # noqa: ASYNC110 - what is waited for is a callback's
                await asyncio.sleep(0.001)
    assert stamps_ns[2] - stamps_ns[1] >= 105_000_000
    assert ticker.sequence >= 13, "every tick that was due has its number"
    assert own.skipped.values["threads",] >= 9
    assert sum(own.lateness.counts["threads",]) < ticker.sequence


async def test_all_tickers_of_a_pace_tick_together_and_quicken_together() -> None:
    ticks: list[str] = []
    pace, own = Pace(0.1, 100), SelfMetrics()

    def tick_of(name: str) -> Callable[[], bool]:
        def on_tick() -> bool:
            ticks.append(name)
            return True

        return on_tick

    before = open_descriptors()
    with pace.ticker("a", own, tick_of("a")) as first, pace.ticker("b", own, tick_of("b")) as second:
        pace.set_active(active=True)
        async with asyncio.timeout(10):
            while len(ticks) < 6:  # noqa: ASYNC110 - what is waited for is a callback's
                await asyncio.sleep(0.001)
        assert ticks == ["a", "b"] * (len(ticks) // 2)
        assert first.sequence == second.sequence
    assert open_descriptors() == before


async def test_a_source_that_fails_at_its_tick_is_told_so_and_is_not_asked_again() -> None:
    calls: list[str] = []

    def failing() -> bool:
        calls.append("failing")
        raise ProcessLookupError("gone")

    pace, own = Pace(100, 100), SelfMetrics()
    with pace.ticker("threads", own, failing) as bad, pace.ticker("monitor", own, lambda: True) as good:
        with pytest.raises(ProcessLookupError):
            await asyncio.wait_for(bad.ended, 10)
        before = good.sequence
        async with asyncio.timeout(10):
            while good.sequence < before + 2:  # noqa: ASYNC110 - what is waited for is a callback's
                await asyncio.sleep(0.001)
    assert calls == ["failing"]


def test_a_limit_that_was_reached_is_a_verdict() -> None:
    verdicts = Verdicts(Scenario())
    assert verdicts.progressed(1, Progress.parse({"status": "active"})) == []
    [sample] = verdicts.limit_reached(2)
    assert (sample.fields["not_converging"], sample.fields["limit_reached"]) == (1.0, 1.0)
    verdicts.marked(Mark(kind="action", name="post-copy", time_ns=3))


async def test_one_exporter_serves_a_data_directory_and_leaves_nothing_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    data = DataDir.open(tmp_path)
    first, second = await asyncio.gather(start_exporter(data), start_exporter(data))
    try:
        assert first.info == second.info
        assert (await first.status())["runs"] == []
        assert await refusal(first, "nothing") == f"exporter: run nothing: is not in {data.runs}"
        assert await refusal(first, "../..") == f"exporter: run ../..: is not in {data.runs}"
        with pytest.raises(MigrascopeError, match="is not attached"):
            await first.detach("nothing")
        third = await asyncio.to_thread(server, data, "0")
        assert third.returncode == 1
        assert third.stderr.startswith(f"exporter: data directory {data.path}: another exporter serves it")
        assert third.stderr.count("\n") == 1
        assert data.file_sd.exists()
    finally:
        os.kill(first.info.pid, signal.SIGTERM)
        await asyncio.to_thread(os.waitpid, first.info.pid, 0)
    assert not data.exporter.exists()
    assert not data.file_sd.exists()
    assert not Path(first.info.socket).parent.exists()


async def refusal(client: ExporterClient, run: str) -> str:
    with pytest.raises(MigrascopeError) as caught:
        await client.attach(run, Sampling())
    return str(caught.value)


def server(data: DataDir, port: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter.server", "--data-dir", str(data.path), "--port", port]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = server(DataDir.open(tmp_path), str(port))
    assert ended.returncode == 1
    assert ended.stderr == f"exporter: port {port} on 127.0.0.1: Address already in use; choose another with --port\n"
