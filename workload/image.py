"""The guest's image: an initrd of one static program, and modules where it has a disk, built reproducibly."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from workload.errors import BrokenError, UnsupportedError
from workload.settings import Workload

SOURCES = (
    "init.c", "content.h", "disk.h", "ending.h", "keystream.h", "line.h", "order.h", "pages.h", "phases.h", "probe.h",
    "settings.h", "worker.h",
)  # fmt: skip
COMPILE = (
    "gcc",
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
    "-static",
    "-s",
    "-Wl,--build-id=none",
)
LIBRARIES = ("-lm",)
COMPILE_TIMEOUT_SECONDS = 120.0

# quiet keeps the kernel off our console but for its emergencies; panic=-1 restarts at once, which -no-reboot turns into
# QEMU's end; the others only shorten the boot (cryptomgr.notests by 0.7 s under TCG).
_KERNEL_OPTIONS = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 8250.nr_uarts=1 cryptomgr.notests"


@dataclass(frozen=True, kw_only=True)
class Initrd:
    """A built initrd: where it is, and the hash of its bytes."""

    path: Path
    sha256: str


def build_initrd(cache: Path, modules: Sequence[Path] = ()) -> Initrd:
    """Return the initrd with these modules of the kernel, from the cache where sources and compiler are unchanged.

    Raises:
        UnsupportedError: gcc or glibc's static library is missing.
        BrokenError: the compiler failed.
    """
    key = _key(modules)
    folder = cache / "initrd"
    path = folder / f"{key[:16]}.cpio"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            program = Path(scratch) / "init"
            _compile(program)
            made = Path(scratch) / path.name
            made.write_bytes(archive(program.read_bytes(), {path.name: path.read_bytes() for path in modules}))
            made.replace(path)
    return Initrd(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def archive(program: bytes, modules: Mapping[str, bytes]) -> bytes:
    """Pack the initrd: /init, the directories that it mounts on, /dev/console, which the kernel opens for it.

    Modules, where there are any, stand in /modules.
    """
    entries = [
        _entry(1, "dev", stat.S_IFDIR | 0o755),
        _entry(2, "dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        _entry(3, "proc", stat.S_IFDIR | 0o755),
        _entry(4, "sys", stat.S_IFDIR | 0o755),
        _entry(5, "init", stat.S_IFREG | 0o755, program),
        *[_entry(6, "modules", stat.S_IFDIR | 0o755)] * bool(modules),
        *(_entry(inode, f"modules/{name}", stat.S_IFREG | 0o644, content)
          for inode, (name, content) in enumerate(modules.items(), start=7)),
        _entry(0, "TRAILER!!!", 0),
    ]  # fmt: skip
    return b"".join(entries)


def guest_command_line(workload: Workload, vcpus: int, extra: str = "") -> str:
    """Return the kernel command line: console, a panic that ends QEMU under -no-reboot, the workload's settings."""
    settings = {field.name: getattr(workload, field.name) for field in fields(workload)} | {"vcpus": vcpus}
    ours = " ".join(f"migrascope.{name}={value}" for name, value in settings.items())
    return f"{_KERNEL_OPTIONS} {ours} {extra}".strip()


def _key(modules: Sequence[Path]) -> str:
    """Hash everything that the initrd's bytes depend on.

    Raises:
        UnsupportedError: gcc or glibc's static library is missing.
    """
    try:
        version = _gcc("--version")
        library = Path(_gcc("-print-file-name=libc.a").strip())
    except FileNotFoundError:
        raise UnsupportedError(
            "initrd: gcc is missing; install gcc and libc6-dev (Debian, Ubuntu) or gcc and glibc-static (Fedora)"
        ) from None
    if not library.is_absolute():  # gcc repeats the bare name of a file that it does not find
        raise UnsupportedError(
            "initrd: the static libc.a is missing; install libc6-dev (Debian, Ubuntu) or glibc-static (Fedora)"
        )
    key = hashlib.sha256(repr((COMPILE, LIBRARIES, version)).encode())
    key.update(repr([path.name for path in modules]).encode())
    for path in (library, Path(__file__), *(Path(__file__).with_name(name) for name in SOURCES), *modules):
        key.update(hashlib.sha256(path.read_bytes()).digest())
    return key.hexdigest()


def _gcc(option: str) -> str:
    done = subprocess.run(["gcc", option], capture_output=True, text=True, timeout=COMPILE_TIMEOUT_SECONDS, check=True)
    return done.stdout


def _compile(program: Path) -> None:
    source = Path(__file__).with_name(SOURCES[0])
    done = subprocess.run(
        [*COMPILE, "-o", program, source, *LIBRARIES],
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise BrokenError(f"initrd: gcc exited with {done.returncode} on {source.name}: {first}")


def _entry(inode: int, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """Write one member of a cpio archive in the newc form (kernel: Documentation/driver-api/early-userspace)."""
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + os.fsencode(name) + b"\0"
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)
