"""What keeps a QEMU on another host for one run: starts it, tells what it does, takes it along when the run goes.

It is sent over ssh, with keeper_host.py and keeper_watch.py, and executed by that host's python3 (3.8 or newer), so it
needs nothing but the standard library. Requests come as JSON lines on stdin and are answered, with events between
them, on stdout; the exporter asks for samples on a unix socket. It ends, and QEMU with it, when stdin closes or says
nothing for too long. Every stamp is this host's CLOCK_MONOTONIC in nanoseconds.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driver.keeper_host import LOCK, copy_path, die_with_keeper, digest, facts, sweep
from driver.keeper_watch import READ_BYTES, Console, Threads

LOOK_SECONDS = 0.5
EXECUTE_SECONDS = 20.0
START_SECONDS = 20.0
LAST_WORDS_SECONDS = 0.5
SAMPLES = "samples.sock"


class RefusedError(Exception):
    """A request cannot be met; the message says why."""


class Link:
    """JSON lines on two descriptors, neither of which ever blocks; sshd may give one socket as both."""

    def __init__(self, taken: Callable[[dict[str, Any]], None]) -> None:
        self.ended = asyncio.Event()
        self.heard = time.monotonic()
        self._taken = taken
        self._loop = asyncio.get_running_loop()
        self._read, self._unsent = b"", b""
        for descriptor in (0, 1):
            os.set_blocking(descriptor, False)
        self._loop.add_reader(0, self._on_readable)

    def say(self, message: dict[str, Any]) -> None:
        """Send a message; what the other side does not take yet waits here."""
        self._unsent += json.dumps(message).encode() + b"\n"
        self._on_writable()

    def _on_readable(self) -> None:
        try:
            data = os.read(0, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(0)
            self.ended.set()
            return
        self.heard = time.monotonic()
        self._read += data
        *lines, self._read = self._read.split(b"\n")
        for line in lines:
            self._taken(json.loads(line))

    def _on_writable(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(1, self._unsent[:READ_BYTES]) :]
        except BlockingIOError:
            self._loop.add_writer(1, self._on_writable)
            return
        except OSError:
            self._unsent = b""
            self.ended.set()
        self._loop.remove_writer(1)


class Keeper:
    """The run's hold on this host; `live` lasts as long as the run does."""

    def __init__(self, folder: Path, silence_seconds: float) -> None:
        self.folder = folder
        self._silence_seconds = silence_seconds
        self.link = Link(self._taken)
        self.process: Any = None
        self.console: Any = None
        self._copying: dict[str, Path] = {}
        self._tasks: set[Any] = set()

    async def live(self) -> None:
        """Serve until the other side has gone; nothing is left then."""
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            await asyncio.start_unix_server(self._serve, str(self.folder / SAMPLES))
            self.link.say({"event": "ready", "facts": facts(self.folder)})
            while not self.link.ended.is_set() and time.monotonic() - self.link.heard < self._silence_seconds:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.link.ended.wait(), LOOK_SECONDS)
        finally:
            if self.process and self.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
            for copy in self._copying.values():
                with contextlib.suppress(OSError):
                    copy.unlink()

    def _taken(self, request: dict[str, Any]) -> None:
        if request["op"] == "clock":  # at once: it measures the way here and back
            clock = {"id": request["id"], "monotonic_ns": time.monotonic_ns(), "wall_ns": time.time_ns()}
            self.link.say(clock)
        elif request["op"] == "signal":
            if self.process and self.process.returncode is None:
                self.process.send_signal(request["number"])
        elif request["op"] != "alive":
            self._begin(self._answer(request))

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: dict[str, Any]) -> None:
        try:
            answer = await getattr(self, "op_" + request["op"])(request)
        except (RefusedError, OSError) as error:
            answer = {"error": str(error)}
        self.link.say({"id": request["id"], **answer})

    async def op_find(self, request: dict[str, Any]) -> dict[str, Any]:
        """Find a program, by its name on the path or by its path, and hash it."""
        path = shutil.which(request["name"])
        if path is None:
            raise RefusedError(f"{request['name']} is not on the path there")
        return {"path": path, "sha256": digest(Path(path))}

    async def op_execute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute a program to its end, with words for its stdin."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *request["argv"], stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=die_with_keeper()
        )
        try:
            said, errors = await asyncio.wait_for(process.communicate(request["stdin"].encode()), EXECUTE_SECONDS)
        except asyncio.TimeoutError:  # noqa: UP041 - another class before Python 3.11
            raise RefusedError(f"{' '.join(request['argv'][:4])} did not end within {EXECUTE_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return {
            "status": process.returncode,
            "stdout": said.decode(errors="replace"),
            "stderr": errors.decode(errors="replace"),
        }

    async def op_has(self, request: dict[str, Any]) -> dict[str, Any]:
        """Find a file of a content: where the other side has it, or among the copies."""
        for path in (Path(request["path"]), copy_path(request["sha256"])):
            with contextlib.suppress(OSError):
                if digest(path) == request["sha256"]:
                    return {"path": str(path)}
        return {"path": None}

    async def op_copy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a piece of a file; the last one makes it a copy, if the content is what was announced."""
        wanted = request["sha256"]
        path = copy_path(wanted)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._copying.setdefault(wanted, path.with_name(f"{path.name}.{os.getpid()}"))
        with part.open("ab") as file:
            file.write(base64.b64decode(request["data"]))
        if request["last"]:
            if digest(part) != wanted:
                raise RefusedError(f"{part}: the copy of {request['path']} came damaged")
            part.replace(path)
            del self._copying[wanted]
        return {"path": str(path)}

    async def op_write(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write a small file of the run's own."""
        path = self.folder / request["name"]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(request["data"]))
        return {"path": str(path)}

    async def op_disk(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make an empty disk for the guest, which takes room as it is written."""
        make_disk(Path(request["path"]), request["bytes"])
        return {}

    async def op_launch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start QEMU; answers once its `sockets` are there, or it has exited."""
        if self.console is None:
            self.console = Console(request["console"])
            self.console.listeners.append(
                lambda _, data: self.link.say({"event": "console", "data": base64.b64encode(data).decode()})
            )
        remove(request["sockets"])  # of one that ran before in its place
        self.process = await asyncio.create_subprocess_exec(
            *request["argv"], stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, preexec_fn=die_with_keeper(), start_new_session=True,
        )  # fmt: skip
        self._begin(self._follow(self.process))
        deadline = time.monotonic() + START_SECONDS
        while self.process.returncode is None and missing(request["sockets"]):
            if time.monotonic() > deadline:
                raise RefusedError(f"QEMU made no monitor within {START_SECONDS:g} s")
            await asyncio.sleep(0.01)
        return {"pid": self.process.pid}

    async def _follow(self, process: Any) -> None:
        log = asyncio.ensure_future(self._follow_log(process.stdout))
        status = await process.wait()
        await asyncio.wait({log}, timeout=LAST_WORDS_SECONDS)
        log.cancel()
        self.console.read()
        self.link.say({"event": "exit", "status": status})

    async def _follow_log(self, log: asyncio.StreamReader) -> None:
        while True:
            data = await log.read(READ_BYTES)
            if not data:
                return
            self.link.say({"event": "log", "data": base64.b64encode(data).decode()})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the exporter: sweeps over the threads when asked, or the console as it grows."""
        threads = Threads(self.process.pid) if self.process else None

        def pass_on(stamp: int, data: bytes) -> None:
            say(writer, {"stamp_ns": stamp, "data": base64.b64encode(data).decode()})

        try:
            while True:
                line = await reader.readline()
                if not line:
                    return
                request = json.loads(line)
                if request["op"] == "threads" and threads:
                    say(writer, threads.reading(listed=request["list"]))
                elif request["op"] == "console" and self.console:
                    early = self.console.before(request["offset"])
                    say(writer, {"unseen_bytes": self.console.size})
                    pass_on(time.monotonic_ns(), early)
                    self.console.listeners.append(pass_on)
                elif request["op"] == "rest" and self.console:
                    self.console.read()
                    say(writer, {"rest": True})
                else:
                    say(writer, {"pid": threads.pid if threads else None})
        except (OSError, ValueError):
            return  # the other side went, or QEMU did
        finally:
            if self.console and pass_on in self.console.listeners:
                self.console.listeners.remove(pass_on)
            if threads:
                threads.close()
            writer.close()


def remove(paths: list[str]) -> None:
    """Remove those of them that are there."""
    for path in filter(os.path.exists, paths):
        Path(path).unlink()


def make_disk(path: Path, size: int) -> None:
    """Make a sparse file of so many bytes."""
    path.touch(mode=0o600, exist_ok=False)
    os.truncate(path, size)


def missing(paths: list[str]) -> bool:
    """Whether one of them is not there."""
    return not all(Path(path).exists() for path in paths)


def say(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Write one line."""
    writer.write(json.dumps(message).encode() + b"\n")


async def keep(folder: Path, silence_seconds: float) -> None:
    """Keep a run's QEMU until the run goes."""
    await Keeper(folder, silence_seconds).live()


def main(folder: Path, silence_seconds: float) -> None:
    """Make the run's directory, live, and remove it."""
    sweep(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        sys.exit(f"{folder}: {error.strerror}")
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        asyncio.run(keep(folder, silence_seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
