"""A QEMU on another host: found and asked there, started by the keeper, its console and log brought here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driver.accelerator import AcceleratorChoice
from driver.binding import Resources, check_bindings
from driver.check_binary import answers_of, ask_binary, asking_command, questions
from driver.facts import SAYS
from driver.hardware import Hardware
from driver.qemu import HostLostError, Launch, Process, command_line
from driver.record import Binary, Host
from driver.remote import RemoteHost
from driver.tls import Credentials
from workload.cache import cache_dir
from workload.errors import BadValueError, UnsupportedError

ROLE = "destination"
EXECUTE_SECONDS = 25.0
LAUNCH_SECONDS = 25.0
FACTS = tuple(field.name for field in dataclasses.fields(Host))


class RemoteProcess:
    """A process there, as far as a `Process` is needed: that its host is lost is told to whoever waits."""

    def __init__(self, pid: int, remote: RemoteHost) -> None:
        self.pid = pid
        self._remote = remote
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        """How it ended; as killed where the host is lost, whose keeper sees to that."""
        if not self._ended.done():
            return None
        return -signal.SIGKILL if self._ended.exception() else self._ended.result()

    async def wait(self) -> int:
        """Wait until it ends.

        Raises:
            HostLostError: nobody will know.
        """
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Have the keeper send it a signal."""
        self._remote.tell("signal", number=int(number))

    def exited(self, message: Mapping[str, Any]) -> None:
        """Take the keeper's word that it has ended."""
        if not self._ended.done():
            self._ended.set_result(int(message["status"]))

    def lost(self, message: Mapping[str, Any]) -> None:
        """Take the news that its host is lost."""
        if not self._ended.done():
            self._ended.set_exception(message["error"])
            self._ended.exception()


class Mirror:
    """A file there, brought here as it grows; what a full disk refuses is written later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""
        path.touch()

    def take(self, message: Mapping[str, Any]) -> None:
        """Append what has come."""
        self._waiting += base64.b64decode(message["data"])
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
            self._waiting = self._waiting[file.write(self._waiting) :]


def host_of(remote: RemoteHost) -> Host:
    """What the record tells of the host."""
    return Host(**{name: remote.facts[name] for name in FACTS})


async def find_binary(remote: RemoteHost, name: str) -> Binary:
    """Find a QEMU there and ask it for its version, and for what it knows of migration where no equal one was asked.

    Raises:
        UnsupportedError: there is none, or it is not QEMU.
    """
    found = await remote.ask("find", name=name, seconds=EXECUTE_SECONDS)
    said = await _execute(remote, [found["path"], "--version"], "")
    line = (said["stdout"].splitlines() or [""])[0]
    if not line.startswith(SAYS):
        raise BadValueError(
            f"destination host {remote.destination}: {found['path']} is not QEMU: to --version it says {line[:60]!r}"
        )
    binary = Binary(path=found["path"], version=line.removeprefix(SAYS), sha256=found["sha256"])

    async def there(path: str) -> Mapping[str, Any]:
        answer = await _execute(remote, asking_command(path), questions().decode())
        return answers_of(path, answer["stdout"].encode(), answer["stderr"].encode(), answer["status"])

    await ask_binary(binary, cache_dir(), there)
    return binary


def shared_accelerator(here: AcceleratorChoice, wanted: str, remote: RemoteHost) -> AcceleratorChoice:
    """The accelerator of both sides: KVM only where both hosts have it.

    Raises:
        UnsupportedError: KVM was asked for, and the other host has none.
    """
    refusal = remote.facts["kvm_refusal"]
    if here.name != "kvm" or not refusal:
        return here
    if wanted == "kvm":
        raise UnsupportedError(f"destination host {remote.destination}: accelerator kvm: {refusal} there")
    return AcceleratorChoice(name="tcg", reason=f"destination host {remote.destination}: {refusal} there")


def check_there(hardware: Hardware, memory_kib: int, remote: RemoteHost) -> None:
    """Check that the other host has what the destination is to have; `memory_kib` is the RAM that QEMU is given.

    Raises:
        UnsupportedError: the guest or its disk does not fit, or something that it is to be bound to is not there.
    """
    host = f"destination host {remote.destination}"
    check_bindings(hardware, memory_kib, (ROLE,), Resources.parse(remote.facts, host))
    free_mib = remote.facts["available_bytes"] >> 20
    if hardware.memory_mib > free_mib and not hardware.huge_pages_mib:
        raise UnsupportedError(f"hardware.memory_mib={hardware.memory_mib}: {host} has {free_mib} MiB free")
    room_mib = remote.facts["free_disk_bytes"] >> 20
    if hardware.disk_mib > room_mib:
        raise UnsupportedError(
            f"hardware.disk_mib={hardware.disk_mib}: {host} has {room_mib} MiB free in {remote.folder.parent}"
        )


async def bring_keys(remote: RemoteHost, keys: Credentials) -> Credentials:
    """Bring the destination's keys to its host."""
    folder = Path()
    for path in sorted((keys.path / ROLE).iterdir()):
        folder = (await remote.write(f"keys/{path.name}", path.read_bytes())).parent
    return dataclasses.replace(keys, elsewhere={ROLE: folder})


async def start_there(remote: RemoteHost, launch: Launch, hashes: Mapping[Path, str]) -> tuple[Process, socket.socket]:
    """Start a QEMU there; returns its process and its monitor, connected over ssh.

    `hashes` holds the SHA-256 of the files that it is started with.

    Raises:
        UnsupportedError: it cannot be started there.
        HostLostError: the connection is lost.
    """
    there = {name: remote.folder / f"{name}.sock" for name in remote.sockets}
    copies = {path: Path(await remote.copy(path, digest)) for path, digest in hashes.items()}
    disk = remote.folder / "disk" if launch.disk else None
    if disk:
        await remote.ask("disk", path=str(disk), bytes=launch.hardware.disk_mib << 20)
    placed = dataclasses.replace(
        launch, kernel=copies[launch.kernel], initrd=copies[launch.initrd], console=remote.folder / "console",
        watch_socket=there["exporter"], disk=disk,
    )  # fmt: skip
    console, log = Mirror(launch.console), Mirror(launch.log)
    process = RemoteProcess(0, remote)
    remote.takers |= {"console": console.take, "log": log.take, "exit": process.exited, "lost": process.lost}
    answer = await remote.ask(
        "launch", argv=command_line(placed, f"path={there['driver']},server=on,wait=off"),
        console=str(placed.console), sockets=[str(there["driver"]), str(there["exporter"])], seconds=LAUNCH_SECONDS,
    )  # fmt: skip
    process.pid = int(answer["pid"])
    monitor = socket.socket(socket.AF_UNIX)
    monitor.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(monitor, str(remote.sockets["driver"]))
    except OSError as error:
        monitor.close()
        raise HostLostError(f"destination host {remote.destination}: ssh forwards no more: {error.strerror}") from error
    return process, monitor


async def _execute(remote: RemoteHost, argv: list[str], stdin: str) -> Mapping[str, Any]:
    return await remote.ask("execute", argv=argv, stdin=stdin, seconds=EXECUTE_SECONDS)
