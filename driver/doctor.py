"""What this host can do: each prerequisite found or missing, what its absence disables, and how to get it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from driver.accelerator import choose_accelerator
from driver.namespaces import REMEDY, TOOLS
from workload.errors import MigrascopeError
from workload.image import Initrd, build_initrd
from workload.kernel import Kernel, find_kernel

USERFAULTFD_SYSCALL = {"x86_64": 323, "aarch64": 282}
USERFAULTFD_SYSCTL = Path("/proc/sys/vm/unprivileged_userfaultfd")
USERFAULTFD_REMEDY = "sysctl vm.unprivileged_userfaultfd=1 allows it, or run as root"
COMMAND_SECONDS = 10.0
WANTED_FREE_BYTES = 2 << 30
WANTED_DISK_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One prerequisite. `detail` says what was found, or why it was not; `remedy` how to get it."""

    subject: str
    found: bool
    detail: str
    needed: bool = True
    disables: str = ""
    remedy: str = ""


async def examine(binary: str, kernel: Path | None, data: Path, cache: Path) -> list[Finding]:
    """Look at every prerequisite on this host; boots one guest where KVM is offered (at most 5 s, cached)."""
    guest_kernel, kernel_finding = _kernel(kernel, cache)
    initrd, initrd_finding = _initrd(cache)
    return [
        _qemu(binary),
        initrd_finding,
        kernel_finding,
        await _kvm(binary, guest_kernel, initrd, cache),
        _post_copy(),
        _tools("network namespaces", TOOLS, "runs with hosts=namespaces", REMEDY),
        _tools("destination hosts", ("ssh",), "runs with --destination-host", "apt-get install openssh-client"),
        _tools("memory nodes", ("numactl",), "binding to memory nodes", "apt-get install numactl"),
        _memory(),
        _disk(data),
        _prometheus(cache),
    ]


def userfaultfd_refusal() -> str | None:
    """Say why this process may not use userfaultfd, which post-copy and snapshots need; None where it may."""
    number = USERFAULTFD_SYSCALL.get(platform.machine())
    if number is None:
        return f"userfaultfd is not known on {platform.machine()}"
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, os.O_CLOEXEC)
    if descriptor >= 0:
        os.close(descriptor)
        return None
    code = ctypes.get_errno()
    if code == errno.EPERM and USERFAULTFD_SYSCTL.exists() and USERFAULTFD_SYSCTL.read_text().strip() == "0":
        return "userfaultfd is for root only here (vm.unprivileged_userfaultfd is 0)"
    return f"userfaultfd is refused ({os.strerror(code)}); a container's seccomp profile may forbid it"


def _qemu(binary: str) -> Finding:
    path = shutil.which(binary)
    remedy = "apt-get install qemu-system-x86 (Debian, Ubuntu), dnf install qemu-system-x86-core (Fedora), or --qemu"
    if not path:
        return Finding(subject="QEMU", found=False, detail=f"{binary} is not on the path", disables="every run",
                       remedy=remedy)  # fmt: skip
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(subject="QEMU", found=False, detail=f"{path}: {error}", disables="every run", remedy=remedy)
    line = (done.stdout.splitlines() or [""])[0]
    if not line.startswith("QEMU emulator version"):
        return Finding(
            subject="QEMU", found=False, detail=f"{path} is not QEMU: it says {line[:60]!r}", disables="every run",
            remedy=remedy,
        )  # fmt: skip
    return Finding(subject="QEMU", found=True, detail=f"{line.removeprefix('QEMU emulator version ')} in {path}")


def _kernel(wanted: Path | None, cache: Path) -> tuple[Kernel | None, Finding]:
    try:
        kernel = find_kernel(wanted, cache)
    except MigrascopeError as error:
        return None, Finding(
            subject="guest kernel", found=False, detail=str(error), disables="every run",
            remedy="give one with --kernel, or connect once: `make setup` fetches the distribution's cloud kernel",
        )  # fmt: skip
    return kernel, Finding(subject="guest kernel", found=True, detail=f"{kernel.release} ({kernel.source})")


def _initrd(cache: Path) -> tuple[Initrd | None, Finding]:
    try:
        initrd = build_initrd(cache)
    except MigrascopeError as error:
        return None, Finding(
            subject="guest initrd", found=False, detail=str(error), disables="every run",
            remedy="apt-get install gcc libc6-dev (Debian, Ubuntu), dnf install gcc glibc-static (Fedora)",
        )  # fmt: skip
    return initrd, Finding(subject="guest initrd", found=True, detail=str(initrd.path))


async def _kvm(binary: str, kernel: Kernel | None, initrd: Initrd | None, cache: Path) -> Finding:
    disables = "runs at native speed and the dirty ring; runs use multi-threaded TCG instead"
    remedy = "a host with hardware virtualisation whose /dev/kvm this user may open (group kvm)"
    if kernel is None or initrd is None or not shutil.which(binary):
        detail = "cannot be tried without QEMU, kernel and initrd"
    else:
        choice = await choose_accelerator("auto", binary, kernel, initrd, cache)
        if choice.name == "kvm":
            return Finding(subject="KVM", found=True, needed=False, detail=choice.reason)
        detail = choice.reason
    return Finding(subject="KVM", found=False, needed=False, detail=detail, disables=disables, remedy=remedy)


def _post_copy() -> Finding:
    refusal = userfaultfd_refusal()
    if refusal is None:
        return Finding(subject="post-copy", found=True, needed=False, detail="userfaultfd answers")
    return Finding(
        subject="post-copy", found=False, needed=False, detail=refusal,
        disables="post-copy and background snapshots: such runs end as `unsupported`",
        remedy="sysctl vm.unprivileged_userfaultfd=1, or run as root",
    )  # fmt: skip


def _tools(subject: str, programs: tuple[str, ...], disables: str, remedy: str) -> Finding:
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return Finding(subject=subject, found=True, needed=False, detail=f"{' and '.join(programs)} on the path")
    return Finding(
        subject=subject, found=False, needed=False, detail=f"{' and '.join(missing)} not on the path",
        disables=f"{disables}: such runs end as `unsupported`", remedy=remedy,
    )  # fmt: skip


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    return Finding(
        subject="free memory", found=free >= WANTED_FREE_BYTES, needed=False, detail=f"{free / (1 << 30):.1f} GiB",
        disables="guests whose RAM does not fit in it twice (source and destination)",
        remedy="close something, or choose a smaller --memory",
    )  # fmt: skip


def _disk(data: Path) -> Finding:
    place = next(path for path in (data, *data.parents) if path.exists())
    free, writable = shutil.disk_usage(place).free, os.access(place, os.W_OK)
    return Finding(
        subject="data directory", found=writable and free >= WANTED_DISK_BYTES,
        detail=f"{data}: {'' if writable else 'not writable, '}{free / (1 << 30):.1f} GiB free",
        disables="every run's record", remedy="another place with --data-dir",
    )  # fmt: skip


def _prometheus(cache: Path) -> Finding:
    path = shutil.which("prometheus") or shutil.which("prometheus", path=str(cache / "bin"))
    if path:
        return Finding(subject="Prometheus", found=True, needed=False, detail=path)
    return Finding(
        subject="Prometheus", found=False, needed=False, detail="not on the path and not in the cache",
        disables="nothing in migrascope itself: /metrics, history and reports work without it",
        remedy="apt-get install prometheus, or any Prometheus elsewhere that may scrape this host",
    )  # fmt: skip
