"""The InfluxDB mirror: what it writes, what it does when nobody takes it, and that a real server holds every sample."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from exporter.journal import Batch, JournalReader, JournalWriter
from exporter.measurements import MEASUREMENTS
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from exporter.sinks.influxdb import NAME, InfluxSink, Mirror
from exporter.sinks.line_protocol import line, tag_set
from tests.replay import Recording, recording
from tests.servers import running_victoria_metrics
from workload.errors import BadValueError

CAPTURE = "10.0-m-postcopy-rescue"
PLAIN = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\\"), min_size=1)


class Script(BaseHTTPRequestHandler):
    """Answers with the statuses that its server was told to, then with 204; keeps what it was sent."""

    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append((self.path, dict(self.headers), body.decode()))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status == 0:
            self.close_connection = True  # a dropped connection: not one byte of an answer
            return
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


class Scripted(ThreadingHTTPServer):
    """A server that follows a script of statuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Script)
        self.statuses: list[int] = []
        self.requests: list[tuple[str, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def lines(self) -> list[str]:
        return [text for _, _, body in self.requests for text in body.split("\n")]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def mirror(url: str, token_file: Path | None = None) -> Mirror:
    return Mirror(url=url, org="lab", bucket="runs", token_file=token_file)


def send(sink: InfluxSink, run: Recording, *, close_seconds: float = 10.0) -> None:
    sink.attach(run.header, run.record)
    for batch in run.batches():
        sink.take(run.header.run, batch)
    sink.detach(run.header.run)
    sink.close(close_seconds)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@given(PLAIN, st.text(st.characters(exclude_categories=("Cc", "Cs"))))
def test_tags_and_words_are_escaped_as_the_client_library_would(name: str, detail: str) -> None:
    point = Point("event").tag("name", name).field("detail", detail).time(7)  # type: ignore[no-untyped-call]  # as it comes
    assert line(Sample("event", 7, {"detail": detail}, {"name": name}), "") == point.to_line_protocol()


@given(st.text(), st.text())
def test_no_text_whatever_breaks_a_line_in_two(tag: str, word: str) -> None:
    found = line(Sample("event", 7, {"detail": word}, {"name": tag}), tag_set({"scenario": tag}))
    assert found is not None
    assert found.endswith('" 7')
    assert "\n" not in found
    assert "\r" not in found


def test_every_number_is_a_float_and_one_that_is_not_finite_is_left_out() -> None:
    sample = Sample("migration", 5, {"iteration": 3, "a": float("nan"), "status": 'a "b" \\'}, {"role": "source"})
    assert line(sample, ",vm=vm0") == 'migration,vm=vm0,role=source iteration=3.0,status="a \\"b\\" \\\\" 5'
    assert line(Sample("migration", 5, {"a": float("inf")}), ",vm=vm0") is None


@pytest.mark.server
def test_every_sample_of_a_journal_is_in_a_real_server_afterwards(
    tmp_path: Path, victoria_metrics_binary: Path
) -> None:
    run = recording(CAPTURE, outcome="completed")
    with JournalWriter(tmp_path / "journal.0", run.header) as journal:
        for samples in run.batches():
            journal.append(Batch(samples=samples))
    reader, own = JournalReader(path=tmp_path / "journal.0"), SelfMetrics()
    written = [sample for batch in reader.batches() for sample in batch.samples]
    assert reader.header is not None
    with running_victoria_metrics(victoria_metrics_binary, tmp_path / "server") as server:
        sink = InfluxSink(mirror(server.url), own)
        sink.attach(reader.header, run.record)
        sink.take(run.header.run, written)
        sink.close(20.0)
        server.post("/internal/force_flush")
        rows = server.get("/api/v1/export", **{"match[]": f'{{run="{run.header.run}"}}'}).splitlines()
    assert own.mirror_samples.values[(NAME,)] == len(written) > 300
    found: dict[tuple[object, ...], set[float]] = {}
    for row in map(json.loads, rows):
        labels = tuple(sorted(row["metric"].items()))
        for time_ms, value in zip(row["timestamps"], row["values"], strict=True):
            found.setdefault((labels, time_ms), set()).add(value)
    # VictoriaMetrics: measurement_field, words become 0, nanoseconds milliseconds, an empty tag is no tag
    wanted: dict[tuple[object, ...], set[float]] = {}
    for sample in written:
        for field, value in sample.fields.items():
            assert isinstance(value, str) == (field in MEASUREMENTS[sample.measurement].words)
            metric = {"__name__": f"{sample.measurement}_{field}"} | reader.header.tags() | dict(sample.tags)
            labels = tuple(sorted((name, text) for name, text in metric.items() if text))
            wanted.setdefault((labels, sample.time_ns // 1_000_000), set()).add(
                0.0 if isinstance(value, str) else value
            )
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        assert sorted(found[key]) == pytest.approx(sorted(values), rel=1e-12), key  # it keeps about 15 digits


def test_requests_carry_org_bucket_nanoseconds_and_the_token_of_the_file(scripted: Scripted, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    run = recording(CAPTURE)
    send(InfluxSink(mirror(scripted.url, token), SelfMetrics()), run)
    path, headers, _ = scripted.requests[0]
    assert path == "/api/v2/write?org=lab&bucket=runs&precision=ns"
    assert headers["Authorization"] == "Token secret"
    assert scripted.lines == [line(sample, tag_set(run.header.tags())) for sample in run.samples]
    assert all(f",run={run.header.run},campaign=night,scenario=" in text for text in scripted.lines)


@pytest.mark.parametrize("trouble", [[503, 500], [429], [0]], ids=["unavailable", "too many requests", "dropped"])
def test_what_passes_is_retried_and_nothing_is_lost(scripted: Scripted, trouble: list[int]) -> None:
    scripted.statuses = list(trouble)
    own, run = SelfMetrics(), recording(CAPTURE)
    send(InfluxSink(mirror(scripted.url), own), run)
    assert own.mirror_retries.values[(NAME,)] == len(trouble)
    assert own.mirror_dropped.values[(NAME,)] == 0.0
    assert own.mirror_samples.values[(NAME,)] == len(run.samples)
    assert set(scripted.lines) == {line(sample, tag_set(run.header.tags())) for sample in run.samples}


def test_what_is_refused_for_good_is_counted_as_dropped_and_not_sent_again(scripted: Scripted) -> None:
    scripted.statuses = [400]
    own, run = SelfMetrics(), recording(CAPTURE)
    send(InfluxSink(mirror(scripted.url), own), run)
    first = len(scripted.requests[0][2].split("\n"))
    assert own.mirror_dropped.values[(NAME,)] == first
    assert own.mirror_samples.values[(NAME,)] == len(run.samples) - first
    assert len(scripted.lines) == len(run.samples)


def test_a_server_that_is_down_holds_up_neither_sampling_nor_the_end_and_losses_are_counted(free_port: int) -> None:
    own, run = SelfMetrics(), recording(CAPTURE)
    sink = InfluxSink(mirror(f"http://127.0.0.1:{free_port}"), own, most_waiting=100)
    sink.attach(run.header, run.record)
    began = time.monotonic()
    sink.take(run.header.run, run.samples)
    assert time.monotonic() - began < 1.0
    assert own.mirror_dropped.values[(NAME,)] == len(run.samples) - 100
    eventually(lambda: own.mirror_retries.values[(NAME,)] >= 1.0)
    sink.close(0.5)
    assert time.monotonic() - began < 10.0
    assert own.mirror_dropped.values[(NAME,)] == len(run.samples)


@pytest.mark.parametrize("url", ["localhost:8086", "ftp://h", "http://", "http://me:secret@h:8086"])
def test_a_url_that_cannot_be_used_is_refused_in_one_line_without_its_password(url: str) -> None:
    with pytest.raises(BadValueError, match="influx URL") as refused:
        mirror(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, why in (("missing", "No such file"), ("empty", "is empty")):
        with pytest.raises(BadValueError, match=why):
            InfluxSink(mirror("http://127.0.0.1:1", tmp_path / name), SelfMetrics())
