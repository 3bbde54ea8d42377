"""The spool and its feed: where a mirror goes on, what it waits for, what goes when there is no room."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import pytest

from driver.datadir import DataDir, RunDir
from driver.record import write_record
from exporter import history
from exporter.journal import Batch, JournalWriter
from exporter.mirror import feed
from exporter.mirror.again import spool_again
from exporter.mirror.destination import INFLUXDB, REMOTE_WRITE, Destination
from exporter.mirror.dialect import Row
from exporter.mirror.feed import Feed
from exporter.mirror.line_protocol import line, tag_set
from exporter.mirror.spool import MIB, spool_for
from exporter.mirror.status import standing
from exporter.sample import Sample
from tests.faulty import Fault, Request, Script
from tests.mirroring import LINES, RUN, SAMPLES, influx, sent, spooled
from tests.recorded import a_record, batches, header
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("impatient")


def test_a_mirror_that_is_stopped_in_the_middle_goes_on_behind_what_was_acknowledged(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST_SAMPLES", 100)
    stop = threading.Event()
    script.judge = stops(script, stop)
    spool = spooled(data, influx(script.url))
    Feed(data, spool, stop).run()
    assert 0 < len(script.taken_lines()) < len(LINES)
    place = spool.checkpoint().places[RUN]
    assert place.offset > 0
    sent(data, spool)
    assert script.taken_lines() == LINES


@pytest.mark.parametrize("kind", [INFLUXDB, REMOTE_WRITE])
def test_a_run_that_was_compacted_while_its_mirror_was_down_is_sent_all_the_same(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = spooled(data, Destination(kind=kind, url=f"{script.url}/whole"), "20261123-000000-bbbb")
    sent(data, whole)
    wanted = rows_of(script, kind)
    script.requests.clear()
    monkeypatch.setattr(feed, "MOST_SAMPLES", 100)
    stop = threading.Event()
    script.judge = stops(script, stop)
    spool = spooled(data, Destination(kind=kind, url=f"{script.url}/parts"), "20261123-000000-bbbb")
    Feed(data, spool, stop).run()
    history.store_run(data, data.run("20261123-000000-bbbb"))
    assert not data.run("20261123-000000-bbbb").journals()
    sent(data, spool)
    assert rows_of(script, kind) == wanted


def stops(script: Script, stop: threading.Event) -> Callable[[Request], Fault | None]:
    """Stop a mirror while its seventh request is being answered."""

    def judge(request: Request) -> Fault | None:  # noqa: ARG001 - one shape
        if len(script.requests) == 7:
            stop.set()
        return None

    return judge


def rows_of(script: Script, kind: str) -> Sequence[object]:
    """All rows that were acknowledged; remote write's by series, since a request holds them in that order."""
    if kind == INFLUXDB:
        return list(script.taken_lines())
    return sorted(
        [(labels, time_ms, repr(value)) for request in script.taken() for labels, time_ms, value in request.values]
    )


def test_a_live_run_is_followed_and_ends_only_when_its_journal_is_closed_and_it_has_an_outcome(
    data: DataDir, script: Script
) -> None:
    directory = RunDir(path=data.runs / RUN)
    directory.path.mkdir()
    write_record(directory, a_record(RUN, outcome=None))
    spool = spool_for(data, Destination(kind=REMOTE_WRITE, url=script.url))
    parts = list(batches(SAMPLES))
    with JournalWriter(directory.new_journal(), header(RUN)) as journal:
        spool.follow(directory)
        stop = threading.Event()
        worker = threading.Thread(target=lambda: Feed(data, spool, stop).run(), daemon=True)
        worker.start()
        for batch in parts[:20]:
            journal.append(batch)
        wait_until(lambda: standing(spool).samples == sum(len(batch.samples) for batch in parts[:20]))
        for batch in parts[20:]:
            journal.append(batch)
        wait_until(lambda: standing(spool).samples == len(SAMPLES))
    spool.release(directory)
    assert not any(value != value for request in script.taken() for _, _, value in request.values)
    write_record(directory, a_record(RUN))
    worker.join(20)
    assert not worker.is_alive()
    assert any(value != value for _, _, value in script.taken()[-1].values), "the series end with the run"


def test_a_line_that_is_being_written_is_left_until_it_is_whole(data: DataDir, script: Script) -> None:
    spool = spooled(data, influx(script.url))
    [journal] = data.run(RUN).journals()
    content = journal.read_bytes()
    cut = content.rstrip(b"\n").rfind(b"\n") + 30
    with journal.open("r+b") as file:
        file.truncate(cut)
    spool.runs()[0].live.touch()
    worker = threading.Thread(target=lambda: sent(data, spool), daemon=True)
    worker.start()
    wait_until(lambda: standing(spool).samples > 2000)
    before = standing(spool).samples
    with journal.open("ab") as file:
        file.write(content[cut:])
    wait_until(lambda: standing(spool).samples == len(SAMPLES))
    assert before < len(SAMPLES)
    spool.release(data.run(RUN))
    worker.join(20)
    assert script.taken_lines() == LINES


def test_what_is_written_between_a_look_and_the_end_is_sent(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spooled(data, influx(script.url))
    [journal] = data.run(RUN).journals()
    content = journal.read_bytes()
    cut = content.rstrip(b"\n").rfind(b"\n") + 1
    with journal.open("r+b") as file:
        file.truncate(cut)
    spool.runs()[0].live.touch()
    look = feed.RunFeed.next

    def look_then_end(self: feed.RunFeed) -> feed.Chunk | None:
        chunk = look(self)
        if chunk is None and self.run.live.exists():
            with journal.open("ab") as file:
                file.write(content[cut:])
            spool.release(data.run(RUN))
        return chunk

    monkeypatch.setattr(feed.RunFeed, "next", look_then_end)
    sent(data, spool)
    assert script.taken_lines() == LINES


def test_a_run_that_is_written_again_while_it_is_being_forgotten_stays_spooled(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = data.run(RUN)
    spool = spooled(data, influx(script.url))
    later = Sample("guest_tick", SAMPLES[-1].time_ns + 1, {"guest_seconds": 1.0})
    ends = []

    def write_again(self: feed.RunFeed) -> list[Row]:  # noqa: ARG001 - a method's shape
        ends.append(1)
        if len(ends) == 1:  # another exporter goes on with a run whose driver has just written the outcome
            with JournalWriter(run.new_journal(), header(RUN)) as journal:
                spool.follow(run)
                journal.append(Batch(samples=[later]))
            spool.release(run)
        return []

    monkeypatch.setattr(feed.RunFeed, "last", write_again)
    sent(data, spool)
    assert script.taken_lines() == [*LINES, line(later, tag_set(header(RUN).tags()))]
    assert not spool.runs()


def test_a_mirror_process_ends_when_it_is_told_in_the_middle_of_waiting(data: DataDir) -> None:
    code = (
        "import os, signal, sys, threading\n"
        "from exporter.mirror import process\n"
        "wait = threading.Condition.wait\n"
        "def told(self, timeout=None):\n"  # the lock of the event that is waited for is held here
        "    if threading.current_thread() is threading.main_thread():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return wait(self, timeout)\n"
        "threading.Condition.wait = told\n"
        "sys.argv += ['--exporter', str(os.getppid())]\n"
        "sys.exit(process.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--data-dir", str(data.path)], timeout=30, check=False)
    assert done.returncode == 0


def test_a_full_spool_loses_its_oldest_samples_counts_them_and_keeps_the_order(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WEIGH_SECONDS", 0.0)
    names = [f"20261123-00000{number}-cccc" for number in range(8)]
    up = threading.Event()
    script.judge = lambda request: None if up.is_set() else Fault(status=503)  # noqa: ARG005
    destination = influx(script.url, spool_mib=1)
    for name in names:
        spool = spooled(data, destination, name)
        history.store_run(data, data.run(name))
    held = spool.waiting_bytes(spool.checkpoint())
    assert held > MIB
    worker = threading.Thread(target=lambda: sent(data, spool), daemon=True)
    worker.start()
    wait_until(lambda: spool.waiting_bytes(spool.checkpoint()) <= MIB)
    most = MIB + held / len(names)
    wait_until(lambda: sum(path.stat().st_size for path in spool.path.rglob("journal.*")) <= most)
    up.set()
    worker.join(30)
    found = standing(spool)
    assert found.dropped > 0
    assert found.samples + found.dropped == len(names) * len(SAMPLES)
    runs = [text.partition(",run=")[2].partition(",")[0] for text in script.taken_lines()]
    assert runs == sorted(runs)
    assert runs[-1] == names[-1]


def test_a_run_is_sent_again_from_its_parquet_files_and_is_the_same(data: DataDir, script: Script) -> None:
    spool = spooled(data, influx(script.url))
    sent(data, spool)
    history.store_run(data, data.run(RUN))
    script.requests.clear()
    spool_again(spool, data.run(RUN))
    sent(data, spool)
    assert sorted(map(fields_in_any_order, script.taken_lines())) == sorted(map(fields_in_any_order, map(str, LINES)))


def fields_in_any_order(text: str) -> tuple[str, frozenset[str], str]:
    head, _, rest = text.partition(" ")
    fields, _, stamp = rest.rpartition(" ")
    return head, frozenset(fields.split(",")), stamp


def test_two_runs_of_one_slot_go_one_after_the_other_and_those_of_two_slots_side_by_side(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST_SAMPLES", 200)
    names = [f"20261123-00000{number}-dddd" for number in range(3)]
    for name in names:
        spool = spooled(data, influx(script.url), name)
    other = data.run("20261123-000009-other")
    other.path.mkdir()
    write_record(other, a_record(other.run))
    labels = {"run": other.run, "campaign": None, "scenario": "s", "host": "h1", "vm": "vm1"}
    with JournalWriter(other.new_journal(), type(header(RUN))(**labels, clock=header(RUN).clock)) as journal:  # type: ignore[arg-type]
        journal.append(Batch(samples=[Sample("guest_tick", 5, {"guest_seconds": 1.0})]))
    spooled(data, influx(script.url), other.run)
    sent(data, spool)
    runs = [request.lines[0].partition(",run=")[2].partition(",")[0] for request in script.taken()]
    assert runs[:2] == [names[0], other.run]
    rest = [run for run in runs if run != other.run]
    assert rest == sorted(rest)
    assert sorted(set(rest)) == names


def test_a_damaged_checkpoint_means_that_all_is_sent_again(data: DataDir, script: Script) -> None:
    spool = spooled(data, influx(script.url))
    (spool.path / "checkpoint.json").write_text('{"samples": 1')
    sent(data, spool)
    assert script.taken_lines() == LINES
