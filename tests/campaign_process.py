"""A campaign's driver in a process of its own, whose second run never ends: `... DATA_DIRECTORY NAME SECONDS_SLOW`.

Its clock is slow by so many seconds: what it writes is as old as if it had hung for that long.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from driver import campaign as campaign_module
from driver.campaign_executor import Job
from driver.datadir import DataDir
from driver.run_process import JobEnd
from tests.test_campaign import PLAN, StandIn, campaign


class SlowClock:
    """What `driver.campaign` asks of `time`."""

    def __init__(self, seconds: float) -> None:
        self._slow_ns = round(seconds * 1e9)

    def time_ns(self) -> int:
        """The time as it was."""
        return time.time_ns() - self._slow_ns


class Hanging(StandIn):
    """Ends one run and hangs in the next."""

    async def execute(self, job: Job) -> JobEnd:
        if self.jobs:
            await asyncio.Event().wait()
        return await super().execute(job)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(campaign_module, "time", SlowClock(float(sys.argv[3])))
        asyncio.run(campaign(DataDir.open(Path(sys.argv[1])), Hanging(), replace(PLAN, name=sys.argv[2])))
