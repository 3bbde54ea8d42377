"""Facts that a record holds about where a run was made: host, QEMU binary, source revision."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from driver.record import Binary, Host
from workload.cache import cache_dir
from workload.errors import BadValueError, MigrascopeError, UnsupportedError

VERSION_SECONDS = 10.0
REVISION_SECONDS = 2.0
SAYS = "QEMU emulator version "


def host_facts() -> Host:
    """This host: name, CPU model, cores, memory, kernel."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return Host(
        name=platform.node(),
        cpu=model,
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
    )


async def binary_facts(binary: str) -> Binary:
    """Ask a QEMU binary, found on the path or in the cache's `bin`, for its version, and hash it.

    Raises:
        UnsupportedError: there is no such program.
        BadValueError: it is not QEMU.
    """
    path = shutil.which(binary) or shutil.which(binary, path=str(cache_dir() / "bin"))
    if path is None:
        missing = "is no program that this user may run" if "/" in binary else "is neither on the path nor in the cache"
        raise UnsupportedError(
            f"QEMU: {binary} {missing}; apt-get install qemu-system-x86 (Debian, Ubuntu),"
            " dnf install qemu-system-x86-core (Fedora), or name one with --qemu"
        )
    try:
        asked = await asyncio.create_subprocess_exec(
            path, "--version",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise BadValueError(f"QEMU: {path} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(VERSION_SECONDS):
            said, _ = await asked.communicate()
    except TimeoutError:
        raise BadValueError(f"QEMU: {path} is not QEMU: --version did not end within {VERSION_SECONDS:g} s") from None
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
    line = (said.decode(errors="replace").splitlines() or [""])[0]
    if not line.startswith(SAYS):
        raise BadValueError(f"QEMU: {path} is not QEMU: to --version it says {line[:60]!r}")
    return Binary(path=path, version=line.removeprefix(SAYS), sha256=_sha256(Path(path)))


class Binaries:
    """The QEMU binaries that somebody asks for by name, each of them looked at once: here, or as `look` does it."""

    def __init__(self, look: Callable[[str], Awaitable[Binary]] | None = None) -> None:
        self._look = look or binary_facts
        self._found: dict[str, Binary | MigrascopeError] = {}

    async def find(self, name: str) -> Binary:
        """What `binary_facts` says of it.

        Raises:
            MigrascopeError: as `binary_facts` does, every time.
        """
        if name not in self._found:
            try:
                self._found[name] = await self._look(name)
            except MigrascopeError as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, MigrascopeError):
            raise found
        return found


def git_revision() -> str | None:
    """The commit of the source tree that runs; None where it is not a git checkout."""
    tree = Path(__file__).resolve().parent.parent
    if not (tree / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=REVISION_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
