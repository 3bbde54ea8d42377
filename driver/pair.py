"""The source and the destination of a run: launched together on their hosts, watched together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

import psutil

from driver.datadir import RunDir
from driver.disk import make_disk
from driver.host import run_hosts
from driver.kit import Kit
from driver.monitor import Event
from driver.namespaces import Namespace
from driver.qemu import Qemu
from driver.remote import RemoteHost
from driver.scenario import Scenario
from driver.stream import Route
from workload.errors import BrokenError

STOPPED_SECONDS = 5.0
LOOK_SECONDS = 0.5


class Pair:
    """Two running QEMUs, by role, those whose processes are here, the route between them; `launch` starts one."""

    def __init__(
        self, qemus: dict[str, Qemu], here: Collection[str], route: Route, launch: Callable[[str], Awaitable[Qemu]]
    ) -> None:
        self.qemus = qemus
        self._here = here
        self.route = route
        self._launch = launch

    @property
    def source(self) -> Qemu:
        """Where the guest is from."""
        return self.qemus["source"]

    @property
    def destination(self) -> Qemu:
        """Where the guest goes."""
        return self.qemus["destination"]

    async def replace_destination(self) -> None:
        """End the destination and start a new one in its place; its monitors, console and log have the same names.

        Raises:
            BrokenError: it does not start.
        """
        await self.destination.end()
        self.qemus["destination"] = await self._launch("destination")

    async def runs(self, role: str) -> bool:
        """Whether the guest runs there, by QEMU's own word."""
        return bool((await self.qemus[role].execute("query-status"))["running"])

    async def watch_stopped(self) -> None:
        """Raise once a QEMU here has been stopped by a signal for 5 s: its monitor cannot answer.

        Raises:
            BrokenError: naming it.
        """
        since: dict[str, float] = {}
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for role, qemu in self.qemus.items():
                if role not in self._here:
                    continue
                try:
                    stopped = psutil.Process(qemu.pid).status() == psutil.STATUS_STOPPED
                except psutil.NoSuchProcess:
                    stopped = False
                if not stopped:
                    since.pop(role, None)
                elif time.monotonic() - since.setdefault(role, time.monotonic()) > STOPPED_SECONDS:
                    raise BrokenError(
                        f"{role}: QEMU (pid {qemu.pid}) was stopped by a signal (SIGSTOP); it cannot answer"
                    )


@contextlib.asynccontextmanager
async def launched_pair(
    kit: Kit,
    scenario: Scenario,
    run: RunDir,
    runtime: Path,
    events: asyncio.Queue[Event],
    *,
    restores: bool,
    disk: Path | None = None,
    link: tuple[Namespace, Namespace] | None = None,
    remote: RemoteHost | None = None,
) -> AsyncIterator[Pair]:
    """Make the hosts and start both QEMUs; a source that `restores` waits for its saved guest, whose disk is `disk`.

    `link` is of a convoy, which has made the hosts for all its runs; `remote` is the destination's host, where that is
    not this one.

    Raises:
        UnsupportedError: the hosts cannot be made here.
        BrokenError: a QEMU does not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(run_hosts(scenario, kit, runtime, link, remote))
        stack.callback(run.remove_state)
        stack.callback(run.remove_disks)
        here = {role for role in hosts if remote is None or role == "source"}
        for role in here if kit.hardware.disk_mib else ():
            like = disk if role == "source" else None
            await asyncio.to_thread(make_disk, run.disk(role), kit.hardware.disk_mib, like)

        async def launch(role: str) -> Qemu:
            host, incoming = hosts[role], role == "destination" or restores
            launched = kit.launch(
                role,
                run,
                runtime,
                prefix=host.prefix,
                watch_socket=host.watch_socket,
                incoming=incoming,
                runs=scenario.kind != "snapshot",
            )
            return await stack.enter_async_context(Qemu(launched, events, host.start))

        qemus = {role: await launch(role) for role in hosts}
        route = Route(runtime=runtime, address=hosts["destination"].address, state=run.state)
        yield Pair(qemus, here, route, launch)
