"""What runs a campaign's cells: the interface of its engines, and the one that makes every run on this host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from driver.campaign_cells import Cell
from driver.campaign_check import refused_cells
from driver.convoy_runs import convoy_runs
from driver.datadir import CampaignDir, DataDir
from driver.lock import driver_lock
from driver.pace import measure_pace
from driver.request import Request
from driver.run_process import JobEnd, comes_free, run_process
from workload.errors import BadValueError, BrokenError

JOBS_MOST = 8
"""As many saved guests as warm starts keep: so none of those at work removes one that another is about to read."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run, or one convoy, that is to be made: the request with its id, where, and when it is taken for hung."""

    campaign: CampaignDir
    data: DataDir
    run: str
    request: Request
    deadline_seconds: float
    place: str = "0"

    @property
    def runs(self) -> list[str]:
        """The ids of all that it makes: its own, or those of a convoy's guests."""
        return convoy_runs(self.run, self.request.scenario.convoy_guests)


Command = Callable[[Job], Sequence[str]]
"""Writes the command line that makes a job's run."""


class Executor(Protocol):
    """Runs jobs, one at once in each place."""

    @property
    def slots(self) -> int:
        """How many runs can be made at once."""

    def at_work(self, campaign: CampaignDir) -> AbstractAsyncContextManager[None]:
        """Hold what must be held while a campaign runs; on entering nothing of its last driver is left.

        Raises:
            MigrascopeError: something else measures there.
        """

    def take_place(self, cell: str) -> str | None:
        """Take a place where a run of this cell can be made, for the job that is executed next; None: all are busy.

        Raises:
            MigrascopeError: there will be no place any more.
        """

    async def execute(self, job: Job) -> JobEnd:
        """Run a job to its end in the place that was taken for it, and give that back.

        The run's directory is in the data directory then. Cancelling this ends the run in good order, cancelling it
        again at once.
        """


class Engine(Executor, Protocol):
    """An executor that can also be asked about a plan before it is run."""

    async def measure_pace(self, request: Request) -> float:
        """Return how fast the request's guest dirties memory where the runs will be made, in bytes a second."""

    async def refused_cells(self, cells: Sequence[Cell]) -> Mapping[str, str]:
        """Map the id of each cell that can be run in no place to the reason."""


class LocalExecutor:
    """Runs jobs as child processes here, `jobs` at once, each with a driver lock of its own.

    More than one measures migrations that run beside each other, and is there for that alone.
    """

    def __init__(self, command: Command, jobs: int = 1) -> None:
        if not 1 <= jobs <= JOBS_MOST:
            raise BadValueError(f"jobs={jobs}: want 1 to {JOBS_MOST} runs at once")
        self.slots = jobs
        self._command = command
        self._free = [str(number) for number in range(jobs)]

    @asynccontextmanager
    async def at_work(self, campaign: CampaignDir) -> AsyncIterator[None]:
        """Hold the host's driver lock for all runs; see `Executor`."""
        with driver_lock():
            for lock in campaign.run_locks():
                if not await comes_free(lock):
                    raise BrokenError(
                        f"campaign {campaign.campaign}: a run of its last driver still holds {lock}; end that process"
                        " first"
                    )
            yield

    def take_place(self, cell: str) -> str | None:  # noqa: ARG002 - each place here is as good for any cell
        """Take the first free one of this host's places; see `Executor`."""
        return self._free.pop(0) if self._free else None

    async def execute(self, job: Job) -> JobEnd:
        """Run a job; see `Executor`. Must be called from the main thread."""
        try:
            return await run_process(
                self._command(job),
                job.campaign.log(job.run),
                deadline_seconds=job.deadline_seconds,
                lock=job.campaign.run_lock(job.place),
            )
        finally:
            self._free = sorted([*self._free, job.place])

    async def measure_pace(self, request: Request) -> float:
        """Measure a guest's pace on this host."""
        return await measure_pace(request)

    async def refused_cells(self, cells: Sequence[Cell]) -> Mapping[str, str]:
        """Find what cannot run on this host."""
        return await refused_cells(cells)
