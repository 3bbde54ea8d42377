"""One migration: start, steer at each iteration, and say how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from driver.convergence import Judge, Verdict
from driver.ledger import Ending
from driver.monitor import ANSWER_SECONDS, Commands, Event, RefusedError
from driver.progress import Progress
from driver.recovery import Recovery
from driver.scenario import Scenario, step_to_come
from driver.schedule import CANCEL, IN_POST_COPY, PAUSE, POST_COPY, SECONDS, Step
from driver.strategy import take_step
from workload.errors import BrokenError

POLL_SECONDS = 0.15
SOON_SECONDS = 0.005
CANCEL_SECONDS = 15.0
RESUME_SECONDS = 15.0
FINAL_SECONDS = 1.0
POST_COPY_GRACE_SECONDS = 30.0
"""How much longer than `max_time_seconds` post-copy may take: it cannot be cancelled any more."""

RECONNECT_SECONDS = 5.0

Load = Callable[[], Awaitable[None]]


class Reporter(Protocol):
    """Where a migration tells of its phases and actions (`driver.ledger.Ledger`)."""

    def phase(self, name: str, stamp_ns: int | None = None) -> None:
        """A phase begins."""

    def action(self, name: str, detail: Mapping[str, Any], stamp_ns: int | None = None) -> None:
        """The driver did something."""


class Migration:
    """Steers one migration by QEMU's events, and by a poll where an event should go missing.

    `load` is called once the source has completed, where the guest was saved to a file: that is to be complete, and
    loaded unless the guest stays; `let_go` as the guest stands still for the switchover, where QEMU waits for leave to
    go on with it.
    """

    def __init__(
        self,
        scenario: Scenario,
        source: Commands,
        destination: Commands,
        events: asyncio.Queue[Event],
        reporter: Reporter,
        memory_bytes: int = 0,
        load: Load | None = None,
        let_go: Load | None = None,
    ) -> None:
        self.scenario = scenario
        self.conditions = scenario
        self.final: Mapping[str, Any] = {}
        self.running_on = "source"
        self._source = source
        self._destination = destination
        self._events = events
        self._reporter = reporter
        self._memory_bytes = memory_bytes
        self._load = load
        self._let_go = let_go
        self._steps = scenario.steps
        self._stays = scenario.background_snapshot
        self._judge = Judge(
            downtime_limit_seconds=scenario.downtime_limit_seconds,
            bandwidth_limit=scenario.bandwidth_bytes_per_second,
        )
        self._verdict: Verdict | None = None
        self._fresh_stall = False
        self._post_copy_since: float | None = None
        self._recovery = Recovery(scenario, source, destination)
        self._done: set[str] = set()
        self._iteration = 0
        self._throttle = 0.0
        self._started: float | None = None
        self._dark = False
        self._destination_status = ""
        self._destination_completed = False
        self._arrived = False  # the whole guest, while its source waits for a link that nobody needs any more
        # while the last pass is sent QEMU holds its lock and answers nothing, for about the downtime
        self._answer_seconds = ANSWER_SECONDS + 2 * scenario.downtime_limit_seconds

    @property
    def started(self) -> bool:
        """Whether QEMU was told to migrate."""
        return self._started is not None

    @property
    def under_way(self) -> bool:
        """Whether QEMU was told to migrate and has not said how that ended."""
        ended = self._arrived or self.final.get("status") in ("completed", "failed", "cancelled")
        return self._started is not None and not ended

    @property
    def throttle_share(self) -> float:
        """How much of its time the guest is kept from running, 0 to 1."""
        return self._throttle / 100

    @property
    def split(self) -> bool:
        """Whether post-copy has begun: the guest needs both QEMUs now, and no cancel brings it back."""
        return POST_COPY in self._done and self.under_way

    async def start(self, address: str) -> None:
        """Begin: `address` is where the destination listens.

        Raises:
            RefusedError: the source does not migrate.
        """
        self._recovery.address = address
        self._started = time.monotonic()
        await self._source.execute("migrate", {"uri": address})

    async def steer(self) -> Ending:
        """Follow the migration to its end, taking each step when it is due.

        Raises:
            BrokenError: QEMU no longer answers, or does not end what it should.
        """
        while True:
            await self._take_events(self._patience())
            progress = await self._ask()
            if progress.ended:
                return await self._ended(progress)
            if progress.status == "pre-switchover" and self._let_go:
                await self._let_go()
            if progress.status == "postcopy-paused":
                if await self._arrived_before(self._recovery.patience_seconds):
                    return await self._ended_without_link()
                if self._recovery.used_up:
                    return Ending(outcome="failed", reason=self._recovery.loss)
                await self._recover(progress)
            if limit := await self._take_steps(progress) or self._limit_reached():
                return await self._stop_at(limit)

    async def abandon(self) -> Ending:
        """Cancel because the user says so; what has already completed stays completed."""
        if not self.split:
            await self._source.execute("migrate_cancel")
            progress = await self._wait_for_end()
            if progress.status == "completed":
                return await self._ended(progress)
        return Ending(outcome="cancelled", reason="by the user")

    async def _take_events(self, seconds: float) -> None:
        """Wait for an event, then take all there are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._take(await self._events.get())
        while not self._events.empty():
            self._take(self._events.get_nowait())

    def _take(self, event: Event) -> None:
        match event.role, event.name:
            case "source", "MIGRATION_PASS":
                self._iteration = max(self._iteration, int(event.data["pass"]))
                self._judge.passed(event.stamp_ns, int(event.data["pass"]))
            case "source", "STOP" if not self._dark and not self._stays:
                self._dark = True
                self._judge.restart()
                self._reporter.phase("switchover", event.stamp_ns)
            case "destination", "RESUME" if self.running_on == "source":
                self._resumed(event.stamp_ns)
            case "destination", "MIGRATION":
                self._destination_status = str(event.data.get("status"))
                self._destination_completed |= self._destination_status == "completed"

    def _resumed(self, stamp_ns: int) -> None:
        self.running_on = "destination"
        self._reporter.phase("recover", stamp_ns)

    async def _ask(self) -> Progress:
        reply = await self._source.execute("query-migrate", seconds=self._answer_seconds)
        now_ns = time.monotonic_ns()
        self.final = reply
        progress = Progress.parse(reply)
        self._iteration = max(self._iteration, progress.iteration)
        self._throttle = progress.throttle_percent or 0.0
        if progress.status == "postcopy-active" and self._post_copy_since is None:
            self._post_copy_since = time.monotonic()
        to_come = step_to_come(
            self.scenario, self._done, progress.throttle_percent, dirty_limited=progress.dirty_limited
        )
        if verdict := self._judge.sample(now_ns, progress, to_come):
            self._verdict, self._fresh_stall = verdict, verdict.stalled
        return progress

    def _patience(self) -> float:
        """How long to wait for events: at most until the next step that is due at a time."""
        waits = [POLL_SECONDS]
        for step in self._steps:
            began = {SECONDS: self._started, IN_POST_COPY: self._post_copy_since}.get(step.when.kind)
            if began is not None and step.key not in self._done:
                waits.append(max(began + step.when.number - time.monotonic(), SOON_SECONDS))
        return min(waits)

    async def _take_steps(self, progress: Progress) -> str | None:
        """Take each step that is due; returns `schedule` where one of them cancels."""
        for step in self._steps:
            if step.key in self._done or not self._due(step, progress):
                continue
            if step.what == CANCEL:
                self._done.add(step.key)
                return "schedule"
            try:
                self.conditions = await take_step(self._source, step, self.conditions, self._memory_bytes)
            except RefusedError:
                if (await self._ask()).status == progress.status:
                    raise
                return None  # it ended in this very moment; the next look says how
            self._done.add(step.key)
            self._judge.retuned(self.conditions.downtime_limit_seconds, self.conditions.bandwidth_bytes_per_second)
            self._judge.restart()
            self._reporter.action(
                step.what if step.value is None else "retune", {"step": step.key} | self._acted_on(progress)
            )
        self._fresh_stall = False
        return None

    def _due(self, step: Step, progress: Progress) -> bool:
        """Whether a step's moment has come; QEMU takes them only while it is `active`, or in post-copy."""
        now, number = time.monotonic(), step.when.number
        if step.when.kind == IN_POST_COPY:
            since = self._post_copy_since
            return progress.status == "postcopy-active" and since is not None and now - since >= number
        if progress.status != "active":
            return False
        match step.when.kind:
            case "iteration":
                return self._iteration > number
            case "s":
                return now - (self._started or now) >= number
            case _:
                stalled, self._fresh_stall = self._fresh_stall, False
                return stalled

    async def _arrived_before(self, seconds: float) -> bool:
        """Wait until the destination says that it is paused, or that it has the whole guest; whether the latter."""
        deadline = time.monotonic() + seconds
        # by its events: asked, it may not answer, since a vCPU that waits for a lost page may hold QEMU's big lock
        while self._destination_status not in ("postcopy-paused", "completed") and time.monotonic() < deadline:
            await self._take_events(POLL_SECONDS)
        return self._destination_status == "completed"

    async def _ended_without_link(self) -> Ending:
        self._arrived = True
        await self._see_resume()
        return Ending(
            outcome="completed",
            reason="post-copy lost its link when the destination had the whole guest; the source says postcopy-paused",
        )

    async def _recover(self, progress: Progress) -> None:
        """Connect the two QEMUs of a paused post-copy again.

        Raises:
            BrokenError: the destination has not noticed the loss within the deadline.
        """
        await self._recovery.reconnect(self._destination_status)
        self._destination_status = ""
        # the source says postcopy-paused until it is connected
        deadline = time.monotonic() + RECONNECT_SECONDS
        while (await self._ask()).status == "postcopy-paused" and time.monotonic() < deadline:
            await self._take_events(POLL_SECONDS)
        self._reporter.action("recover", {"recovery": self._recovery.tried} | self._acted_on(progress))

    def _acted_on(self, progress: Progress) -> dict[str, Any]:
        """The figures of an action's mark: the iteration, what remains, the last verdict."""
        detail: dict[str, Any] = {"iteration": self._iteration, "remaining_bytes": progress.remaining_bytes}
        if verdict := self._verdict:
            detail |= {
                "verdict": verdict.in_words(),
                "verdict_iteration": verdict.iteration,
                "iteration_remaining_bytes": verdict.iteration_remaining_bytes,
                "implied_downtime_seconds": verdict.implied_downtime_seconds,
                "stalled": verdict.stalled,
                "not_converging": verdict.not_converging,
            }
        return detail

    def _limit_reached(self) -> str | None:
        """Name the limit that is passed. Once no step but the last pass is left, only time counts."""
        seconds = time.monotonic() - (self._started or 0)
        if self.split:
            return "time" if seconds > self.scenario.max_time_seconds + POST_COPY_GRACE_SECONDS else None
        if seconds > self.scenario.max_time_seconds:
            return "time"
        return "iterations" if self._iteration > self.scenario.max_iterations and not self._dark else None

    async def _stop_at(self, limit: str) -> Ending:
        """Cancel, once; a migration that completes in the same moment has completed."""
        progress = Progress.parse(self.final)
        self._reporter.action("limit", {"limit": limit} | self._acted_on(progress))
        where = "while the snapshot was saved" if self._stays else f"in iteration {self._iteration}"
        words = f"{'cancelled by its schedule' if limit == 'schedule' else f'{limit} limit reached'} {where}"
        if self.split:
            return Ending(outcome="failed", reason=f"{words}, in post-copy, which cannot be cancelled",
                          limit_reached=limit)  # fmt: skip
        await self._source.execute("migrate_cancel", seconds=self._answer_seconds)
        progress = await self._wait_for_end()
        if progress.status == "completed":
            return await self._ended(progress)
        if PAUSE in self._done:  # its strategy stopped it; nobody else will let it go on
            await self._source.execute("cont")
        verdict = f"; {self._verdict.in_words()}" if self._verdict else ""
        return Ending(outcome="not_converged", reason=f"{words}{verdict}", limit_reached=limit)

    async def _wait_for_end(self) -> Progress:
        deadline = time.monotonic() + CANCEL_SECONDS
        while not (progress := await self._ask()).ended:
            if time.monotonic() > deadline:
                raise BrokenError(f"source: still {progress.status} {CANCEL_SECONDS:g} s after migrate_cancel")
            await self._take_events(POLL_SECONDS)
        return progress

    async def _ended(self, progress: Progress) -> Ending:
        if progress.status == "failed":
            return Ending(outcome="failed", reason=progress.error or "QEMU says failed and no more")
        if progress.status == "cancelled":
            return Ending(outcome="failed", reason="the migration was cancelled by somebody else")
        if self._load:
            await self._load()
        if not self._stays:
            await self._see_resume()
        # QEMU 7.2 may say `completed` before it has worked out its times
        deadline = time.monotonic() + FINAL_SECONDS
        while not progress.fields.get("total_seconds") and time.monotonic() < deadline:
            await self._take_events(POLL_SECONDS)
            progress = await self._ask()
        return Ending(outcome="completed")

    async def _see_resume(self) -> None:
        """Wait until the guest runs on the destination; let it go on there where its strategy had stopped it.

        Raises:
            BrokenError: it does not run within the deadline.
        """
        seconds = self.scenario.max_time_seconds if self._load else RESUME_SECONDS
        deadline = time.monotonic() + seconds
        while self.running_on == "source":
            if PAUSE in self._done and self._destination_completed:
                await self._destination.execute("cont")
            await self._take_events(POLL_SECONDS)
            if self.running_on == "source":
                status = await self._destination.execute("query-status")
                self._destination_completed |= status["status"] in ("paused", "running")
                if status["running"]:
                    self._resumed(time.monotonic_ns())
            if time.monotonic() > deadline:
                raise BrokenError(f"destination: the guest does not run {seconds:g} s after the migration")
