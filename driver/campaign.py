"""A campaign on its way: runs what its plan asks for, writes down each step first, and goes on where it was."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from driver.campaign_cells import Cell
from driver.campaign_events import (
    Begun,
    Cut,
    Ended,
    Event,
    Parked,
    Planned,
    PlannedCell,
    Released,
    Stopped,
    append_event,
    mend,
)
from driver.campaign_executor import Executor, Job
from driver.campaign_order import ordered
from driver.campaign_plan import Campaign
from driver.campaign_state import CampaignState, Slot, fold, read_state
from driver.convoy_runs import convoy_runs, deciding_record, free_runs
from driver.datadir import CampaignDir, DataDir, write_atomically
from driver.lock import campaign_lock
from driver.run_process import JobEnd
from driver.scenario_settings import CONVOY_MOST
from workload.errors import BrokenError, MigrascopeError

LOOK_SECONDS = 1.0
"""How often an executor is asked again for a place while nothing else happens: workers come and go."""

UNFINISHED = ("abandoned", "cancelled")
"""Outcomes of a run that was cut: it is made again."""

Changed = Callable[[CampaignState, Event], None]


async def run_campaign(
    campaign: Campaign,
    cells: Sequence[Cell],
    data: DataDir,
    executor: Executor,
    *,
    content: bytes,
    paces: Mapping[str, float],
    refused: Mapping[str, str],
    retry: bool,
    changed: Changed,
    cancel: asyncio.Event,
) -> CampaignState:
    """Run every run of the plan that has no result yet; returns how the campaign stands then.

    `content` is the plan's file as it stands; `refused` maps cells that cannot run here to the reason, they are
    parked; `retry` releases what an earlier start has parked; `changed` is told every event. Setting `cancel` ends the
    run under way in good order, it will be made again; cancelling the task ends it at once.

    Raises:
        MigrascopeError: the campaign, or another driver, is at work on this host already.
        BrokenError: the campaign's own files cannot be written.
    """
    place = data.campaign(campaign.campaign)
    try:
        place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with campaign_lock(place):
            async with executor.at_work(place):
                mend(place)
                state = read_state(place) if place.state.exists() else CampaignState(campaign=campaign.campaign)
                return await _Running(campaign, cells, data, executor, state, changed, cancel).go(
                    content, paces, refused, retry
                )
    except OSError as error:
        raise BrokenError(
            f"campaign {campaign.campaign}: {error.strerror}: {error.filename or place.path}; what ended is safe, the"
            " same command goes on"
        ) from error


class _Running:
    """A campaign while its driver lives; `go` is its only verb."""

    def __init__(
        self,
        campaign: Campaign,
        cells: Sequence[Cell],
        data: DataDir,
        executor: Executor,
        state: CampaignState,
        changed: Changed,
        cancel: asyncio.Event,
    ) -> None:
        self._campaign = campaign
        self._cells = {cell.cell: cell for cell in cells}
        self._data = data
        self._place: CampaignDir = data.campaign(campaign.campaign)
        self._executor = executor
        self._state = state
        self._changed = changed
        self._cancel = cancel
        self._lost: Counter[Slot] = Counter()  # runs that were lost with their worker: a guest may be what kills it

    async def go(
        self, content: bytes, paces: Mapping[str, float], refused: Mapping[str, str], retry: bool
    ) -> CampaignState:
        planned = self._planned(paces)
        done = self._state.stopped is not None and self._state.stopped.finished and not retry
        if done and not fold(self._state, [planned]).slots_left:
            return self._state
        write_atomically(self._place.plan, content)
        self._tell(planned)
        for begun in list(self._state.begun.values()):
            self._tell(self._recognised(begun))
        if retry:
            for parked in [cell.cell for cell, _ in self._state.parked_cells]:
                self._tell(Released(time_ns=time.time_ns(), cell=parked))
        for cell, reason in refused.items():
            if cell not in self._state.parked and any(slot[0] == cell for slot in self._state.slots_left):
                self._tell(Parked(time_ns=time.time_ns(), cell=cell, reason=f"unsupported here: {reason}"))
        try:
            await self._run_all()
        except asyncio.CancelledError:
            self._tell(Stopped(time_ns=time.time_ns(), finished=False))
            raise
        self._tell(Stopped(time_ns=time.time_ns(), finished=not self._cancel.is_set()))
        return self._state

    def _planned(self, paces: Mapping[str, float]) -> Planned:
        return Planned(
            time_ns=time.time_ns(),
            cells=tuple(
                PlannedCell(
                    cell=cell.cell,
                    name=cell.name,
                    strategy=cell.request.scenario.strategy,
                    estimate_seconds=cell.estimate_seconds,
                )
                for cell in self._cells.values()
            ),
            repeats=self._campaign.repeats,
            slots=self._executor.slots,
            paces=paces,
        )

    async def _run_all(self) -> None:
        """Keep every place of the executor at work until nothing is left or the user wants no more."""
        wanted = asyncio.create_task(self._cancel.wait())
        why = "cancelled by the user"
        running: dict[asyncio.Task[JobEnd], tuple[Slot, Job]] = {}
        try:
            while not self._cancel.is_set():
                left = self._next([slot for slot, _ in running.values()])
                if not running and not left:
                    return
                for slot in left:
                    if place := self._executor.take_place(slot[0]):
                        job = self._begin(slot, place)
                        running[asyncio.create_task(self._executor.execute(job))] = (slot, job)
                await asyncio.wait({wanted, *running}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task.done()]:
                    end = task.result()
                    self._end(*running.pop(task), end)
        except MigrascopeError as error:
            why = str(error)
            raise
        finally:
            wanted.cancel()
            await self._cut(running, why)

    def _next(self, busy: Sequence[Slot]) -> list[Slot]:
        left = set(self._state.slots_left) - set(busy)
        order = ordered(list(self._cells), self._campaign.repeats, self._campaign.order, self._campaign.seed)
        return [slot for slot in order if slot in left]

    def _begin(self, slot: Slot, place: str) -> Job:
        """Write down the run's id before anything of it exists: so a finished run is known, whatever happens to us."""
        cell, repeat = slot
        under_way = {run for begun in self._state.begun.values() for run in convoy_runs(begun.run, CONVOY_MOST)}
        run = free_runs(self._data, self._cells[cell].request.scenario.convoy_guests, under_way)[0]
        self._tell(Begun(time_ns=time.time_ns(), cell=cell, repeat=repeat, run=run))
        return Job(
            campaign=self._place,
            data=self._data,
            run=run,
            request=self._cells[cell].request,
            deadline_seconds=self._cells[cell].deadline_seconds(self._campaign),
            place=place,
        )

    def _end(self, slot: Slot, job: Job, end: JobEnd) -> None:
        cell, repeat = slot
        record = deciding_record(self._data, job.run)
        outcome = record.outcome if record else None
        now = time.time_ns()
        if outcome == "cancelled":
            self._tell(Cut(time_ns=now, cell=cell, repeat=repeat, run=job.run, reason="cancelled from outside"))
            return
        if end.lost is not None:
            self._lost[slot] += 1
            if self._lost[slot] < self._campaign.max_failures:
                self._tell(Cut(time_ns=now, cell=cell, repeat=repeat, run=job.run, reason=end.lost))
                return
        # of a process that was killed, whoever closes the record knows only that it is gone
        reason = record.reason if record and outcome not in (None, "abandoned") else end.lost or end.trouble
        self._tell(
            Ended(
                time_ns=now,
                cell=cell,
                repeat=repeat,
                run=job.run,
                outcome=outcome or ("abandoned" if record or end.lost else "broken"),
                reason=reason,
                seconds=end.seconds,
            )
        )
        failed = self._state.failed_in_a_row[cell]
        if outcome == "unsupported":
            self._tell(Parked(time_ns=now, cell=cell, reason=f"unsupported here: {reason}"))
        elif failed >= self._campaign.max_failures:
            self._tell(Parked(time_ns=now, cell=cell, reason=f"{failed} failures in a row, the last: {reason}"))

    async def _cut(self, running: Mapping[asyncio.Task[JobEnd], tuple[Slot, Job]], why: str) -> None:
        """End what is under way; a run that came to its end all the same counts."""
        if not running:
            return
        for task in running:
            task.cancel()
        try:
            await asyncio.gather(*running, return_exceptions=True)
        except asyncio.CancelledError:  # the user is in a hurry
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        finally:
            for (cell, repeat), job in running.values():
                begun = Begun(time_ns=0, cell=cell, repeat=repeat, run=job.run)
                self._tell(self._recognised(begun, why))

    def _recognised(self, begun: Begun, why: str = "the campaign's driver died") -> Ended | Cut:
        """What became of a run whose end was not written down: its own record knows."""
        record = deciding_record(self._data, begun.run)
        now = time.time_ns()
        if record is None or record.outcome is None or record.outcome in UNFINISHED:
            return Cut(time_ns=now, cell=begun.cell, repeat=begun.repeat, run=begun.run, reason=why)
        moments = [phase.end_ns or phase.start_ns for phase in record.phases]
        return Ended(
            time_ns=now,
            cell=begun.cell,
            repeat=begun.repeat,
            run=begun.run,
            outcome=record.outcome,
            reason=record.reason,
            seconds=(max(moments) - record.clock.wall_ns) / 1e9 if moments else 0.0,
        )

    def _tell(self, event: Event) -> None:
        """Write an event down, then let it count."""
        append_event(self._place, event)
        self._state = fold(self._state, [event])
        self._changed(self._state, event)
