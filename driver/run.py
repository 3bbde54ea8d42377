"""One run, from boot to record."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from driver.attachment import Attachment, StartExporter
from driver.attempts import Attempts
from driver.check import refusal
from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.death import destination_dies, ending_of_death, source_dies
from driver.disk import check_room
from driver.disk_mirror import DiskMirror, MirrorLostError
from driver.doctor import userfaultfd_refusal
from driver.facts import git_revision, host_facts
from driver.guest import CopyLostError, Guest, GuestLostError
from driver.kit import check_fits, find_kit
from driver.ledger import Ending, Ledger
from driver.lock import driver_lock, run_lock
from driver.migration import Load, Migration
from driver.monitor import Event, RefusedError
from driver.negotiation import negotiate
from driver.pair import Pair, launched_pair
from driver.qemu import QemuDiedError
from driver.race import race
from driver.record import RunRecord
from driver.remote import RemoteHost
from driver.remote_qemu import bring_keys, host_of
from driver.request import Request, new_run_id
from driver.runtime import run_runtime_dir
from driver.saving import Saving
from driver.snapshot import Taken, prove
from driver.stream import open_stream
from driver.targets import targets_of, write_targets
from driver.tls import Credentials, make_credentials
from driver.warm import WarmImage, restore, warm_image
from driver.watch import ExporterClient
from workload.errors import BadValueError, BrokenError, MigrascopeError, UnsupportedError

ABANDON_SECONDS = 8.0
LAST_DETACH_SECONDS = 1.0

Started = Callable[[RunDir, ExporterClient | None], None]


class UserCancelledError(MigrascopeError):
    """The user wants no more of this run."""

    exit_status = 130


async def run_migration(
    request: Request,
    data: DataDir,
    start_exporter: StartExporter | None,
    *,
    started: Started | None = None,
    cancel: asyncio.Event | None = None,
) -> RunRecord:
    """Boot, settle, migrate, recover, record; returns the written record, whatever its outcome.

    `started` is called once the run is being watched and before the guest's first instruction. Setting `cancel` ends
    the run in good order with the outcome `cancelled`; cancelling the task ends it at once, and leaves as little
    behind. Call it from the main thread.

    Raises:
        BadValueError: the request cannot be run; nothing was started and no record is left.
        MigrascopeError: another driver runs on this host.
        BrokenError: not even the record could be written.
    """
    qemus = 1 if request.destination_host else 2
    check_fits(request.hardware, request.workload, qemus)
    check_room(request.hardware, data.runs, qemus)
    with driver_lock():
        run = data.run(request.run or new_run_id())
        try:
            run.path.mkdir(mode=0o700)
            with run_lock(run), run_runtime_dir() as runtime:
                return await _Run(request, data, run, runtime, start_exporter, started, cancel).go()
        except BadValueError:
            shutil.rmtree(run.path, ignore_errors=True)
            raise
        except OSError as error:
            raise BrokenError(f"run {run.run}: {error.strerror}: {error.filename}") from error


class _Run:
    """A run on its way; `go` is its only verb."""

    def __init__(
        self,
        request: Request,
        data: DataDir,
        run: RunDir,
        runtime: Path,
        start_exporter: StartExporter | None,
        started: Started | None,
        cancel: asyncio.Event | None,
    ) -> None:
        self.request = request
        self.run = run
        self.runtime = runtime
        self.started = started
        self.cancel = cancel or asyncio.Event()
        self.attachment = Attachment(data, run, request.sampling, start_exporter)
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.attempts: Attempts | None = None
        self.keys: Credentials | None = None
        self.remote: RemoteHost | None = None
        self.saving: Saving | None = None
        self.guest: Guest | None = None
        self.ledger = Ledger(
            run,
            RunRecord(
                run=run.run,
                kind=request.scenario.kind,
                campaign=request.campaign,
                comparison=request.comparison,
                convoy=request.convoy,
                clock=Clock.now(),
                scenario=request.scenario,
                hardware=request.hardware,
                workload=request.workload,
                host=host_facts(),
                warm_start=request.warm_start,
                git_revision=git_revision(),
            ),
        )

    @property
    def migration(self) -> Migration | None:
        return self.attempts.migration if self.attempts else None

    async def go(self) -> RunRecord:
        self.ledger.phase("start")
        try:
            async with AsyncExitStack() as stack:
                try:
                    ending = await self._ending(stack)
                    await self._close(ending)
                    await self.attachment.detach()
                except asyncio.CancelledError:
                    self._end(Ending(outcome="cancelled", reason="by the user, at once"))
                    await self.attachment.detach(LAST_DETACH_SECONDS)
                    raise
            await self.attachment.stored()
        finally:
            await self.attachment.close()
        return self.ledger.record

    async def _close(self, ending: Ending) -> None:
        self._end(ending)
        await self.ledger.flush()

    def _end(self, ending: Ending) -> None:
        if self.migration:
            self.ledger.learn(final=self.migration.final)
        if self.saving and (start := self.ledger.record.phase("migrate")):
            back = self.ledger.record.phase("recover") if ending.outcome == "completed" else None
            self.ledger.learn(saved=self.saving.saved(start.start_ns, back.start_ns if back else None))
        self.ledger.end(ending)

    async def _ending(self, stack: AsyncExitStack) -> Ending:
        """Live the run and say how it ended, whichever way."""
        try:
            return await race(self._live(stack), self._cancelled(), self.ledger.watch())
        except UserCancelledError:
            return await self._abandon()
        except GuestLostError as error:
            return Ending(outcome="guest_lost", reason=str(error))
        except QemuDiedError as error:
            return ending_of_death(error, self.guest, self.migration)
        except (RefusedError, MirrorLostError, CopyLostError) as error:
            return Ending(outcome="failed", reason=str(error))
        except UnsupportedError as error:
            return Ending(outcome="unsupported", reason=str(error))
        except BadValueError:
            raise
        except MigrascopeError as error:
            return Ending(outcome="broken", reason=str(error))
        except OSError as error:
            return Ending(outcome="broken", reason=f"run {self.run.run}: {error.strerror}: {error.filename}")

    async def _live(self, stack: AsyncExitStack) -> Ending:
        await self._reach(stack)
        kit, remote = await find_kit(self.request, self.remote), self.remote
        self.ledger.learn(
            source_binary=kit.source, destination_binary=kit.destination, guest=kit.guest(),
            accelerator=kit.accelerator.name, accelerator_reason=kit.accelerator.reason,
        )  # fmt: skip
        no_userfaultfd = remote.no_userfaultfd if remote else userfaultfd_refusal
        if reason := await refusal(
            self.request.scenario, self.request.hardware, kit.source, kit.destination, no_userfaultfd
        ):
            raise UnsupportedError(reason)
        self.attachment.prepare()
        image = await warm_image(kit, self.runtime) if self.request.warm_start else None
        scenario = self.request.scenario
        pair = await stack.enter_async_context(
            launched_pair(
                kit, scenario, self.run, self.runtime, self.events, restores=image is not None,
                disk=image.disk if image else None, link=self.request.seat.link if self.request.seat else None,
                remote=remote,
            )
        )  # fmt: skip
        if remote:
            self.ledger.learn(clock_offset=await remote.clock())
        consoles = {role: self.run.console(role) for role in pair.qemus}
        self.guest = await stack.enter_async_context(
            Guest(
                kit.hardware.vcpus, consoles, image.ready if image else None, self.request.settle,
                homes=("source",) if scenario.background_snapshot else None,
            )
        )  # fmt: skip
        if scenario.carrier.saves:
            self.saving = Saving(scenario.transport, pair.route, pair.destination, self.ledger.clock)
        mirror = None
        if kit.hardware.disk_mib:
            mirror = DiskMirror(scenario, pair.source, pair.destination, pair.route, self.ledger)
        self.attempts = attempts = Attempts(
            scenario, pair, self.events, self.ledger, self.request.hardware.memory_bytes,
            load=self._after_save(), let_go=mirror.let_go if mirror else None,
        )  # fmt: skip
        migration = attempts.migration
        return await race(
            self._phases(pair, image, self.guest, attempts, mirror),
            self.guest.follow(),
            self.guest.watch_silence(
                lambda: self._should_be_heard(pair, attempts), lambda: attempts.migration.throttle_share
            ),
            source_dies(pair.source, attempts),
            destination_dies(pair.destination, migration),
            pair.watch_stopped(),
            *([mirror.watch(lambda: not migration.started or migration.under_way)] if mirror else ()),
        )

    async def _reach(self, stack: AsyncExitStack) -> None:
        """Reach the destination's host, where it is not this one."""
        asked = self.request
        if asked.destination_host is not None:
            reached = RemoteHost(asked.destination_host, self.runtime, asked.destination_address)
            self.remote = await stack.enter_async_context(reached)
            self.ledger.learn(destination_host=host_of(self.remote))

    async def _phases(
        self, pair: Pair, image: WarmImage | None, guest: Guest, attempts: Attempts, mirror: DiskMirror | None
    ) -> Ending:
        source, destination, scenario = pair.source, pair.destination, self.request.scenario
        if image:
            self.ledger.phase("restore")
            await restore(source, image)
        self.ledger.phase("negotiate")
        if scenario.tls != "none":
            self.keys = await asyncio.to_thread(make_credentials, scenario.tls, self.runtime)
            self.keys = await bring_keys(self.remote, self.keys) if self.remote else self.keys
        memory_bytes = self.request.hardware.memory_bytes
        agreed = await negotiate(source, destination, scenario, memory_bytes, self.keys, disk=mirror is not None)
        self.ledger.learn(negotiated={"machine": source.launch.machine, **agreed})
        address = await open_stream(scenario.transport, pair.route, source, destination)
        await self._attach(pair)
        if not image:
            self.ledger.phase("boot")
        await source.execute("cont")
        ready = await guest.wait_ready()
        self._learn_guest(loop=ready.loop)
        self.ledger.phase("settle")
        settled, steady = await guest.settle(time.monotonic_ns())
        self._learn_guest(settled_bytes_per_second=settled)
        bound = self.request.settle.settle_seconds
        self.ledger.action("settled", {"bytes_per_second": settled, "steady": steady, "within_seconds": bound})
        if mirror:
            self.ledger.phase("mirror")
            await mirror.begin()
            if late := await mirror.until_ready():
                self.ledger.phase("end")
                return late
        seat, longest = self.request.seat, float(scenario.max_time_seconds * scenario.attempts)
        if seat:
            await seat.turn(scenario.convoy_guests, scenario.convoy_order, longest)
        taken_from = guest.last_tick("source")
        self.ledger.phase("migrate")
        ending = await attempts.go(
            address, lambda: self._renew(pair), lambda migration: destination_dies(pair.destination, migration)
        )
        if ending.outcome == "failed" and (words := await pair.destination.exit_words()):
            ending = dataclasses.replace(ending, reason=f"{ending.reason}; {words}")
        taken = Taken(first_tick=taken_from, last_tick=guest.last_tick("source"))
        if not attempts.migration.split:
            await self._recover(guest, attempts.migration, settled)
        if scenario.background_snapshot and ending.outcome == "completed":
            self.ledger.phase("load")
            await prove(self.saving, destination, guest, self.ledger, taken)
        if self.remote:
            self.ledger.learn(clock_offset=await self.remote.clock(self.ledger.record.clock_offset))
        if seat:
            await seat.all_home(scenario.convoy_guests, longest)
        self.ledger.phase("end")
        return ending

    def _after_save(self) -> Load | None:
        """What is to be done once the guest has been saved to a file; its snapshot is loaded later."""
        if self.saving is None:
            return None
        return self.saving.complete if self.request.scenario.background_snapshot else self.saving.load

    async def _renew(self, pair: Pair) -> str:
        """Put a new destination in the place of one whose migration was cancelled; returns where it listens."""
        await pair.replace_destination()
        scenario, memory_bytes = self.request.scenario, self.request.hardware.memory_bytes
        await negotiate(pair.source, pair.destination, scenario, memory_bytes, self.keys, anew=True)
        address = await open_stream(scenario.transport, pair.route, pair.source, pair.destination)
        self._tell(pair)
        return address

    async def _attach(self, pair: Pair) -> None:
        self._tell(pair)
        await self.attachment.attach()
        if self.started:
            self.started(self.run, self.attachment.client)

    def _tell(self, pair: Pair) -> None:
        record = self.ledger.record
        sockets = self.remote.sockets if self.remote and record.clock_offset else None
        write_targets(self.run, targets_of(record, pair.qemus, sockets))

    async def _recover(self, guest: Guest, migration: Migration, settled: float) -> None:
        if self.ledger.phase_name != "recover":
            self.ledger.phase("recover")
        found, done = await guest.recover(migration.running_on, settled)
        self.ledger.action("recovered" if done else "not-recovered", {"bytes_per_second": found, "settled": settled})

    def _learn_guest(self, **facts: Any) -> None:
        if self.ledger.record.guest:
            self.ledger.learn(guest=dataclasses.replace(self.ledger.record.guest, **facts))

    async def _should_be_heard(self, pair: Pair, attempts: Attempts) -> bool:
        """Whether the guest should be printing now: the QEMU that has it says so, and its console can be written."""
        return not self.ledger.refused and await pair.runs(attempts.migration.running_on)

    async def _cancelled(self) -> None:
        await self.cancel.wait()
        raise UserCancelledError("run: cancelled by the user")

    async def _abandon(self) -> Ending:
        if self.migration and self.migration.under_way:
            try:
                async with asyncio.timeout(ABANDON_SECONDS):
                    return await self.migration.abandon()
            except (MigrascopeError, TimeoutError):
                pass  # the QEMUs end in any case
        return Ending(outcome="cancelled", reason="by the user")
