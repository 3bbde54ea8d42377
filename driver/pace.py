"""How fast a guest dirties memory on this host, measured before a comparison is planned."""

from __future__ import annotations

from dataclasses import replace

from driver.kit import check_fits, find_kit
from driver.lock import driver_lock
from driver.request import Request
from driver.runtime import run_runtime_dir
from driver.warm import measure_rate, warm_image


async def measure_pace(request: Request) -> float:
    """Boot the request's guest, let it settle, and return its pace in bytes a second.

    A warm start saves the guest on the way, and a later call reads the pace of the saved one.

    Raises:
        MigrascopeError: the guest did not boot or settle, or another driver runs on this host.
    """
    check_fits(request.hardware, request.workload, qemus=1)
    with driver_lock(), run_runtime_dir() as runtime:
        # the guest runs here alone: what its destination's host has does not matter
        kit = await find_kit(replace(request, destination_binary=None) if request.destination_host else request)
        if request.warm_start:
            return (await warm_image(kit, runtime)).settled_bytes_per_second
        return await measure_rate(kit, runtime)
