"""Waiting for what happens in files, processes and servers: until a condition holds, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WAIT_SECONDS = 60.0
PAUSE_SECONDS = 0.01


def wait_until(true: Callable[[], object], seconds: float = WAIT_SECONDS, what: str = "") -> None:
    """Wait until something holds; fail with `what`, else with its name, where it never does."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what or f"{true} still does not hold after {seconds:g} s"
        time.sleep(PAUSE_SECONDS)


async def until(true: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait likewise, and let other tasks go on."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for is no event
            await asyncio.sleep(PAUSE_SECONDS)
