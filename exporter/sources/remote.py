"""Sources on another host: its keeper's readings of QEMU's threads, and the console as it grew there.

The keeper (driver/keeper.py) answers over a socket that ssh forwards. Its stamps are of its own monotonic clock, and
are carried over with the offset that the driver measured.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from driver.clock import Clock
from driver.targets import Elsewhere
from exporter.journal import Batch
from exporter.rates import Pace
from exporter.selfmetrics import SelfMetrics
from exporter.sources.console import ConsoleSource, Resume
from exporter.sources.thread_accounts import ThreadAccounts
from workload.console import Parser
from workload.errors import BrokenError
from workload.follow import Arrivals

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 3.0
LINE_BYTES = 64 << 20


class Line:
    """A connection to the keeper: JSON lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, elsewhere: Elsewhere, operation: str, **fields: Any) -> tuple[Self, dict[str, Any]]:
        """Connect and make a first request; returns the connection and the answer.

        Raises:
            OSError: nobody listens, or nobody answers in time.
            BrokenError: the keeper has gone.
        """
        async with asyncio.timeout(CONNECT_SECONDS):
            line = cls(*await asyncio.open_unix_connection(elsewhere.samples, limit=LINE_BYTES))
        try:
            line.ask(operation, **fields)
            async with asyncio.timeout(ANSWER_SECONDS):
                return line, await line.take()
        except BaseException:
            line.close()
            raise

    def ask(self, operation: str, **fields: Any) -> None:
        """Send a request."""
        self._writer.write(orjson.dumps({"op": operation, **fields}) + b"\n")

    async def take(self) -> dict[str, Any]:
        """The next line.

        Raises:
            BrokenError: the keeper has gone, or QEMU has.
        """
        line = await self._reader.readline()
        if not line:
            raise BrokenError("the destination's host closed its connection")
        message: dict[str, Any] = orjson.loads(line)
        return message

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class RemoteThreadsSource:
    """Asks for a sweep over the threads at each tick; a tick that finds the last answer still on its way is skipped.

    The keeper says of which process: a run's further attempt has another QEMU there, and a connection tells of one.
    """

    name = "threads"

    def __init__(self, role: str, elsewhere: Elsewhere, clock: Clock, pace: Pace, metrics: SelfMetrics) -> None:
        self.role = role
        self._elsewhere = elsewhere
        self._clock = clock
        self._pace = pace
        self._metrics = metrics
        self._accounts = ThreadAccounts(role)
        self._asked_at: float | None = None
        self._list = False

    async def __aenter__(self) -> Self:
        self._asked_at = None
        self._line, hello = await Line.open(self._elsewhere, "hello")
        if hello["pid"] is None:
            self._line.close()
            raise BrokenError("no QEMU runs on the destination's host")
        self._accounts.open(hello["pid"])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accounts.close()
        self._line.close()

    async def follow(self, take: Callable[[Batch], None]) -> None:
        """Hand on each sweep."""
        with self._pace.ticker(self.name, self._metrics, self._on_tick) as ticker:
            answers = asyncio.ensure_future(self._take_all(take))
            try:
                done, _ = await asyncio.wait({ticker.ended, answers}, return_when=asyncio.FIRST_COMPLETED)
                done.pop().result()
            finally:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)

    async def rest(self) -> Batch:
        """A last sweep comes with the last tick."""
        return Batch(samples=[])

    def list_soon(self) -> None:
        """Look for new threads at the next tick."""
        self._list = True

    def _on_tick(self) -> bool:
        now = time.monotonic()
        if self._asked_at is not None:
            if now - self._asked_at > ANSWER_SECONDS:
                raise TimeoutError(f"the destination's host did not answer within {ANSWER_SECONDS:g} s")
            return False
        self._asked_at = now
        self._line.ask("threads", list=self._list)
        self._list = False
        return True

    async def _take_all(self, take: Callable[[Batch], None]) -> None:
        while True:
            answer = await self._line.take()
            began, self._asked_at = self._asked_at, None
            take(self._batch(answer))
            self._metrics.collections.add(self.name)
            self._metrics.collection_seconds.add(self.name, amount=time.monotonic() - (began or 0.0))

    def _batch(self, answer: dict[str, Any]) -> Batch:
        accounts = self._accounts
        stamp_ns = self._clock.stamp(answer["stamp_ns"] - self._elsewhere.clock.monotonic_ns)
        if names := answer.get("names"):
            found = {int(tid): comm for tid, comm in names.items()}
            for tid in sorted(found.keys() - set(accounts.living)):
                accounts.name(tid, found[tid])
            accounts.forget_unnamed(found)
        readings = {tid: (run_ns, delay_ns) for tid, run_ns, delay_ns in answer["threads"]}
        for tid in list(accounts.living):
            if tid in readings:
                accounts.read(tid, *readings[tid])
            else:
                accounts.end(tid)
        samples = accounts.samples(stamp_ns)
        if process := answer.get("process"):
            samples += accounts.process_samples(stamp_ns, process["cpu_seconds"], process["resident_bytes"])
        return Batch(samples=samples)


class RemoteConsoleSource(ConsoleSource):
    """A console that the keeper follows: what comes was stamped there, as it came."""

    def __init__(
        self, role: str, path: Path, elsewhere: Elsewhere, clock: Clock, resume: Resume, metrics: SelfMetrics
    ) -> None:
        super().__init__(role, path, clock, resume, metrics)
        self._elsewhere = elsewhere

    async def __aenter__(self) -> Self:
        self._garbage_lines = 0
        self._arrivals = Arrivals(self._offset)
        self._rest = asyncio.Event()
        self._line, told = await Line.open(self._elsewhere, "console", offset=self._offset)
        self._unseen_bytes = told["unseen_bytes"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()

    async def follow(self, take: Callable[[Batch], None]) -> None:
        """Hand on the samples of what has come; stamped there, it need not be handled at once."""
        while True:
            message = await self._line.take()
            if "data" not in message:
                self._rest.set()
                continue
            stamp_ns = message["stamp_ns"] - self._elsewhere.clock.monotonic_ns
            self._arrivals.add(stamp_ns, base64.b64decode(message["data"]))
            if arrivals := self._arrivals.hand_over():
                take(self._batch(arrivals))

    async def rest(self) -> Batch:
        """Have the keeper send what there is: `follow` hands it on."""
        self._rest.clear()
        self._line.ask("rest")
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._rest.wait()
        return Batch(samples=[])

    def _parser(self) -> Parser:
        return self._arrivals.parser
