"""What a campaign has a worker of a dask.distributed cluster do: say what it can, run one job, end one."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import psutil

from driver.campaign_cells import Cell
from driver.campaign_check import refused_cells
from driver.campaign_executor import Command, Job
from driver.datadir import DataDir
from driver.facts import binary_facts
from driver.homecoming import pack
from driver.kit import find_kit
from driver.lock import driver_lock_path
from driver.request import Request
from driver.run_process import JobEnd, comes_free, run_process
from workload.errors import BrokenError, MigrascopeError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DATA = "migrascope"


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """What a worker found out about itself.

    `host_lock` names its host and the driver lock that its runs take: workers with the same take turns. `versions` maps
    each QEMU of the plan that it has to its version, `refused` each cell that it cannot run to the reason.
    """

    process_id: int
    migrascope: str
    host_lock: str
    kvm: bool
    versions: Mapping[str, str]
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What comes back from a worker: how the run's process ended, its packed directory if it made one, and its log."""

    end: JobEnd
    packed: bytes | None = None
    log: bytes | None = None


async def worker_facts(cells: Sequence[Cell]) -> WorkerFacts:
    """Find out what this worker can do.

    Raises:
        BrokenError: its runs could not be made to die with it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise BrokenError("worker: its event loop is not in the main thread; start it with `dask worker`")
    versions: dict[str, str] = {}
    for cell in cells:
        for binary in {cell.request.source_binary, cell.request.destination_binary} - {None, *versions}:
            try:
                versions[str(binary)] = (await binary_facts(str(binary))).version
            except MigrascopeError:  # `refused` says so, for each cell that needs it
                continue
    refused = await refused_cells(cells)
    return WorkerFacts(
        process_id=os.getpid(),
        migrascope=version("migrascope"),
        host_lock=_host_lock(),
        kvm=await _kvm_works(next((cell.request for cell in cells if cell.cell not in refused), None)),
        versions=versions,
        refused=refused,
    )


async def run_job(job: Job, command: Command, process_id: int) -> Arrival:
    """Run a job in a data directory of the worker's own, and pack what came of it; nothing of it stays here.

    `process_id` is that of the worker for which the job was meant: one that was started in its place must not take it.
    """
    from distributed import get_worker  # noqa: PLC0415 - only a worker has it for certain

    if os.getpid() != process_id:
        return Arrival(end=JobEnd(seconds=0.0, lost="its worker was lost, and has been started again"))
    lock = driver_lock_path()
    if not await comes_free(lock):
        return Arrival(
            end=JobEnd(seconds=0.0, lost=f"another migrascope runs migrations on its host (it holds {lock})")
        )
    data = DataDir.open(Path(get_worker().local_directory) / DATA)
    here = replace(job, data=data, campaign=data.campaign(job.campaign.campaign))
    runs, log = [data.run(run) for run in job.runs], here.campaign.log(job.run)
    try:
        end = await run_process(
            command(here),
            log,
            deadline_seconds=job.deadline_seconds,
            lock=lock,
            told_log=job.campaign.log(job.run),
        )
        return Arrival(
            end=end,
            packed=pack(made) if (made := [run for run in runs if run.path.exists()]) else None,
            log=log.read_bytes() if log.exists() else None,
        )
    finally:
        for run in runs:
            shutil.rmtree(run.path, ignore_errors=True)
        log.unlink(missing_ok=True)


def signal_runs(word: str, number: int) -> int:
    """Send a signal to this worker's runs that have `word` (an id's option) on their command line; returns how many."""
    found = 0
    for child in psutil.Process().children():
        try:
            if word in child.cmdline():
                child.send_signal(number)
                found += 1
        except psutil.NoSuchProcess:
            continue
    return found


async def _kvm_works(request: Request | None) -> bool:
    """Whether a guest comes up under KVM; that there is a device says little."""
    if request is None:
        return False
    try:
        kit = await find_kit(replace(request, hardware=replace(request.hardware, accelerator="auto")))
    except MigrascopeError:
        return False
    return kit.accelerator.name == "kvm"


def _host_lock() -> str:
    return f"{BOOT_ID.read_text().strip()} {driver_lock_path()}"
