"""A guest's disk: one sparse raw file for each of the two QEMUs, there for as long as the run lasts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from driver.hardware import Hardware
from workload.errors import BadValueError, BrokenError

NODE = "disk"
"""The name of its block node in both QEMUs."""

COPY_SECONDS = 300.0


def check_room(hardware: Hardware, folder: Path, disks: int = 2) -> None:
    """Check that so many full disks would find room in a folder's filesystem.

    Raises:
        BadValueError: with the figures.
    """
    if not hardware.disk_mib:
        return
    space = os.statvfs(folder)
    free_mib = space.f_bavail * space.f_frsize >> 20
    if disks * hardware.disk_mib > free_mib:
        raise BadValueError(
            f"hardware.disk_mib={hardware.disk_mib}: {disks} of them want {disks * hardware.disk_mib} MiB once they are"
            f" full, {folder} has {free_mib} MiB free; choose another data directory with --data-dir"
        )


def make_disk(path: Path, size_mib: int, like: Path | None = None) -> None:
    """Make an empty disk, or one that holds what `like` holds; OSError passes through.

    Raises:
        BrokenError: it could not be copied.
    """
    with path.open("xb") as file:
        path.chmod(0o600)
        file.truncate(size_mib << 20)
    if like:
        copied = subprocess.run(
            ["cp", "--sparse=always", like, path], capture_output=True, text=True, timeout=COPY_SECONDS, check=False
        )
        if copied.returncode:
            raise BrokenError(f"guest's disk: {copied.stderr.strip()}")


def disk_options(path: Path) -> list[str]:
    """QEMU's options for the disk; `discard` keeps a copy sparse, and what the host cannot write the guest is told."""
    name = str(path).replace(",", ",,")
    return [
        "-blockdev", f"driver=raw,node-name={NODE},discard=unmap,file.driver=file,file.filename={name}",
        "-device", f"virtio-blk-pci,drive={NODE},werror=report,rerror=report",
    ]  # fmt: skip
