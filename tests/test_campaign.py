"""A campaign on its way, its runs made by a stand-in that writes the records a real run would: what is run, how often,
what is parked, and what is recognised after the driver was killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from driver.campaign import run_campaign
from driver.campaign_cells import cells
from driver.campaign_events import Begun, Cut, Ended, Event, Planned, PlannedCell, append_event, read_events
from driver.campaign_executor import Job, LocalExecutor
from driver.campaign_plan import Axis, Campaign
from driver.campaign_state import CampaignState
from driver.datadir import CampaignDir, DataDir
from driver.lock import VARIABLE, campaign_lives, campaign_lock
from driver.record import write_record
from driver.request import Request
from driver.run_process import JobEnd
from tests.recorded import a_record
from workload.errors import MigrascopeError

PLAN = Campaign(
    name="test", repeats=3, max_failures=2, grid=(Axis(field="strategy", values=("none", "post-copy")),)
)  # fmt: skip

Fate = Callable[[Job, int], str | None]


class StandIn:
    """Makes each job's record with the outcome that `fate` gives it (None: the run's process dies without one)."""

    def __init__(self, fate: Fate = lambda _job, _number: "completed", slots: int = 1) -> None:
        self.slots = slots
        self.free: list[str] = []
        self.jobs: list[Job] = []
        self.most_at_once = 0
        self._fate = fate
        self._at_once = 0

    @contextlib.asynccontextmanager
    async def at_work(self, campaign: CampaignDir) -> AsyncIterator[None]:
        assert campaign.lock.exists()
        self.free = [str(number) for number in range(self.slots)]
        yield

    def take_place(self, cell: str) -> str | None:
        assert cell
        return self.free.pop() if self.free else None

    async def execute(self, job: Job) -> JobEnd:
        self.jobs.append(job)
        number = len(self.jobs)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0.001)
        self._at_once -= 1
        outcome = self._fate(job, number)
        self.free.append(job.place)
        if outcome == "lost":
            return JobEnd(seconds=2.0, lost="worker w1 was lost")
        leave_record(job.data, job.run, outcome)
        return JobEnd(seconds=2.0, trouble=None if outcome else "hung: no end within 9 s; killed")


class Killed(BaseException):
    """Our own kill -9: nothing after it runs."""


def leave_record(data: DataDir, run: str, outcome: str | None) -> None:
    place = data.run(run)
    place.path.mkdir()
    write_record(place, replace(a_record(run, outcome=outcome), reason=None if outcome == "completed" else "so it was"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDir:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    return DataDir.open(tmp_path / "data")


async def campaign(
    data: DataDir,
    executor: StandIn,
    plan: Campaign = PLAN,
    *,
    retry: bool = False,
    cancel: asyncio.Event | None = None,
    refused: Sequence[str] = (),
    changed: Callable[[CampaignState, Event], None] = lambda _state, _event: None,
) -> CampaignState:
    planned = cells(plan, {})
    return await run_campaign(
        plan, planned, data, executor, content=b"# the plan", paces={}, retry=retry, changed=changed,
        refused={cell.cell: "no such QEMU" for cell in planned if cell.request.scenario.strategy in refused},
        cancel=cancel or asyncio.Event(),
    )  # fmt: skip


def events(data: DataDir) -> list[Event]:
    return read_events(data.campaign(PLAN.campaign))


async def test_every_cell_is_run_as_often_as_asked_and_a_second_start_has_nothing_to_do(data: DataDir) -> None:
    executor = StandIn()
    state = await campaign(data, executor)
    assert (state.planned_runs, state.ended_runs, state.slots_left) == (6, 6, ())
    assert len({job.run for job in executor.jobs}) == 6
    assert state.stopped
    assert state.stopped.finished
    assert data.campaign(PLAN.campaign).plan.read_bytes() == b"# the plan"
    written = events(data)
    again = StandIn()
    assert (await campaign(data, again)).ended_runs == 6
    assert again.jobs == []
    assert events(data) == written


async def test_a_runs_id_is_on_the_disk_before_it_starts(data: DataDir) -> None:
    def fate(job: Job, _number: int) -> str:
        assert any(isinstance(event, Begun) and event.run == job.run for event in events(data))
        return "completed"

    assert (await campaign(data, StandIn(fate))).ended_runs == 6


async def test_more_repeats_go_on_with_the_same_campaign(data: DataDir) -> None:
    await campaign(data, StandIn())
    executor = StandIn()
    state = await campaign(data, executor, replace(PLAN, repeats=5))
    assert len(executor.jobs) == 4
    assert (state.planned_runs, state.ended_runs) == (10, 10)


@pytest.mark.parametrize("killed_at", range(1, 16))
async def test_a_driver_killed_at_any_step_loses_at_most_the_run_under_way(data: DataDir, killed_at: int) -> None:
    """Kill it behind each line that it writes; what a run left by then is there for the next start."""
    steps = 0
    done: list[str] = []

    def fate(job: Job, _number: int) -> str:
        done.append(job.run)
        return "completed"

    def changed(_state: CampaignState, _event: Event) -> None:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise Killed

    executor = StandIn(fate)
    with (
        pytest.raises(Killed) if killed_at <= 14 else contextlib.nullcontext()
    ):  # plan, six runs begun and ended, stopped
        await campaign(data, executor, changed=changed)
    recorded = [run.run for run in data.all_runs()]
    state = await campaign(data, executor)
    assert (state.planned_runs, state.ended_runs) == (6, 6)
    results = [event for event in events(data) if isinstance(event, Ended)]
    assert len({(result.cell, result.repeat) for result in results}) == len(results) == 6
    assert {result.run for result in results} == set(done)
    assert set(recorded) <= set(done), "what was finished was not made again"


async def test_a_finished_run_whose_line_is_missing_is_recognised_by_its_record(data: DataDir) -> None:
    place = data.campaign(PLAN.campaign)
    place.path.mkdir(parents=True)
    planned = cells(PLAN, {})
    told = tuple(PlannedCell(cell=cell.cell, name=cell.name, strategy="none", estimate_seconds=1.0) for cell in planned)
    append_event(place, Planned(time_ns=1, cells=told, repeats=3))
    fates = {"20261124-000000-0001": "not_converged", "20261124-000000-0002": None, "20261124-000000-0003": "abandoned",
             "20261124-000000-0004": "cancelled"}  # fmt: skip
    slots = [(cell.cell, repeat) for cell in planned for repeat in (1, 2, 3)]
    for (run, outcome), (cell, repeat) in zip(fates.items(), slots, strict=False):
        append_event(place, Begun(time_ns=2, cell=cell, repeat=repeat, run=run))
        leave_record(data, run, outcome)
    append_event(place, Begun(time_ns=3, cell=slots[4][0], repeat=slots[4][1], run="20261124-000000-0005"))
    executor = StandIn()
    state = await campaign(data, executor)
    assert state.outcomes == {"not_converged": 1, "completed": 5}
    recognised = next(state.results())
    assert recognised.run == "20261124-000000-0001"
    assert recognised.seconds == pytest.approx(7.1)
    assert sum(isinstance(event, Cut) for event in events(data)) == 4
    assert len(executor.jobs) == 5


async def test_a_failure_is_recorded_and_so_many_in_a_row_park_the_cell_alone(data: DataDir) -> None:
    def fate(job: Job, _number: int) -> str | None:
        return None if job.request.scenario.strategy == "none" else "completed"

    executor = StandIn(fate)
    state = await campaign(data, executor)
    assert state.outcomes == {"abandoned": 2, "completed": 3}
    ((parked, reason),) = state.parked_cells
    assert parked.strategy == "none"
    assert reason == "2 failures in a row, the last: hung: no end within 9 s; killed"
    assert state.stopped
    assert state.stopped.finished
    healed = await campaign(data, StandIn(), retry=True)
    assert healed.outcomes == {"completed": 6}
    assert healed.parked == {}


async def test_failures_between_answers_park_nothing(data: DataDir) -> None:
    state = await campaign(data, StandIn(lambda _job, number: "failed" if number % 2 else "not_converged"))
    assert state.outcomes == {"failed": 3, "not_converged": 3}
    assert state.parked == {}


async def test_what_cannot_run_here_is_parked_without_a_run_and_what_turns_out_so_after_one(data: DataDir) -> None:
    executor = StandIn(lambda _job, _number: "unsupported")
    state = await campaign(data, executor, refused=["none"])
    assert len(executor.jobs) == 1
    assert [reason for _, reason in state.parked_cells] == [
        "unsupported here: no such QEMU", "unsupported here: so it was",
    ]  # fmt: skip


async def test_a_cancelled_campaign_cuts_its_run_and_the_next_start_repeats_that_one(data: DataDir) -> None:
    cancel = asyncio.Event()

    def fate(_job: Job, number: int) -> str:
        if number == 3:
            cancel.set()
            return "cancelled"
        return "completed"

    executor = StandIn(fate)
    state = await campaign(data, executor, cancel=cancel)
    assert state.stopped
    assert not state.stopped.finished
    assert state.ended_runs == 2
    assert (await campaign(data, executor)).outcomes == {"completed": 6}
    assert len(executor.jobs) == 7


async def test_an_executor_with_several_slots_is_kept_at_work(data: DataDir) -> None:
    executor = StandIn(slots=3)
    state = await campaign(data, executor)
    assert (state.ended_runs, executor.most_at_once) == (6, 3)
    assert state.slots == 3


async def test_a_run_that_is_lost_with_its_worker_is_made_again(data: DataDir) -> None:
    executor = StandIn(lambda _job, number: "lost" if number in (1, 2) else "completed", slots=2)
    state = await campaign(data, executor)
    assert state.outcomes == {"completed": 6}
    assert len(executor.jobs) == 8
    assert [event.reason for event in events(data) if isinstance(event, Cut)] == ["worker w1 was lost"] * 2


async def test_a_run_that_loses_every_worker_is_given_up(data: DataDir) -> None:
    def fate(job: Job, _number: int) -> str:
        return "lost" if job.request.scenario.strategy == "none" else "completed"

    state = await campaign(data, StandIn(fate))
    assert state.outcomes == {"abandoned": 2, "completed": 3}
    ((_, reason),) = state.parked_cells
    assert reason == "2 failures in a row, the last: worker w1 was lost"


async def test_a_campaign_that_is_being_run_is_refused(data: DataDir) -> None:
    place = data.campaign(PLAN.campaign)
    place.path.mkdir(parents=True)
    with campaign_lock(place):
        assert campaign_lives(place)
        with pytest.raises(MigrascopeError, match="is being run already"):
            await campaign(data, StandIn())
    assert not campaign_lives(place)


def a_job(data: DataDir, deadline_seconds: float) -> Job:
    place = data.campaign("c")
    place.path.mkdir(parents=True)
    (request,) = [cell.request for cell in cells(replace(PLAN, grid=()), {})]
    return Job(campaign=place, data=data, run="20261124-000000-0001", request=request,
               deadline_seconds=deadline_seconds)  # fmt: skip


def python(code: str) -> Callable[[Job], list[str]]:
    return lambda _job: [sys.executable, "-c", code]


async def test_a_run_that_hangs_is_killed_at_its_deadline(data: DataDir) -> None:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    end = await LocalExecutor(python(code)).execute(a_job(data, 0.5))
    assert end.trouble == "hung: no end within 0.5 s; killed"
    assert 0.5 <= end.seconds < 30


async def test_a_process_that_fails_is_told_with_its_last_words_and_its_log_stays(data: DataDir) -> None:
    job = a_job(data, 30)
    code = "import sys; sys.stderr.write('starting\\nmigrascope: qemu: is not there\\n'); sys.exit(6)"
    end = await LocalExecutor(python(code)).execute(job)
    log = job.campaign.log(job.run)
    assert end.trouble == f"the run's process exited with 6: qemu: is not there (log: {log})"
    assert log.read_text().startswith("starting")
    assert (await LocalExecutor(python("raise SystemExit(0)")).execute(job)).trouble is None
    assert not log.exists()


async def test_a_process_killed_from_outside_is_told_so(data: DataDir) -> None:
    end = await LocalExecutor(python("import os; os.kill(os.getpid(), 9)")).execute(a_job(data, 30))
    assert (end.trouble or "").startswith("the run's process was killed by SIGKILL")


async def test_a_cancelled_run_is_interrupted_as_by_ctrl_c(data: DataDir) -> None:
    job = a_job(data, 30)
    code = (
        # as a run does: where the tests are a shell's background job, SIGINT is ignored from birth on
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n    sys.stderr.write('ready\\n'); sys.stderr.flush(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    sys.stderr.write('interrupted\\n')\n"
    )
    task = asyncio.create_task(LocalExecutor(python(code)).execute(job))
    async with asyncio.timeout(30):
        while not (job.campaign.log(job.run).exists() and "ready" in job.campaign.log(job.run).read_text()):  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert job.campaign.log(job.run).read_text() == "ready\ninterrupted\n"


def test_a_request_is_the_same_after_it_was_written_as_a_command_line(data: DataDir) -> None:
    from migrascope.campaign_engine import run_words  # noqa: PLC0415
    from migrascope.main import parser  # noqa: PLC0415
    from migrascope.migrations import request_of  # noqa: PLC0415

    base = {"bandwidth_mib_s": 7, "strategy": "post-copy+auto-converge", "memory_mib": 1024, "tick_ms": 0,
            "settle_seconds": 1.5, "qemu": "/q", "destination_qemu": "/new", "kernel": "/boot/k"}  # fmt: skip
    place = a_job(data, 9)
    for host in ("", "me@there"):
        (cell,) = cells(replace(PLAN, grid=(), base=base, warm_start=True, destination_host=host), {})
        job = replace(place, request=cell.request)
        words = run_words(job)
        assert words[1:4] == ["-m", "migrascope.main", "run"]
        found: Request = request_of(parser().parse_args(words[3:]))
        assert found == replace(cell.request, run=job.run)
        assert found.scenario.hosts == ("ssh" if host else "here")
