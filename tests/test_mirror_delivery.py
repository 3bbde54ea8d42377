"""How rows are delivered: what the requests are, what is sent again, and what becomes a dead letter."""

from __future__ import annotations

import email.utils
import json
import struct
import time
from pathlib import Path

import pytest

from driver.datadir import DataDir
from exporter.mirror import bounded, delivery, influxdb, remote_write
from exporter.mirror.again import retry_dead_letters
from exporter.mirror.destination import INFLUXDB, REMOTE_WRITE, Destination
from exporter.mirror.spool import spool_for
from exporter.mirror.status import standing
from tests.faulty import Fault, Script
from tests.mirroring import LINES, SAMPLES, influx, sent, spooled
from workload.errors import BadValueError

pytestmark = pytest.mark.usefixtures("impatient")


def test_a_run_is_sent_in_order_with_org_bucket_nanoseconds_and_token_and_leaves_its_spool_empty(
    data: DataDir, script: Script, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    spool = spooled(data, influx(script.url, token_file=str(token)))
    sent(data, spool)
    assert script.taken_lines() == LINES
    for request in script.requests:
        assert request.path == "/api/v2/write?org=lab&bucket=runs&precision=ns"
        assert request.headers["Authorization"] == "Token secret"
    assert spool.runs() == []
    found = standing(spool)
    assert (found.samples, found.waiting_bytes, found.lag_seconds, found.trouble) == (len(SAMPLES), 0, 0.0, "")
    assert not any("secret" in path.read_text() for path in spool.path.rglob("*") if path.is_file())


def test_a_token_may_stand_in_the_environment(data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRASCOPE_INFLUX_TOKEN", "from-outside")
    sent(data, spooled(data, influx(script.url)))
    assert script.requests[0].headers["Authorization"] == "Token from-outside"


@pytest.mark.parametrize("user", ["", "me"], ids=["bearer", "basic"])
def test_remote_write_is_snappy_protobuf_with_sorted_labels_and_the_headers_of_the_protocol(
    data: DataDir, script: Script, tmp_path: Path, user: str
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    where = Destination(kind=REMOTE_WRITE, url=f"{script.url}/api/v1/write", user=user, token_file=str(token))
    sent(data, spooled(data, where))
    [request] = script.requests[:1]
    assert request.path == "/api/v1/write"
    assert request.headers["Authorization"] == ("Basic bWU6c2VjcmV0" if user else "Bearer secret")
    assert request.headers["Content-Encoding"] == "snappy"
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert request.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert request.values
    for labels, _, _ in request.values:
        assert list(labels) == sorted(labels)
        assert ("job", "migrascope_remote_write") in labels
        assert all(word for _, word in labels)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=503), Fault(status=500)],
        [Fault(status=429)],
        [Fault(status=401), Fault(status=404)],
        [Fault(how="drop")],
        [Fault(status=503)] * 12,
    ],
    ids=["unavailable", "too many requests", "not set up yet", "dropped", "for a while"],
)
@pytest.mark.parametrize("kind", [INFLUXDB, REMOTE_WRITE])
def test_what_passes_is_sent_again_and_nothing_is_lost(
    data: DataDir, script: Script, kind: str, faults: list[Fault]
) -> None:
    script.faults = list(faults)
    spool = spooled(data, Destination(kind=kind, url=script.url, org="lab", bucket="runs"))
    sent(data, spool)
    found = standing(spool)
    assert (found.retries, found.samples, found.dead_letters) == (len(faults), len(SAMPLES), 0)
    assert not spool.dead_letters.exists()
    if kind == INFLUXDB:
        assert script.taken_lines() == LINES


@pytest.mark.parametrize("how", ["hang", "drip"])
@pytest.mark.parametrize("kind", [INFLUXDB, REMOTE_WRITE])
def test_a_server_that_hangs_or_drips_costs_one_deadline_and_no_sample(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch, kind: str, how: str
) -> None:
    monkeypatch.setattr(influxdb, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(remote_write, "REQUEST_SECONDS", 0.5)
    script.faults = [Fault(how=how)]
    spool = spooled(data, Destination(kind=kind, url=script.url))
    sent(data, spool)
    assert script.requests[1].at - script.requests[0].at >= 0.4
    assert (standing(spool).retries, standing(spool).samples) == (1, len(SAMPLES))


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(data: DataDir, script: Script, form: str) -> None:
    later = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    script.faults = [Fault(status=429, retry_after=later)]
    sent(data, spooled(data, influx(script.url)))
    assert script.requests[1].at - script.requests[0].at >= 0.9


def test_a_retry_after_without_end_is_bounded() -> None:
    assert bounded.pause_of("86400") == bounded.MOST_PAUSE_SECONDS
    assert bounded.pause_of("Fri, 31 Dec 9999 23:59:59 GMT") == bounded.MOST_PAUSE_SECONDS
    assert bounded.pause_of("Thu, 01 Jan 1970 00:00:00 GMT") == bounded.pause_of("soon") == bounded.pause_of(None) == 0


def test_a_row_that_is_refused_becomes_a_dead_letter_with_its_reason_and_the_others_arrive(
    data: DataDir, script: Script
) -> None:
    bad = [LINES[3], LINES[1500]]
    refusal = Fault(status=400, body=json.dumps({"code": "invalid", "message": "field type conflict"}))
    script.judge = lambda request: refusal if any(text in request.lines for text in bad) else None
    spool = spooled(data, influx(script.url))
    sent(data, spool)
    assert script.taken_lines() == [text for text in LINES if text not in bad]
    letters = [json.loads(text) for text in spool.dead_letters.read_text().splitlines()]
    assert [letter["row"] for letter in letters] == bad
    assert {(letter["status"], letter["reason"]) for letter in letters} == {(400, "400 field type conflict")}
    assert standing(spool).dead_letters == 2


def test_dead_letters_are_sent_again_when_asked_and_die_again_where_nothing_has_changed(
    data: DataDir, script: Script
) -> None:
    bad = LINES[3]
    script.judge = lambda request: Fault(status=422) if bad in request.lines else None
    spool = spooled(data, influx(script.url))
    sent(data, spool)
    assert retry_dead_letters(spool) == 1
    sent(data, spool)
    assert len(spool.dead_letters.read_text().splitlines()) == 1
    script.judge = lambda request: None  # noqa: ARG005
    assert retry_dead_letters(spool) == 1
    sent(data, spool)
    assert script.taken_lines()[-1] == bad
    assert not spool.dead_letters.exists()
    assert not spool.retried_letters.exists()
    assert retry_dead_letters(spool) == 0


def test_a_stale_marker_that_was_refused_is_still_one_when_it_is_sent_again(data: DataDir, script: Script) -> None:
    script.judge = lambda request: Fault(status=400) if any(v != v for _, _, v in request.values) else None
    spool = spooled(data, Destination(kind=REMOTE_WRITE, url=script.url))
    sent(data, spool)
    script.judge = lambda request: None  # noqa: ARG005
    buried = retry_dead_letters(spool)
    sent(data, spool)
    ends = [value for _, _, value in script.requests[-1].values if value != value]
    assert buried > len(ends) > 50
    assert {struct.pack("<d", value) for value in ends} == {struct.pack("<Q", 0x7FF0000000000002)}


def test_a_destination_that_refuses_everything_costs_a_bounded_number_of_requests(
    data: DataDir, script: Script
) -> None:
    script.judge = lambda request: Fault(status=400)  # noqa: ARG005
    spool = spooled(data, influx(script.url))
    sent(data, spool)
    assert len(script.requests) <= 2 * delivery.MOST_REFUSALS
    assert len(spool.dead_letters.read_text().splitlines()) == len(LINES)


@pytest.mark.parametrize(
    "url",
    ["localhost:8086", "ftp://h", "http://", "http://me:secret@h:8086", "http://h:99999", "http://[::1", "http://h:0"],
)
@pytest.mark.parametrize("kind", [INFLUXDB, REMOTE_WRITE])
def test_a_url_that_cannot_be_used_is_refused_in_one_line_without_its_password(url: str, kind: str) -> None:
    with pytest.raises(BadValueError, match=f"{kind} URL") as refused:
        Destination(kind=kind, url=url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_file_that_is_missing_empty_or_long_is_refused(data: DataDir, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_text("a\nb\n")
    for name, why in (("missing", "No such file"), ("empty", "is empty"), ("long", "several lines")):
        with pytest.raises(BadValueError, match=why):
            spool_for(data, influx("http://127.0.0.1:1", token_file=str(tmp_path / name)))
