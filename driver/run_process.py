"""One run of a campaign as a child process: it dies with its parent, and is killed when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from driver.lock import VARIABLE, try_lock
from driver.parent_death import die_with_parent

CANCEL_SECONDS = 30.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a run's process ended. `trouble` says what was wrong with it, None where it ended by itself with status 0.

    What became of the migration stands in the run's own record, which is in the data directory by now. `lost` says that
    nothing is known of the run and why: it is to be made again.
    """

    seconds: float
    trouble: str | None = None
    lost: str | None = None


async def run_process(
    words: Sequence[str], log: Path, *, deadline_seconds: float, lock: Path, told_log: Path | None = None
) -> JobEnd:
    """Run one command to its end; its log stays where it went wrong. Call it from the main thread.

    `lock` is the driver lock that the run takes, `told_log` where the log will be found in the end. Cancelling this
    interrupts the run as Ctrl-C does, cancelling it again kills it.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=output,
            env=os.environ | {VARIABLE: str(lock)},
            preexec_fn=die_with_parent(),
            start_new_session=True,  # Ctrl-C in the terminal is for the campaign alone
        )
    hung = False
    try:
        async with asyncio.timeout(deadline_seconds):
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
        return JobEnd(seconds=seconds, trouble=f"hung: no end within {deadline_seconds:g} s; killed")
    if process.returncode == 0:
        log.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call
        return JobEnd(seconds=seconds)
    return JobEnd(seconds=seconds, trouble=_trouble(process.returncode or 0, log, told_log or log))


async def comes_free(lock: Path, seconds: float = CANCEL_SECONDS) -> bool:
    """Wait until nobody holds a lock: a run dies with its parent, but not in the same instant; False where it stays."""
    deadline = time.monotonic() + seconds
    while True:
        with try_lock(lock, 0o666) as free:
            if free:
                return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_SECONDS)


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


def _trouble(status: int, log: Path, told_log: Path) -> str:
    """Say how a process ended, with its last words."""
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
    words = ""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        words = f": {lines[-1].removeprefix('migrascope: ')[:300]}" if lines else ""
    return f"the run's process {how}{words} (log: {told_log})"
