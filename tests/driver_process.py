"""A driver in a process of its own, for tests that kill it: `driver_process.py DATA_DIRECTORY [DESTINATION_HOST]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from driver.datadir import DataDir
from driver.hardware import Hardware
from driver.request import Request, on_hosts
from driver.run import run_migration
from driver.scenario import Scenario
from workload.settings import Workload

HARDWARE = Hardware(vcpus=1, memory_mib=128, accelerator="tcg")
WORKLOAD = Workload(working_set_mib=16, granularity_mib=4)
NEVER = Scenario(bandwidth_mib_s=16, downtime_limit_ms=50, max_time_seconds=60, max_iterations=1000)
"""Never converges: the guest dirties 16 MiB in less time than these take to send."""


def a_request(
    scenario: Scenario = NEVER,
    *,
    warm_start: bool = True,
    binary: str = "qemu-system-x86_64",
    host: str | None = None,
) -> Request:
    """A small guest's run."""
    return Request(
        scenario=on_hosts(scenario, host), hardware=HARDWARE, workload=WORKLOAD, warm_start=warm_start,
        source_binary=binary, destination_host=host,
    )  # fmt: skip


if __name__ == "__main__":
    asked = a_request(host=next(iter(sys.argv[2:]), None))
    asyncio.run(run_migration(asked, DataDir.open(Path(sys.argv[1])), None))
