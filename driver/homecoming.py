"""Runs' directories on their way from the machine that made them: packed there, here each complete or absent."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from driver.datadir import DataDir, RunDir
from workload.errors import BrokenError

ARRIVING = ".arriving-"


def pack(runs: Sequence[RunDir]) -> bytes:
    """Pack the directories of a run, or of a convoy's; samples are compressed already. OSError passes through."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for run in runs:
            archive.add(run.path, arcname=run.run)
    return packed.getvalue()


def bring_home(packed: bytes, data: DataDir, runs: Sequence[str]) -> None:
    """Put a packed run, or those of a convoy, into a data directory, and return once they are on the disk.

    The first one of `runs`, by which the others are known, comes last.

    Raises:
        BrokenError: what came is not the directory of one of them.
        OSError: it cannot be written; then there is nothing of it.
    """
    scratch = Path(tempfile.mkdtemp(dir=data.path, prefix=ARRIVING))
    try:
        try:
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(scratch, members=_staying(archive))  # noqa: S202 - checked, each one
        except tarfile.TarError as error:
            raise BrokenError(f"run {runs[0]}: what its worker sent is damaged ({error})") from error
        came = {path.name for path in scratch.iterdir()}
        if not came or not came <= set(runs):
            raise BrokenError(f"run {runs[0]}: what its worker sent is not this run's directory")
        for path in scratch.rglob("*"):
            _to_disk(path)
        for run in reversed([run for run in runs if run in came]):
            (scratch / run).rename(data.run(run).path)
        _to_disk(data.runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep_arrivals(data: DataDir) -> None:
    """Remove what was arriving when the campaign's driver was killed."""
    for path in data.path.glob(f"{ARRIVING}*"):
        shutil.rmtree(path, ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _staying(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The archive's members, all of which must be plain files and directories below where they are unpacked.

    Python before 3.11.4 (Debian 12 has 3.11.2) has no filter that sees to this.

    Raises:
        tarfile.ExtractError: one is not.
    """
    members = archive.getmembers()
    for member in members:
        path = Path(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.ExtractError(f"{member.name}: would leave the run's directory")
    return members
