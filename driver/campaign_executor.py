"""What runs a campaign's cells: each run is one child process that dies with its parent and is killed when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from driver.datadir import CampaignDir, DataDir
from driver.lock import VARIABLE, try_lock
from driver.parent_death import die_with_parent
from driver.request import Request
from workload.errors import BrokenError

CANCEL_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that is to be made: the request with its id, and when it is taken for hung."""

    campaign: CampaignDir
    data: DataDir
    run: str
    request: Request
    deadline_seconds: float


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a run's process ended. `trouble` says what was wrong with it, None where it ended by itself with status 0.

    What became of the migration stands in the run's own record, which is in the data directory by now.
    """

    seconds: float
    trouble: str | None = None


class Executor(Protocol):
    """Runs jobs, at most `slots` at once."""

    slots: int

    async def execute(self, job: Job) -> JobEnd:
        """Run a job to its end. Cancelling this ends the run in good order, cancelling it again at once."""


class LocalExecutor:
    """Runs each job as a child process here; `command` writes its command line."""

    slots = 1

    def __init__(self, command: Callable[[Job], Sequence[str]]) -> None:
        self._command = command

    async def execute(self, job: Job) -> JobEnd:
        """Run a job; see `Executor`. Must be called from the main thread."""
        log = job.campaign.log(job.run)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        began = time.monotonic()
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *self._command(job),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=output,
                # the campaign holds the host's driver lock for all of its runs
                env=os.environ | {VARIABLE: str(job.campaign.run_lock)},
                preexec_fn=die_with_parent(),
                start_new_session=True,  # Ctrl-C in the terminal is for the campaign alone
            )
        hung = False
        try:
            async with asyncio.timeout(job.deadline_seconds):
                await process.wait()
        except TimeoutError:
            hung = True
        except asyncio.CancelledError:
            await _cancel(process)
            raise
        finally:
            await _kill(process)
        seconds = time.monotonic() - began
        if hung:
            return JobEnd(seconds=seconds, trouble=f"hung: no end within {job.deadline_seconds:g} s; killed")
        if process.returncode == 0:
            log.unlink(missing_ok=True)
            return JobEnd(seconds=seconds)
        return JobEnd(seconds=seconds, trouble=_trouble(process.returncode or 0, log))


async def _cancel(process: asyncio.subprocess.Process) -> None:
    """Have a run cancelled in good order, as Ctrl-C does."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), CANCEL_SECONDS)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """See to it that a run's process is gone; its QEMUs die with it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _trouble(status: int, log: Path) -> str:
    """Say how a process ended, with its last words."""
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
    words = ""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        words = f": {lines[-1].removeprefix('migrascope: ')[:300]}" if lines else ""
    return f"the run's process {how}{words} (log: {log})"


async def wait_for_last_run(campaign: CampaignDir, seconds: float = CANCEL_SECONDS) -> None:
    """Wait until the run of a driver that was killed is gone as well: it dies with it, but not in the same instant.

    Raises:
        BrokenError: it is not.
    """
    deadline = time.monotonic() + seconds
    while True:
        with try_lock(campaign.run_lock) as free:
            if free:
                return
        if time.monotonic() > deadline:
            raise BrokenError(
                f"campaign {campaign.campaign}: a run of its last driver still holds {campaign.run_lock};"
                " end that process first"
            )
        await asyncio.sleep(0.05)
