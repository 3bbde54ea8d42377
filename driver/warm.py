"""Warm start: the booted, settled guest is saved once and restored for each run."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from driver.datadir import RunDir, read_json, write_json
from driver.disk import make_disk
from driver.guest import Guest
from driver.kit import Kit, find_kit
from driver.monitor import Event
from driver.progress import Progress
from driver.qemu import Qemu
from driver.race import race
from driver.request import Request
from driver.saving import complete
from driver.stream import load_command, save_command
from workload.cache import cache_dir
from workload.console import Ready
from workload.errors import BrokenError, MigrascopeError
from workload.value import from_json

IMAGES_KEPT = 8
SAVE_SECONDS = 120.0
LOOK_SECONDS = 0.02
UNLIMITED_BYTES_PER_SECOND = 1 << 40


@dataclass(frozen=True, kw_only=True)
class WarmImage:
    """A saved guest: its state's file, its disk, and from its sidecar what it said at boot and its settled pace."""

    state: Path
    disk: Path | None
    ready: Ready
    settled_bytes_per_second: float


def image_key(kit: Kit) -> str:
    """Name what a saved guest depends on: machine, workload, kernel, initrd, QEMU binary, accelerator."""
    parts = (
        replace(kit.hardware, destination_cpus="", destination_nodes=""),
        kit.machine,
        kit.memory_kib,
        kit.workload,
        kit.kernel.sha256,
        kit.initrd.sha256,
        kit.source.sha256,
        kit.accelerator.name,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


async def warm_image(kit: Kit, runtime: Path) -> WarmImage:
    """Find the saved guest for this kit, or boot, settle and save one; the last few images are kept.

    Raises:
        MigrascopeError: the guest did not boot or could not be saved.
    """
    folder = cache_dir() / "images"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = folder / image_key(kit)
    with _locked(folder / "lock"):
        if not (place / "ready.json").exists():
            await _make(kit, runtime, place)
        os.utime(place)
        _prune(folder)
        return _read(place)


async def prepare_image(request: Request, runtime: Path) -> None:
    """Have a request's saved guest made, where it is missing.

    Raises:
        MigrascopeError: the guest did not boot or could not be saved.
    """
    await warm_image(await find_kit(request), runtime)


async def measure_rate(kit: Kit, runtime: Path) -> float:
    """Boot a guest, let it settle, and say its pace in bytes a second.

    Raises:
        MigrascopeError: it did not boot or settle.
    """
    with tempfile.TemporaryDirectory(dir=runtime) as scratch:
        async with _settled(kit, Path(scratch), Path(scratch) / "disk") as (_, guest_pace, _ready):
            return guest_pace


async def restore(source: Qemu, image: WarmImage) -> None:
    """Load the saved guest into a source that was started with `-incoming defer`; it stays paused.

    Raises:
        BrokenError: QEMU does not load it.
    """
    await source.execute("migrate-incoming", {"uri": load_command(image.state)})
    await _until_completed(source)


async def _make(kit: Kit, runtime: Path, place: Path) -> None:
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
    try:
        async with _settled(kit, runtime, scratch / "disk") as (qemu, settled, ready):
            await qemu.execute("stop")
            await qemu.execute("migrate-set-parameters", {"max-bandwidth": UNLIMITED_BYTES_PER_SECOND})
            await qemu.execute("migrate", {"uri": save_command(scratch / "state")})
            await _until_completed(qemu)
            await complete(scratch / "state")
        write_json(scratch / "ready.json", {"ready": asdict(ready), "settled_bytes_per_second": settled})
        _replace(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.asynccontextmanager
async def _settled(kit: Kit, scratch: Path, disk: Path) -> AsyncIterator[tuple[Qemu, float, Ready]]:
    """Boot a guest of its own, whose disk, if it has one, is made at `disk`, and yield it once it has settled."""
    run = RunDir(path=scratch)
    launch = kit.launch("source", run, scratch, incoming=False)
    if launch.disk:
        await asyncio.to_thread(make_disk, disk, kit.hardware.disk_mib)
        launch = replace(launch, disk=disk)
    events: asyncio.Queue[Event] = asyncio.Queue()
    async with Qemu(launch, events) as qemu, Guest(kit.hardware.vcpus, {"source": launch.console}) as guest:
        settled, ready = await race(_boot(qemu, guest), guest.follow(), _dies(qemu, guest))
        yield qemu, settled, ready


async def _boot(qemu: Qemu, guest: Guest) -> tuple[float, Ready]:
    await qemu.execute("cont")
    ready = await guest.wait_ready()
    settled, _ = await guest.settle(time.monotonic_ns())
    return settled, ready


async def _dies(qemu: Qemu, guest: Guest) -> None:
    error = await qemu.died()
    guest.read_rest()
    raise BrokenError(f"{guest.failure} ({error})") if guest.failure else error


async def _until_completed(qemu: Qemu) -> None:
    """Wait until QEMU has saved or loaded a guest.

    Raises:
        BrokenError: it failed, or did not within the deadline.
    """
    deadline = time.monotonic() + SAVE_SECONDS
    while (progress := Progress.parse(await qemu.execute("query-migrate"))).status != "completed":
        if progress.ended or time.monotonic() > deadline:
            raise BrokenError(f"warm start: QEMU says {progress.status} ({progress.error or 'no reason given'})")
        await asyncio.sleep(LOOK_SECONDS)


def _read(place: Path) -> WarmImage:
    where = place / "ready.json"
    try:
        data = read_json(where)
        return WarmImage(
            state=place / "state",
            disk=place / "disk" if (place / "disk").exists() else None,
            ready=from_json(Ready, data["ready"], str(where)),
            settled_bytes_per_second=float(data["settled_bytes_per_second"]),
        )
    except (MigrascopeError, KeyError, TypeError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise BrokenError(f"warm start: {where} was damaged and has been removed; run again") from error


def _replace(scratch: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)  # one without a sidecar
    scratch.rename(place)


def _prune(folder: Path) -> None:
    images = sorted(folder.glob("*/ready.json"), key=lambda path: path.parent.stat().st_mtime, reverse=True)
    for image in images[IMAGES_KEPT:]:
        shutil.rmtree(image.parent, ignore_errors=True)
    for scratch in folder.glob(".new-*"):  # whoever made one and died held our lock
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the images' lock; another driver's making of one takes a few seconds, and drivers do not run together."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
