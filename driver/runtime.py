"""A run's runtime directory: short, private, for sockets; what a killed driver left is swept by the next."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from driver.datadir import runtime_dir, write_atomically
from driver.namespaces import left_behind, remove_namespaces

OWNER = "owner"


@contextlib.contextmanager
def run_runtime_dir() -> Iterator[Path]:
    """Make a runtime directory that is gone afterwards; first remove those whose driver is dead."""
    path = runtime_dir()
    try:
        owner = f"{os.getpid()} {psutil.Process().create_time():.3f}\n"
        write_atomically(path / OWNER, owner.encode(), durable=False)  # another driver may be sweeping just now
        sweep(path.parent)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove our user's runtime directories whose owner no longer lives, and the network namespaces that they name.

    Ones without an owner file are not ours.
    """
    for owner in parent.glob(f"migrascope-*/{OWNER}"):
        with contextlib.suppress(OSError, ValueError):
            if owner.parent.stat().st_uid == os.getuid() and not _lives(*owner.read_text().split()):
                remove_namespaces(left_behind(owner.parent))
                shutil.rmtree(owner.parent, ignore_errors=True)


def _lives(pid: str, created: str) -> bool:
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(created)) < 1.0
    except psutil.NoSuchProcess:
        return False
