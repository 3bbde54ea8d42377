"""A host that ssh reaches: one connection for the run, over which a keeper there answers, and how its clock stands."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from driver.clock import ClockOffset, RoundTrip, clock_offset
from driver.parent_death import die_with_parent
from driver.qemu import HostLostError
from driver.ssh import ssh_command
from workload.errors import BrokenError, UnsupportedError

KEEPER = ("keeper_host", "keeper_watch", "keeper")
"""The modules that are sent, each after those that it imports."""

BOOTSTRAP = (
    'import json, os, sys, types; sys.version_info >= (3, 8) or sys.exit("python3 is " + sys.version.split()[0]'
    ' + ", want 3.8 or newer"); parts = json.loads(b"".join(iter(lambda: os.read(0, 1) or os._exit(1), b"\\n")));'
    " modules = [(sys.modules.setdefault(name, types.ModuleType(name)), text) for name, text in parts];"
    ' [exec(compile(text, each.__name__, "exec"), each.__dict__) for each, text in modules];'
    ' modules[-1][0].main(modules[-1][0].Path("/tmp", sys.argv[1]), float(sys.argv[2]))'
)
"""What the other host's python3 is told: take modules from stdin and let the last one live; nothing is written there.

Without a single quote or an exclamation mark, so that every shell takes it between single quotes.
"""

READY_SECONDS = 20.0
ANSWER_SECONDS = 10.0
ALIVE_SECONDS = 2.0
SILENCE_SECONDS = 15.0
"""After how long without a word the keeper takes the driver for dead, or the link for lost."""
LEAVE_SECONDS = 5.0
ROUND_TRIPS = 24
PIECE_BYTES = 1 << 20
LINE_BYTES = 64 << 20
LAST_LINES = 20
LINK_SOCKETS = ("driver", "exporter", "samples")

Taker = Callable[[Mapping[str, Any]], None]


class RemoteHost:
    """The destination's host for one run. It lives as long as its `async with`; then nothing of the run is left there.

    Enter it from the main thread: ssh dies with the driver, and the keeper with ssh.
    """

    def __init__(self, destination: str, runtime: Path, address: str | None = None) -> None:
        self.destination = destination
        self.folder = Path("/tmp") / f"migrascope-{secrets.token_hex(8)}"  # noqa: S108 - short, 0700, made there
        self.sockets = {name: runtime / f"remote-{name}.sock" for name in LINK_SOCKETS}
        self.takers: dict[str, Taker] = {}
        self.facts: Mapping[str, Any] = {}
        self._address = address
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._waiting: dict[int, asyncio.Future[tuple[Mapping[str, Any], int]]] = {}
        self._number = 0
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost: HostLostError | None = None
        self._leaving = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ssh: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """Where the other side reaches it: the address given, else that at which ssh did."""
        return self._address or str(self.facts["address"])

    def no_userfaultfd(self) -> str | None:
        """Why post-copy cannot be had there, or None."""
        refusal: str | None = self.facts["userfaultfd_refusal"]
        return refusal

    async def __aenter__(self) -> Self:
        forwarded = {here: self.folder / f"{name}.sock" for name, here in self.sockets.items()}
        words = ["python3", "-I", "-c", f"'{BOOTSTRAP}'", self.folder.name, f"{SILENCE_SECONDS:g}"]
        try:
            self._ssh = await asyncio.create_subprocess_exec(
                *ssh_command(self.destination, forwarded, words),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                limit=LINE_BYTES, preexec_fn=die_with_parent(), start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise UnsupportedError(
                "ssh is not on the path; apt-get install openssh-client (Debian, Ubuntu), dnf install openssh-clients"
            ) from None
        try:
            self._tasks = [asyncio.create_task(work) for work in (self._read(), self._read_errors(), self._beat())]
            self._write(_modules())
            await self._until_ready()
            self._check_address()
            await self._check_forwarding()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def ask(self, operation: str, *, seconds: float = ANSWER_SECONDS, **fields: Any) -> Mapping[str, Any]:
        """Have the keeper do something and return its answer.

        Raises:
            UnsupportedError: it cannot be done there.
            HostLostError: the connection is lost.
            BrokenError: no answer within the deadline.
        """
        answer, _ = await self._ask(operation, seconds, fields)
        return answer

    def tell(self, operation: str, **fields: Any) -> None:
        """Have the keeper do something that is not answered."""
        self._write({"op": operation, **fields})

    async def clock(self, before: ClockOffset | None = None) -> ClockOffset:
        """Measure how the other host's clocks stand against ours; with an earlier measurement, how they drifted since.

        Raises:
            HostLostError: the connection is lost.
        """
        trips = []
        for _ in range(ROUND_TRIPS):
            sent_ns = time.monotonic_ns()
            answer, arrived_ns = await self._ask("clock", ANSWER_SECONDS, {})
            trips.append(
                RoundTrip(
                    sent_ns=sent_ns, arrived_ns=arrived_ns, monotonic_ns=answer["monotonic_ns"],
                    wall_ns=answer["wall_ns"],
                )
            )  # fmt: skip
        return clock_offset(trips, before)

    async def copy(self, path: Path, sha256: str) -> str:
        """See to it that a file is there, where no equal one is; returns its path there.

        Raises:
            UnsupportedError: it cannot be written there.
        """
        if found := (await self.ask("has", path=str(path), sha256=sha256))["path"]:
            return str(found)
        content = await asyncio.to_thread(path.read_bytes)
        answer: Mapping[str, Any] = {}
        for start in range(0, len(content), PIECE_BYTES):
            piece = base64.b64encode(content[start : start + PIECE_BYTES]).decode()
            last = start + PIECE_BYTES >= len(content)
            answer = await self.ask("copy", path=str(path), sha256=sha256, data=piece, last=last, seconds=READY_SECONDS)
        return str(answer["path"])

    async def write(self, name: str, content: bytes) -> Path:
        """Write a small private file of the run's own; returns its path there."""
        answer = await self.ask("write", name=name, data=base64.b64encode(content).decode())
        return Path(answer["path"])

    async def _ask(self, operation: str, seconds: float, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
        if self._lost:
            raise self._lost
        self._number += 1
        number = self._number
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                self._write({"op": operation, "id": number, **fields})
                answer, arrived_ns = await waiting
        except TimeoutError:
            raise BrokenError(
                f"destination host {self.destination}: no answer to {operation} within {seconds:g} s"
            ) from None
        finally:
            del self._waiting[number]
        if "error" in answer:
            raise UnsupportedError(f"destination host {self.destination}: {answer['error']}")
        return answer, arrived_ns

    def _write(self, message: Any) -> None:
        if self._ssh and self._ssh.stdin and not self._ssh.stdin.is_closing():
            self._ssh.stdin.write(orjson.dumps(message) + b"\n")

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready
        except TimeoutError:
            raise UnsupportedError(
                f"destination host {self.destination}: nothing started there within {READY_SECONDS:g} s{self._words()}"
            ) from None
        except HostLostError as error:
            raise UnsupportedError(str(error)) from None

    def _check_address(self) -> None:
        if "%" in self.address and not self._address:
            raise UnsupportedError(
                f"destination host {self.destination}: ssh reaches it at {self.address}, an address of one link, whose"
                " name there means nothing here; want --destination-address with another of its addresses"
            )

    async def _check_forwarding(self) -> None:
        """Talk to the keeper over a forwarded socket, as QEMU's monitors will be."""
        line = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.sockets["samples"])
                try:
                    writer.write(b'{"op": "hello"}\n')
                    line = await reader.readline()
                finally:
                    writer.close()
        if not line:
            raise UnsupportedError(
                f"destination host {self.destination}: its sshd forwards no unix sockets{self._words()}; want"
                " AllowStreamLocalForwarding yes there"
            )

    async def _read(self) -> None:
        """Take answers and events until the connection ends."""
        assert self._ssh is not None  # noqa: S101 - it was started before this task
        assert self._ssh.stdout is not None  # noqa: S101
        while line := await self._ssh.stdout.readline():
            arrived_ns = time.monotonic_ns()
            with contextlib.suppress(orjson.JSONDecodeError):  # what a login script prints
                message = orjson.loads(line)
                if isinstance(message, dict):
                    self._take(message, arrived_ns)
        status = await self._ssh.wait()
        await asyncio.wait({self._tasks[1]}, timeout=1.0)
        self._lost = HostLostError(
            f"destination host {self.destination}: ssh ended with status {status}{self._words()}"
            if not self._leaving
            else f"destination host {self.destination}: was left"
        )
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._waiting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(self._lost)
                future.exception()  # whoever waits is told; nobody need
        if taker := self.takers.get("lost"):
            taker({"error": self._lost})

    def _take(self, message: dict[str, Any], arrived_ns: int) -> None:
        waiting = self._waiting.get(message.get("id", 0))
        event = message.get("event")
        if waiting and not waiting.done():
            waiting.set_result((message, arrived_ns))
        elif event == "ready" and not self._ready.done():
            self.facts = message["facts"]
            self._ready.set_result(None)
        elif taker := self.takers.get(str(event)):
            taker(message)

    async def _read_errors(self) -> None:
        """Remember the last of what ssh and the other side complain about."""
        assert self._ssh is not None  # noqa: S101
        assert self._ssh.stderr is not None  # noqa: S101
        while line := await self._ssh.stderr.readline():
            if words := " ".join(line.decode(errors="replace").split()):
                self._said.append(words)

    async def _beat(self) -> None:
        """Tell the keeper that the driver lives: it ends with a driver that says nothing."""
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            self.tell("alive")

    def _words(self) -> str:
        return f": {self._said[-1][:300]}" if self._said else ""

    async def _end(self) -> None:
        """Leave: the keeper sees its stdin closed and ends; ssh that does not end then is killed."""
        self._leaving = True
        ssh = self._ssh
        if ssh and ssh.returncode is None:
            if ssh.stdin:
                ssh.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await ssh.wait()
            if ssh.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    ssh.kill()
                await ssh.wait()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _modules() -> list[tuple[str, str]]:
    folder = Path(__file__).parent
    return [(f"driver.{name}", (folder / f"{name}.py").read_text()) for name in KEEPER]
