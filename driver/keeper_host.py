"""What a keeper knows of its host, its files there, what killed keepers left; of the standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SWEEP_SECONDS = 60.0
PR_SET_PDEATHSIG = 1
USERFAULTFD_SYSCALL = {"x86_64": 323, "aarch64": 282}
LOCK = "keeper.lock"
HUGE_PAGES = Path("/sys/kernel/mm/hugepages")


def die_with_keeper() -> Callable[[], None]:
    """What a child does first: ask for SIGKILL at this process's death, and look for it (prctl(2))."""
    keeper = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)

    return ask


def digest(path: Path) -> str:
    """A file's SHA-256."""
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def copy_path(sha256: str) -> Path:
    """Where the copy of a file stands, for this run and later ones."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "migrascope" / "copies" / sha256


def facts(folder: Path) -> dict[str, Any]:
    """What this host is and has; `folder` is where a run's files stand."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    meminfo = Path("/proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) << 10 for line in meminfo}
    return {
        "name": platform.node(),
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "memory_bytes": memory["MemTotal"],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "available_bytes": memory["MemAvailable"],
        "free_disk_bytes": shutil.disk_usage(folder).free,
        "address": (os.environ.get("SSH_CONNECTION", "").split() + [""] * 3)[2],
        "kvm_refusal": kvm_refusal(),
        "userfaultfd_refusal": userfaultfd_refusal(),
        **resources(),
    }


def resources() -> dict[str, Any]:
    """What a QEMU can be bound to: CPUs, memory nodes, the tools for both, free huge pages by their KiB."""
    nodes = Path("/sys/devices/system/node/online")
    pools = {path.name[len("hugepages-") : -len("kB")]: path for path in HUGE_PAGES.glob("hugepages-*kB")}
    return {
        "cpus": sorted(os.sched_getaffinity(0)),
        "nodes": nodes.read_text().strip() if nodes.exists() else "",
        "tools": [name for name in ("numactl", "taskset") if shutil.which(name)],
        "free_huge_pages": {size: int((path / "free_hugepages").read_text()) for size, path in pools.items()},
    }


def kvm_refusal() -> str | None:
    """Why KVM cannot be had, or None."""
    if not Path("/dev/kvm").exists():
        return "/dev/kvm does not exist"
    return None if os.access("/dev/kvm", os.R_OK | os.W_OK) else "/dev/kvm may not be opened"


def userfaultfd_refusal() -> str | None:
    """Why userfaultfd, which post-copy's destination needs, cannot be had, or None."""
    number = USERFAULTFD_SYSCALL.get(platform.machine())
    if number is None:
        return f"userfaultfd is not known on {platform.machine()}"
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(number, os.O_CLOEXEC)
    if descriptor >= 0:
        os.close(descriptor)
        return None
    return f"userfaultfd is refused ({os.strerror(ctypes.get_errno())})"


def sweep(parent: Path) -> None:
    """Remove what keepers of this user have left that were killed: nobody holds their locks."""
    for path in parent.glob(f"migrascope-*/{LOCK}"):
        with contextlib.suppress(OSError):
            about = path.stat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < SWEEP_SECONDS:
                continue
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)
