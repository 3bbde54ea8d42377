"""What a QEMU that something else runs says of itself: its process, its end of a migration, its version."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.record import Binary
from exporter.qmp import Connection, QmpError
from exporter.vms import VmQemu

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 3.0

_VERSION = ("major", "minor", "micro")
_sums: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One QEMU: `role` is `destination` while it waits for a guest, else `source`; `pid` None where it is unknown.

    `spent`: its guest has gone elsewhere.
    """

    qemu: VmQemu
    role: str
    spent: bool
    pid: int | None
    binary: Binary | None
    accelerator: str


async def identify(qemu: VmQemu) -> Identity:
    """Ask a QEMU over its monitor; the connection is closed again.

    Raises:
        QmpError: nobody listens, no greeting came, or what came is no QMP; one line that says what to look at.
    """
    try:
        connection = await Connection.open(qemu.qmp, lambda _: None, CONNECT_SECONDS)
    except TimeoutError:
        raise QmpError(
            f"{qemu.qmp}: no greeting within {CONNECT_SECONDS:g} s: another client holds this monitor, or QEMU is"
            " stopped; give the exporter a monitor of its own"
        ) from None
    except OSError as error:
        raise QmpError(f"{qemu.qmp}: {error.strerror or error}") from error
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            status = _object(await connection.execute("query-status"))
            version = _object(_object(await connection.execute("query-version")).get("qemu"))
            kvm = _object(await connection.execute("query-kvm"))
        pid = qemu.pid or connection.peer_pid
    except TimeoutError:
        raise QmpError(f"{qemu.qmp}: QEMU did not answer within {ANSWER_SECONDS:g} s") from None
    finally:
        connection.close()
    return Identity(
        qemu=qemu,
        spent=status.get("status") == "postmigrate",
        role="destination" if status.get("status") == "inmigrate" else "source",
        pid=pid,
        binary=await asyncio.to_thread(_binary, pid, ".".join(str(version.get(key, "?")) for key in _VERSION)),
        accelerator="kvm" if kvm.get("enabled") else "tcg",
    )


def _object(reply: object) -> Mapping[str, Any]:
    if not isinstance(reply, Mapping):
        raise QmpError(f"QEMU's monitor answered with {str(reply)[:60]!r}, want an object")
    return reply


def _binary(pid: int | None, version: str) -> Binary | None:
    """The process's program, hashed once; None where this user may not read it."""
    if pid is None:
        return None
    program = Path(f"/proc/{pid}/exe")
    try:
        path, facts = str(program.readlink()), program.stat()
        key = (path, facts.st_mtime_ns, facts.st_size)
        if key not in _sums:
            with program.open("rb") as file:
                _sums[key] = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    return Binary(path=path, version=version, sha256=_sums[key])
