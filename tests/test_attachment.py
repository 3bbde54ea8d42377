"""A run's hold on its exporter where the exporter does not stay."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from driver.attachment import Attachment
from driver.datadir import DataDir
from driver.watch import ExporterClient, ExporterInfo, Sampling
from workload.errors import BrokenError


def client(socket: Path, pid: int | None = None) -> ExporterClient:
    return ExporterClient(ExporterInfo(pid=pid or os.getpid(), boot_id="b", socket=str(socket), host="h", port=1))


@pytest.fixture
async def answering(tmp_path: Path) -> AsyncIterator[tuple[Path, list[str]]]:
    """An exporter's socket that says yes to everything, and the operations that it was asked for."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(orjson.loads(await reader.readline())["op"])
        writer.write(orjson.dumps({"ok": True, "vm": "vm0"}) + b"\n")
        await writer.drain()
        writer.close()

    path = tmp_path / "watch"
    server = await asyncio.start_unix_server(serve, path)
    yield path, asked
    server.close()
    await server.wait_closed()


async def test_an_exporter_that_went_while_the_qemus_were_started_is_replaced(
    tmp_path: Path, answering: tuple[Path, list[str]]
) -> None:
    path, asked = answering
    found = [client(tmp_path / "gone"), client(path)]

    async def start(_data: DataDir) -> ExporterClient:
        return found.pop(0)

    data = DataDir.open(tmp_path / "data")
    attachment = Attachment(data, data.run("r"), Sampling(), start)
    attachment.prepare()
    await attachment.attach()
    await attachment.detach()
    await attachment.close()
    assert asked == ["attach", "detach"]


async def test_an_exporter_that_died_just_before_the_end_is_started_again_to_read_what_is_left(
    tmp_path: Path, answering: tuple[Path, list[str]]
) -> None:
    path, asked = answering
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: ASYNC220 - a moment
        found = [client(path, process.pid), client(path)]

        async def start(_data: DataDir) -> ExporterClient:
            await asyncio.sleep(0)
            return found.pop(0)

        data = DataDir.open(tmp_path / "data")
        attachment = Attachment(data, data.run("r"), Sampling(), start)
        attachment.prepare()
        await attachment.attach()
        process.kill()
    await attachment.detach()
    await attachment.close()
    assert asked == ["attach", "attach", "detach"]
    assert attachment.client
    assert attachment.client.info.pid == os.getpid()


async def test_a_restart_that_is_under_way_when_the_run_ends_is_waited_for(
    tmp_path: Path, answering: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = answering
    monkeypatch.setattr("driver.attachment.LOOK_SECONDS", 0.01)
    restarting, go_on = asyncio.Event(), asyncio.Event()
    with subprocess.Popen(["true"]) as process:  # noqa: ASYNC220 - a moment
        found = [client(path, process.pid), client(path)]

    async def start(_data: DataDir) -> ExporterClient:
        if len(found) == 1:
            restarting.set()
            await go_on.wait()
        return found.pop(0)

    data = DataDir.open(tmp_path / "data")
    attachment = Attachment(data, data.run("r"), Sampling(), start)
    attachment.prepare()
    await attachment.attach()
    async with asyncio.timeout(10):
        await restarting.wait()
        detaching = asyncio.create_task(attachment.detach())
        await asyncio.sleep(0)
        go_on.set()
        await detaching
    await attachment.close()
    assert asked == ["attach", "attach", "detach"]


async def test_an_exporter_that_is_there_and_does_not_answer_is_not_replaced(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_bytes(b"")  # a file where the socket was: connecting is refused
    starts = 0

    async def start(_data: DataDir) -> ExporterClient:
        nonlocal starts
        starts += 1
        return client(silent)

    data = DataDir.open(tmp_path / "data")
    attachment = Attachment(data, data.run("r"), Sampling(), start)
    attachment.prepare()
    with pytest.raises(BrokenError):
        await attachment.attach()
    await attachment.close()
    assert starts == 1
