"""The disk's way to the destination: exported there over NBD, mirrored by the source, let go of at the switchover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from driver.disk import NODE
from driver.ledger import Ending
from driver.monitor import Commands, RefusedError
from driver.scenario import Scenario
from driver.stream import Route
from driver.tls import PARAMETERS
from workload.errors import MigrascopeError

TARGET, JOB, EXPORT = "disk-target", "disk-mirror", "disk"
NBD_PORT, PORTS_TRIED = 10809, 20
"""NBD's own port (IANA), and the ones behind it where it is taken: QEMU does not tell which one it was given for 0."""

LOOK_SECONDS = 0.05
DRAIN_LOOK_SECONDS = 0.002
WATCH_SECONDS = 0.5
MIGRATIONS_WORD_SECONDS = 2.0
"""How long after the mirror's failure the migration may take to say by itself that it has failed as well."""


class MirrorLostError(MigrascopeError):
    """The mirror failed: the destination's disk is not the source's."""

    exit_status = 4


class Reporter(Protocol):
    """Where a mirror tells of what was done (`driver.ledger.Ledger`)."""

    def action(self, name: str, detail: Mapping[str, Any], stamp_ns: int | None = None) -> None:
        """The driver did something."""


class DiskMirror:
    """Keeps the destination's disk as the source's from before the migration until the guest stands still.

    The order is libvirt's (QEMU docs/interop/live-block-operations.rst): export, mirror, `migrate` with
    pause-before-switchover, end the mirror, close the export, `migrate-continue`.
    """

    def __init__(
        self, scenario: Scenario, source: Commands, destination: Commands, route: Route, reporter: Reporter
    ) -> None:
        self._scenario = scenario
        self._source = source
        self._destination = destination
        self._route = route
        self._reporter = reporter
        self._begun = False
        self._ended = False

    async def begin(self) -> None:
        """Export the destination's disk and have the source copy its own to it.

        Raises:
            RefusedError: a QEMU does not do it.
        """
        tls = self._scenario.tls != "none"
        server = await self._listen({"tls-creds": PARAMETERS["tls-creds"]} if tls else {})
        export = {"type": "nbd", "id": EXPORT, "node-name": NODE, "name": EXPORT, "writable": True}
        await self._destination.execute("block-export-add", export)
        target = {"driver": "nbd", "node-name": TARGET, "server": server, "export": EXPORT}
        await self._source.execute("blockdev-add", target | (PARAMETERS if tls else {}))
        mode, speed = self._scenario.disk_copy_mode, self._scenario.disk_mirror_mib_s << 20
        job = {"job-id": JOB, "device": NODE, "target": TARGET, "sync": "full", "copy-mode": mode, "speed": speed}
        # kept once it has ended: how it ended must be seen
        await self._source.execute("blockdev-mirror", job | {"auto-dismiss": False})
        self._begun = True
        self._reporter.action("mirror", {"server": server["type"], "copy_mode": mode})

    async def until_ready(self) -> Ending | None:
        """Wait until the destination's disk has caught up; how the run ends where it does not within the time limit.

        Raises:
            MirrorLostError: the mirror failed.
        """
        limit = self._scenario.max_time_seconds
        deadline = time.monotonic() + limit
        while not (job := await self._job())["ready"]:
            if time.monotonic() > deadline:
                words = f"the disk's mirror is still {_lag(job) / 2**20:.1f} MiB behind after {limit} s"
                reason = f"time limit reached before RAM was sent: {words}"
                return Ending(outcome="not_converged", reason=reason, limit_reached="time")
            await asyncio.sleep(LOOK_SECONDS)
        return None

    async def let_go(self) -> None:
        """End the mirror of a guest that stands still, at the migration's pre-switchover, and let that go on, once.

        Raises:
            MirrorLostError: the mirror failed, or cannot be ended.
            RefusedError: a QEMU does not do it.
        """
        if self._ended:
            return  # QEMU may still say pre-switchover when it has been told to go on
        began, lag = time.monotonic(), _lag(await self._job())
        await self._source.execute("block-job-cancel", {"device": JOB})  # of a mirror that is ready: once all is there
        deadline = began + self._scenario.max_time_seconds
        while (await self._job())["status"] != "concluded":
            if time.monotonic() > deadline:
                raise MirrorLostError(
                    f"source: the disk's mirror, {lag} bytes behind as the guest stopped, does not end"
                )
            await asyncio.sleep(DRAIN_LOOK_SECONDS)
        self._ended = True
        await self._source.execute("job-dismiss", {"id": JOB})
        await self._source.execute("blockdev-del", {"node-name": TARGET})
        await self._destination.execute("nbd-server-stop")
        await self._source.execute("migrate-continue", {"state": "pre-switchover"})
        self._reporter.action("mirror-ended", {"lag_bytes": lag, "seconds": time.monotonic() - began})

    async def watch(self, under_way: Callable[[], bool]) -> None:
        """Raise once the mirror has failed while the migration is under way, or has not begun.

        Raises:
            MirrorLostError: with QEMU's reason.
        """
        while not self._ended:
            await asyncio.sleep(WATCH_SECONDS)
            if not self._begun or self._ended:
                continue
            try:
                await self._job()
            except MirrorLostError:
                await asyncio.sleep(MIGRATIONS_WORD_SECONDS)
                if not self._ended and under_way():
                    raise

    async def _listen(self, tls: Mapping[str, Any]) -> dict[str, str]:
        """Have the destination serve NBD, over TCP where the transport could leave the host; the source's address."""
        path = str(self._route.runtime / "nbd.sock")
        servers = [{"type": "unix", "path": path}]
        if self._scenario.carrier.crosses_hosts:
            ports = range(NBD_PORT, NBD_PORT + PORTS_TRIED)
            servers = [{"type": "inet", "host": self._route.address, "port": str(port)} for port in ports]
        for left, server in enumerate(servers, start=1 - len(servers)):
            place = {"type": server["type"], "data": {name: word for name, word in server.items() if name != "type"}}
            try:
                await self._destination.execute("nbd-server-start", {"addr": place, **tls})
            except RefusedError as error:
                if not left or "in use" not in error.words:
                    raise
            else:
                return server
        raise AssertionError  # the last refusal was raised

    async def _job(self) -> Mapping[str, Any]:
        """What the source says of the mirror (QEMU qapi/block-core.json, BlockJobInfo).

        Raises:
            MirrorLostError: it has failed.
        """
        jobs = await self._source.execute("query-block-jobs")
        job: Mapping[str, Any] = next((each for each in jobs if each["device"] == JOB), {"error": "the job is gone"})
        if error := job.get("error"):
            raise MirrorLostError(f"source: the disk's mirror to the destination failed: {error}")
        return job


def _lag(job: Mapping[str, Any]) -> int:
    return max(0, int(job["len"]) - int(job["offset"]))
