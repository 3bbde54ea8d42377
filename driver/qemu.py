"""One QEMU process: its command line as a pure function of values, its life as an async context, its bounded end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from driver.disk import disk_options
from driver.hardware import Hardware
from driver.monitor import ANSWER_SECONDS, Event, Monitor, MonitorLostError
from driver.parent_death import die_with_parent
from workload.errors import BrokenError

GREETING_SECONDS = 20.0
QUIT_SECONDS = 2.0
TERMINATE_SECONDS = 1.0
KILL_SECONDS = 5.0
BACKEND = "guest-ram"
EXIT_SECONDS = 2.0
"""How long a process whose monitor has closed may take to exit before it counts as hanging."""

LAST_WORDS_SECONDS = 0.5

MACHINES = {"microvm": "microvm,acpi=off"}
"""Machine types that want an option: docs/qemu.md tells why."""


class QemuDiedError(BrokenError):
    """A QEMU exited that should have lived on; `role` says which."""

    def __init__(self, role: str, message: str) -> None:
        self.role = role
        super().__init__(message)


class HostLostError(BrokenError):
    """The connection to another host is lost, and with it whatever was known of the QEMU there."""


class Process(Protocol):
    """A QEMU's process, here or elsewhere, as asyncio's are."""

    @property
    def pid(self) -> int:
        """Its id on its own host."""

    @property
    def returncode(self) -> int | None:
        """How it ended, negative for a signal; None while it lives."""

    async def wait(self) -> int:
        """Wait until it ends."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Everything a QEMU's command line is made of; `prefix` is a program that executes the rest (`nsenter --net=X`).

    `gib_pages` gives the guest's CPU pages of 1 GiB, which QEMU's usual model under TCG lacks.
    """

    role: str
    prefix: tuple[str, ...] = ()
    binary: str
    run: str
    hardware: Hardware
    machine: str
    accelerator: str
    memory_kib: int
    kernel: Path
    initrd: Path
    append: str
    console: Path
    log: Path
    watch_socket: Path
    incoming: bool
    paused: bool
    gib_pages: bool = False
    disk: Path | None = None


Start = Callable[[Launch], Awaitable[tuple[Process, socket.socket]]]
"""Starts a QEMU somewhere; returns its process and its monitor's connection."""


def command_line(launch: Launch, monitor: str) -> list[str]:
    """Write the command line; `monitor` says how the driver's monitor is connected, as a chardev socket's options.

    The console is a file, never a socket, which a stuck reader could freeze.
    """
    hardware = launch.hardware
    accelerator = f"{launch.accelerator},thread=multi" if launch.accelerator == "tcg" else launch.accelerator
    if hardware.dirty_ring_size:
        accelerator += f",dirty-ring-size={hardware.dirty_ring_size}"
    machine, backend = MACHINES.get(launch.machine, launch.machine), _memory_backend(launch)
    line = [
        *launch.prefix, launch.binary, "-name", f"guest=migrascope-{launch.run}-{launch.role},debug-threads=on",
        "-M", machine + f",memory-backend={BACKEND}" * bool(backend), *backend, "-accel", accelerator,
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-m", f"{launch.memory_kib}K", "-smp", str(hardware.vcpus),
        "-kernel", str(launch.kernel), "-initrd", str(launch.initrd), "-append", launch.append,
        "-chardev", f"file,id=console,path={_option(launch.console)}", "-serial", "chardev:console",
        "-chardev", f"socket,id=driver,{monitor}", "-mon", "chardev=driver,mode=control",
        "-chardev", f"socket,id=exporter,path={_option(launch.watch_socket)},server=on,wait=off",
        "-mon", "chardev=exporter,mode=control",
    ]  # fmt: skip
    line += ["-cpu", "host"] * (launch.accelerator == "kvm")
    line += ["-cpu", "qemu64,+pdpe1gb"] * (launch.accelerator == "tcg" and launch.gib_pages)
    line += ["-overcommit", "mem-lock=on"] * hardware.locked_pages
    line += disk_options(launch.disk) if launch.disk else []
    line += ["-S"] * launch.paused
    line += ["-incoming", "defer"] * launch.incoming
    return line


def _memory_backend(launch: Launch) -> list[str]:
    """RAM that is not simply taken as it is touched: allocated at once, or in huge pages."""
    huge, size = launch.hardware.huge_pages_mib, f"{launch.memory_kib}K"
    if not huge and not launch.hardware.prealloc:
        return []
    kind = f"memory-backend-memfd,hugetlb=on,hugetlbsize={huge}M" if huge else "memory-backend-ram"
    allocated = "on" if launch.hardware.prealloc else "off"
    return ["-object", f"{kind},id={BACKEND},size={size},prealloc={allocated}"]


async def start_here(launch: Launch) -> tuple[Process, socket.socket]:
    """Start a QEMU on this host; its monitor is a socket that it inherits."""
    ours, theirs = socket.socketpair()
    try:
        with theirs, launch.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command_line(launch, f"fd={theirs.fileno()}"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                preexec_fn=die_with_parent(),
                start_new_session=True,  # Ctrl-C in the terminal is for the driver alone
            )
    except BaseException:
        ours.close()
        raise
    ours.setblocking(False)
    return process, ours


class Qemu:
    """A running QEMU; it lives exactly as long as its `async with`, and dies with the driver even by SIGKILL.

    Enter it from the main thread: the parent-death signal follows the thread that forked (prctl(2)).
    """

    def __init__(self, launch: Launch, events: asyncio.Queue[Event], start: Start = start_here) -> None:
        self.launch = launch
        self.role = launch.role
        self.monitor = Monitor(launch.role, events)
        self._start = start
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._started().pid

    async def __aenter__(self) -> Self:
        connection: socket.socket | None = None
        try:
            self._process, connection = await self._start(self.launch)
            await self.monitor.connect(connection, GREETING_SECONDS)
        except MonitorLostError as error:
            died = await self._died("before its monitor answered")
            await self.end(at_once=True)
            raise died or error from None
        except OSError as error:
            raise BrokenError(f"{self.role}: {self.launch.binary} did not start: {error.strerror}") from error
        except BaseException:
            await self.end(at_once=True)
            if connection:
                connection.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(at_once=isinstance(error, asyncio.CancelledError))

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        out_of_band: bool = False,
    ) -> Any:
        """Execute a QMP command; see `Monitor.execute`.

        Raises:
            QemuDiedError: the process has exited.
        """
        try:
            return await self.monitor.execute(command, arguments, seconds=seconds, out_of_band=out_of_band)
        except MonitorLostError as error:
            raise await self._died(f"during {command}") or error from error

    async def hand_over(self, name: str, descriptor: int) -> None:
        """Give it a copy of a file descriptor under a name; see `Monitor.hand_over`.

        Raises:
            QemuDiedError: the process has exited.
        """
        try:
            await self.monitor.hand_over(name, descriptor)
        except MonitorLostError as error:
            raise await self._died("while it was handed a descriptor") or error from error

    async def died(self) -> QemuDiedError:
        """Wait until the process exits, however long that takes, and say how it did."""
        await self._started().wait()
        return await self._died("by itself") or QemuDiedError(self.role, f"{self.role}: QEMU exited")

    async def exit_words(self) -> str | None:
        """Say how the process exited, or is just about to (its peer may see that first); None where it lives."""
        return str(died) if (died := await self._died("by itself", LAST_WORDS_SECONDS)) else None

    async def end(self, *, at_once: bool = False) -> None:
        """End the process: QMP quit, SIGTERM, SIGKILL, each with a bound; `at_once` begins with SIGKILL. Idempotent."""
        with contextlib.suppress(HostLostError):  # who keeps it there ends it
            await self._end_process(at_once=at_once)
        await self.monitor.close()

    async def _end_process(self, *, at_once: bool) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            if not at_once and not await self._quits() and not await self._obeys(signal.SIGTERM, TERMINATE_SECONDS):
                at_once = True
            if at_once and not await self._obeys(signal.SIGKILL, KILL_SECONDS):
                raise BrokenError(f"{self.role}: QEMU (pid {process.pid}) does not die; is its storage hanging?")

    async def _quits(self) -> bool:
        try:
            await self.monitor.execute("quit", seconds=QUIT_SECONDS)
        except MonitorLostError:
            pass  # it may quit before it answers
        except BrokenError:
            return False
        return await self._exits(QUIT_SECONDS)

    async def _obeys(self, number: signal.Signals, seconds: float) -> bool:
        with contextlib.suppress(ProcessLookupError):
            self._started().send_signal(number)
        return await self._exits(seconds)

    async def _exits(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._started().wait()
        return self._started().returncode is not None

    async def _died(self, when: str, seconds: float = EXIT_SECONDS) -> QemuDiedError | None:
        """Say how the process exited; None where it lives on."""
        if not await self._exits(seconds):
            return None
        status = self._started().returncode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
        words = _last_line(self.launch.log)
        return QemuDiedError(
            self.role,
            f"{self.role}: {Path(self.launch.binary).name} {how} {when}{f': {words}' if words else ''}"
            f" (log: {self.launch.log})",
        )

    def _started(self) -> Process:
        if self._process is None:
            raise BrokenError(f"{self.role}: QEMU was not started")
        return self._process


def _option(path: Path) -> str:
    """Write a path inside a comma-separated option (QEMU doubles commas)."""
    return str(path).replace(",", ",,")


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""
    return ""
