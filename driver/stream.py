"""The migration stream's two ends: how the destination listens, how the source finds it, or the file between them."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from driver.monitor import Commands, RefusedError
from driver.transport import TRANSPORTS
from workload.errors import BrokenError, UnsupportedError

FD_NAME = "migrascope-stream"


class End(Commands, Protocol):
    """A QEMU that can be handed a file descriptor."""

    async def hand_over(self, name: str, descriptor: int) -> None:
        """Give it a descriptor under a name."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where a stream goes: sockets and pipes in `runtime`, the destination's address, the file of a saved guest."""

    runtime: Path
    address: str
    state: Path


async def open_stream(name: str, route: Route, source: End, destination: End) -> str:
    """Have the destination listen and return the address for `migrate`; for a saved guest that of its file.

    Raises:
        UnsupportedError: a QEMU or this host does not do this transport; in its own words.
    """
    if TRANSPORTS[name].saves:
        return _SAVE[name](route)
    try:
        return await _OPEN[name](route, source, destination)
    except RefusedError as error:
        raise UnsupportedError(f"{error} (transport {name})") from error


def load_address(name: str, route: Route) -> str:
    """The address from which the destination loads a guest that was saved over this transport."""
    return _LOAD[name](route)


async def _open_unix(route: Route, _source: End, destination: End) -> str:
    address = f"unix:{route.runtime / 'migrate.sock'}"
    await destination.execute("migrate-incoming", {"uri": address})
    return address


async def _open_tcp(route: Route, _source: End, destination: End) -> str:
    """The kernel chooses the port, QEMU tells it in `socket-address` (qapi/migration.json, MigrationInfo)."""
    await destination.execute("migrate-incoming", {"uri": f"tcp:{_bracketed(route.address)}:0"})
    for address in (await destination.execute("query-migrate")).get("socket-address", ()):
        if address.get("type") == "inet":
            return f"tcp:{_bracketed(address['host'])}:{address['port']}"
    raise BrokenError("destination: QEMU does not say on which port it listens")


def _bracketed(address: str) -> str:
    """An address as it stands before a port: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


async def _open_fd(_route: Route, source: End, destination: End) -> str:
    ends = socket.socketpair()
    with ends[0], ends[1]:
        for qemu, end in zip((source, destination), ends, strict=True):
            await qemu.hand_over(FD_NAME, end.fileno())
    await destination.execute("migrate-incoming", {"uri": f"fd:{FD_NAME}"})
    return f"fd:{FD_NAME}"


async def _open_exec(route: Route, _source: End, destination: End) -> str:
    pipe = route.runtime / "migrate.pipe"
    pipe.unlink(missing_ok=True)  # an earlier attempt's
    os.mkfifo(pipe, 0o600)
    await destination.execute("migrate-incoming", {"uri": _shell('exec cat "$0"', pipe)})
    return _shell('exec cat >"$0"', pipe)


async def _open_rdma(route: Route, _source: End, destination: End) -> str:
    """QEMU's rdma takes no port 0 and tells none, so that one has to be found for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"rdma:{route.address}:{probe.getsockname()[1]}"
    await destination.execute("migrate-incoming", {"uri": address})
    return address


def _shell(script: str, path: Path) -> str:
    """An `exec:` address whose command ends with its QEMU: it may be waiting for the other side for ever."""
    return f"exec:exec setpriv --pdeathsig KILL sh -c {shlex.quote(script)} {shlex.quote(str(path))}"


def save_command(state: Path) -> str:
    """QEMU says `completed` before the command has ended, so the file gets its name when it is complete."""
    return _shell('cat >"$0.part" && exec mv "$0.part" "$0"', state)


def load_command(state: Path) -> str:
    """The address from which a file is loaded that `save_command` wrote."""
    return _shell('exec cat "$0"', state)


def _save_exec(route: Route) -> str:
    return save_command(route.state)


def _load_exec(route: Route) -> str:
    return load_command(route.state)


def _file(route: Route) -> str:
    return f"file:{route.state}"


_OPEN: dict[str, Callable[[Route, End, End], Awaitable[str]]] = {
    "unix": _open_unix, "tcp": _open_tcp, "fd": _open_fd, "exec": _open_exec, "rdma": _open_rdma,
}  # fmt: skip
_SAVE = {"exec-file": _save_exec, "file": _file, "mapped-ram": _file, "mapped-ram-direct-io": _file}
_LOAD = _SAVE | {"exec-file": _load_exec}
