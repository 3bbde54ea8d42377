"""The commands on mirrors: how they stand, sending again, exporting, setting a bucket up, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from driver.datadir import DataDir
from exporter import history
from exporter.mirror.destination import REMOTE_WRITE, Destination
from exporter.mirror.feed import Feed
from exporter.start import LINGER_VARIABLE, start_exporter
from migrascope.main import main
from tests.faulty import Fault, Request, Script
from tests.mirroring import LINES, RUN, SAMPLES, influx, sent, spooled
from tests.recorded import a_run
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("impatient")

BUCKETS, ORGS = "GET /api/v2/buckets", "GET /api/v2/orgs"
ORGANISATION = {"id": "00000000000000aa", "name": "lab"}


def run(data: DataDir, *words: str) -> int:
    return main([*words, "--data-dir", str(data.path)])


def test_status_tells_of_every_mirror_what_it_has_done_and_why_it_does_not_go_on(
    data: DataDir, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, "mirror", "status") == 0
    assert "no mirrors in" in capsys.readouterr().err
    sent(data, spooled(data, influx(script.url)))
    stop = threading.Event()

    def judge(request: Request) -> Fault:  # noqa: ARG001 - one shape
        stop.set()
        return Fault(status=503, body="busy")

    script.judge = judge
    Feed(data, spooled(data, Destination(kind=REMOTE_WRITE, url=script.url)), stop).run()
    assert run(data, "mirror", "status", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["samples"], first["waiting_bytes"], first["trouble"]) == (len(SAMPLES), 0, "")
    assert (second["samples"], second["waiting_runs"], second["trouble"]) == (0, 1, "503 busy")
    assert second["waiting_bytes"] > 10_000
    assert second["lag_seconds"] > 0
    assert run(data, "mirror", "status") == 0
    assert "503 busy" in capsys.readouterr().out


def test_replay_sends_a_run_of_the_history_to_every_mirror_again(
    data: DataDir, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (influx(script.url), Destination(kind=REMOTE_WRITE, url=f"{script.url}/write")):
        sent(data, spooled(data, place))
    history.store_run(data, data.run(RUN))
    script.requests.clear()
    assert run(data, "mirror", "replay", "latest", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [mirror["samples"] for mirror in told] == [2 * len(SAMPLES)] * 2
    assert {request.path.partition("?")[0] for request in script.taken()} == {"/api/v2/write", "/write"}


async def test_replay_beside_an_exporter_that_had_nothing_to_send_and_past_its_end(
    data: DataDir, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LINGER_VARIABLE, "60")
    sent(data, spooled(data, influx(script.url)))
    history.store_run(data, data.run(RUN))
    exporter = await start_exporter(data)
    try:
        script.requests.clear()
        assert await asyncio.to_thread(run, data, "mirror", "replay", RUN) == 0
        assert len(script.taken_lines()) == len(LINES)
        script.requests.clear()
        script.judge = lambda request: Fault(status=503)  # noqa: ARG005
        replay = asyncio.create_task(asyncio.to_thread(run, data, "mirror", "replay", RUN))
        await until(lambda: script.requests)
    finally:
        os.kill(exporter.info.pid, signal.SIGTERM)
        await asyncio.to_thread(os.waitpid, exporter.info.pid, 0)
    script.judge = lambda request: None  # noqa: ARG005
    assert await replay == 0
    assert len(script.taken_lines()) == len(LINES)


def test_flush_gives_up_in_one_line_and_what_waits_stays_for_the_next(
    data: DataDir, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script.judge = lambda request: Fault(status=503)  # noqa: ARG005
    spool = spooled(data, influx(script.url))
    assert run(data, "mirror", "flush", "--wait", "0.6") == 7
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"migrascope: mirror {spool.destination.name}: 1 run still waiting after 0.6 s (503")
    assert "`migrascope mirror flush` goes on" in line
    script.judge = lambda request: None  # noqa: ARG005
    assert run(data, "mirror", "flush") == 0
    assert script.taken_lines() == LINES


def test_dead_letters_are_told_and_retried_by_command(
    data: DataDir, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script.judge = lambda request: Fault(status=400) if LINES[7] in request.lines else None
    sent(data, spooled(data, influx(script.url)))
    assert run(data, "mirror", "retry-dead-letters") == 1
    assert "1 rows were refused; the reasons stand in" in capsys.readouterr().err
    script.judge = lambda request: None  # noqa: ARG005
    assert run(data, "mirror", "retry-dead-letters") == 0
    assert script.taken_lines()[-1] == LINES[7]


def test_export_sends_recorded_runs_to_a_receiver_of_remote_write(data: DataDir, script: Script) -> None:
    names = [f"20261123-00000{number}-ffff" for number in range(2)]
    for name in names:
        a_run(data, name)
        history.store_run(data, data.run(name))
    assert run(data, "export", "remote-write", *names, "--remote-write", f"{script.url}/api/v1/write") == 0
    infos = [labels for request in script.taken() for labels, _, value in request.values if value == 1.0]
    assert {word for labels in infos for name, word in labels if name == "run"} == set(names)
    assert sum(value != value for request in script.taken() for _, _, value in request.values) > 2 * 50


def test_setup_makes_the_bucket_with_its_retention_and_leaves_one_alone_that_fits(
    data: DataDir, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    options = ["--influx-url", script.url, "--influx-org", "lab", "--influx-bucket", "runs",
               "--influx-token-file", str(token), "--retention-days", "7"]  # fmt: skip
    bucket = {"id": "00000000000000bb", "name": "runs", "retentionRules": [{"type": "expire", "everySeconds": 604800}]}
    script.answers = {BUCKETS: {"buckets": []}, ORGS: {"orgs": [ORGANISATION]}, "POST /api/v2/buckets": bucket}
    assert run(data, "mirror", "setup", *options) == 0
    assert "made; samples are kept for 7 days" in capsys.readouterr().err
    made = json.loads(script.requests[-1].body)
    assert (made["name"], made["orgID"], made["retentionRules"][0]["everySeconds"]) == (
        "runs",
        ORGANISATION["id"],
        604800,
    )
    assert all(request.headers["Authorization"] == "Token secret" for request in script.requests)
    script.answers = {BUCKETS: {"buckets": [bucket]}, f"PATCH /api/v2/buckets/{bucket['id']}": bucket}
    assert run(data, "mirror", "setup", *options) == 0
    assert "is there already" in capsys.readouterr().err
    assert run(data, "mirror", "setup", *options[:-1], "0") == 0
    assert "changed; samples are kept for ever" in capsys.readouterr().err
    assert json.loads(script.requests[-1].body)["retentionRules"][0]["everySeconds"] == 0
    script.answers = {BUCKETS: {"buckets": [{"name": "runs"}]}}
    assert run(data, "mirror", "setup", *options) == 7
    assert "is no InfluxDB 2" in capsys.readouterr().err
    script.judge = lambda request: Fault(status=401, body='{"message": "unauthorized access"}')  # noqa: ARG005
    assert run(data, "mirror", "setup", *options) == 7
    refusal = capsys.readouterr().err
    assert "InfluxDB refused: unauthorized access" in refusal
    assert "secret" not in refusal
    assert refusal.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["mirror", "replay", "latest"], "no mirrors in"),
        (["mirror", "flush", "--mirror", "x"], "mirror 'x': is not known"),
        (["export", "remote-write", "latest"], "want a receiver"),
        (["export", "remote-write", "latest", "--remote-write", "http://b", "-o", "f"], "writes no file"),
        (["export", "guestperf", "latest", "-o", "d", "--remote-write", "http://b"], "sends nothing"),
        (["export", "openmetrics", "latest"], "want a file to write"),
        (["export", "remote-write", "latest", "--remote-write", "http://a:secret@b"], "holds a password"),
        (["mirror", "setup", "--influx-url", "localhost"], "want http://"),
        (["mirror", "setup", "--influx-url", "http://h", "--retention-days", "-1"], "--retention-days -1"),
        (["exporter", "--influx-url", "http://h", "--influx-token-file", "/nowhere"], "No such file"),
        (["exporter", "--remote-write", "ftp://h"], "want http://"),
        (["run", "--remote-write", "ftp://h"], "want http://"),
        (["run", "--spool-mib", "0"], "spool_mib"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    data: DataDir, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    a_run(data, RUN)
    assert run(data, *words) == 2
    refusal = capsys.readouterr().err
    assert why in refusal
    assert refusal.count("\n") == 1
    assert "secret" not in refusal
    assert not list(data.spool.glob("*/runs/*"))
    assert not data.exporter.exists()
