"""Finding the exporter that serves a data directory, or starting one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from driver.datadir import DataDir
from driver.detached import start_detached
from driver.watch import ExporterClient, find_exporter
from workload.errors import BrokenError, MigrascopeError

LINGER_SECONDS = 30.0
LINGER_VARIABLE = "MIGRASCOPE_LINGER_SECONDS"
ANSWER_SECONDS = 10.0
LOOK_SECONDS = 0.02


async def start_exporter(data: DataDir) -> ExporterClient:
    """Return a client of the exporter that serves a data directory; where none answers, start one first.

    It runs in a session of its own on a free port, writes its log to exporter.log, and ends by itself once it was idle
    for 30 s (`$MIGRASCOPE_LINGER_SECONDS`).

    Raises:
        BrokenError: it did not answer within 10 s; the message holds the last line of its log.
    """
    if client := await _answering(data):
        return client
    began = data.exporter_log.stat().st_size if data.exporter_log.exists() else 0
    pid = _spawn(data)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ANSWER_SECONDS
    ended = False
    while loop.time() < deadline:
        if client := await _answering(data):
            return client
        # another driver may have been quicker: then ours ends at once and the other's answers soon
        ended = ended or _reap(pid)
        await asyncio.sleep(LOOK_SECONDS * (10 if ended else 1))
    state = "ended before it answered" if ended else f"did not answer within {ANSWER_SECONDS:g} s"
    raise BrokenError(f"exporter: {state}: {_last_line(data, began)} (log: {data.exporter_log})")


async def _answering(data: DataDir) -> ExporterClient | None:
    client = find_exporter(data)
    if client is None:
        return None
    _reap(client.info.pid)
    try:
        await client.status()
    except MigrascopeError:
        return None
    return client


def _spawn(data: DataDir) -> int:
    """Start the exporter so that it outlives us."""
    linger = os.environ.get(LINGER_VARIABLE, f"{LINGER_SECONDS:g}")
    arguments = ["--data-dir", str(data.path), "--port", "0", "--linger", linger]
    return start_detached([sys.executable, "-m", "exporter.server", *arguments], data.exporter_log)


def _reap(pid: int) -> bool:
    """Whether our child has ended; so it is taken out of the process table, where it would seem to live."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return False


def _last_line(data: DataDir, began: int) -> str:
    try:
        text = data.exporter_log.read_bytes()[began:].decode(errors="replace").strip()
    except OSError as error:
        return f"its log cannot be read: {error.strerror}"
    return text.splitlines()[-1] if text else "it said nothing"
