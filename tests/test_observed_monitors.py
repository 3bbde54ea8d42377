"""VMs of others whose monitors are played, busy, gone or speak nonsense; and the words that name them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from driver.datadir import DataDir
from driver.watch import Sampling
from exporter import history
from exporter.episode import Surroundings
from exporter.observed_run import ObservedRun
from exporter.observed_vms import ObservedVms
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.vms import VmQemu, by_name, checked, parse_words, read_file
from migrascope.main import main
from tests.fake_monitor import FakeMonitor
from tests.waiting import until
from workload.errors import BadValueError


@dataclass
class Notebook:
    """The desk and what shows VMs at rest."""

    runs: list[ObservedRun] = field(default_factory=list)
    ended: list[ObservedRun] = field(default_factory=list)
    resting: dict[str, list[Sample]] = field(default_factory=dict)

    def begun(self, run: ObservedRun) -> None:
        self.runs.append(run)

    def over(self, run: ObservedRun) -> None:
        self.ended.append(run)

    def rest(self, vm: str, samples: Sequence[Sample]) -> None:
        self.resting.setdefault(vm, []).extend(samples)

    def forget(self, vm: str) -> None:
        self.resting.pop(vm, None)

    def rested_seconds(self, vm: str) -> float:
        stamps = [sample.time_ns for sample in self.resting.get(vm, [])]
        return (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0


@dataclass
class Watch:
    """A set of VMs that is watched in this process."""

    data: DataDir
    notes: Notebook
    metrics: SelfMetrics

    def up(self, vm: str) -> float | None:
        return self.metrics.source_up.values.get((vm, "source", "monitor"))


@asynccontextmanager
async def watching(data: DataDir, qemus: Sequence[VmQemu] = (), file: Path | None = None) -> AsyncIterator[Watch]:
    notes, metrics = Notebook(), SelfMetrics()
    around = Surroundings(
        data=data, sinks=[], resting=notes, desk=notes, metrics=metrics, sampling=Sampling(rest_hz=50)
    )
    task = asyncio.create_task(ObservedVms(qemus, file, around).serve())
    try:
        yield Watch(data, notes, metrics)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_played_migration_becomes_a_run_with_verdicts_from_qemus_own_limits(
    tmp_path: Path, sockets: Path
) -> None:
    data = DataDir.open(tmp_path)
    async with FakeMonitor(sockets / "q", "7.2-m-postcopy-rescue") as monitor:
        qemu = VmQemu(name="guest1", qmp=str(monitor.path))
        async with watching(data, [qemu]) as watch:
            await until(lambda: watch.notes.rested_seconds("guest1") > 0.5)
            kinds = {sample.measurement for sample in watch.notes.resting["guest1"]}
            assert kinds == {"migration", "qemu_cpu", "qemu_memory"}, "this process plays QEMU: its threads are watched"
            monitor.play()
            await until(lambda: watch.notes.runs)
            assert watch.notes.runs[0].state().scenario == "observed.guest1"
            assert [row.outcome for row in history.runs(data)] == ["running"]
            await until(lambda: watch.notes.ended)
            assert monitor.asked > 100
            await until(lambda: watch.up("guest1") == 1)
    (row,) = history.runs(data)
    assert (row.outcome, row.kind, row.reason) == ("completed", "observed", None)
    run = data.run(row.run)
    assert row.figures["total_seconds"] == pytest.approx(3.0, abs=1.0)
    boundaries = history.load(data, run, "verdict")
    assert boundaries.num_rows >= 2
    assert all(seconds > 0.1 for seconds in boundaries.column("implied_downtime_seconds").to_pylist() if seconds)
    names = set(history.load(data, run, "event").column("name").to_pylist())
    assert {"phase.settle", "phase.migrate", "outcome.completed", "MIGRATION_PASS", "STOP"} <= names
    times = history.load(data, run, "qemu_cpu").column("time_ns").to_pylist()
    assert row.phases["migrate"] - min(times) > 2e8, "what was before the migration is recorded with it"


async def test_a_vm_that_is_no_longer_watched_leaves_its_run_abandoned_and_its_lock_free(
    tmp_path: Path, sockets: Path
) -> None:
    data = DataDir.open(tmp_path)
    file = tmp_path / "vms.json"
    async with FakeMonitor(sockets / "q", "7.2-nonconverge") as monitor:
        file.write_text(json.dumps([{"name": "guest1", "qmp": str(monitor.path), "pid": os.getpid()}]))
        async with watching(data, file=file) as watch:
            await until(lambda: watch.up("guest1") == 1)
            monitor.play()
            await until(lambda: watch.notes.runs)
            file.write_text("[]")
            await until(lambda: watch.notes.ended)
            assert watch.notes.resting == {}
            assert watch.up("guest1") is None
        (row,) = history.runs(data)
    assert (row.outcome, row.reason) == ("abandoned", "the exporter stopped watching during the migration")


async def test_a_qemu_that_goes_away_in_its_migration_is_lost_and_comes_back_as_another(
    tmp_path: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.episode.LOST_SECONDS", 0.5)
    data = DataDir.open(tmp_path)
    async with watching(data, [VmQemu(name="guest1", qmp=str(sockets / "q"))]) as watch:
        async with FakeMonitor(sockets / "q", "7.2-nonconverge") as monitor:
            await until(lambda: watch.up("guest1") == 1)
            monitor.play()
            await until(lambda: watch.notes.runs)
        await until(lambda: watch.notes.ended)
        await until(lambda: watch.up("guest1") == 0)
        async with FakeMonitor(sockets / "q", "7.2-nonconverge"):
            await until(lambda: watch.up("guest1") == 1)
    (row,) = history.runs(data)
    assert (row.outcome, row.reason) == ("broken", "the source's monitor gave no answer for 0.5 s")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "No such file or directory"),
        (b"", "no greeting within 0.3 s: another client holds this monitor"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "sent no QMP"),
        (b"[]\n", ""),
        (b"7\n{}\n", ""),
        (b'{"QMP": 1}\n', "want an object"),
        (b"\xff" * 70_000, ""),
    ],
)
async def test_a_monitor_that_is_busy_gone_or_speaks_nonsense_is_a_metric_and_one_line(
    tmp_path: Path,
    sockets: Path,
    answer: bytes | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("exporter.identity.CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("exporter.identity.ANSWER_SECONDS", 0.3)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer or b"")
        while await reader.readline():
            writer.write(b'{"return": []}\n')
        writer.close()

    server = None if answer is None else await asyncio.start_unix_server(speak, sockets / "q")
    async with watching(DataDir.open(tmp_path), [VmQemu(name="guest1", qmp=str(sockets / "q"))]) as watch:
        await until(lambda: watch.metrics.source_errors.values.get(("monitor",), 0) >= 3)
        assert watch.up("guest1") == 0
    if server:
        server.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    told = [line for line in warnings if line.startswith("vm guest1: ")]
    assert len(told) == 1, warnings
    assert words in told[0]


async def test_a_file_that_becomes_wrong_keeps_the_vms_that_it_named(
    tmp_path: Path, sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "vms.yaml"
    async with FakeMonitor(sockets / "q", "7.2-nonconverge") as monitor:
        file.write_text(f"- name: guest1\n  qmp: {monitor.path}\n")
        async with watching(DataDir.open(tmp_path / "data"), file=file) as watch:
            await until(lambda: watch.up("guest1") == 1)
            file.write_text("- name: [")
            await until(lambda: watch.metrics.source_errors.values.get(("attach-file",)) == 1)
            assert watch.up("guest1") == 1
            file.write_text(f"- name: guest2\n  qmp: {monitor.path}\n")
            await until(lambda: watch.up("guest2") == 1)
            assert watch.up("guest1") is None
    assert "is neither YAML nor JSON" in caplog.text


def test_words_and_files_name_the_same_qemus(tmp_path: Path) -> None:
    words = [parse_words("name=a,qmp=/run/a"), parse_words("name=b,qmp=/run/b,pid=7,console=/run/b.log")]
    as_json, as_yaml = tmp_path / "a.json", tmp_path / "a.yaml"
    as_json.write_text(
        '[{"name": "a", "qmp": "/run/a"}, {"name": "b", "qmp": "/run/b", "pid": 7, "console": "/run/b.log"}]'
    )
    as_yaml.write_text("- {name: a, qmp: /run/a}\n- name: b\n  qmp: /run/b\n  pid: 7\n  console: /run/b.log\n")
    assert list(read_file(as_json)) == list(read_file(as_yaml)) == words
    assert by_name(checked([*words, VmQemu(name="a", qmp="/run/c")]))["a"] == (words[0], VmQemu(name="a", qmp="/run/c"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("name=a", "qmp is missing"),
        ("qmp=/a", "name is missing"),
        ("name=a,qmp=/a,socket=/b", "unknown key 'socket'"),
        ("name=a,name=b,qmp=/a", "'name=b': want each of"),
        ("name=a,qmp", "'qmp': want each of"),
        ("name=a,qmp=/a,pid=x", "pid='x': want a number"),
        ("name=a,qmp=/a,pid=0", "pid=0: want a process's number"),
        ("name=vm0,qmp=/a", "names a slot"),
        ("name=a b,qmp=/a", "want letters"),
        ("name=a,qmp=relative", "want a unix socket's absolute path"),
        (f"name=a,qmp=/{'x' * 107}", "at most 107 bytes"),
    ],
)
def test_wrong_words_are_refused_with_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exporter", "--attach", words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("migrascope: attach")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "want a list"),
        ("- 1", "entry 1: want an object"),
        ("- {name: a, qmp: /a}\n- {name: a, qmp: /b, pdi: 1}", "entry 2: unknown key 'pdi'"),
        ("- {name: a, qmp: /a, pid: true}", "entry 1: pid=True: want a number"),
        ("- {name: a, qmp: /a}\n- {name: b, qmp: /a}", "/a is named twice"),
        ("- {name: a, qmp: /a}\n- {name: a, qmp: /b}\n- {name: a, qmp: /c}", "a is named more than twice"),
        ("\x00", "is neither YAML nor JSON"),
        (None, "No such file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_entry(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "vms"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadValueError, match=message):
        read_file(path)


def test_the_peer_of_a_monitor_is_the_process_that_listens(sockets: Path) -> None:
    """SO_PEERCRED names who called listen(), also after a fork."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(sockets / "q"))
        listening.listen()
        client.connect(str(sockets / "q"))
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert int.from_bytes(raw[:4], "little") == os.getpid()
