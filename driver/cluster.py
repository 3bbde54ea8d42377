"""A campaign's runs on the workers of a dask.distributed cluster: one at a time on each, again where it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from driver.campaign_cells import Cell
from driver.campaign_executor import Command, Job
from driver.cluster_worker import Arrival, WorkerFacts, run_job, signal_runs, worker_facts
from driver.datadir import CampaignDir, DataDir, write_atomically
from driver.homecoming import bring_home, sweep_arrivals
from driver.pace import measure_pace
from driver.request import Request
from driver.run_process import CANCEL_SECONDS, JobEnd
from driver.scheduler import CONNECT_SECONDS, connected
from driver.workers import Worker, free_worker, slots_of, unfit
from workload.errors import MigrascopeError, UnsupportedError

if TYPE_CHECKING:
    from distributed import Client, Future

ANSWER_SECONDS = 60.0
LOOK_SECONDS = 0.5
WORKER_SECONDS = 30.0
"""How long a campaign waits at its start for a first worker."""
DESERTED_SECONDS = 600.0
"""How long a campaign waits for another worker when all are lost."""
HOME_SECONDS = 300.0
"""How much longer than its deadline a run may be away: waiting for its host, packing, coming home."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def cluster(
    address: str, command: Command, labels: Sequence[str], data: DataDir
) -> AsyncIterator[ClusterExecutor]:
    """Connect to a scheduler; its workers that have all of `labels` get runs, whose directories come to `data`.

    Raises:
        UnsupportedError: distributed is not installed.
        MigrascopeError: the scheduler does not answer, or there is no certificate to show to it.
    """
    async with connected(address) as client:
        yield ClusterExecutor(client, address, command, labels, data)


class ClusterExecutor:
    """An engine whose places are workers' addresses; see `driver.campaign_executor.Engine`."""

    def __init__(self, client: Client, address: str, command: Command, labels: Sequence[str], data: DataDir) -> None:
        self._client = client
        self._address = address
        self._command = command
        self._labels = labels
        self._data = data
        self._cells: Sequence[Cell] = ()
        self._workers: dict[str, Worker] = {}
        self._busy: dict[str, Worker] = {}
        self._passed_over: dict[str, str] = {}
        self._failure: MigrascopeError | None = None

    @property
    def slots(self) -> int:
        """How many of the workers can run at once."""
        return max(1, slots_of(self._workers.values()))

    async def measure_pace(self, request: Request) -> float:
        """Measure a guest's pace on the first worker that can."""
        await self._meet_workers(())
        reasons = []
        for worker in self._workers.values():
            answer = await self._ask(worker.address, measure_pace, request)
            if isinstance(answer, float):
                return answer
            reasons.append(f"{worker.address}: {answer}")
        raise MigrascopeError(
            f"scheduler {self._address}: no worker could measure a guest's pace; {'; '.join(reasons)}"
        )

    async def refused_cells(self, cells: Sequence[Cell]) -> Mapping[str, str]:
        """Have every worker look at the plan; what none of them can run is refused, with the first one's reason."""
        await self._meet_workers(cells)
        workers = list(self._workers.values())
        return {
            cell.cell: f"{workers[0].facts.refused[cell.cell]} (so on each of {len(workers)} workers)"
            for cell in cells
            if all(cell.cell in worker.facts.refused for worker in workers)
        }

    @asynccontextmanager
    async def at_work(self, campaign: CampaignDir) -> AsyncIterator[None]:
        """Kill what a dead driver of this campaign left on the workers, and look after them; see `Executor`."""
        sweep_arrivals(self._data)
        word = f"--campaign={campaign.campaign}"
        for address in list(self._workers):
            await self._ask(address, signal_runs, word, signal.SIGKILL)
        looking = asyncio.create_task(self._look_after())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def take_place(self, cell: str) -> str | None:
        """Take a worker that can run the cell and whose turn it is; see `Executor`."""
        if self._failure:
            raise self._failure
        worker = free_worker(self._workers.values(), self._busy.values(), cell)
        if worker is None:
            return None
        self._busy[worker.address] = worker
        return worker.address

    async def execute(self, job: Job) -> JobEnd:
        """Have a job run by the worker whose address is its place; see `Executor`."""
        worker = self._busy[job.place]
        began = time.monotonic()
        future = self._client.submit(
            run_job, job, self._command, worker.facts.process_id,
            key=f"migrascope-{job.run}", pure=False, workers=[worker.address], allow_other_workers=False,
        )  # fmt: skip
        coming = asyncio.create_task(self._come_home(future, worker, job))
        try:
            end = await asyncio.shield(coming)
        except asyncio.CancelledError:
            await self._interrupt(worker, job, coming)
            raise
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            with contextlib.suppress(OSError, TimeoutError):
                await future.cancel()  # type: ignore[no-untyped-call]
            del self._busy[job.place]
        if self._failure:
            raise self._failure
        return end or JobEnd(seconds=time.monotonic() - began, lost=f"worker {worker.address} was lost")

    async def _come_home(self, future: Future[Any], worker: Worker, job: Job) -> JobEnd | None:
        """Wait for a job's end and bring its directory home; None where its worker was lost before."""
        result = asyncio.ensure_future(_result(future))
        gone = asyncio.create_task(worker.gone.wait())
        limit = job.deadline_seconds + HOME_SECONDS
        try:
            await asyncio.wait({result, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                late = f"worker {worker.address} did not answer within {limit:g} s"
                return None if worker.gone.is_set() else JobEnd(seconds=limit, lost=late)
            arrival = result.result()
        finally:
            result.cancel()
            gone.cancel()
            await asyncio.gather(result, gone, return_exceptions=True)
        if not isinstance(arrival, Arrival):
            try:  # with the scheduler every run is cancelled, and there is no place for another
                await self._present()
            except MigrascopeError as error:
                self._fail(error)
            return JobEnd(seconds=0.0, lost=f"worker {worker.address}: {arrival}")
        if arrival.packed is not None:
            await asyncio.to_thread(bring_home, arrival.packed, self._data, job.runs)
        if arrival.log is not None:
            write_atomically(job.campaign.log(job.run), arrival.log)
        return arrival.end

    async def _interrupt(self, worker: Worker, job: Job, coming: asyncio.Task[JobEnd | None]) -> None:
        """End a run in good order and bring home what there is of it; cancelled again: kill it."""
        word = f"--run-id={job.run}"
        try:
            await self._ask(worker.address, signal_runs, word, signal.SIGINT)
            await asyncio.wait({coming}, timeout=CANCEL_SECONDS)
        finally:
            if not coming.done():
                await self._ask(worker.address, signal_runs, word, signal.SIGKILL)

    async def _meet_workers(self, cells: Sequence[Cell]) -> None:
        """Get to know every worker that is there; wait a while for a first one.

        Raises:
            UnsupportedError: there is none that can get runs.
        """
        self._cells = cells
        self._workers.clear()
        self._passed_over.clear()
        deadline = time.monotonic() + WORKER_SECONDS
        while True:
            await self._greet(await self._present())
            if self._workers:
                return
            if self._passed_over or time.monotonic() > deadline:
                why = "; ".join(f"{address} {reason}" for address, reason in self._passed_over.items())
                raise UnsupportedError(
                    f"scheduler {self._address}: no worker can get runs: {why or 'there is none'}; start one with"
                    f" `dask worker {self._address} --nthreads 1`"
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _present(self) -> Mapping[str, Mapping[str, Any]]:
        """Every worker that the scheduler knows, by its address.

        Raises:
            MigrascopeError: it does not answer any more.
        """
        scheduler = self._client.scheduler
        try:
            if scheduler is None:
                raise ConnectionError("the connection is closed")
            async with asyncio.timeout(CONNECT_SECONDS):
                identity = await scheduler.identity()
        except (OSError, TimeoutError) as error:
            raise MigrascopeError(
                f"scheduler {self._address}: is lost ({error or 'no answer'}); what ended is safe, the same command"
                " goes on"
            ) from error
        found: Mapping[str, Mapping[str, Any]] = identity["workers"]
        return found

    async def _greet(self, present: Mapping[str, Mapping[str, Any]]) -> None:
        """Ask workers that are new what they can do."""
        versions = {binary: one for worker in self._workers.values() for binary, one in worker.facts.versions.items()}
        for address in sorted(present.keys() - self._workers.keys() - self._passed_over.keys()):
            facts = await self._ask(address, worker_facts, self._cells)
            reason: str | None = f"cannot: {facts}"
            if isinstance(facts, WorkerFacts):
                worker = Worker(address=address, facts=facts, told=frozenset(present[address]["resources"]))
                reason = unfit(worker, self._labels, versions)
                if reason is None:
                    self._workers[address] = worker
                    versions |= facts.versions
                    continue
            self._passed_over[address] = str(reason)
            _log.warning("worker %s gets no runs: it %s", address, reason)

    async def _look_after(self) -> None:
        """Notice workers that are lost and workers that are new, for as long as the campaign runs."""
        seen = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                present = await self._present()
            except MigrascopeError as error:
                self._fail(error)
                return
            for address in self._workers.keys() - present.keys():
                _log.warning("worker %s is lost", address)
                self._workers.pop(address).gone.set()
            for address in self._passed_over.keys() - present.keys():
                del self._passed_over[address]
            await self._greet(present)
            if self._workers:
                seen = time.monotonic()
            elif time.monotonic() - seen > DESERTED_SECONDS:
                self._fail(MigrascopeError(f"scheduler {self._address}: has had no worker for {DESERTED_SECONDS:g} s"))
                return

    def _fail(self, why: MigrascopeError) -> None:
        """Have the campaign end: its next question is answered with an error, its runs are given up."""
        self._failure = why
        for worker in {**self._workers, **self._busy}.values():
            worker.gone.set()

    async def _ask(self, address: str, function: Any, *arguments: object) -> Any:
        """Have a worker call a function at once, beside what it runs; returns its error where it met one."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await self._client.run(function, *arguments, workers=[address], on_error="return")
        except (OSError, TimeoutError) as error:
            return error
        return answers.get(address)


async def _result(future: Future[Any]) -> Any:
    """A job's result, or the error that the worker met beside it: it says nothing of the run."""
    try:
        return await future.result()
    # the boundary to another machine: what its function raised is raised here, of whatever class; who asks tells it
    except Exception as error:
        return error
