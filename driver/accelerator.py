"""KVM or TCG: which accelerator a guest really runs under on this host, proved by booting one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import signal
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from driver.datadir import read_json, write_json
from workload.console import Ready
from workload.errors import MigrascopeError, UnsupportedError
from workload.follow import Follower
from workload.image import Initrd, guest_command_line
from workload.kernel import Kernel
from workload.settings import Workload
from workload.value import from_json

KVM_DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 5.0
END_SECONDS = 2.0
PROBE_WORKLOAD = Workload(working_set_mib=1, granularity_mib=1, tick_ms=0)


@dataclass(frozen=True, kw_only=True)
class AcceleratorChoice:
    """What a guest is run with (`kvm` or `tcg`), and why, in words."""

    name: str
    reason: str


async def choose_accelerator(
    wanted: str, binary: str, kernel: Kernel, initrd: Initrd, cache: Path
) -> AcceleratorChoice:
    """Choose for `auto`, `kvm` or `tcg`.

    `auto` takes KVM only where a real guest with this kernel and binary says `ready` under it within 5 s: a host may
    offer /dev/kvm, create VMs, and still emulate every instruction. The answer is cached per host, kernel and binary.

    Raises:
        UnsupportedError: KVM was forced and /dev/kvm cannot be opened.
    """
    if wanted == "tcg":
        return AcceleratorChoice(name="tcg", reason="asked for")
    refusal = _refusal()
    if wanted == "kvm":
        if refusal:
            raise UnsupportedError(f"accelerator kvm: {refusal}; --accel tcg emulates, --accel auto decides by itself")
        return AcceleratorChoice(name="kvm", reason="asked for")
    if refusal:
        return AcceleratorChoice(name="tcg", reason=refusal)
    answer = cache / "accelerator" / f"{_key(binary, kernel, initrd)}.json"
    with contextlib.suppress(MigrascopeError):
        return from_json(AcceleratorChoice, read_json(answer), str(answer))
    choice = await _probe(binary, kernel, initrd)
    write_json(answer, asdict(choice))
    return choice


def _refusal() -> str | None:
    """Say why KVM cannot even be tried, or None."""
    if not KVM_DEVICE.exists():
        return f"{KVM_DEVICE} does not exist"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return f"{KVM_DEVICE} may not be opened (is the user in the group kvm?)"
    return None


def _key(binary: str, kernel: Kernel, initrd: Initrd) -> str:
    """Name what the answer holds for: this host's hardware and kernel, the guest's kernel and initrd, the binary."""
    path = Path(shutil.which(binary) or binary)
    with contextlib.suppress(OSError):
        facts = path.resolve().stat()
        seen = (str(path.resolve()), facts.st_size, facts.st_mtime_ns)
        host = (platform.node(), platform.release(), platform.version(), KVM_DEVICE.stat().st_rdev)
        return hashlib.sha256(repr((host, seen, kernel.sha256, initrd.sha256)).encode()).hexdigest()[:32]
    return "unknown"


async def _probe(binary: str, kernel: Kernel, initrd: Initrd) -> AcceleratorChoice:
    with tempfile.TemporaryDirectory(prefix="migrascope-kvm-") as scratch:
        console = Path(scratch) / "console"
        command = [
            binary, "-name", "migrascope-kvm-probe", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-m", "128",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", str(kernel.path), "-initrd", str(initrd.path),
            "-append", guest_command_line(PROBE_WORKLOAD, 1),
            "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
        ]  # fmt: skip
        try:
            qemu = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            return AcceleratorChoice(name="tcg", reason=f"the KVM probe did not start: {error.strerror}")
        try:
            return await _await_ready(qemu, console)
        finally:
            await _end(qemu)


async def _await_ready(qemu: asyncio.subprocess.Process, console: Path) -> AcceleratorChoice:
    """Wait for the guest's `ready`, QEMU's end or the deadline, whichever is first."""
    ready = asyncio.create_task(_ready(console))
    ended = asyncio.create_task(qemu.communicate())
    try:
        await asyncio.wait({ready, ended}, timeout=PROBE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            return AcceleratorChoice(name="kvm", reason="a guest booted under KVM")
        if ended.done():
            words = (ended.result()[1].decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
            return AcceleratorChoice(name="tcg", reason=f"QEMU refused KVM: {words[:200]}")
        return AcceleratorChoice(
            name="tcg", reason=f"no guest said ready under KVM within {PROBE_SECONDS:g} s ({KVM_DEVICE} is emulated)"
        )
    finally:
        for task in (ready, ended):
            task.cancel()
        await asyncio.gather(ready, ended, return_exceptions=True)


async def _ready(console: Path) -> None:
    async with Follower(console) as follower:
        async for arrivals in follower:
            if any(isinstance(arrival.record, Ready) for arrival in arrivals):
                return


async def _end(qemu: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if qemu.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            qemu.send_signal(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(qemu.wait(), END_SECONDS)
