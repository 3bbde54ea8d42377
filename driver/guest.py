"""The guest as its consoles tell of it: ready, pace, settled, recovered, lost."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from driver.settle import Settle
from workload.console import GuestError, Ready, Tick, Xor
from workload.errors import BrokenError, MigrascopeError
from workload.follow import Arrival, Follower

BOOT_SECONDS = 60.0
WINDOW_SECONDS = 0.2
STEADY_WINDOWS = 4
STEADY_SPREAD = 0.15
RECOVERED_SHARE = 0.9
SILENCE_SECONDS = 10.0
LONGEST_SILENCE_SECONDS = 60.0
LINES_KEPT = 20_000
TICKS_BACK = 3
LOOK_SECONDS = 0.05
SECOND_NS = 1_000_000_000


class GuestLostError(MigrascopeError):
    """The guest is gone: it panicked, its QEMU died, or it fell silent while it should run."""

    exit_status = 5


class CopyLostError(MigrascopeError):
    """A copy of the guest does not go on where it was loaded; the guest itself does."""

    exit_status = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One xor line: which QEMU's console it came from, when (monotonic ns), and the work it tells of."""

    role: str
    stamp_ns: int
    vcpu: int
    bytes: int
    taken_ns: int


def pace(lines: Iterable[Line], vcpus: int) -> float | None:
    """Bytes a second of all vCPUs together, by the guest's own clock; None where a vCPU has no line."""
    done: dict[int, tuple[int, int]] = {}
    for line in lines:
        count, taken = done.get(line.vcpu, (0, 0))
        done[line.vcpu] = (count + line.bytes, taken + line.taken_ns)
    if len(done) < vcpus:
        return None
    return sum(count / max(taken, 1) for count, taken in done.values()) * SECOND_NS


def steady_pace(lines: Sequence[Line], vcpus: int, since_ns: int, now_ns: int) -> float | None:
    """The guest's pace once its last four windows agree within 15 %; None until then.

    A window is a fifth of a second, or two lines long where lines are rarer than that.
    """
    longest_ns = max((line.taken_ns for line in lines), default=0)
    window_ns = max(int(WINDOW_SECONDS * SECOND_NS), 2 * longest_ns)
    begin_ns = now_ns - STEADY_WINDOWS * window_ns
    if begin_ns < since_ns:
        return None
    paces = []
    for number in range(STEADY_WINDOWS):
        low = begin_ns + number * window_ns
        found = pace((line for line in lines if low <= line.stamp_ns < low + window_ns), vcpus)
        if found is None:
            return None
        paces.append(found)
    mean = statistics.fmean(paces)
    return mean if max(paces) - min(paces) <= STEADY_SPREAD * mean else None


class Guest:
    """Follows the consoles of the QEMUs, by role; `ready` is known from the start where the guest is restored.

    `homes` are the roles between which the guest moves (None: all): on another's console a copy of it prints, whose
    signs are none of the guest's.
    """

    def __init__(
        self,
        vcpus: int,
        consoles: Mapping[str, Path],
        ready: Ready | None = None,
        bounds: Settle | None = None,
        homes: Collection[str] | None = None,
    ) -> None:
        self.vcpus = vcpus
        self.bounds = bounds or Settle()
        self.ready = ready
        self.heard_ns = time.monotonic_ns()
        self._consoles = consoles
        self._homes = consoles.keys() if homes is None else homes
        self._followers: dict[str, Follower] = {}
        self.error: str | None = None  # its own error line, after which it powers off
        self._lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._ticks: Counter[str] = Counter()  # by role
        self._first_tick: dict[str, int] = {}
        self._last_tick: dict[str, int] = {}

    @property
    def panicked(self) -> str | None:
        """The kernel's panic message, once there was one."""
        parsers = [follower.parser for role, follower in self._followers.items() if role in self._homes]
        return next((parser.panicked for parser in parsers if parser.panicked), None)

    @property
    def failure(self) -> str | None:
        """What the guest said as it gave up: its own error line or the kernel's panic."""
        words = self.error or self.panicked
        return f"guest: {words}" if words else None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for role, path in self._consoles.items():
                self._followers[role] = await stack.enter_async_context(Follower(path))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def follow(self) -> None:
        """Follow the consoles for ever; must run beside every wait on the guest."""
        await asyncio.gather(*(self._follow(role, follower) for role, follower in self._followers.items()))

    def read_rest(self) -> None:
        """Take what the consoles hold by now: the last words of a guest whose QEMU has just died."""
        for role, follower in self._followers.items():
            self._take(role, follower.read_rest())

    async def wait_ready(self) -> Ready:
        """Wait until the guest says `ready`.

        Raises:
            BrokenError: it gave up, or said nothing within the boot deadline.
        """
        await self._until(lambda: self.ready is not None or self.error is not None, BOOT_SECONDS)
        if self.error:
            raise BrokenError(f"guest: gave up while booting: {self.error}")
        if self.ready is None:
            raise BrokenError(f"guest: did not say ready within {BOOT_SECONDS:g} s (console: {self._console_names()})")
        return self.ready

    async def settle(self, since_ns: int) -> tuple[float, bool]:
        """Wait until the guest's pace is steady; returns it (bytes/s), and whether it was steady within its bound.

        Raises:
            BrokenError: a vCPU printed no xor line at all within the boot deadline.
        """

        def steady() -> float | None:
            return steady_pace(self._since(since_ns, "source"), self.vcpus, since_ns, time.monotonic_ns())

        if await self._until(lambda: steady() is not None, self.bounds.settle_seconds):
            return steady() or self._pace_since(since_ns) or 0.0, True
        await self._until(lambda: self._pace_since(since_ns) is not None, BOOT_SECONDS)
        found = self._pace_since(since_ns)
        if found is None:
            raise BrokenError(f"guest: not every vCPU printed an xor line within {BOOT_SECONDS:g} s of being ready")
        return found, False

    async def recover(self, role: str, settled: float) -> tuple[float | None, bool]:
        """Wait until the guest on `role` is back at 90 % of its settled pace, or steady at another one.

        Returns its pace (bytes/s; None where too few lines came) and whether it recovered within its bound.

        Raises:
            GuestLostError: it did not print one line in 10 s, though it ticks (QEMU may say `completed` of a guest
                whose memory it has lost: docs/qemu.md).
        """
        since_ns = time.monotonic_ns()

        def now() -> float | None:
            longest_ns = max((line.taken_ns for line in self._since(since_ns, role)), default=0)
            window_ns = max(SECOND_NS // 2, 2 * longest_ns)
            start_ns = time.monotonic_ns() - window_ns
            return pace(self._since(start_ns, role), self.vcpus) if start_ns >= since_ns else None

        def back() -> bool:
            if time.monotonic_ns() - since_ns < SECOND_NS // 2 or self._ticks[role] < self._ticks_wanted():
                return False  # an idle guest is at its pace at once, and its blackout is still unknown
            lines = self._since(since_ns, role)
            return (now() or 0.0) >= RECOVERED_SHARE * settled or (
                steady_pace(lines, self.vcpus, since_ns, time.monotonic_ns()) is not None
            )

        done = await self._until(back, self.bounds.recover_seconds)
        if not done and self.ready and self.ready.tick_ms:
            patience = max(SILENCE_SECONDS, self.bounds.recover_seconds)
            heard = await self._until(lambda: self.heard_ns >= since_ns, patience - self.bounds.recover_seconds)
            if not heard:
                raise GuestLostError(f"guest: printed nothing on the {role} in {patience:g} s after it went on")
        return now(), done

    def last_tick(self, role: str) -> int | None:
        """The number of the last tick on a role's console; None where there was none yet."""
        return self._last_tick.get(role)

    async def copy_goes_on(self, role: str) -> int | None:
        """Wait until a copy of the guest has printed a line of each vCPU, and a tick where it ticks.

        Returns the number of its first tick, None where it does not tick.

        Raises:
            CopyLostError: it printed nothing of the kind within 10 s, or panicked.
        """
        parser, ticks = self._followers[role].parser, bool(self.ready and self.ready.tick_ms)

        def heard() -> bool:
            lines = pace(self._since(0, role), self.vcpus) is not None
            return parser.panicked is not None or (lines and (not ticks or role in self._first_tick))

        done = await self._until(heard, SILENCE_SECONDS)
        if parser.panicked:
            raise CopyLostError(f"{role}: the guest panicked once it went on from its snapshot: {parser.panicked}")
        if not done:
            raise CopyLostError(
                f"{role}: the guest printed nothing in {SILENCE_SECONDS:g} s of going on from its snapshot"
            )
        return self._first_tick.get(role)

    def _ticks_wanted(self) -> int:
        """Ticks that a recovered guest has printed: enough for a blackout, and never more than half its bound takes."""
        tick_ms = self.ready.tick_ms if self.ready else 0
        return min(TICKS_BACK, int(self.bounds.recover_seconds / 2 * 1000 / tick_ms)) if tick_ms else 0

    async def watch_silence(self, running: Callable[[], Awaitable[bool]], throttle: Callable[[], float]) -> None:
        """Raise once the guest has printed nothing for 10 s / (1 - throttle), at most 60 s, while it should run.

        `throttle` is a share of 1. Lines that are rare by themselves (no ticks, a big granularity) get more time.

        Raises:
            GuestLostError: it is silent, or it panicked.
        """
        while True:
            await asyncio.sleep(SILENCE_SECONDS / 20)
            if self.failure and self.ready:
                raise GuestLostError(self.failure)
            between = max((line.taken_ns for line in list(self._lines)[-self.vcpus :]), default=0) / SECOND_NS
            patience = SILENCE_SECONDS + (0 if self.ready and self.ready.tick_ms else 3 * between)
            bound = min(patience / max(1 - throttle(), 0.01), max(LONGEST_SILENCE_SECONDS, patience))
            silent = (time.monotonic_ns() - self.heard_ns) / SECOND_NS
            if self.ready is None or silent <= bound:
                continue
            if await running():
                raise GuestLostError(f"guest: printed nothing for {silent:.0f} s although QEMU says that it runs")
            self.heard_ns = time.monotonic_ns()

    async def _follow(self, role: str, follower: Follower) -> None:
        async for arrivals in follower:
            self._take(role, arrivals)

    def _take(self, role: str, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if role in self._homes:
                self.heard_ns = arrival.stamp_ns
            match arrival.record:
                case Xor() as xor:
                    self._lines.append(
                        Line(role=role, stamp_ns=arrival.stamp_ns, vcpu=xor.vcpu, bytes=xor.bytes,
                             taken_ns=xor.taken_ns)
                    )  # fmt: skip
                case Tick() as tick:
                    self._ticks[role] += 1
                    self._first_tick.setdefault(role, tick.sequence)
                    self._last_tick[role] = tick.sequence
                case Ready() as ready:
                    self.ready = ready
                case GuestError() as error if role in self._homes:
                    self.error = error.text

    def _since(self, since_ns: int, role: str) -> list[Line]:
        return [line for line in self._lines if line.stamp_ns >= since_ns and line.role == role]

    def _pace_since(self, since_ns: int) -> float | None:
        return pace(self._since(since_ns, "source"), self.vcpus)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    def _console_names(self) -> str:
        return ", ".join(str(path) for path in self._consoles.values())
