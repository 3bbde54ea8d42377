"""Locks that end with their process: one driver a host; one owner a run, a campaign and a data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from driver.datadir import CampaignDir, RunDir
from workload.errors import BrokenError, MigrascopeError

VARIABLE = "MIGRASCOPE_DRIVER_LOCK"
LOOKS, LOOK_SECONDS = 3, 0.05

_holding: ContextVar[bool] = ContextVar("driver_lock_held", default=False)


def driver_lock_path() -> Path:
    """The file that a driver locks: one for all users of a host, since they share its CPUs; a variable moves it."""
    return Path(os.environ.get(VARIABLE) or "/tmp/migrascope-driver.lock")  # noqa: S108 - a lock, never written


@contextlib.contextmanager
def driver_lock() -> Iterator[None]:
    """Hold the host's driver lock: two drivers would measure each other.

    Whoever holds it may take it again within (by context: so do the tasks that it starts), so that a comparison holds
    it from its first run to its last, and each of its runs need not know.

    Raises:
        MigrascopeError: another driver holds it.
        BrokenError: the file cannot be opened.
    """
    if _holding.get():
        yield
        return
    path = driver_lock_path()
    with contextlib.ExitStack() as stack:
        try:
            taken = stack.enter_context(try_lock(path, 0o666))
        except OSError as error:
            raise BrokenError(f"lock {path}: {error.strerror}; {VARIABLE} names another place") from error
        if not taken:
            raise MigrascopeError(
                f"driver: another migrascope is running migrations on this host (it holds {path}); wait for it to end"
            )
        before = _holding.set(True)
        stack.callback(_holding.reset, before)
        yield


@contextlib.contextmanager
def run_lock(run: RunDir) -> Iterator[None]:
    """Hold a run's lock for the driver's life.

    Raises:
        BrokenError: another process holds it.
        OSError: the file cannot be made.
    """
    with try_lock(run.lock) as taken:
        if not taken:
            raise BrokenError(f"run {run.run}: another process holds {run.lock}")
        yield


@contextlib.contextmanager
def campaign_lock(campaign: CampaignDir) -> Iterator[None]:
    """Hold a campaign's lock for its driver's life.

    Raises:
        MigrascopeError: another process holds it.
        OSError: the file cannot be made.
    """
    for _ in range(LOOKS):
        with try_lock(campaign.lock) as taken:
            if taken:
                yield
                return
        time.sleep(LOOK_SECONDS)  # who only looks whether a driver lives (`campaign_lives`) holds it for an instant
    raise MigrascopeError(f"campaign {campaign.campaign}: is being run already (another process holds {campaign.lock})")


def campaign_lives(campaign: CampaignDir) -> bool:
    """Whether a driver runs a campaign just now."""
    try:
        with try_lock(campaign.lock) as free:
            return not free
    except OSError:
        return False


@contextlib.contextmanager
def try_lock(path: Path, mode: int = 0o600) -> Iterator[bool]:
    """Try to lock a file, made where it is missing; yields whether that worked, and lets go at the end.

    Raises:
        OSError: the file can neither be made nor opened.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with contextlib.suppress(PermissionError):
            os.fchmod(handle, mode)
    except PermissionError:  # another user's: a lock needs no more than reading (fs.protected_regular)
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)
